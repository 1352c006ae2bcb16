//! Values that somebody else changed: whether theirs stay or ours are written again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::outbox::Outbox;
use crate::engine::policy::throttle::Throttle;
use crate::model::id::Name;
use crate::model::notice::{Clash, Notice, Response};
use crate::model::rule::OnConflict;
use crate::model::time::Timestamp;

/// How often ours are written again within [`WINDOW`]. Two programs that both insist would otherwise write
/// in turns without end.
const REASSERTIONS: usize = 3;
/// See [`REASSERTIONS`].
const WINDOW: Duration = Duration::from_secs(600);
/// Between notices of one value that keeps changing.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);
/// Most disputed values of a group: more than there are limits.
const MOST: usize = 64;

/// The disputed values of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dispute {
    /// By file or property.
    open: BTreeMap<String, Claim>,
    /// When ours were written again.
    reasserted: Vec<Timestamp>,
    /// Whether theirs stay.
    yielded: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    clash: Clash,
    told: Timestamp,
}

impl Dispute {
    /// What somebody else has changed and holds now.
    pub(crate) fn clashes(&self) -> impl Iterator<Item = &Clash> {
        self.open.values().map(|claim| &claim.clash)
    }

    /// Whether limits are to be left as they are, because somebody else sets them.
    pub(crate) const fn has_yielded(&self) -> bool {
        self.yielded
    }

    fn may_reassert(&mut self, now: Timestamp) -> bool {
        self.reasserted.retain(|at| now.since(*at) < WINDOW);
        self.reasserted.len() < REASSERTIONS
    }
}

impl Throttle {
    /// Takes in what differs now between a group's values and ours.
    pub(crate) fn clash(&mut self, name: &Name, clashes: Vec<Clash>, out: &mut Outbox) {
        let now = out.now();
        let Some(group) = self.groups.get_mut(name) else { return };
        // An action on its way writes the values anyway, and they are compared again after it.
        if group.in_force.is_none() || group.flying > 0 || group.release.is_some() {
            return;
        }
        let dispute = &mut group.dispute;
        if clashes.is_empty() {
            let yielded = std::mem::take(&mut dispute.yielded);
            dispute.open = BTreeMap::new();
            if yielded && group.held.as_ref() != Some(group.limits()) {
                // They have moved on meanwhile.
                group.relimit = true;
                self.dirty.insert(name.clone());
            }
            return;
        }
        let response = match group.terms.on_conflict {
            OnConflict::Yield => Response::Yielded,
            OnConflict::Reassert if dispute.may_reassert(now) => Response::Reasserted,
            OnConflict::Reassert => Response::GaveUp,
        };
        let before = std::mem::take(&mut dispute.open);
        let mut notices = Vec::new();
        for clash in clashes.into_iter().take(MOST) {
            let mut told = now;
            match before.get(&clash.at) {
                Some(claim) if claim.clash == clash && response != Response::Reasserted => told = claim.told,
                Some(claim) if now.since(claim.told) < NOTICE_INTERVAL && response == Response::Yielded => {
                    told = claim.told;
                }
                Some(_) | None => notices.push(clash.clone()),
            }
            dispute.open.insert(clash.at.clone(), Claim { clash, told });
        }
        dispute.yielded = response != Response::Reasserted;
        if response == Response::Reasserted {
            dispute.reasserted.push(now);
            group.rewrite = true;
            group.relimit = true;
            let reason = group.reason.clone();
            group.note(&reason, now);
            self.dirty.insert(name.clone());
        }
        for clash in notices {
            out.notify(Notice::ThrottleConflict { group: name.clone(), clash, response });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::action::{Action, ActionId, Apply, What};
    use crate::engine::input::{Input, Outcome, ReleaseTarget};
    use crate::engine::rule::testing::{profile, rule};
    use crate::engine::testing::{at, engine, process};
    use crate::model::event::Event;
    use crate::model::reason::Reason;
    use crate::model::rule::{Match, Pattern};

    /// An engine that has limited one process by a rule named `hogs`.
    struct Rig {
        engine: Engine,
        now: u64,
        on_conflict: OnConflict,
        flying: Vec<(ActionId, Apply)>,
    }

    impl Rig {
        fn new(on_conflict: OnConflict) -> Self {
            let mut rig = Self { engine: engine(), now: 2_000, on_conflict, flying: Vec::new() };
            rig.activate();
            rig.input(Input::Event { event: Event::Alive(process(10, "hog").cgroup(7).build()) });
            rig.confirm();
            rig
        }

        fn activate(&mut self) -> Vec<What> {
            let mut hogs = rule("hogs", Match::Comm(Pattern::Exact("hog".to_owned())));
            hogs.on_conflict = self.on_conflict;
            self.input(Input::Profile { profile: Some(Box::new(profile(vec![hogs]))) })
        }

        fn input(&mut self, input: Input) -> Vec<What> {
            self.now += 1;
            self.engine.handle(input, at(self.now));
            let actions: Vec<Action> = std::iter::from_fn(|| self.engine.next_action()).collect();
            for action in &actions {
                if let What::Apply(apply) = &action.what {
                    self.flying.push((action.id, apply.clone()));
                }
            }
            actions.into_iter().map(|action| action.what).collect()
        }

        fn confirm(&mut self) {
            for (id, apply) in std::mem::take(&mut self.flying) {
                let (members, at) = (apply.members, at(self.now));
                let outcome = Outcome::Applied {
                    how: "in place".into(),
                    members,
                    refused: Vec::new(),
                    borrowed: true,
                    at,
                };
                self.input(Input::Outcome { id, outcome });
            }
        }

        /// Tells of a changed value, or with no value, that none differs any more.
        fn tell(&mut self, found: &str) -> Vec<What> {
            self.input(Input::Clashes { group: "hogs".parse().unwrap(), clashes: clash(found) })
        }

        fn conflicts(&self) -> Vec<Clash> {
            self.engine.snapshot().groups.remove(0).conflicts
        }
    }

    fn clash(found: &str) -> Vec<Clash> {
        let found = (!found.is_empty()).then(|| found.to_owned());
        let clash = |found| Clash { at: "/c/cpu.max".into(), ours: "30000 100000".into(), found };
        found.map(clash).into_iter().collect()
    }

    fn responses(whats: &[What]) -> Vec<Response> {
        let mut told = Vec::new();
        for what in whats {
            if let What::Notify { notice: Notice::ThrottleConflict { response, .. } } = what {
                told.push(*response);
            }
        }
        told
    }

    fn rewrites(whats: &[What]) -> bool {
        whats.iter().any(|what| matches!(what, What::Apply(apply) if apply.rewrite))
    }

    fn millis(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap()
    }

    #[test]
    fn yielding_tells_once_and_writes_nothing() {
        let mut rig = Rig::new(OnConflict::Yield);
        let first = rig.tell("max 100000");
        assert_eq!(responses(&first), [Response::Yielded]);
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!(rig.tell("max 100000"), []);
        assert_eq!(rig.tell("5 100000"), [], "a value that keeps changing is told of now and then");
        assert_eq!(rig.conflicts(), clash("5 100000"));
        rig.now += millis(NOTICE_INTERVAL);
        assert_eq!(responses(&rig.tell("6 100000")), [Response::Yielded]);
        assert_eq!(rig.tell(""), []);
        assert_eq!(rig.conflicts(), []);
        assert_eq!(responses(&rig.tell("1000 100000")), [Response::Yielded]);
    }

    #[test]
    fn reasserting_is_capped() {
        let mut rig = Rig::new(OnConflict::Reassert);
        for _ in 0..REASSERTIONS {
            let whats = rig.tell("max 100000");
            assert_eq!(responses(&whats), [Response::Reasserted]);
            assert!(rewrites(&whats), "{whats:?}");
            assert_eq!(rig.tell("5 100000"), [], "ours is being written");
            rig.confirm();
            assert_eq!(rig.tell(""), []);
        }
        let whats = rig.tell("max 100000");
        assert_eq!(responses(&whats), [Response::GaveUp]);
        assert_eq!(whats.len(), 1, "{whats:?}");
        rig.now += millis(WINDOW);
        assert_eq!(responses(&rig.tell("7 100000")), [Response::Reasserted]);
    }

    #[test]
    fn a_reassertion_that_fails_is_tried_again() {
        let mut rig = Rig::new(OnConflict::Reassert);
        rig.tell("max 100000");
        let (id, _) = rig.flying.remove(0);
        rig.input(Input::Outcome { id, outcome: Outcome::Failed { error: "busy".to_owned() } });
        rig.now += 1_000;
        rig.engine.handle_timeout(at(rig.now));
        let Some(Action { what: What::Apply(apply), .. }) = rig.engine.next_action() else { panic!() };
        assert!(apply.rewrite);
    }

    #[test]
    fn limits_stated_anew_end_a_dispute() {
        let mut rig = Rig::new(OnConflict::Yield);
        rig.tell("max 100000");
        assert!(rewrites(&rig.activate()));
        rig.confirm();
        assert_eq!(rig.conflicts(), []);
        assert!(!rewrites(&rig.activate()), "nothing is disputed: nothing to write");
    }

    #[test]
    fn what_is_not_in_force_is_nobodys() {
        let mut rig = Rig::new(OnConflict::Reassert);
        let input = Input::Clashes { group: "other".parse().unwrap(), clashes: clash("1 100000") };
        assert_eq!(rig.input(input), []);
        rig.input(Input::Release { target: ReleaseTarget::All, reason: Reason::Stopping });
        assert_eq!(rig.tell("1 100000"), []);
    }
}
