//! `critical`: the processes that must live, their alerts, and what is done to keep it so.

mod ack;
mod list;
mod restart;
mod show;

use clap::{Args, Subcommand};

use super::error::CliResult;
use super::globals::Context;
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{CriticalStatus, Request};
use crate::model::id::Name;

/// Arguments of `critical`.
#[derive(Args, Debug)]
pub(super) struct Critical {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the critical processes of the active profile and their state
    #[command(visible_alias = "ls")]
    List,
    /// Show one: its instances, its last death, its health and its restarts
    Show {
        /// Name in the profile
        name: Name,
    },
    /// Restart one now, whatever its policy, also after it was given up
    Restart {
        /// Name in the profile
        name: Name,
    },
    /// Say that somebody looks after a critical process: its alerts are not repeated
    Ack(ack::Ack),
}

impl Critical {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::List => context.output.show(&all(context)?),
            Command::Show { name } => context.output.show(&one(context, &name)?),
            Command::Restart { name } => restart::run(context, name),
            Command::Ack(command) => command.run(context),
        }
    }
}

fn all(context: &Context) -> CliResult<Vec<CriticalStatus>> {
    context.ask(feature::CRITICAL, &Request::Criticals)
}

fn one(context: &Context, name: &Name) -> CliResult<CriticalStatus> {
    let found = all(context)?.into_iter().find(|status| status.name == *name);
    found.ok_or_else(|| {
        let message = format!("the active profile has no critical process {name}");
        Failure::new(FailureKind::NotFound, message).with_hint("process-throttler critical list").into()
    })
}
