//! How actions go, for the traces of those who are told of them: a few moments each, kept by the engine thread between an
//! action and the notice of its end. Nothing is kept, and the clock is not read, while nothing is traced.

use std::collections::BTreeMap;

use crate::clock;
use crate::engine::action::{Action, ActionId, Apply, What};
use crate::engine::input::Outcome;
use crate::model::critical::RestartResult;
use crate::model::id::Name;
use crate::model::notice::Notice;
use crate::model::reason::Reason;
use crate::model::time::Timestamp;
use crate::model::trace::{Cause, Course};

/// Most names of a kind whose last action is kept: not every end is told.
const NAMES_MAX: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub struct Courses {
    flights: BTreeMap<ActionId, Course>,
    ended: BTreeMap<Name, Course>,
    /// Why critical processes may have to be restarted.
    failures: BTreeMap<Name, (Cause, Timestamp)>,
    /// Their restarts, which end when an instance is there, or none.
    restarts: BTreeMap<Name, Course>,
}

impl Courses {
    /// An action is begun. `ruled` is when the present rules came into force.
    pub fn began(&mut self, action: &Action, ruled: Timestamp) {
        if action.what.group().is_none() {
            return;
        }
        let cause = if let What::Apply(Apply { reason: Reason::Rule { .. }, members, caused_at, .. }) =
            &action.what
            && !members.is_empty()
        {
            Some((if *caused_at == ruled { Cause::Rules } else { Cause::Exec }, *caused_at))
        } else {
            None
        };
        let begun = clock::now();
        self.flights.insert(action.id, Course { cause, decided: action.at, begun, ended: begun });
    }

    /// It has ended, or there was nothing to do.
    pub fn ended(&mut self, id: ActionId, group: Option<&Name>, outcome: Option<&Outcome>) {
        let (Some(course), Some(group), Some(outcome)) = (self.flights.remove(&id), group, outcome) else {
            return;
        };
        let ended = match outcome {
            Outcome::Applied { at, .. } => *at,
            Outcome::Released | Outcome::Busy | Outcome::Entangled { .. } | Outcome::Failed { .. } => {
                clock::now()
            }
        };
        keep(&mut self.ended, group, Course { ended, ..course });
    }

    /// A critical process is being restarted, which was decided then.
    pub fn restarting(&mut self, name: &Name, decided: Timestamp) {
        let begun = clock::now();
        let cause = self.failures.get(name).copied();
        keep(&mut self.restarts, name, Course { cause, decided, begun, ended: begun });
    }

    /// How that went which a notice of that time tells of.
    pub fn of(&mut self, at: Timestamp, notice: &Notice) -> Option<Course> {
        if let Notice::ThrottleApplied { group, .. }
        | Notice::ThrottleAdjusted { group, .. }
        | Notice::ThrottleFailed { group, .. }
        | Notice::ThrottleRemoved { group, .. } = notice
        {
            return self.ended.remove(group);
        }
        if let Notice::CriticalProcessDown { name, exit, .. } = notice {
            keep(&mut self.failures, name, (Cause::Exit, exit.at));
        }
        if let Notice::HealthCheckFailed { name, .. } = notice {
            keep(&mut self.failures, name, (Cause::Unhealthy, at));
        }
        if let Notice::CriticalProcessRestart { name, result, attempt, .. } = notice
            && *result != RestartResult::GivenUp
        {
            let course = self.restarts.remove(name)?;
            // Somebody who asks for it needs no other cause.
            let cause = course.cause.filter(|_| *attempt > 0);
            return Some(Course { cause, ended: at, ..course });
        }
        None
    }
}

fn keep<T>(kept: &mut BTreeMap<Name, T>, name: &Name, value: T) {
    kept.insert(name.clone(), value);
    if kept.len() > NAMES_MAX {
        kept.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::notice::testing::{applied, down, restarted};

    #[test]
    fn a_notice_gets_the_course_of_its_group_once() {
        let reason =
            json!({ "cause": "rule", "profile": "web", "rule": "backups", "matched": "comm is rsync" });
        let action: Action = serde_json::from_value(json!({
            "id": 7, "at": 2_000_000, "action": "apply", "group": "backups", "limits": {}, "scope": "group",
            "allow_move": false, "in_place": true, "members": [{ "pid": 5, "start": 1 }], "reason": reason,
            "caused_at": 1_000_000,
        }))
        .unwrap();
        let group: Name = "backups".parse().unwrap();
        let moment = Timestamp::from_nanos;
        let outcome: Outcome = serde_json::from_value(json!({
            "outcome": "applied", "how": "in place", "members": [], "refused": [], "at": 5_000_000,
        }))
        .unwrap();
        for (ruled, cause) in [(0, Cause::Exec), (1_000_000, Cause::Rules)] {
            let mut courses = Courses::default();
            courses.began(&action, moment(ruled));
            assert_eq!(courses.of(moment(0), &applied("backups")), None, "it has not ended");
            courses.ended(action.id, Some(&group), Some(&outcome));
            assert_eq!(
                (courses.of(moment(0), &applied("other")), courses.of(moment(0), &down("backups", 0))),
                (None, None)
            );
            let course = courses.of(moment(0), &applied("backups")).unwrap();
            assert_eq!(course.cause, Some((cause, moment(1_000_000))));
            assert_eq!((course.decided, course.ended), (moment(2_000_000), moment(5_000_000)));
            assert_eq!(courses.of(moment(0), &applied("backups")), None);
        }
        let mut courses = Courses::default();
        courses.began(&action, moment(0));
        courses.ended(action.id, None, None);
        assert!(courses.flights.is_empty() && courses.ended.is_empty());
    }

    #[test]
    fn a_restart_begins_with_what_made_it_necessary() {
        let (died, decided, told) = (1_000_000_000, 1_300_000_000, 1_400_000_000);
        let moment = Timestamp::from_nanos;
        let unhealthy = Notice::HealthCheckFailed {
            name: "nginx".parse().unwrap(),
            failures: 3,
            error: "no answer".to_owned(),
        };
        let causes = [
            (Some(down("nginx", 0)), 1, Some((Cause::Exit, moment(died)))),
            (Some(unhealthy), 1, Some((Cause::Unhealthy, moment(died)))),
            (Some(down("nginx", 0)), 0, None),
            (Some(down("postgres", 0)), 1, None),
            (None, 1, None),
        ];
        for (failure, attempt, cause) in causes {
            let mut courses = Courses::default();
            if let Some(failure) = &failure {
                assert_eq!(courses.of(moment(died), failure), None);
            }
            courses.restarting(&"nginx".parse().unwrap(), moment(decided));
            let given_up = restarted("nginx", RestartResult::GivenUp, attempt);
            assert_eq!(courses.of(moment(told), &given_up), None, "that is none");
            let course =
                courses.of(moment(told), &restarted("nginx", RestartResult::Failed, attempt)).unwrap();
            assert_eq!((course.cause, course.decided, course.ended), (cause, moment(decided), moment(told)));
            assert_eq!(courses.of(moment(told), &restarted("nginx", RestartResult::Failed, attempt)), None);
        }
    }
}
