//! The daemon by its own account.

use super::{Category, Check, Told};
use crate::control::proto::{DaemonState, DaemonStatus, Feature, FeatureState};
use crate::model::plural::counted;

const ABOUT: Category = Category::Daemon;

pub(super) fn check(told: &Told<Box<DaemonStatus>>) -> Vec<Check> {
    let status = match told {
        Told::This(status) => status,
        Told::NotRunning => {
            return without("no daemon runs", |check| {
                check.run("start it", "process-throttler daemon start")
            });
        }
        Told::Nothing(why) => {
            return without(why, |check| {
                check.run("see what it says of itself", "process-throttler daemon status")
            });
        }
    };
    vec![state(status), source(status), losses(status), features(status), watchdog(status), emergency(status)]
}

/// Without an account there is nothing to check but that.
fn without(why: &str, advise: impl Fn(Check) -> Check) -> Vec<Check> {
    let state = advise(Check::warning(ABOUT, "state", why));
    let others = ["source", "losses", "features", "watchdog", "emergency"];
    let others = others.map(|name| Check::not_made(ABOUT, name, why));
    std::iter::once(state).chain(others).collect()
}

fn state(status: &DaemonStatus) -> Check {
    let DaemonStatus { pid, version, .. } = status;
    let check = match status.state {
        DaemonState::Running => Check::ok(ABOUT, "state", format!("runs as pid {pid}, version {version}")),
        DaemonState::Starting => Check::warning(ABOUT, "state", "it is starting"),
        DaemonState::Stopping => Check::warning(ABOUT, "state", "it is stopping"),
    };
    let profile = status.profile.as_ref().map_or("none", |name| name.as_str());
    let mine = env!("CARGO_PKG_VERSION");
    let check = check.detail("pid", pid).detail("version", version).detail("profile", profile);
    let check = check.detail("uptime_ms", status.uptime_ms);
    if version == mine {
        return check;
    }
    Check { status: super::Status::Warning, ..check }.run(
        format!("this command is version {mine}: let the daemon be the same"),
        "process-throttler daemon restart",
    )
}

fn source(status: &DaemonStatus) -> Check {
    let source = &status.source;
    if source.degraded.is_empty() {
        return Check::ok(ABOUT, "source", format!("events come from {}", source.name));
    }
    let why = source.degraded.join("; ");
    Check::warning(ABOUT, "source", format!("events come from {}, which is degraded: {why}", source.name))
        .detail("source", &source.name)
        .advise("see the system's checks of the kernel, of BTF and of BPF for what is missing")
}

fn losses(status: &DaemonStatus) -> Check {
    let source = &status.source;
    let of_source = |check: Check| {
        let check = check.detail("produced", source.produced).detail("sent", source.sent);
        check.detail("dropped", source.dropped).detail("malformed", source.malformed)
    };
    if source.dropped == 0 && source.malformed == 0 {
        let words =
            if source.exact { "nothing was lost" } else { "no loss was noticed; this source counts none" };
        return of_source(Check::ok(ABOUT, "losses", words));
    }
    let message = format!(
        "{} lost and {} not understood",
        counted(source.dropped, "record was", "records were"),
        source.malformed
    );
    of_source(Check::warning(ABOUT, "losses", message)).advise(
        "the process table was rebuilt each time; larger rings (config.yaml, rings:) hold longer storms",
    )
}

fn features(status: &DaemonStatus) -> Check {
    let broken = status
        .features
        .iter()
        .filter(|feature| matches!(feature.state, FeatureState::Degraded | FeatureState::Unavailable));
    let broken: Vec<&Feature> = broken.collect();
    if broken.is_empty() {
        let off = status.features.iter().filter(|feature| feature.state == FeatureState::Disabled);
        let off: Vec<&str> = off.map(|feature| feature.name.as_str()).collect();
        let check = Check::ok(ABOUT, "features", "none is degraded");
        return if off.is_empty() { check } else { check.detail("disabled", off.join(", ")) };
    }
    let words: Vec<String> =
        broken.iter().map(|feature| format!("{} ({})", feature.name, feature.why)).collect();
    Check::warning(ABOUT, "features", format!("degraded: {}", words.join(", ")))
        .run("see each of them", "process-throttler daemon status")
}

fn watchdog(status: &DaemonStatus) -> Check {
    match status.watchdog_ms {
        Some(ms) => {
            Check::ok(ABOUT, "watchdog", format!("systemd restarts it after {ms} ms without a sign of life"))
                .detail("watchdog_ms", ms)
        }
        None => Check::ok(ABOUT, "watchdog", "none: no service manager asked for signs of life"),
    }
}

fn emergency(status: &DaemonStatus) -> Check {
    match &status.emergency {
        None => Check::ok(ABOUT, "emergency", "no emergency stop is in force"),
        Some(reason) => Check::warning(ABOUT, "emergency", format!("nothing is limited: {reason}"))
            .run("once it is over", "process-throttler emergency resume"),
    }
}
