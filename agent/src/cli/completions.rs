//! `completions`: scripts for shells.

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::error::CliResult;
use super::globals::Context;

/// Shells that complete.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// Shell
    #[arg(value_enum)]
    shell: Supported,
}

impl Completions {
    pub(super) fn run(&self, context: &Context) -> CliResult {
        let shell = match self.shell {
            Supported::Bash => Shell::Bash,
            Supported::Zsh => Shell::Zsh,
            Supported::Fish => Shell::Fish,
        };
        // Into memory first: the generator panics where writing fails.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut super::command(), super::BINARY, &mut script);
        context.output.raw(&script)
    }
}
