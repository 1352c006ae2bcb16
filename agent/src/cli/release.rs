//! `release`: prior values back, with the daemon or without it.

use clap::{ArgGroup, Args};

use super::error::CliResult;
use super::globals::Context;
use super::output::View;
use super::page::Page;
use super::processes;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{ProcRef, Release as Spec, ReleaseOf, Released, Request};
use crate::model::id::Name;

const AFTER_HELP: &str = "\
What was limited by hand does not come back with the next start of the daemon either. A group that \
`daemon stop` has lifted, and that would come back, is released by its name.";

/// Arguments of `release`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("what").required(true).args(["pid", "group", "rule", "all"]))]
pub(super) struct Release {
    /// Take this process out of its group
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Release this group
    #[arg(long, value_name = "GROUP")]
    group: Option<Name>,
    /// Release the groups of this rule
    #[arg(long, value_name = "RULE")]
    rule: Option<Name>,
    /// Release everything
    #[arg(long)]
    all: bool,
    /// Clean up after a daemon that has ended, as it would itself: does nothing where `on_stop` is `keep`
    #[arg(long, requires = "all")]
    as_on_stop: bool,
}

impl Release {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let target = self.target(context)?;
        if target == ReleaseOf::All {
            context.confirm("Release every limit that process-throttler has set?")?;
        }
        let spec = Spec { target, dry_run: context.dry_run };
        if self.as_on_stop {
            return context.output.show(&super::offline::release_as_on_stop(context, &spec)?);
        }
        let released = match context.ask_if_running(&Request::Release(spec.clone()))? {
            Some(released) => released,
            None => super::offline::release(context, &spec)?,
        };
        context.output.show(&released)
    }

    fn target(&self, context: &Context) -> CliResult<ReleaseOf> {
        if let Some(group) = &self.group {
            return Ok(ReleaseOf::Group(group.clone()));
        }
        if let Some(rule) = &self.rule {
            return Ok(ReleaseOf::Rule(rule.clone()));
        }
        let Some(pid) = self.pid else { return Ok(ReleaseOf::All) };
        let gone = || Failure::new(FailureKind::NotFound, format!("no process has pid {pid}"));
        let key = processes::key_of(&processes::host(context)?, pid)?.ok_or_else(gone)?;
        Ok(ReleaseOf::Process(ProcRef::from(key)))
    }
}

impl View for Released {
    const KIND: &'static str = "Released";

    fn page(&self, page: &mut Page) {
        let verb = if self.dry_run { "would be released" } else { "released" };
        for group in &self.groups {
            page.line(format!("group {group} {verb}"));
        }
        for process in &self.processes {
            page.line(format!("process {} {verb}", process.pid));
        }
        if self.groups.is_empty() && self.processes.is_empty() {
            page.line("nothing is limited");
        }
    }
}
