//! `status`: what is limited, by which rule, and what keeps it and the critical processes from the CPUs.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::delay;
use super::error::CliResult;
use super::globals::Context;
use super::output::{Output, View};
use super::page::{Always, Page, Wide, dash, duration, moment, or_dash};
use super::top::parse_interval;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{CriticalStatus, GroupStatus, Member, PolicyStatus, Request};
use crate::model::id::Name;
use crate::model::limits::Scope;
use crate::model::plural::counted;
use crate::model::reason::readings;
use crate::store::block::Block;

/// Arguments of `status`.
#[derive(Args, Debug)]
pub(super) struct Status {
    /// This group only, with its members
    #[arg(short, long, value_name = "GROUP")]
    group: Option<Name>,
    /// Show it again and again: as a page on a terminal, as JSON lines into a pipe
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks, such as 2s; 200ms to 60s
    #[arg(long, value_name = "DURATION", default_value = "2s", requires = "watch", value_parser = parse_interval)]
    interval: Duration,
}

impl Status {
    pub(super) fn run(self, context: &Context) -> CliResult {
        if !self.watch {
            return self.look(context, Output::show, Output::show);
        }
        loop {
            self.look(context, Output::refresh, Output::refresh)?;
            std::thread::sleep(self.interval);
        }
    }

    /// Shows all groups or the one that is asked for, each in its way.
    fn look(
        &self,
        context: &Context,
        all: fn(&Output, &Limited) -> CliResult,
        one: fn(&Output, &GroupStatus) -> CliResult,
    ) -> CliResult {
        let running: Option<Vec<GroupStatus>> = context.ask_if_running(&Request::Groups)?;
        // Documents are of groups alone: critical processes have commands of their own.
        let critical = running.is_some() && self.group.is_none() && context.output.is_page();
        let critical = if critical { context.ask_if_running(&Request::Criticals)? } else { None };
        let groups = match running {
            Some(groups) => groups,
            None => super::offline::groups(context)?,
        };
        // Whoever may not read the record sees no limits, and asks `emergency status` why.
        if let Ok(Some(block)) = Block::read(&context.dirs.emergency_file()) {
            let reason = block.reason;
            context.output.message(&format!("Nothing is limited, an emergency stop is in force: {reason}"));
        }
        let Some(wanted) = &self.group else {
            return all(&context.output, &Limited { groups, critical: critical.unwrap_or_default() });
        };
        let found: Vec<_> = groups.into_iter().filter(|group| group.group == *wanted).collect();
        match <[_; 1]>::try_from(found) {
            Ok([group]) => one(&context.output, &group),
            Err(_none) => {
                Err(Failure::new(FailureKind::NotFound, format!("no group {wanted} is limited")).into())
            }
        }
    }
}

/// The groups; for people also what kept the critical processes from the CPUs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub(super) struct Limited {
    pub(super) groups: Vec<GroupStatus>,
    #[serde(skip)]
    pub(super) critical: Vec<CriticalStatus>,
}

impl View for Limited {
    const KIND: &'static str = "GroupList";

    fn page(&self, page: &mut Page) {
        let Self { groups, critical } = self;
        // Of a thousand groups, what nobody sees takes as long as what is seen.
        let wide = page.is_wide();
        let seen = |at: Option<jiff::Timestamp>| if wide { or_dash(at.map(moment)) } else { String::new() };
        page.table(
            [
                Always("GROUP"),
                Always("RULE"),
                Always("LIMITS"),
                Wide("SCOPE"),
                Always("HOW"),
                Always("PROCESSES"),
                Always("THROTTLED"),
                Always("HELD"),
                Always("WAITED"),
                Wide("SINCE"),
                Wide("UNTIL"),
                Wide("REASON"),
            ],
            groups.iter().map(|group| {
                let late = group.cpu_delay.as_ref();
                [
                    group.group.to_string(),
                    or_dash(group.rule.as_ref()),
                    group.limits.to_string(),
                    scope(group.scope).to_owned(),
                    dash(rung(&group.how).to_owned()),
                    group.members.len().to_string(),
                    or_dash(group.throttled_us.map(held_back)),
                    delay::held(late),
                    delay::waited(late),
                    seen(group.since),
                    seen(group.until),
                    if wide { group.reason.to_string() } else { String::new() },
                ]
            }),
        );
        if !critical.is_empty() {
            page.gap();
            critical_table(page, critical);
        }
        let of_groups = groups.iter().filter_map(|group| group.cpu_delay.as_ref());
        let of_critical = critical.iter().filter_map(|critical| critical.cpu_delay.as_ref());
        page.notes(&delay::notes(of_groups.chain(of_critical)));
    }
}

/// What kept critical processes from the CPUs, and who had them.
fn critical_table(page: &mut Page, critical: &[CriticalStatus]) {
    let columns = [
        Always("CRITICAL"),
        Always("STATE"),
        Always("HELD"),
        Always("WAITED"),
        Always("P99"),
        Always("CPUS HAD BY"),
    ];
    page.table(
        columns,
        critical.iter().map(|critical| {
            let late = critical.cpu_delay.as_ref();
            [
                critical.name.to_string(),
                critical.state.clone(),
                delay::held(late),
                delay::waited(late),
                delay::p99(late),
                delay::holders(late),
            ]
        }),
    );
}

impl View for GroupStatus {
    const KIND: &'static str = "Group";

    fn page(&self, page: &mut Page) {
        group_fields(page, self);
        page.gap();
        members(page, &self.members);
    }
}

/// The rung without the reasons for it, which are for a page of its own.
fn rung(how: &str) -> &str {
    how.split(": ").next().unwrap_or(how)
}

/// A group without its members.
pub(super) fn group_fields(page: &mut Page, group: &GroupStatus) {
    page.field("Group", &group.group);
    page.field("Rule", group.rule.as_ref().map_or("none, made by hand", Name::as_str));
    page.field("Limits", &group.limits);
    page.field("Scope", scope(group.scope));
    page.field("How", dash(group.how.clone()));
    if let Some(PolicyStatus { policy, written, readings: measured, changed }) = &group.policy {
        page.field("Policy", format!("{}, on {written}", policy.kind()));
        page.field("Measured", dash(readings(measured)));
        page.field("Changed", or_dash(changed.map(moment)));
    }
    page.field("Reason", &group.reason);
    page.field("Since", or_dash(group.since.map(moment)));
    if let Some(until) = group.until {
        page.field("Until", moment(until));
    }
    for clash in &group.conflicts {
        page.field("Conflict", clash);
    }
    if let (Some(periods), Some(us)) = (group.throttled_periods, group.throttled_us) {
        page.field("Held back", format!("{} in {}", held_back(us), counted(periods, "period", "periods")));
    }
    if let Some(late) = &group.cpu_delay {
        delay::fields(page, late);
    }
}

/// The processes of a group.
pub(super) fn members(page: &mut Page, members: &[Member]) {
    page.table(
        [Always("PID"), Always("NAME")],
        members.iter().map(|member| [member.key.pid.to_string(), dash(member.comm.to_string())]),
    );
}

const fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Group => "group",
        Scope::Process => "process",
    }
}

/// Time for which a group was held back.
fn held_back(us: u64) -> String {
    let ms = us / 1_000;
    if ms < 10_000 { format!("{:.1}s", us as f64 / 1e6) } else { duration(ms) }
}
