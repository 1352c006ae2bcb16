//! How plans and activations are shown.

use crate::cli::output::View;
use crate::cli::page::{Always, Page, dash, or_dash};
use crate::control::proto::{Activated, Member, Plan};

impl View for Plan {
    const KIND: &'static str = "Plan";

    fn page(&self, page: &mut Page) {
        lay_out(self, page, false);
    }
}

/// A plan as what would be done, or once it is done.
fn lay_out(plan: &Plan, page: &mut Page, done: bool) {
    let (has, would_be) = if done { ("has", "") } else { ("would have", "would be ") };
    let wide = page.is_wide();
    page.table(
        [Always("RULE"), Always("LIMITS"), Always("PROCESSES"), Always("WHICH"), Always("NOTE")],
        plan.rules.iter().map(|rule| {
            [
                rule.rule.to_string(),
                rule.limits.to_string(),
                rule.processes.len().to_string(),
                which(&rule.processes, wide),
                or_dash(rule.note.as_ref()),
            ]
        }),
    );
    for rule in plan.rules.iter().filter(|rule| !rule.how.is_empty()) {
        page.gap();
        page.line(format!("rule {}:", rule.rule));
        for how in &rule.how {
            page.line(format!("  {how}"));
        }
    }
    if !plan.critical.is_empty() {
        page.gap();
        page.table(
            [Always("CRITICAL"), Always("PROTECTION"), Always("PROCESSES"), Always("WHICH")],
            plan.critical.iter().map(|entry| {
                [
                    entry.name.to_string(),
                    dash(entry.protection.to_string()),
                    entry.processes.len().to_string(),
                    which(&entry.processes, wide),
                ]
            }),
        );
    }
    for entry in plan.critical.iter().filter(|entry| !entry.reservation.is_empty()) {
        page.gap();
        page.line(format!("critical {} {has} {}:", entry.name, entry.reservation));
        if entry.processes.is_empty() {
            page.line("  with its first process");
        }
        for how in &entry.how {
            page.line(format!("  {how}"));
        }
    }
    for group in &plan.released {
        page.line(format!("group {group} {would_be}released"));
    }
}

/// Processes as `PID name`, the first few of them unless there is room.
fn which(members: &[Member], all: bool) -> String {
    const FEW: usize = 4;
    let shown = if all { members.len() } else { FEW.min(members.len()) };
    let mut names: Vec<String> =
        members.iter().take(shown).map(|member| format!("{} {}", member.key.pid, member.comm)).collect();
    if shown < members.len() {
        names.push("…".to_owned());
    }
    dash(names.join(", "))
}

impl View for Activated {
    const KIND: &'static str = "Activated";

    fn page(&self, page: &mut Page) {
        let would = if self.dry_run { "would be " } else { "" };
        match (&self.profile, &self.previous) {
            (Some(now), Some(before)) if now != before => {
                page.line(format!("profile {now} {would}activated in place of {before}"));
            }
            (Some(now), _) => page.line(format!("profile {now} {would}activated")),
            (None, Some(before)) => page.line(format!("profile {before} {would}deactivated")),
            (None, None) => page.line("no profile is active"),
        }
        if let Some(plan) = &self.plan {
            page.gap();
            lay_out(plan, page, !self.dry_run);
        }
    }
}
