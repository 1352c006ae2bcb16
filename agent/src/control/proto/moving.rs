//! What requests and replies carry about limits that change over time. Plain data, stable within `v1`.

use serde::{Deserialize, Serialize};

use crate::model::id::Name;
use crate::model::limits::Limits;
use crate::model::policy::Policy;
use crate::model::reason::Reading;

/// How the limits of a group change over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PolicyStatus {
    /// The policy with its parameters.
    pub policy: Policy,
    /// The limits as they are written: where a ramp ends, or what holds outside of all windows.
    pub written: Limits,
    /// What was measured last, and against what it was held.
    pub readings: Vec<Reading>,
    /// When the limits changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<jiff::Timestamp>,
}

/// Something that changes by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DynamicStatus {
    /// The group, or the rule.
    pub name: Name,
    /// The rule; absent for a group made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Name>,
    /// What changes.
    pub what: Moving,
    /// Whether an operator has put it over what the profile says.
    pub overridden: bool,
    /// Whether limits are in force, or the conditions hold.
    pub active: bool,
    /// The limits now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What was measured last, and against what it was held.
    pub readings: Vec<Reading>,
    /// Since when it is so; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
}

/// What changes by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Moving {
    /// The limits of a group, by this policy.
    Policy(Policy),
    /// Whether a rule holds, by its conditions.
    Conditions,
}

/// Answer to `dynamic apply` on a rule or a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DynamicApplied {
    /// The rule or the group.
    pub target: Name,
    /// The limits on which the policy works.
    pub limits: Limits,
    /// The policy.
    pub policy: Policy,
    /// The groups whose limits it changes now; more may come.
    pub groups: Vec<Name>,
    /// Nothing was done.
    pub dry_run: bool,
}

/// Answer to `dynamic remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DynamicRemoved {
    /// The rule or the group.
    pub target: Name,
    /// The groups concerned.
    pub groups: Vec<Name>,
    /// Whether they are released; else what is written holds again.
    pub released: bool,
    /// Nothing was done.
    pub dry_run: bool,
}

/// Put a policy over that of a rule or of a group made by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicApply {
    /// An enabled rule of the active profile, or a group made by hand.
    pub target: Name,
    /// The limits; absent: those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The policy.
    pub policy: Policy,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Take a policy away that was put somewhere by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicRemove {
    /// Where.
    pub target: Name,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}
