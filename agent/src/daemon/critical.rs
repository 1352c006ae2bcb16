//! Critical processes: what is known of them, and restarts by hand. The commands on the engine thread, what needs the
//! store on the main one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::peer::Peer;
use crate::control::proto::{
    CriticalDeath, CriticalHealth, CriticalRestarted, CriticalRestarts, CriticalStatus, Member,
};
use crate::daemon::care::Job;
use crate::daemon::command::{Answer, Command};
use crate::daemon::obey::send;
use crate::daemon::report;
use crate::daemon::requests::Office;
use crate::daemon::turn::Turn;
use crate::engine::input::{Input, Remembered};
use crate::engine::view::{CriticalView, HealthView, RestartState, RestartView};
use crate::model::circumstances::Circumstances;
use crate::model::critical::{Checked, Critical, HealthCheck, Probe, RestartBy, Restarted};
use crate::model::death::Obituary;
use crate::model::id::{Name, ProcKey};
use crate::model::plural::counted;
use crate::model::process::Comm;
use crate::model::time::{Timestamp, millis};
use crate::store::restarts::{Became, RestartRow};

/// How long whoever restarts by hand waits for the end: less than for any answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

impl Turn {
    /// Has something done about a critical process.
    pub(super) fn care(&mut self, job: Job) {
        if let Some(done) = self.parts.carer.submit(job) {
            self.cared(done);
        }
    }

    /// Feeds the engine with what came of it.
    pub(super) fn collect_care(&mut self) {
        while let Some((name, input)) = self.parts.carer.next_done() {
            let healthy = matches!(input, Input::Checked { checked: Checked::Healthy, .. });
            let known = healthy.then(|| name.clone());
            self.cared((name, input));
            self.act();
            // An agent that died may have told of one that is healthy now.
            if let Some(name) = known
                && let Err(failure) = self.parts.journal.over("health_check_failed", name.as_str())
            {
                tracing::warn!("the end of an alert is told later: {failure}");
            }
        }
    }

    fn cared(&mut self, (name, input): (Name, Input)) {
        if let Input::Checked { checked, .. } = &input {
            self.tally.checked(&name, checked);
        }
        if let Input::Restarted { restarted, .. } = &input {
            self.tally.restarted(&name, restarted);
        }
        if let Input::Restarted { restarted, .. } = &input
            && let Some(answer) = self.by_hand.remove(&name)
        {
            send(answer, told(name, restarted));
        }
        self.feed(input, clock::now());
    }

    /// The critical processes of the profile in force.
    pub(super) fn criticals(&self) -> Vec<CriticalStatus> {
        let views = self.parts.engine.snapshot().critical.into_iter();
        views
            .map(|view| {
                let spec = self
                    .active
                    .as_ref()
                    .and_then(|profile| profile.critical.iter().find(|critical| critical.name == view.name));
                let found = self.last_found.get(&view.name);
                status(view, spec, found, |pid| {
                    self.parts.engine.explain(pid).map_or_else(Comm::default, |one| one.process.comm)
                })
            })
            .collect()
    }

    /// Restarts a critical process because somebody says so, whatever its policy.
    pub(super) fn restart_critical(&mut self, name: Name, dry_run: bool, answer: Answer<CriticalRestarted>) {
        let views = self.parts.engine.snapshot().critical;
        let refused = |kind, message: String| Err(Failure::new(kind, message));
        let Some(view) = views.into_iter().find(|view| view.name == name) else {
            let message = format!("the active profile has no critical process {name}");
            return send(answer, refused(FailureKind::NotFound, message));
        };
        let Some(restart) = view.restart else {
            let failure = Failure::new(FailureKind::Conflict, format!("nothing says how to restart {name}"));
            let hint = "add restart: { unit: … } or { command: … } to it in the profile";
            return send(answer, Err(failure.with_hint(hint)));
        };
        let (alive, by) = (view.instances.len(), restart.by);
        if restart.state == RestartState::Restarting {
            return send(
                answer,
                refused(FailureKind::Conflict, format!("{name} is being restarted already")),
            );
        }
        if alive > 0 && matches!(by, RestartBy::Command(_)) {
            let instances = counted(alive, "instance", "instances");
            let message = format!("{name} has {instances}, beside which {by} would start another one");
            return send(
                answer,
                Err(Failure::new(FailureKind::Conflict, message).with_hint("stop them first")),
            );
        }
        if dry_run {
            let how = format!("would be restarted by {by}");
            return send(answer, Ok(CriticalRestarted { name, how, under_way: false, dry_run }));
        }
        self.by_hand.insert(name.clone(), answer);
        self.feed(Input::RestartByHand { name }, clock::now());
        self.act();
    }
}

fn told(name: Name, restarted: &Restarted) -> Result<CriticalRestarted, Failure> {
    let (kind, message) = match restarted {
        Restarted::Done { how } => {
            return Ok(CriticalRestarted { name, how: how.clone(), under_way: false, dry_run: false });
        }
        Restarted::Pending { why } | Restarted::Declined { why } => (FailureKind::Conflict, why),
        Restarted::Failed { error } => (FailureKind::Failed, error),
    };
    Err(Failure::new(kind, format!("{name} is not restarted: {message}")))
}

impl Office {
    /// Restarts a critical process for somebody, and says how that ended, or that it goes on.
    pub(super) async fn restart_critical(
        &self,
        name: Name,
        dry_run: bool,
        peer: Peer,
    ) -> Result<CriticalRestarted, Failure> {
        tracing::info!(uid = peer.uid, critical = %name, dry_run, "restart by hand");
        let asked = self.ask(|answer| Command::RestartCritical { name: name.clone(), dry_run, answer });
        tokio::time::timeout(ANSWERED_WITHIN, asked).await.unwrap_or_else(|_elapsed| {
            let how = "goes on: process-throttler events --follow tells how it ends".to_owned();
            Ok(CriticalRestarted { name, how, under_way: true, dry_run })
        })
    }

    /// Has the engine go on counting restarts where an agent of this boot ended.
    pub(super) async fn remember(&self) {
        let booted = clock::unix_millis(clock::wall_at(Timestamp::ZERO));
        let rows = self.store().read(|tables| tables.restarts(booted));
        match rows {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => {
                let restarts = remembered(rows, booted);
                if let Err(failure) = self.ask(|answer| Command::Remember { restarts, answer }).await {
                    tracing::error!("earlier restarts do not count: {failure}");
                }
            }
            Err(error) => tracing::error!(%error, "earlier restarts do not count"),
        }
    }
}

/// Sums up what became of each, oldest first. `booted` is when the machine was, in ms since the Unix epoch.
fn remembered(rows: Vec<RestartRow>, booted: i64) -> Vec<Remembered> {
    let mut all: BTreeMap<Name, Remembered> = BTreeMap::new();
    for RestartRow { name, at, what } in rows {
        let millis = u64::try_from(at.saturating_sub(booted)).unwrap_or(0);
        let at = Timestamp::from_nanos(millis.saturating_mul(1_000_000));
        let one = all.entry(name.clone()).or_insert_with(|| Remembered {
            name,
            attempts: Vec::new(),
            given_up: false,
            down: None,
        });
        match what {
            Became::Down(status) => one.down = Some((at, status)),
            Became::Restarted => {
                one.attempts.push(at);
                one.down = None;
            }
            // It is down as before.
            Became::Failed => one.attempts.push(at),
            Became::Declined => one.down = None,
            Became::GivenUp => one.given_up = true,
            Became::ByHand => {
                one.attempts.clear();
                (one.given_up, one.down) = (false, None);
            }
        }
    }
    all.into_values().collect()
}

fn status(
    view: CriticalView,
    spec: Option<&Critical>,
    found: Option<&(ProcKey, Circumstances)>,
    comm: impl Fn(u32) -> Comm,
) -> CriticalStatus {
    let CriticalView {
        name,
        instances,
        deaths,
        toll: _,
        last_death,
        wanted,
        absent_since,
        flapping,
        health,
        restart,
        reservation,
        latency_violated: _,
    } = view;
    let unhealthy = health.as_ref().is_some_and(|health| health.unhealthy_since.is_some());
    let state = match restart.as_ref().map(|restart| &restart.state) {
        Some(RestartState::GivenUp) => "given_up",
        Some(
            RestartState::Due | RestartState::WaitsFor(_) | RestartState::Restarting | RestartState::Awaited,
        ) => "restarting",
        Some(RestartState::Idle) | None if instances.is_empty() => "down",
        Some(RestartState::Idle) | None if unhealthy => "unhealthy",
        Some(RestartState::Idle) | None => "up",
    };
    CriticalStatus {
        name,
        state: state.to_owned(),
        instances: instances.into_iter().map(|key| Member { key, comm: comm(key.pid) }).collect(),
        wanted,
        absent_since: absent_since.and_then(report::wall),
        flapping,
        deaths,
        last_death: last_death.map(|exit| CriticalDeath {
            process: Member { key: exit.process.key, comm: exit.process.comm },
            at: report::wall(exit.at),
            status: exit.status,
            how: Obituary { exit: &exit, oom_cgroup: None }.to_string(),
            lived_ms: millis(exit.lifetime()),
            circumstances: found.filter(|(key, _)| *key == exit.process.key).map(|(_, found)| found.clone()),
        }),
        health: health.zip(spec.and_then(|spec| spec.health.as_ref())).map(told_health),
        restart: restart.map(told_restart),
        reservation: reservation.map(report::reservation),
        cpu_delay: None,
        dependencies: spec.map(|spec| spec.dependencies.clone()).unwrap_or_default(),
    }
}

fn told_health((view, check): (HealthView, &HealthCheck)) -> CriticalHealth {
    let HealthView { unhealthy_since, failures, last, next: _ } = view;
    let state = match (&last, unhealthy_since) {
        (_, Some(_)) => "unhealthy",
        (Some((_, Checked::Healthy | Checked::Unhealthy { .. })), None) => "healthy",
        (Some((_, Checked::NotRun { .. })) | None, None) => "unknown",
    };
    let (checked, found) = last.unzip();
    CriticalHealth {
        check: match &check.probe {
            Probe::Port { target } => format!("port {target}"),
            Probe::Http { target } => format!("http {target}"),
            Probe::Command { program } => RestartBy::Command(program.clone()).to_string(),
            Probe::File { target, .. } => format!("file {target}"),
        },
        state: state.to_owned(),
        since: unhealthy_since.and_then(report::wall),
        failures,
        checked: checked.and_then(report::wall),
        found,
    }
}

fn told_restart(view: RestartView) -> CriticalRestarts {
    let RestartView { policy, by, state, attempts, most, per, next, last } = view;
    let state = match state {
        RestartState::Idle => "idle".to_owned(),
        RestartState::Due => "due".to_owned(),
        RestartState::WaitsFor(name) => format!("waits for {name}"),
        RestartState::Restarting => "restarting".to_owned(),
        RestartState::Awaited => "waits for an instance".to_owned(),
        RestartState::GivenUp => "given up".to_owned(),
    };
    let (last, last_result, last_detail) = match last {
        Some((at, result, detail)) => (report::wall(at), Some(result), Some(detail)),
        None => (None, None, None),
    };
    CriticalRestarts {
        policy,
        by,
        state,
        attempts,
        most,
        per_ms: millis(per),
        next: next.and_then(report::wall),
        last,
        last_result,
        last_detail,
    }
}
