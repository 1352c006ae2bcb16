//! `webhook add`.

use clap::Args;

use super::change::{Verb, apply, apply_with_secret, not_the_single};
use super::settings::Options;
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::config::webhooks::{Change, Setting, Written};
use crate::model::id::Name;

const AFTER_HELP: &str = "\
The endpoint is kept in webhooks.yaml in the configuration directory. What the path of a URL is worth depends on \
the service: those of Slack, Discord and Teams are secrets, and are not shown again.";

/// Arguments of `webhook add`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Add {
    /// Its name
    name: Name,
    /// Where events are posted to: https, unless --allow-http or this machine's loopback address
    url: String,
    #[command(flatten)]
    options: Options,
    /// Send nothing to it yet
    #[arg(long)]
    disabled: bool,
}

impl Add {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Self { name, url, options, disabled } = self;
        not_the_single(context, &name)?;
        let mut settings = vec![Setting { key: "url", value: Some(Written::Text(url)) }];
        settings.extend(options.settings()?);
        if disabled {
            settings.push(Setting { key: "enabled", value: Some(Written::Bool(false)) });
        }
        // A new entry has nothing to take out.
        settings.retain(|setting| setting.value.is_some());
        if options.generates_secret() {
            return apply_with_secret(context, &name, Verb::Added, |secret| {
                settings.extend(secret.into_iter().filter(|setting| setting.value.is_some()));
                Change::Add(settings)
            });
        }
        apply(context, &name, Verb::Added, &Change::Add(settings))
    }
}
