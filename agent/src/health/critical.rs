//! The critical processes, as the daemon sees them.

use super::{Category, Check, Told};
use crate::control::proto::CriticalStatus;

const ABOUT: Category = Category::Critical;
/// Name of the check where there is none for a process.
const ALL: &str = "critical processes";

pub(super) fn check(told: &Told<Vec<CriticalStatus>>) -> Vec<Check> {
    match told {
        Told::This(critical) if critical.is_empty() => {
            vec![Check::ok(ABOUT, ALL, "no active profile has a critical process")]
        }
        Told::This(critical) => critical.iter().map(one).collect(),
        Told::NotRunning => vec![
            Check::not_made(ABOUT, ALL, "nobody watches over them, no daemon runs")
                .run("start it", "process-throttler daemon start"),
        ],
        Told::Nothing(why) => vec![Check::not_made(ABOUT, ALL, why)],
    }
}

fn one(status: &CriticalStatus) -> Check {
    let CriticalStatus { name, state, instances, wanted, deaths, .. } = status;
    let message = format!("{state}: {} of {wanted} instances", instances.len());
    let found = status.health.as_ref().map(|health| format!("{}: {}", health.check, health.state));
    let show = format!("process-throttler critical show {name}");
    let check = match state.as_str() {
        "up" if instances.len() >= *wanted => Check::ok(ABOUT, name.as_str(), message),
        "restarting" => Check::warning(ABOUT, name.as_str(), message).run("see how it goes on", show),
        "given_up" => Check::error(ABOUT, name.as_str(), message).run(
            "it is not tried any more; once the cause is mended",
            format!("process-throttler critical restart {name}"),
        ),
        _ => Check::error(ABOUT, name.as_str(), message).run("see what it died of", show),
    };
    let check = check.detail("deaths", deaths);
    match found {
        Some(found) => check.detail("health", found),
        None => check,
    }
}
