//! What the engine is told.

use serde::{Deserialize, Serialize};

use crate::engine::action::ActionId;
use crate::model::critical::{Checked, Restarted};
use crate::model::event::{Event, Status};
use crate::model::id::{Name, ProcKey};
use crate::model::latency::Waits;
use crate::model::limits::{Limits, Scope};
use crate::model::notice::Clash;
use crate::model::policy::{Policy, Zone};
use crate::model::process::Facts;
use crate::model::reason::Reason;
use crate::model::rule::Profile;
use crate::model::signal::Hundredths;
use crate::model::time::Timestamp;

/// One input. Recorded as JSON lines, so every variant is data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// From the event source, in order of arrival, which need not be order of time.
    Event {
        /// The event.
        #[serde(flatten)]
        event: Event,
    },
    /// A full snapshot, given as `Alive` events, ends here: whatever the table holds from before `began`
    /// and was not seen in it is gone.
    SnapshotEnd {
        /// When the snapshot was begun.
        began: Timestamp,
    },
    /// The kernel dropped records since the last such input.
    Lost {
        /// How many.
        dropped: u64,
    },
    /// Answer to `What::Inspect`; no facts when the process is gone.
    Inspected {
        /// The process.
        key: ProcKey,
        /// What `/proc` told.
        facts: Option<Facts>,
    },
    /// This profile is now the active one; `None`: no profile is.
    Profile {
        /// The profile.
        profile: Option<Box<Profile>>,
    },
    /// An operator limits processes by hand.
    Throttle(ManualThrottle),
    /// An operator releases groups.
    Release {
        /// Which.
        target: ReleaseTarget,
        /// Why.
        reason: Reason,
    },
    /// Lift everything, and limit nothing until the stop is over.
    EmergencyStop {
        /// Why, in the words of whoever asked.
        reason: String,
        /// Who asked.
        uid: u32,
        /// Whether it was in force before the agent was started, and has been told.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        told: bool,
    },
    /// The emergency is over.
    EmergencyResume {
        /// Who says so.
        uid: u32,
    },
    /// The values of a group that somebody else changed: all that differ now, none when they are ours again.
    Clashes {
        /// The group.
        group: Name,
        /// What differs.
        clashes: Vec<Clash>,
    },
    /// Answer to `What::Sample`.
    Sample(Box<Sample>),
    /// How long critical processes waited for a CPU since the last such input: what `What::Listen` asks for, ten times
    /// a second.
    Waited(Box<Waited>),
    /// An operator puts a policy over the one that a rule or a group has, or takes it away again.
    Override(Override),
    /// What an earlier agent of this boot has done about critical processes. Comes before the first profile.
    Remembered {
        /// By critical process.
        restarts: Vec<Remembered>,
    },
    /// Answer to `What::Check`.
    Checked {
        /// The action.
        id: ActionId,
        /// What was found.
        checked: Checked,
    },
    /// Answer to `What::Restart`.
    Restarted {
        /// The action.
        id: ActionId,
        /// What came of it.
        restarted: Restarted,
    },
    /// An operator restarts a critical process.
    RestartByHand {
        /// Its name.
        name: Name,
    },
    /// What became of an action.
    Outcome {
        /// The action.
        id: ActionId,
        /// Its result.
        outcome: Outcome,
    },
}

/// What an earlier agent has done about a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The critical process.
    pub name: Name,
    /// When it was restarted, oldest first.
    pub attempts: Vec<Timestamp>,
    /// Whether it was given up.
    pub given_up: bool,
    /// When and how its last instance died, if that was the last thing that was told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<(Timestamp, Option<Status>)>,
}

/// A throttle by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualThrottle {
    /// The group; new, or one made by hand before (its limits are replaced).
    pub group: Name,
    /// The limits.
    pub limits: Limits,
    /// Shared or each.
    pub scope: Scope,
    /// Whether processes may be moved out of a cgroup that is not a hierarchy's root.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub allow_move: bool,
    /// Whether a whole systemd unit may be limited although other processes are in it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_unit: bool,
    /// The processes.
    pub processes: Vec<ProcKey>,
    /// How the limits change over time.
    #[serde(default, skip_serializing_if = "Policy::is_fixed")]
    pub policy: Policy,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who asked.
    pub reason: Reason,
}

/// Recordings of versions that always moved say nothing.
const fn yes() -> bool {
    true
}

/// A policy by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// An enabled rule of the profile, or a group made by hand.
    pub target: Name,
    /// What holds instead of what was written; `None`: what was written holds again.
    pub terms: Option<(Limits, Policy)>,
    /// Who asked.
    pub reason: Reason,
}

/// How long critical processes waited for a CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// The time that it tells of, in ms.
    pub interval_ms: u64,
    /// By critical process.
    pub of: Vec<WaitedOf>,
}

/// How long the instances of one critical process waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitedOf {
    /// Which.
    pub critical: Name,
    /// All of them together.
    pub waits: Waits,
    /// Who had the CPUs meanwhile, the most first; none where that was not looked at, as nobody waited long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
}

/// A cgroup that had the CPUs for which somebody waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its id; 0 for those that cannot be told apart.
    pub cgroup: u64,
    /// The group whose limits it was made for, if it is one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Its share of the time that was waited, in hundredths of a percent.
    pub share: u32,
    /// CPU time that it used, in thousandths of a percent of a CPU.
    pub used_millis: u64,
}

/// What was measured of what `What::Sample` asks for. What is absent could not be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Pressure of CPU, memory and I/O, in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<[PressureSample; 3]>,
    /// What is needed to tell pressure on the CPU from tasks that our own quotas hold back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuSample>,
    /// Load averages of 1, 5 and 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<[Hundredths; 3]>,
    /// What groups have used of the CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSample>,
    /// The wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockSample>,
}

/// What a group has used of the CPU since some moment that is the same for every sample of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSample {
    /// The group.
    pub group: Name,
    /// CPU time, in ns.
    pub used_ns: u64,
    /// Periods of its quota in which it ran, summed over its cgroups.
    pub periods: u64,
    /// Those of them in which it used the quota up.
    pub throttled: u64,
}

/// Pressure on a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PressureSample {
    /// Percent of the last 10, 60 and 300 s in which some task waited.
    pub some: [Hundredths; 3],
    /// The same for all tasks.
    pub full: [Hundredths; 3],
    /// Time in which some task waited, in µs since boot.
    pub some_us: u64,
}

/// How busy the CPUs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuSample {
    /// CPUs online.
    pub cpus: u32,
    /// Time in which CPUs ran something, summed over them, in µs since boot.
    pub busy_us: u64,
    /// Time for which groups of ours were held back by their quotas, summed over groups and CPUs, in µs since some
    /// moment.
    pub throttled_us: u64,
}

/// The wall clock, with the distance of local time from UTC where it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSample {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// Seconds that local time is ahead of UTC, by zone.
    pub offsets: Vec<(Zone, i32)>,
}

/// What to release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseTarget {
    /// Everything.
    All,
    /// One group.
    Group(Name),
    /// All groups of a rule.
    Rule(Name),
    /// One process, out of whichever group holds it.
    Process(ProcKey),
}

/// The result of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Limits are in force and were read back.
    Applied {
        /// The rung in words, such as `in place` or `on unit cron.service`, and after a colon why none that is
        /// less intrusive.
        how: String,
        /// The members that are limited now.
        members: Vec<ProcKey>,
        /// Members left out and why: gone, never to be touched.
        refused: Vec<(ProcKey, String)>,
        /// Whether limits are on a cgroup that is not the agent's: whoever comes into it is limited, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        borrowed: bool,
        /// When the last write was verified.
        at: Timestamp,
    },
    /// Prior values are restored, own cgroups removed.
    Released,
    /// `Reap` found processes in the group: it stays.
    Busy,
    /// `Detach` would have to lift the limits of others: they are on a cgroup that the process shares. Nothing
    /// was done.
    Entangled {
        /// Which others.
        why: String,
    },
    /// It failed and was undone.
    Failed {
        /// The error with its causes.
        error: String,
    },
}
