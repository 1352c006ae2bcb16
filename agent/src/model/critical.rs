//! Critical processes as a profile states them: who must live, and what is done to keep it so.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::attribute::{Demand, OomScoreAdj};
use crate::model::event::Status;
use crate::model::id::Name;
use crate::model::latency::LatencySlo;
use crate::model::reservation::ReservedCpu;
use crate::model::rule::Match;
use crate::model::unit::{Bytes, Nice, Weight};

/// How long an instance may take to come up after what starts it has done its part.
pub(crate) const APPEARS_WITHIN: Duration = Duration::from_secs(10);

/// A process that must live. Its death is an alert; it is exempt from limits as well if its match is one that
/// a process cannot forge, see [`Match::is_forgeable`]. Only then may it be protected or restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Critical {
    /// Unique within the profile.
    pub name: Name,
    /// Which processes.
    pub matches: Match,
    /// What is written to keep it alive and served; nothing that is not stated.
    #[serde(default, skip_serializing_if = "Protection::is_empty")]
    pub protection: Protection,
    /// How it is brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// How it is asked whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Critical processes of the same profile that it needs: restarted before it, and while one of them is down
    /// its own alerts are held back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Name>,
    /// What there is to be of it at all times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// How long it may wait for a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_slo: Option<LatencySlo>,
}

impl Critical {
    /// One that is alerted for, and nothing more.
    #[must_use]
    pub const fn new(name: Name, matches: Match) -> Self {
        Self {
            name,
            matches,
            protection: Protection::NONE,
            restart: None,
            health: None,
            dependencies: Vec::new(),
            expect: None,
            latency_slo: None,
        }
    }
}

/// What the kernel is told about a critical process. The configuration has resolved the level and what
/// overrides it; an absent field is left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Protection {
    /// The level as written, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// `/proc/PID/oom_score_adj`, -1000 to 0; one that is lower already stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<OomScoreAdj>,
    /// Nice value of every thread, -20 to 0; one that is lower already stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<Nice>,
    /// CPU weight of its unit, or of the cgroup that it has to itself; one that is higher already stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<Weight>,
    /// I/O weight, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<Weight>,
    /// Memory that reclaim spares, likewise (v1: there is none, and that is told).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<Bytes>,
    /// CPU time that is reserved; never together with `cpu_weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_cpu: Option<ReservedCpu>,
}

impl Protection {
    /// Nothing is written.
    pub const NONE: Self = Self {
        level: None,
        oom_score_adj: None,
        nice: None,
        cpu_weight: None,
        io_weight: None,
        memory_low: None,
        reserved_cpu: None,
    };

    /// Whether nothing was stated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// What is asked of the process itself.
    #[must_use]
    pub fn demands(&self) -> Vec<Demand> {
        let oom = self.oom_score_adj.map(Demand::OomAtMost);
        oom.into_iter().chain(self.nice.map(Demand::NiceAtMost)).collect()
    }
}

impl fmt::Display for Protection {
    /// `maximum: oom_score_adj=-900 nice=-10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, oom_score_adj, nice, cpu_weight, io_weight, memory_low, reserved_cpu } = self;
        let pairs = [
            ("oom_score_adj", oom_score_adj.map(|v| v.to_string())),
            ("nice", nice.map(|v| v.to_string())),
            ("cpu_reserved", reserved_cpu.map(|v| v.percent.to_string())),
            ("cpu_weight", cpu_weight.map(|v| v.to_string())),
            ("io_weight", io_weight.map(|v| v.to_string())),
            ("memory_low", memory_low.map(|v| v.to_string())),
        ];
        let pairs = pairs.into_iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}")));
        let pairs = pairs.collect::<Vec<_>>().join(" ");
        match level {
            Some(level) => write!(f, "{}: {pairs}", level.as_str()),
            None => f.write_str(&pairs),
        }
    }
}

/// How much protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The least.
    Low,
    /// More.
    Medium,
    /// More still.
    High,
    /// The OOM killer takes it last.
    Maximum,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Maximum => "maximum",
        }
    }
}

/// How a critical process is brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Restart {
    /// After which deaths.
    pub policy: RestartPolicy,
    /// By what.
    pub by: RestartBy,
    /// Wait before the first restart; doubled with each further one.
    pub backoff: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
    /// Most restarts in `per`; then it is given up, which is one alert.
    pub most: u32,
    /// See `most`. A life longer than this resets the back-off, too.
    pub per: Duration,
}

/// After which deaths something is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// All of them.
    Always,
    /// An exit code other than 0, a signal that systemd does not take for a clean end (systemd.service(5),
    /// `Restart=`: SIGHUP, SIGINT, SIGTERM and SIGPIPE are), or an end whose cause is not known.
    OnFailure,
    /// None.
    Never,
}

impl RestartPolicy {
    /// Whether a death of this kind is followed by a restart; `None`: its cause is not known.
    #[must_use]
    pub const fn follows(self, status: Option<Status>) -> bool {
        match (self, status) {
            (Self::Always, _) | (Self::OnFailure, None) => true,
            (Self::Never, _) => false,
            (Self::OnFailure, Some(Status::Code(code))) => code != 0,
            // SIGHUP, SIGINT, SIGPIPE, SIGTERM, on x86-64 and arm64 (signal(7)).
            (Self::OnFailure, Some(Status::Signal { number, core })) => {
                core || !matches!(number, 1 | 2 | 13 | 15)
            }
        }
    }

    /// As it is written in a profile.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::Never => "never",
        }
    }
}

/// What restarts it. Never a command line that was read from a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RestartBy {
    /// The service manager restarts this unit.
    Unit(String),
    /// This program is run, without a shell.
    Command(Program),
}

impl fmt::Display for RestartBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::Command(program) => {
                write!(f, "command {}", program.command.first().map_or("", String::as_str))
            }
        }
    }
}

/// What came of an attempt to restart something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Restarted {
    /// What restarts it did so. Whether an instance came of it is another matter.
    Done {
        /// What was done, in words.
        how: String,
    },
    /// The service manager is about to restart it by itself: nothing was done.
    Pending {
        /// What it does.
        why: String,
    },
    /// It was stopped on purpose, or may not be started: nothing was done.
    Declined {
        /// What speaks against it.
        why: String,
    },
    /// It failed.
    Failed {
        /// The error with its causes.
        error: String,
    },
}

/// How an attempt to restart a critical process ended, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RestartResult {
    /// It runs again.
    Restarted,
    /// It does not.
    Failed,
    /// It was stopped on purpose: nothing is done.
    Declined,
    /// It will not be tried again by itself.
    GivenUp,
}

impl RestartResult {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restarted => "restarted",
            Self::Failed => "failed",
            Self::Declined => "declined",
            Self::GivenUp => "given_up",
        }
    }
}

/// A program to run, without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Program {
    /// The absolute path of the program, then its arguments.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub user: String,
    /// The group; `None`: the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The working directory; `None`: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Its whole environment but for `PATH`, in the order written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
}

/// How a critical process is asked whether it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one check to the next, give or take a tenth of it.
    pub interval: Duration,
    /// Hard limit on one check.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy; at least 1.
    pub retries: u32,
    /// Whether being unhealthy counts as a death for `restart`.
    pub restart: bool,
}

/// What a health check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Checked {
    /// It works.
    Healthy,
    /// It does not.
    Unhealthy {
        /// What went wrong.
        error: String,
    },
    /// The check could not be made, which says nothing of what was to be checked.
    NotRun {
        /// Why.
        why: String,
    },
}

/// A kind of health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Probe {
    /// A TCP connection to `host:port` is accepted.
    Port {
        /// The address.
        target: String,
    },
    /// A GET of this URL is answered with a 2xx, redirects not followed.
    Http {
        /// The URL, http or https.
        target: String,
    },
    /// This program ends with 0.
    Command {
        /// The program.
        program: Program,
    },
    /// This file exists, and was changed not longer ago than that.
    File {
        /// Absolute path.
        target: String,
        /// `None`: any age will do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_age: Option<Duration>,
    },
}

/// What there is to be of a critical process at all times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Expect {
    /// Instances, at least 1.
    pub min_instances: u32,
    /// How long after the profile came into force, or after the last one was lost, they may take to come up.
    pub start_within: Duration,
}
