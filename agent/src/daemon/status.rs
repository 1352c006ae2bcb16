//! What the engine thread tells of itself. Every figure is read when asked, none is kept for show.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::param::page_size;

use crate::cgroup::Controller;
use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{DaemonState, DaemonStatus, Plan, SourceStatus};
use crate::daemon::delays::Placed;
use crate::daemon::report;
use crate::daemon::turn::Turn;
use crate::effect::group::Group;
use crate::engine;
use crate::engine::action::Wants;
use crate::model::id::Name;
use crate::model::rule::Profile;
use crate::model::time::millis;
use crate::source::Counts;

impl Turn {
    /// The state of the daemon.
    pub(super) fn status(&self) -> DaemonStatus {
        let view = self.parts.engine.snapshot();
        let Usage { rss, cpu } = usage();
        let throttled = view.groups.iter().map(|group| group.members.len() as u64).sum();
        DaemonStatus {
            pid: std::process::id(),
            state: if self.stopping { DaemonState::Stopping } else { DaemonState::Running },
            uptime_ms: millis(clock::now().since(self.parts.started)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: view.profile.clone(),
            source: self.source_status(),
            cgroups: self.parts.cgroups.clone(),
            features: self.features(&view),
            processes: view.counts.processes,
            groups: view.groups.len() as u64,
            throttled,
            rss,
            cpu_ms: millis(cpu),
            emergency: self.parts.engine.emergency(),
            watchdog_ms: sd_notify::watchdog_enabled().map(millis),
            config_error: None,
            audit_failed: 0,
        }
    }

    pub(super) fn source_status(&self) -> SourceStatus {
        let selected = &self.parts.source;
        let Counts { produced, sent, dropped, malformed, wakeups, exact } = selected.source.counts();
        SourceStatus {
            name: selected.source.name().to_owned(),
            degraded: selected.degradations.iter().map(ToString::to_string).collect(),
            produced,
            sent,
            dropped,
            malformed,
            wakeups,
            exact,
        }
    }

    /// The throttled groups. What their cgroups say is read by whoever asks: a thousand of them are 25 ms.
    pub(super) fn groups(&self) -> Vec<Placed> {
        let groups = self.parts.engine.snapshot().groups.into_iter();
        groups.map(|group| Placed { dirs: self.dirs_of(&group.name), status: report::group(group) }).collect()
    }

    fn dirs_of(&self, group: &Name) -> Vec<PathBuf> {
        let dirs = |group: &Group| {
            let dirs = group.places.iter().filter_map(|place| place.dir(Controller::Cpu));
            dirs.map(Path::to_owned).collect()
        };
        self.parts.throttle.with_group(group, dirs).unwrap_or_default()
    }

    /// What activating a profile would do to the processes alive now.
    pub(super) fn plan(&mut self, profile: &Profile) -> Result<Plan, Failure> {
        let failed = |error: &dyn std::error::Error| Failure::from_error(FailureKind::Failed, error);
        let mut alive = Vec::new();
        for process in self.parts.proc.processes().map_err(|error| failed(&error))? {
            let process = process.map_err(|error| failed(&error))?;
            let facts = self.parts.proc.facts(process.key, Wants::ALL).map_err(|error| failed(&error))?;
            alive.push((process, facts.unwrap_or_default()));
        }
        let entries = engine::plan(profile, &self.parts.own, alive).map_err(|error| failed(&error))?;
        let kept: Vec<_> = profile.rules.iter().filter(|rule| rule.enabled).map(|rule| &rule.name).collect();
        let groups = self.parts.engine.snapshot().groups.into_iter();
        let gone = groups.filter(|group| group.rule.as_ref().is_some_and(|rule| !kept.contains(&rule)));
        Ok(report::plan(profile, &entries, gone.map(|group| group.name).collect()))
    }
}

struct Usage {
    rss: u64,
    cpu: Duration,
}

/// What this process uses: resident memory in bytes, and CPU time.
fn usage() -> Usage {
    let resident = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(cpu.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(cpu.tv_nsec).unwrap_or(0);
    Usage { rss: resident.saturating_mul(page_size() as u64), cpu: Duration::new(seconds, nanos) }
}
