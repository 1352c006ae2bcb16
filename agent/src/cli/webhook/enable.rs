//! `webhook enable` and `webhook disable`.

use clap::Args;

use super::change::{Verb, apply, apply_again, not_the_single};
use super::outbox;
use crate::cli::error::{CliResult, failed};
use crate::cli::globals::Context;
use crate::config::webhooks::{Change, Setting, Written};
use crate::model::id::Name;

/// Arguments of `webhook enable`.
#[derive(Args, Debug)]
pub(super) struct Enable {
    /// Its name
    name: Name,
}

/// Arguments of `webhook disable`.
#[derive(Args, Debug)]
pub(super) struct Disable {
    /// Its name
    name: Name,
}

impl Enable {
    pub(super) fn run(self, context: &Context) -> CliResult {
        // One that wanted nothing more (410 Gone) is remembered in the outbox, not in the file.
        let refused = match outbox(context)? {
            Some(mut outbox) if !context.dry_run => {
                outbox.write(|tables| tables.enable_endpoint(self.name.as_str())).map_err(|e| failed(&e))?
            }
            Some(_) | None => false,
        };
        switch(context, &self.name, Verb::Enabled, refused)
    }
}

impl Disable {
    pub(super) fn run(self, context: &Context) -> CliResult {
        switch(context, &self.name, Verb::Disabled, false)
    }
}

fn switch(context: &Context, name: &Name, verb: Verb, again: bool) -> CliResult {
    not_the_single(context, name)?;
    let value = Some(Written::Bool(matches!(verb, Verb::Enabled)));
    let change = Change::Edit(vec![Setting { key: "enabled", value }]);
    if again { apply_again(context, name, verb, &change) } else { apply(context, name, verb, &change) }
}
