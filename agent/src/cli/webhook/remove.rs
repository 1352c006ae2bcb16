//! `webhook remove`. Files of secrets stay: others may use them.

use clap::Args;

use super::change::{Verb, apply, not_the_single};
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::config::webhooks::Change;
use crate::model::id::Name;

/// Arguments of `webhook remove`.
#[derive(Args, Debug)]
pub(super) struct Remove {
    /// Its name
    name: Name,
}

impl Remove {
    pub(super) fn run(self, context: &Context) -> CliResult {
        not_the_single(context, &self.name)?;
        context.confirm(&format!("Remove webhook {}?", self.name))?;
        apply(context, &self.name, Verb::Removed, &Change::Remove)
    }
}
