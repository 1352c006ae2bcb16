//! Protection as written: a level, what overrides it, and the values that both come to.

use super::reserve;
use crate::config::error::Findings;
use crate::config::fields::Map;
use crate::config::host::Host;
use crate::model::attribute::OomScoreAdj;
use crate::model::critical::{Level, Protection};
use crate::model::unit::{Nice, Weight};

pub(super) const KEYS: [&str; 6] =
    ["protection_level", "oom_score_adj", "nice", "cpu_weight", "io_weight", "reserve"];

const LEVELS: [(&str, Level); 4] =
    [("maximum", Level::Maximum), ("high", Level::High), ("medium", Level::Medium), ("low", Level::Low)];

/// What a level comes to: OOM score adjustment and nice value.
///
/// No level is -1000, with which the OOM killer takes everything else first and then has the kernel panic, if it
/// is the protected process that leaks. None is below -10, from which on a process that spins leaves others
/// in its cgroup a tenth and less.
const fn values(level: Level) -> (i64, i64) {
    match level {
        Level::Maximum => (-900, -10),
        Level::High => (-600, -5),
        Level::Medium => (-300, -2),
        Level::Low => (-100, -1),
    }
}

/// Reads what an entry states; nothing that it does not.
pub(super) fn read(map: &Map<'_>, host: &Host, findings: &mut Findings) -> Protection {
    let level = map.get("protection_level").and_then(|at| at.choice(&LEVELS, findings));
    let (oom_score_adj, nice) = level.map(values).map_or((None, None), |(oom, nice)| (Some(oom), Some(nice)));
    let number = |key: &str, range, what: &str, findings: &mut Findings| {
        let number = map.get(key)?.integer(range, what, findings)?;
        i64::try_from(number).ok()
    };
    let oom =
        number("oom_score_adj", -1000..=0, "an OOM score adjustment that protects, -1000 to 0", findings);
    if let Some(at) = map.get("oom_score_adj").filter(|_| oom == Some(-1000)) {
        let message = "the OOM killer never takes a process at -1000: if it is the one that leaks, it takes \
                       everything else and then the kernel panics";
        findings.push(at.warning(message).with_fix("write -999, which is taken last"));
    }
    let own_nice = number("nice", -20..=0, "a nice value that protects, -20 to 0", findings);
    let cpu_weight = weight(map, "cpu_weight", findings);
    let io_weight = weight(map, "io_weight", findings);
    let reserve = map.get("reserve").map(|at| reserve::parse(at, host, findings)).unwrap_or_default();
    if let (Some(at), true) = (map.get("cpu_weight"), reserve.cpu.is_some()) {
        let message = "reserve.cpu_percent comes to a weight of its own: one of both would not count";
        findings.push(at.error(message).with_fix("remove cpu_weight or reserve.cpu_percent"));
    }
    Protection {
        level,
        oom_score_adj: oom.or(oom_score_adj).and_then(OomScoreAdj::new),
        nice: own_nice.or(nice).and_then(Nice::new),
        cpu_weight,
        io_weight,
        memory_low: reserve.memory,
        reserved_cpu: reserve.cpu,
    }
}

fn weight(map: &Map<'_>, key: &str, findings: &mut Findings) -> Option<Weight> {
    let what = "a weight that protects, 100 (the default) to 10000";
    let number = map.get(key)?.integer(100..=10_000, what, findings)?;
    u64::try_from(number).ok().and_then(Weight::new)
}

/// Refuses protection where any process could obtain it.
pub(super) fn expect_unforgeable(map: &Map<'_>, findings: &mut Findings) {
    for at in KEYS.iter().filter_map(|key| map.get(key)) {
        let message = "a process can give itself this match, and would be protected by it";
        findings.push(at.error(message).with_fix("add exe, user or uid to the match"));
    }
}
