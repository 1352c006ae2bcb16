//! `explain`: why a process is or is not limited.

use clap::Args;

use super::error::CliResult;
use super::globals::Context;
use super::output::View;
use super::page::{Always, Page, dash, or_dash};
use super::status::group_fields;
use crate::control::feature;
use crate::control::proto::{Explanation, Request};
use crate::model::process::printable;

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub(super) struct Explain {
    /// Process id
    #[arg(value_parser = parse_pid)]
    pid: u32,
}

fn parse_pid(text: &str) -> Result<u32, String> {
    let pid = text.parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| "a pid is a number from 1, such as process-throttler list shows".to_owned())
}

impl Explain {
    pub(super) fn run(&self, context: &Context) -> CliResult {
        let explanation: Box<Explanation> =
            context.ask(feature::CRITICAL, &Request::Explain { pid: self.pid })?;
        context.output.show(&*explanation)
    }
}

impl View for Explanation {
    const KIND: &'static str = "Explanation";

    fn page(&self, page: &mut Page) {
        let text =
            |bytes: &Option<Vec<u8>>| dash(printable(bytes.as_deref().unwrap_or_default()).to_string());
        page.field("Process", format!("{} {}", self.key.pid, self.comm));
        page.field("Parent", self.ppid);
        page.field("User", super::processes::user_name(self.uid).unwrap_or_else(|| self.uid.to_string()));
        page.field("Executable", text(&self.facts.exe));
        page.field("Command", text(&self.facts.cmdline));
        page.field("Cgroup", text(&self.facts.cgroup_path));
        if let Some(container) = &self.container {
            page.field("Container", container);
        }
        if let Some(status) = self.ended {
            page.field("Ended", status);
        }
        if let Some(why) = &self.protected {
            page.field("Never limited", why);
        }
        if let Some(protection) = &self.protection {
            page.field("Protected", protection);
        }
        if let Some(reservation) = &self.reservation {
            page.field("Reserved", reservation);
        }
        if let Some(late) = &self.cpu_delay {
            super::delay::fields(page, late);
        }
        page.field("Profile", or_dash(self.profile.as_ref()));
        if !self.rules.is_empty() {
            page.gap();
            page.table(
                [Always("RULE"), Always("PRIORITY"), Always("MATCHES"), Always("WHY")],
                self.rules.iter().map(|verdict| {
                    let matches = if verdict.matched { "yes" } else { "no" };
                    let priority = or_dash(verdict.priority);
                    [verdict.rule.to_string(), priority, matches.to_owned(), dash(verdict.why.clone())]
                }),
            );
        }
        page.gap();
        match &self.group {
            Some(group) => group_fields(page, group),
            None => page.line("Not limited."),
        }
        if !self.history.is_empty() {
            page.gap();
            self.history.page(page);
        }
    }
}
