//! Why something was done: one value that the event stream, `explain`, alerts and tests all print.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::id::Name;
use crate::model::policy::Kind;

/// The cause of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Reason {
    /// A rule of the active profile matched.
    Rule {
        /// The profile.
        profile: Name,
        /// The rule.
        rule: Name,
        /// What matched, as the rule states it, such as `comm is rsync`.
        matched: String,
    },
    /// A person asked for it.
    Operator {
        /// Uid of whoever asked.
        uid: u32,
        /// What was asked, such as `release --group backups`.
        request: String,
    },
    /// The rule no longer holds: profile changed or was deactivated.
    RuleGone {
        /// The rule.
        rule: Name,
    },
    /// A policy changed the limits of a group.
    Adjusted {
        /// The rule whose group it is; absent for one made by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<Name>,
        /// The policy.
        policy: Kind,
        /// What was measured, and against what it was held.
        readings: Vec<Reading>,
    },
    /// The rule's conditions do not hold (any longer).
    Condition {
        /// The rule.
        rule: Name,
        /// What was measured, and against what it was held.
        readings: Vec<Reading>,
    },
    /// The process may not be limited (any longer): it is critical, or on the never-touch list.
    Protected {
        /// Why, such as `critical process nginx`.
        why: String,
    },
    /// A process that is not of the group came into the cgroup that the limits are on.
    Intruded {
        /// Which, such as `process 12 (sh)`.
        who: String,
    },
    /// No process is left in the group.
    Empty,
    /// The time limit of a manual throttle passed.
    Expired,
    /// The agent stops and its policy is to release.
    Stopping,
    /// A start after a crash found it left behind.
    Recovered,
}

/// A measured value and what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reading {
    /// What was measured, such as `group cpu` or `pressure_cpu_some_avg10`.
    pub what: String,
    /// Its value with the unit.
    pub value: String,
    /// What it is held against, with the unit.
    pub threshold: String,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} ({})", self.what, self.value, self.threshold)
    }
}

/// Readings in a line.
#[must_use]
pub fn readings(readings: &[Reading]) -> String {
    readings.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { profile, rule, matched } => write!(f, "rule {rule} of profile {profile}: {matched}"),
            Self::Operator { uid, request } => write!(f, "asked for by uid {uid}: {request}"),
            Self::RuleGone { rule } => write!(f, "rule {rule} is no longer active"),
            Self::Adjusted { rule, policy, readings: values } => {
                write!(f, "{policy} policy")?;
                if let Some(rule) = rule {
                    write!(f, " of rule {rule}")?;
                }
                write!(f, ": {}", readings(values))
            }
            Self::Condition { rule, readings: values } => {
                write!(f, "the conditions of rule {rule} do not hold: {}", readings(values))
            }
            Self::Protected { why } => write!(f, "protected: {why}"),
            Self::Intruded { who } => write!(f, "{who}, which is not of the group, is in its cgroup by now"),
            Self::Empty => f.write_str("no process is left in it"),
            Self::Expired => f.write_str("its time limit passed"),
            Self::Stopping => f.write_str("the agent stops"),
            Self::Recovered => f.write_str("left behind by an agent that did not stop in order"),
        }
    }
}
