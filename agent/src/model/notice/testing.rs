//! Notices for tests. Written as JSON where fields that are added later must not matter.

use serde_json::json;

use crate::model::critical::RestartResult;
use crate::model::limits::Limits;
use crate::model::notice::{Clash, Notice, Response};
use crate::model::reason::Reason;

/// The death of an instance of a critical process; so many are left, one too few.
pub(crate) fn down(name: &str, remaining: usize) -> Notice {
    let process = json!({
        "key": { "pid": 5, "start": 7 }, "started": 0, "ppid": 1, "uid": 0, "gid": 0, "cgroup": 0, "comm": "x",
    });
    let exit = json!({ "process": process, "at": 1_000_000_000 });
    let notice = json!({ "type": "critical_process_down", "name": name, "remaining": remaining, "wanted": remaining + 1,
        "exit": exit });
    serde_json::from_value(notice).unwrap()
}

/// Limits came into force.
pub(crate) fn applied(group: &str) -> Notice {
    Notice::ThrottleApplied {
        group: group.parse().unwrap(),
        limits: Limits::default(),
        processes: Vec::new(),
        how: "in place".to_owned(),
        reason: Reason::Empty,
        latency_ns: None,
    }
}

/// A restart ended so.
pub(crate) fn restarted(name: &str, result: RestartResult, attempt: u32) -> Notice {
    Notice::CriticalProcessRestart {
        name: name.parse().unwrap(),
        result,
        by: "unit x.service".to_owned(),
        attempt,
        detail: "that is how".to_owned(),
    }
}

/// Somebody changed a limit.
pub(crate) fn conflict(group: &str, response: Response) -> Notice {
    let clash = Clash { at: "/c/cpu.max".into(), ours: "1".into(), found: "2".into() };
    Notice::ThrottleConflict { group: group.parse().unwrap(), clash, response }
}

/// A group was released.
pub(crate) fn removed(group: &str) -> Notice {
    Notice::ThrottleRemoved { group: group.parse().unwrap(), reason: Reason::Empty }
}

/// An emergency stop.
pub(crate) fn stopped() -> Notice {
    Notice::EmergencyStop { reason: "x".to_owned(), uid: 0, groups: 1 }
}
