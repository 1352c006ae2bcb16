//! `daemon status`: what it says of itself, or that it does not run.

use serde::Serialize;

use super::{holder, sleeps};
use crate::cli::error::{CliError, CliResult};
use crate::cli::globals::{Context, call, runtime};
use crate::cli::output::View;
use crate::cli::page::{Always, Page, dash, duration, or_dash, size};
use crate::control::client::ClientError;
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{DaemonState, DaemonStatus, Feature, FeatureState, Request};
use crate::model::plural::counted;

pub(super) fn status(context: &Context) -> CliResult {
    // Where a service manager listens on the socket, asking would start what is only asked after.
    if sleeps(context)? {
        return stopped(context);
    }
    match runtime()?.block_on(call::<Box<DaemonStatus>>(&context.client(), &Request::Status)) {
        Ok(status) => context.output.show(&*status),
        Err(ClientError::NotRunning(socket)) => {
            if let Some(pid) = holder(context)? {
                let message = format!(
                    "the daemon (pid {pid}) runs but does not listen on {}: it is starting or stopping",
                    socket.display()
                );
                return Err(Failure::new(FailureKind::Failed, message).into());
            }
            stopped(context)
        }
        Err(error) => Err(Failure::from(error).into()),
    }
}

fn stopped(context: &Context) -> CliResult {
    context.output.show(&Stopped::now())?;
    Err(CliError::Exit(FailureKind::NotRunning))
}

/// A daemon that does not run.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Stopped {
    state: &'static str,
    features: Vec<Feature>,
}

impl Stopped {
    fn now() -> Self {
        let features = feature::ALL.map(|(name, requires_daemon)| {
            let (state, why) = if requires_daemon {
                (FeatureState::Unavailable, "the daemon does not run")
            } else {
                (FeatureState::Working, "")
            };
            Feature { name: name.to_owned(), state, requires_daemon, why: why.to_owned() }
        });
        Self { state: "stopped", features: features.into() }
    }
}

impl View for Stopped {
    const KIND: &'static str = "Status";

    fn page(&self, page: &mut Page) {
        page.field("State", self.state);
        page.gap();
        features(page, &self.features);
    }
}

impl View for DaemonStatus {
    const KIND: &'static str = "Status";

    fn page(&self, page: &mut Page) {
        let source = &self.source;
        page.field("State", state(self.state));
        page.field("Pid", self.pid);
        page.field("Uptime", duration(self.uptime_ms));
        page.field("Version", &self.version);
        page.field("Profile", or_dash(self.profile.as_ref()));
        if let Some(words) = &self.emergency {
            page.field("Emergency", words);
        }
        if let Some(error) = &self.config_error {
            page.field("Configuration", format!("last good one kept: {error}"));
        }
        page.field("Cgroups", dash(self.cgroups.clone()));
        page.field("Source", &source.name);
        for why in &source.degraded {
            page.field("Degraded", why);
        }
        let uncounted = if source.exact { "" } else { " (losses are not counted by this source)" };
        page.field(
            "Records",
            format!(
                "{} produced, {} sent, {} dropped, {} malformed, {}{uncounted}",
                source.produced,
                source.sent,
                source.dropped,
                source.malformed,
                counted(source.wakeups, "wake-up", "wake-ups")
            ),
        );
        page.field("Processes", {
            let groups = counted(self.groups, "group", "groups");
            format!("{} known, {} limited in {groups}", self.processes, self.throttled)
        });
        if let Some(ms) = self.watchdog_ms {
            page.field("Watchdog", format!("fed; systemd restarts it after {}", duration(ms)));
        }
        if self.audit_failed > 0 {
            page.field(
                "Audit",
                format!("{} could not be written", counted(self.audit_failed, "record", "records")),
            );
        }
        page.field("Cost", format!("{} resident, {:.2} s CPU", size(self.rss), self.cpu_ms as f64 / 1e3));
        page.gap();
        features(page, &self.features);
    }
}

fn features(page: &mut Page, features: &[Feature]) {
    page.table(
        [Always("FEATURE"), Always("STATE"), Always("NEEDS DAEMON"), Always("WHY")],
        features.iter().map(|feature| {
            let state = match feature.state {
                FeatureState::Working => "working",
                FeatureState::Disabled => "disabled",
                FeatureState::Degraded => "degraded",
                FeatureState::Unavailable => "unavailable",
            };
            let needs = if feature.requires_daemon { "yes" } else { "no" };
            [feature.name.clone(), state.to_owned(), needs.to_owned(), dash(feature.why.clone())]
        }),
    );
}

const fn state(state: DaemonState) -> &'static str {
    match state {
        DaemonState::Starting => "starting",
        DaemonState::Running => "running",
        DaemonState::Stopping => "stopping",
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    gallery.show("daemon status", &Stopped::now());
}
