//! The policies with their parameters: one table, from which profiles are read, `dynamic policies` prints, and the
//! tests check the command line.

use serde::Serialize;

use crate::model::policy::Kind;

/// A policy, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Description {
    /// Its name.
    pub policy: Kind,
    /// What it does, in a line.
    pub does: &'static str,
    /// Its parameters in the order in which they are written.
    pub parameters: &'static [Parameter],
}

/// A parameter of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Parameter {
    /// Its key in a profile; on the command line with `--` and hyphens.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// What it is without being given; empty: it must be given.
    pub default: &'static str,
    /// What it does.
    pub does: &'static str,
}

const fn parameter(
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    does: &'static str,
) -> Parameter {
    Parameter { name, takes, default, does }
}

/// All policies that this version has.
pub static POLICIES: [Description; 5] = [
    Description { policy: Kind::Fixed, does: "the limits as they are written", parameters: &[] },
    Description {
        policy: Kind::Gradual,
        does: "the CPU quota goes to the one of the limits in equal steps, and stays there",
        parameters: &[
            parameter("from", "percent of one CPU", "all CPUs of the machine", "the quota at first"),
            parameter("over", "1s to 7days", "5m", "until the limit is reached"),
            parameter("interval", "1s to 1h", "a 30th of over, 1s to 10s", "between two steps"),
        ],
    },
    Description {
        policy: Kind::Adaptive,
        does: "the CPU quota is set so that what is measured stays at the target",
        parameters: &[
            parameter(
                "target",
                "one of cpu, pressure_cpu_some, pressure_memory_some, pressure_io_some (percent), load1 (number)",
                "",
                "what is held, and where",
            ),
            parameter("min", "percent of one CPU", "5%", "the lowest quota"),
            parameter("max", "percent of one CPU", "all CPUs of the machine", "the highest quota"),
            parameter("interval", "1s to 1h", "1s, for load1 5s", "between two measurements"),
            parameter(
                "cooldown",
                "interval to 1h",
                "3s, for pressure 5s, for load1 30s",
                "between two changes; the time since the last one is what is measured",
            ),
            parameter("deadband", "1% to 50%", "5%", "how far from the target nothing is changed"),
        ],
    },
    Description {
        policy: Kind::Schedule,
        does: "other limits at other hours; outside of all windows the limits as they are written, or none",
        parameters: &[
            parameter("windows", "list of hours, limits", "", "the first that contains the moment decides"),
            parameter("timezone", "name of a zone", "the machine's", "whose wall clock the hours are of"),
        ],
    },
    Description {
        policy: Kind::Latency,
        does: "gives way while a critical process waits longer for a CPU than its latency_slo says; else the limits as they are written, or none",
        parameters: &[
            parameter("weight", "1 to 100", "10", "the CPU weight at which the group is held first"),
            parameter(
                "min",
                "percent of one CPU",
                "5%",
                "the lowest CPU quota, where the weight is not enough",
            ),
            parameter("cooldown", "1s to 1h", "5s", "between two steps back"),
        ],
    },
];

impl Description {
    /// The policy of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        POLICIES.iter().find(|one| one.policy.as_str() == name)
    }
}
