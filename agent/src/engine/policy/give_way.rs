//! The groups that give way to critical processes: which of them is next, and what each is given. Why and when is
//! decided elsewhere.

use crate::engine::action::What;
use crate::engine::outbox::Outbox;
use crate::engine::policy::dynamic::latency::Yielding;
use crate::engine::policy::group::Group;
use crate::engine::policy::throttle::{Step, Throttle};
use crate::model::id::Name;
use crate::model::latency::HeldBy;
use crate::model::reason::Reading;
use crate::model::time::Timestamp;

/// Shares of blame that differ by less than this, in hundredths of a percent, are alike: priority decides.
const ALIKE: u32 = 500;
/// A group with a smaller share of the blame is not given a quota: it would lose much and help little.
const WORTH_A_QUOTA: u32 = 100;

/// A group that could give way, and what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The group.
    pub(crate) group: Name,
    /// Its share of the time that others had on the CPUs which were waited for, in hundredths of a percent.
    pub(crate) share: u32,
    /// CPU time that it uses, in thousandths of a percent of a CPU.
    pub(crate) used: u64,
    /// Its rule's: lower numbers first.
    pub(crate) priority: i32,
    /// Whether its weight can go down.
    pub(crate) has_weight: bool,
    /// Whether its quota can.
    pub(crate) has_quota: bool,
}

/// Who is to give way next: by weight as long as somebody can, then by quota; the most to blame first, and as many as
/// it takes to make up half of the blame that is left, so that many small ones do not take as many steps.
pub(crate) fn next(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.retain(|one| one.share > 0);
    candidates.sort_by(|a, b| {
        let order = (b.share / ALIKE).cmp(&(a.share / ALIKE));
        order.then(a.priority.cmp(&b.priority)).then(b.share.cmp(&a.share)).then(a.group.cmp(&b.group))
    });
    let by_weight = candidates.iter().any(|one| one.has_weight);
    candidates
        .retain(|one| if by_weight { one.has_weight } else { one.has_quota && one.share >= WORTH_A_QUOTA });
    let all: u64 = candidates.iter().map(|one| u64::from(one.share)).sum();
    let mut covered = 0;
    let enough = candidates.iter().take_while(|one| {
        let goes_on = covered * 2 < all;
        covered += u64::from(one.share);
        goes_on
    });
    let count = enough.count();
    candidates.truncate(count);
    candidates
}

impl Throttle {
    /// The groups that can be asked to give way.
    pub(crate) fn yielding(&self) -> impl Iterator<Item = (&Name, &Group, &Yielding)> {
        self.iter().filter_map(|(name, group)| Some((name, group, group.motion.as_ref()?.yielding()?)))
    }

    /// How far each has given way, in the order in which they were asked to.
    pub(crate) fn held_back(&self) -> Vec<HeldBy> {
        let mut held: Vec<(Timestamp, HeldBy)> = self
            .yielding()
            .filter_map(|(name, _, yielding)| Some((yielding.since()?, yielding.held(name)?)))
            .collect();
        held.sort_by(|(a, one), (b, other)| a.cmp(b).then(one.group.cmp(&other.group)));
        held.into_iter().map(|(_, held)| held).collect()
    }

    /// Whether a step of one of them is not in force yet.
    pub(crate) fn is_giving_way(&self) -> bool {
        self.yielding().any(|(_, group, _)| group.flying > 0 || (group.relimit && group.error.is_none()))
    }

    /// Has a group give way otherwise. Whether that changed its limits.
    pub(crate) fn give_way(
        &mut self,
        name: &Name,
        step: impl FnOnce(&mut Yielding) -> bool,
        readings: &[Reading],
        now: Timestamp,
    ) -> bool {
        let motion = self.groups.get_mut(name).and_then(|group| group.motion.as_mut());
        let changed = motion.is_some_and(|motion| motion.give_way(step, readings, now));
        if changed {
            self.adjusted(name, now);
        }
        changed
    }

    /// The next step of a group that is to limit nobody for now: its limits are lifted, and its processes stay.
    pub(super) fn rest_now(&mut self, name: &Name, out: &mut Outbox) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.relimit = false;
        let batch = group.batch.take();
        if group.in_force.is_none() {
            return;
        }
        let reason = batch.map_or_else(|| group.reason.clone(), |batch| batch.reason);
        let what = What::Release { group: name.clone(), reason: reason.clone() };
        // Nobody leaves it: no other group has to wait.
        self.launch(name, what, Step::Release { reason, keys: Vec::new() }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, share: u32, priority: i32, has_weight: bool, has_quota: bool) -> Candidate {
        let group = name.parse().unwrap();
        Candidate { group, share, used: 100_000, priority, has_weight, has_quota }
    }

    fn names(candidates: Vec<Candidate>) -> Vec<String> {
        next(candidates).into_iter().map(|one| one.group.to_string()).collect()
    }

    #[test]
    fn the_most_to_blame_is_first_and_priority_decides_between_alike() {
        let all = vec![
            candidate("innocent", 0, 0, true, false),
            candidate("small", 900, 0, true, false),
            candidate("late", 4_100, 7, true, false),
            candidate("early", 4_000, 1, true, false),
        ];
        assert_eq!(names(all.clone()), ["early", "late"], "half of the blame and what it takes for it");
        assert_eq!(names(all[..2].to_vec()), ["small"]);
        assert_eq!(names(Vec::new()), [""; 0]);
    }

    #[test]
    fn quotas_come_after_all_weights_and_only_where_they_help() {
        let held = candidate("held", 9_000, 0, false, true);
        let small = candidate("small", 90, 0, false, true);
        assert_eq!(names(vec![held.clone(), candidate("free", 20, 0, true, false)]), ["free"]);
        assert_eq!(names(vec![held, small.clone()]), ["held"]);
        assert_eq!(names(vec![small, candidate("floor", 9_000, 0, false, false)]), [""; 0]);
    }
}
