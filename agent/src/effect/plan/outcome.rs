//! What the engine is told of a plan that was carried out.

use super::Plan;
use crate::clock;
use crate::effect::group::Group;
use crate::engine::input::Outcome;

impl Plan {
    /// Limits are in force, `how` in words; `group` as it is now, if it has cgroups.
    pub(in crate::effect) fn applied(&self, how: String, group: Option<&Group>) -> Outcome {
        let borrowed = |group: &Group| group.places.iter().any(|place| !place.rung.moves());
        Outcome::Applied {
            how,
            borrowed: group.is_some_and(borrowed),
            members: self.members(),
            refused: self.refused.iter().map(|(key, why)| (*key, why.to_string())).collect(),
            at: self.verified.unwrap_or_else(clock::now),
        }
    }
}
