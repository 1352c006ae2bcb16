//! `webhook list`.

use clap::Args;
use serde::Serialize;

use super::refused;
use super::show::Shown;
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, or_dash};
use crate::config::webhooks::WebhookFile;
use crate::model::endpoint::Endpoint;

/// Arguments of `webhook list`.
#[derive(Args, Debug)]
pub(super) struct List {}

impl List {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Self {} = self;
        let file = WebhookFile::new(&context.dirs);
        let config = context.dirs.config_file();
        let single = single(context);
        let endpoints = file.list().map_err(refused)?;
        let all = single.iter().map(|endpoint| Shown::new(endpoint, &config));
        let all = all.chain(endpoints.iter().map(|endpoint| Shown::new(endpoint, file.path())));
        context.output.show(&Listed(all.collect()))
    }
}

/// The endpoint of `config.yaml`. Errors in that file must not hide the others.
pub(super) fn single(context: &Context) -> Option<Endpoint> {
    context.settings_or("a webhook in it is not known")?.endpoints.into_iter().next()
}

/// The endpoints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
struct Listed(Vec<Shown>);

impl View for Listed {
    const KIND: &'static str = "WebhookList";

    fn page(&self, page: &mut Page) {
        page.table(
            [
                Always("NAME"),
                Always("STATE"),
                Always("FORMAT"),
                Always("EVENTS"),
                Always("URL"),
                Wide("SEVERITY"),
                Wide("SIGNED"),
                Wide("RATE"),
                Wide("FILE"),
            ],
            self.0.iter().map(|shown| {
                [
                    shown.name.clone(),
                    if shown.enabled { "enabled" } else { "disabled" }.to_owned(),
                    shown.format.to_owned(),
                    if shown.events.is_empty() { "all".to_owned() } else { shown.events.join(",") },
                    shown.url.clone(),
                    shown.min_severity.to_string(),
                    if shown.secrets.is_empty() { "no" } else { "yes" }.to_owned(),
                    or_dash(shown.rate),
                    shown.file.clone(),
                ]
            }),
        );
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    gallery.show("webhook list", &Listed(vec![super::show::sample(true), super::show::sample(false)]));
    gallery.show("webhook list", &Listed(Vec::new()));
}
