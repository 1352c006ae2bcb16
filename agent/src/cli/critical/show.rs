//! `critical show`.

use crate::cli::delay;
use crate::cli::output::View;
use crate::cli::page::{Always, Page, duration, moment};
use crate::control::proto::{CriticalHealth, CriticalRestarts, CriticalStatus};
use crate::model::critical::Checked;
use crate::model::plural::counted;

impl View for CriticalStatus {
    const KIND: &'static str = "Critical";

    fn page(&self, page: &mut Page) {
        page.field("Critical", &self.name);
        page.field("State", &self.state);
        for need in &self.dependencies {
            page.field("Needs", need);
        }
        page.field("Instances", format!("{} of {}", self.instances.len(), self.wanted));
        if let Some(since) = self.absent_since {
            page.field("Too few since", moment(since));
        }
        let flapping = if self.flapping { ", so many that they are summed up" } else { "" };
        page.field("Deaths", format!("{}{flapping}", self.deaths));
        if let Some(death) = &self.last_death {
            let when = death.at.map(|at| format!(" at {}", moment(at))).unwrap_or_default();
            let lived = duration(death.lived_ms);
            page.field(
                "Last death",
                format!("pid {}{when}: it {}, after {lived}", death.process.key.pid, death.how),
            );
            if let Some(found) =
                death.circumstances.as_ref().map(ToString::to_string).filter(|found| !found.is_empty())
            {
                page.field("Before it", found);
            }
        }
        if let Some(late) = &self.cpu_delay {
            delay::fields(page, late);
        }
        if let Some(health) = &self.health {
            health_fields(page, health);
        }
        if let Some(restart) = &self.restart {
            restart_fields(page, restart);
        }
        if let Some(reservation) = &self.reservation {
            page.field("Reserved", reservation);
        }
        page.gap();
        if self.instances.is_empty() {
            page.line("No instance.");
        } else {
            let rows = self.instances.iter();
            page.table(
                [Always("PID"), Always("NAME")],
                rows.map(|member| [member.key.pid.to_string(), member.comm.to_string()]),
            );
        }
    }
}

fn health_fields(page: &mut Page, health: &CriticalHealth) {
    let since = health.since.map(|since| format!(" since {}", moment(since))).unwrap_or_default();
    page.field("Health", format!("{}{since}, by {}", health.state, health.check));
    if let (Some(found), Some(at)) = (&health.found, health.checked) {
        let found = match found {
            Checked::Healthy => "well".to_owned(),
            Checked::Unhealthy { error } => {
                format!("{error} ({} in a row)", counted(health.failures, "failure", "failures"))
            }
            Checked::NotRun { why } => format!("not asked: {why}"),
        };
        page.field("Last check", format!("{}: {found}", moment(at)));
    }
}

fn restart_fields(page: &mut Page, restart: &CriticalRestarts) {
    let CriticalRestarts { policy, by, state, attempts, most, per_ms, next, last, last_result, last_detail } =
        restart;
    page.field("Restart", format!("{} by {by}: {state}", policy.as_str()));
    page.field("Attempts", format!("{attempts} of {most} within {}", duration(*per_ms)));
    if let Some(next) = next {
        page.field("Next", moment(*next));
    }
    if let (Some(at), Some(result), Some(detail)) = (last, last_result, last_detail) {
        page.field("Last attempt", format!("{}: {}: {detail}", moment(*at), result.as_str()));
    }
}
