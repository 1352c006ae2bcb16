//! What the last seconds of a critical process were like: whether it waited for a CPU, whether a quota held it back,
//! and who used the CPUs meanwhile. Everything was measured; what is absent could not be had.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::circumstances::QuotaUse;
use crate::model::id::Name;
use crate::model::signal::Hundredths;

/// Between a look at the machine while it lived and one right after its death.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastSeconds {
    /// How long that is, in ms.
    pub window_ms: u64,
    /// How long its threads waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited: Option<Waiting>,
    /// What CPU quotas did to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Share of the last 10 s in which some task of its cgroup waited for a CPU, in hundredths of a percent; v2 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Hundredths>,
    /// CPUs online.
    pub cpus: u32,
    /// The cgroups that used the CPUs most, largest first: at most five, with 1 % or more each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<CpuUser>,
}

/// How long the threads of a process waited for a CPU, those that a quota held back included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Waiting {
    /// Over how long, in ms.
    pub window_ms: u64,
    /// How long before the look after the death that ended, in ms. Not 0 where the dead could not be read any more:
    /// it had several threads, or it was reaped.
    pub ended_ms: u64,
    /// Its threads; at most 32 are looked at.
    pub threads: u32,
    /// Time on a run queue, in hundredths of a percent of the window; summed over the threads, so beyond 100 %.
    pub waited: Hundredths,
    /// Time on a CPU, likewise.
    pub ran: Hundredths,
}

/// What the quota did that held it back for longest: that of its cgroup, or of one above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Held {
    /// The cgroup with the quota, everything odd in it escaped; its own cgroup where none held it back.
    pub cgroup: String,
    /// The group of ours that limits there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// For how long, in hundredths of a percent of the window; summed over CPUs, so beyond 100 %.
    pub share: Hundredths,
    /// What the quota did within the window.
    pub quota: QuotaUse,
}

/// A cgroup that used CPU time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuUser {
    /// Path of the cgroup, everything odd in it escaped.
    pub cgroup: String,
    /// The group of ours that limits there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Whether the process that died is known to have been in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// What it used without the others that could be named, in hundredths of a percent of all CPUs.
    pub share: Hundredths,
}

/// A part of a whole, both in ns, in hundredths of a percent; of nothing it is nothing.
#[must_use]
pub fn share(part: u64, whole: u128) -> Hundredths {
    let hundredths = (u128::from(part) * 10_000).checked_div(whole).unwrap_or(0);
    Hundredths(u32::try_from(hundredths).unwrap_or(u32::MAX))
}

impl fmt::Display for LastSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window_ms, waited, held, pressure, cpus, users } = self;
        let mut said = Vec::new();
        if let Some(waited) = waited {
            said.push(waited.to_string());
        }
        if let Some(held) = held {
            said.push(held.to_string());
        }
        if let Some(pressure) = pressure {
            said.push(format!("CPU pressure in its cgroup {pressure} % over 10 s"));
        }
        if !users.is_empty() {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            let whose = if *cpus == 1 { "the CPU was".to_owned() } else { format!("the {cpus} CPUs were") };
            said.push(format!("{whose} used by {}", users.join(", ")));
        }
        if said.is_empty() {
            return Ok(());
        }
        write!(f, "in the last {}: {}", seconds(*window_ms), said.join(", "))
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window_ms, ended_ms, threads, waited, ran: _ } = self;
        if *threads > 1 {
            write!(f, "its {threads} threads waited {} for a CPU in sum", Percent(*waited))?;
        } else {
            write!(f, "waited {} for a CPU", Percent(*waited))?;
        }
        if *ended_ms > 0 {
            write!(f, " (in {} until {} before)", seconds(*window_ms), seconds(*ended_ms))?;
        }
        Ok(())
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cgroup, group, share, quota: QuotaUse { periods, throttled, throttled_ns } } = self;
        write!(f, "held back {}", Percent(*share))?;
        if *throttled_ns == 0 {
            return Ok(());
        }
        write!(f, " by the quota of {cgroup}")?;
        if let Some(group) = group {
            write!(f, " (group {group})")?;
        }
        write!(f, " in {throttled} of {periods} periods")
    }
}

impl fmt::Display for CpuUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cgroup, group, own, share } = self;
        write!(f, "{cgroup}")?;
        match (own, group) {
            (true, Some(group)) => write!(f, " (its own, group {group})")?,
            (true, None) => write!(f, " (its own)")?,
            (false, Some(group)) => write!(f, " (group {group})")?,
            (false, None) => {}
        }
        write!(f, " {}", Percent(*share))
    }
}

/// Rounded to whole percents.
struct Percent(Hundredths);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hundredths(hundredths) = self.0;
        match hundredths.saturating_add(50) / 100 {
            0 if hundredths > 0 => f.write_str("<1 %"),
            whole => write!(f, "{whole} %"),
        }
    }
}

fn seconds(millis: u64) -> String {
    format!("{:.1} s", Duration::from_millis(millis).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(cgroup: &str, group: Option<&str>, own: bool, share: u32) -> CpuUser {
        let group = group.map(|group| group.parse().unwrap());
        CpuUser { cgroup: cgroup.to_owned(), group, own, share: Hundredths(share) }
    }

    fn held(throttled: u64) -> Held {
        Held {
            cgroup: "/x".to_owned(),
            group: Some("builds".parse().unwrap()),
            share: share(throttled, 1_000),
            quota: QuotaUse { periods: 10, throttled: throttled / 100, throttled_ns: throttled },
        }
    }

    #[test]
    fn contended_and_throttled_are_told_apart() {
        let waited = Waiting {
            window_ms: 4_210,
            ended_ms: 0,
            threads: 1,
            waited: Hundredths(6_149),
            ran: Hundredths(1),
        };
        let contended = LastSeconds {
            window_ms: 4_210,
            waited: Some(waited),
            held: Some(held(0)),
            pressure: Some(Hundredths(1_234)),
            cpus: 2,
            users: vec![user("/backup.slice", None, false, 7_200), user("/a", Some("builds"), true, 1_080)],
        };
        assert_eq!(
            contended.to_string(),
            "in the last 4.2 s: waited 61 % for a CPU, held back 0 %, CPU pressure in its cgroup 12.34 % over 10 s, the 2 CPUs \
             were used by /backup.slice 72 %, /a (its own, group builds) 11 %"
        );
        let waited = Some(Waiting { window_ms: 5_000, ended_ms: 2_060, threads: 8, ..waited });
        let throttled =
            LastSeconds { waited, held: Some(held(700)), pressure: None, users: vec![], ..contended };
        assert_eq!(
            throttled.to_string(),
            "in the last 4.2 s: its 8 threads waited 61 % for a CPU in sum (in 5.0 s until 2.1 s before), held back \
             70 % by the quota of /x (group builds) in 7 of 10 periods"
        );
        let json = serde_json::to_string(&throttled).unwrap();
        assert_eq!(serde_json::from_str::<LastSeconds>(&json).unwrap(), throttled);
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        assert_eq!(LastSeconds { window_ms: 1_000, cpus: 2, ..LastSeconds::default() }.to_string(), "");
    }

    #[test]
    fn shares() {
        assert_eq!(share(1, 0), Hundredths(0));
        assert_eq!(share(u64::MAX, 1), Hundredths(u32::MAX));
        assert_eq!(share(1_500, 1_000), Hundredths(15_000));
        assert_eq!(Percent(Hundredths(49)).to_string(), "<1 %");
        assert_eq!(Percent(Hundredths(150)).to_string(), "2 %");
        assert_eq!(Percent(Hundredths(u32::MAX)).to_string(), "42949672 %");
    }
}
