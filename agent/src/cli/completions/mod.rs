//! `completions`: scripts for shells. The scripts ask this program itself, so that names of groups, profiles, endpoints
//! and critical processes are completed too.

mod live;

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::env::{Bash, EnvCompleter, Fish, Shells, Zsh};

use super::error::CliResult;
use super::globals::Context;

/// By this variable a script asks for candidates.
const VARIABLE: &str = "PROCESS_THROTTLER_COMPLETE";

/// In a directory of `fpath` the script is loaded when a completion is wanted, which is then still to be given; where it
/// is sourced this does nothing.
const ZSH_WANTED_NOW: &str = r#"
if [[ "${funcstack[1]}" == _process-throttler ]]; then
    _clap_dynamic_completer_process_throttler "$@"
fi
"#;

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
        let shell: &dyn EnvCompleter = match self.shell {
            Supported::Bash => &Bash,
            Supported::Zsh => &Zsh,
            Supported::Fish => &Fish,
        };
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, super::BINARY, super::BINARY, super::BINARY, &mut script)?;
        if matches!(self.shell, Supported::Zsh) {
            script.extend_from_slice(ZSH_WANTED_NOW.as_bytes());
        }
        context.output.raw(&script)
    }
}

/// Answers a script that asks for candidates; false when none does. Must run before any thread is started.
///
/// # Errors
/// When the answer cannot be written.
pub(super) fn answer(args: impl IntoIterator<Item = OsString>) -> clap::error::Result<bool> {
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(|| live::with_names(super::command()))
        .var(VARIABLE)
        .shells(Shells(&[&Bash, &Zsh, &Fish]))
        .try_complete(args, here.as_deref())
}
