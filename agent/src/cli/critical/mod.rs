//! `critical`: the processes that must live, and their alerts.

mod ack;

use clap::{Args, Subcommand};

use super::error::CliResult;
use super::globals::Context;

/// Arguments of `critical`.
#[derive(Args, Debug)]
pub(super) struct Critical {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Say that somebody looks after a critical process: its alerts are not repeated
    Ack(ack::Ack),
}

impl Critical {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::Ack(command) => command.run(context),
        }
    }
}
