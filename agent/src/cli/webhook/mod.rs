//! `webhook`: endpoints and what is sent to them.

mod deliveries;
mod replay;
mod test;

use clap::{Args, Subcommand};

use super::error::{CliResult, failed};
use super::globals::Context;
use crate::store::{Durability, Store};

/// Arguments of `webhook`.
#[derive(Args, Debug)]
pub(super) struct Webhook {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Send a test event to an endpoint and tell what came of it
    Test(test::Test),
    /// Show deliveries and every attempt at them
    Deliveries(deliveries::Deliveries),
    /// Send deliveries again, under the same ids
    Replay(replay::Replay),
}

impl Webhook {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::Test(command) => command.run(context),
            Command::Deliveries(command) => command.run(context),
            Command::Replay(command) => command.run(context),
        }
    }
}

/// The outbox, when no daemon answers for it; `None` where none was ever written.
fn outbox(context: &Context) -> CliResult<Option<Store>> {
    let path = context.dirs.journal_db();
    if !path.exists() {
        return Ok(None);
    }
    Store::open(&path, Durability::Power).map(|opened| Some(opened.store)).map_err(|error| failed(&error))
}
