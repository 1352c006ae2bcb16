//! `webhook test`: whether an endpoint takes what is sent to it.

use clap::Args;

use crate::cli::error::{CliError, CliResult};
use crate::cli::globals::{Context, runtime};
use crate::cli::output::View;
use crate::cli::page::Page;
use crate::config::Settings;
use crate::control::failure::FailureKind;
use crate::control::proto::{Request, WebhookTest, WebhookTested};
use crate::daemon::{deliveries, reload, webhooks};
use crate::model::id::Name;

/// Arguments of `webhook test`.
#[derive(Args, Debug)]
pub(super) struct Test {
    /// The endpoint; that of config.yaml is named default
    name: Name,
}

impl Test {
    pub(super) fn run(self, context: &Context) -> CliResult {
        if context.dry_run {
            context.output.message(&format!("would send a test event to {}", self.name));
            return Ok(());
        }
        let request = Request::WebhookTest(WebhookTest { endpoint: self.name.clone() });
        let tested = match context.ask_if_running(&request)? {
            Some(tested) => tested,
            None => self.without_daemon(context)?,
        };
        context.output.show(&tested)?;
        if tested.delivered { Ok(()) } else { Err(CliError::Exit(FailureKind::Failed)) }
    }

    fn without_daemon(&self, context: &Context) -> CliResult<WebhookTested> {
        let (settings, _warnings) =
            Settings::load(&context.dirs).map_err(|findings| reload::invalid(&findings))?;
        let endpoint = settings.endpoints.into_iter().find(|endpoint| endpoint.name == self.name);
        let endpoint = endpoint.ok_or_else(|| webhooks::no_endpoint(&self.name))?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let runtime = runtime()?;
        let (event, attempt) = runtime.block_on(deliveries::test(endpoint, webhooks::TEST_DETAIL, &host));
        // A name that is still being looked up is of no interest any more.
        runtime.shutdown_background();
        Ok(webhooks::tested(self.name.clone(), event, attempt))
    }
}

impl View for WebhookTested {
    const KIND: &'static str = "WebhookTest";

    fn page(&self, page: &mut Page) {
        page.field("Endpoint", &self.endpoint);
        page.field("Delivered", if self.delivered { "yes" } else { "no" });
        if let Some(status) = self.attempt.status {
            page.field("Status", status);
        }
        page.field("Took", format!("{} ms", self.attempt.latency_ms));
        if let Some(error) = &self.attempt.error {
            page.field("Error", error);
        }
        if !self.attempt.answer.is_empty() {
            page.field("Answer", self.attempt.answer.trim_end());
        }
        page.field("Event", &self.event);
    }
}
