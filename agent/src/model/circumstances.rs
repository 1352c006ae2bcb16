//! What the machine was like when a critical process died.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::id::Name;
use crate::model::last_seconds::LastSeconds;
use crate::model::signal::Hundredths;

/// As read right after the death. What is absent could not be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Circumstances {
    /// Share of the last 10 s in which some task of the machine waited for the CPU, for memory and for I/O. On the
    /// CPU, tasks count that quotas hold back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<[Hundredths; 3]>,
    /// What the CPU quota of its cgroup has done since the cgroup was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaUse>,
    /// Groups that the agent limits, whose quota has held them back for longest first; at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limited: Vec<LimitedGroup>,
    /// Path of the cgroup whose memory limit the OOM killer enforced, with everything odd in it escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_cgroup: Option<String>,
    /// The group of ours that this cgroup is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_group: Option<Name>,
    /// What its last seconds were like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seconds: Option<LastSeconds>,
}

/// What a CPU quota has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QuotaUse {
    /// Periods in which the cgroup ran.
    pub periods: u64,
    /// Those in which it used its quota up.
    pub throttled: u64,
    /// For how long it was held back, in ns.
    pub throttled_ns: u64,
}

/// A group that the agent limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LimitedGroup {
    /// The group.
    pub group: Name,
    /// What its CPU quota has done.
    pub quota: QuotaUse,
}

impl fmt::Display for Circumstances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        if let Some(last) =
            self.last_seconds.as_ref().map(ToString::to_string).filter(|last| !last.is_empty())
        {
            said.push(last);
        }
        if let Some([cpu, memory, io]) = self.pressure {
            said.push(format!("pressure cpu {cpu} %, memory {memory} %, io {io} %"));
        }
        if let Some(QuotaUse { periods, throttled, .. }) = self.quota.filter(|quota| quota.throttled > 0) {
            said.push(format!(
                "its cgroup was held back in {throttled} of {periods} periods of its quota since it was made"
            ));
        }
        if !self.limited.is_empty() {
            let names: Vec<_> = self.limited.iter().map(|limited| limited.group.as_str()).collect();
            said.push(format!("limited groups: {}", names.join(", ")));
        }
        if let Some(group) = &self.oom_group {
            said.push(format!("that memory limit is of group {group}, which the agent limits"));
        }
        f.write_str(&said.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_said() {
        assert_eq!(Circumstances::default().to_string(), "");
        let limited = |name: &str| LimitedGroup { group: name.parse().unwrap(), quota: QuotaUse::default() };
        let all = Circumstances {
            pressure: Some([1234, 0, 10_000].map(Hundredths)),
            quota: Some(QuotaUse { periods: 10, throttled: 3, throttled_ns: 1 }),
            limited: vec![limited("backups"), limited("builds")],
            oom_cgroup: Some("/x".to_owned()),
            oom_group: Some("builds".parse().unwrap()),
            last_seconds: Some(LastSeconds {
                window_ms: 5_000,
                pressure: Some(Hundredths(7)),
                ..LastSeconds::default()
            }),
        };
        assert_eq!(
            all.to_string(),
            "in the last 5.0 s: CPU pressure in its cgroup 0.07 % over 10 s; pressure cpu 12.34 %, memory 0.00 %, io 100.00 %; \
             its cgroup was held back in 3 of 10 periods of its quota since it was made; limited groups: backups, builds; that memory limit is of group builds, which the agent limits"
        );
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Circumstances>(&json).unwrap(), all);
        assert_eq!(serde_json::from_str::<Circumstances>("{}").unwrap(), Circumstances::default());
    }
}
