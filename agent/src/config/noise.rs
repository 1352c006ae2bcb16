//! How an endpoint is spared noise, as written, to [`Noise`].

use std::time::Duration;

use super::error::Findings;
use super::fields::{Cursor, Map};
use crate::model::endpoint::Noise;

/// Longest of these times.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Shortest interval, where there is one.
const SHORTEST: Duration = Duration::from_secs(1);

/// Reads the keys; `None` when anything in them is wrong.
pub(super) fn parse(map: &Map<'_>, findings: &mut Findings) -> Option<Noise> {
    let mut time = |key: &str, default| map.get(key).map_or(Some(default), |at| time(at, findings));
    let Noise { repeat_interval, send_resolved, group_wait, group_interval } = Noise::DEFAULT;
    let repeat_interval = time("repeat_interval", repeat_interval);
    let group_wait = time("group_wait", group_wait);
    let group_interval = time("group_interval", group_interval);
    let send_resolved = map.get("send_resolved").map_or(Some(send_resolved), |at| at.boolean(findings));
    Some(Noise {
        repeat_interval: repeat_interval?,
        send_resolved: send_resolved?,
        group_wait: group_wait?,
        group_interval: group_interval?,
    })
}

fn time(at: &Cursor<'_>, findings: &mut Findings) -> Option<Duration> {
    let text = at.text(findings)?;
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() || (SHORTEST..=LONGEST).contains(&time) => Some(time),
        Ok(_) => {
            findings
                .push(at.error(format!("{text} is not between 1s and 30days")).with_fix("write 0s for none"));
            None
        }
        Err(error) => {
            findings.push(at.error(format!("{text:?} is no duration: {error}")).with_fix("write 4h or 30s"));
            None
        }
    }
}
