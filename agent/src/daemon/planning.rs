//! What activating a profile would do, with the rungs: the worker looks at the host for those.

use std::collections::BTreeSet;

use crate::clock;
use crate::control::proto::Plan;
use crate::daemon::command::Answer;
use crate::daemon::obey::send;
use crate::daemon::turn::Turn;
use crate::effect::{Hold, Throttle};
use crate::engine::action::Apply;
use crate::model::chain::chain;
use crate::model::id::{Name, ProcKey};
use crate::model::reason::Reason;
use crate::model::rule::Profile;

impl Turn {
    /// Tells what a profile would do, and by which rungs: for that the worker looks at the host.
    pub(super) fn tell_plan(&mut self, profile: &Profile, answer: Answer<Plan>) {
        let mut plan = match self.plan(profile) {
            Ok(plan) => plan,
            Err(failure) => return send(answer, Err(failure)),
        };
        let reason = |rule: &Name| Reason::Rule {
            profile: profile.name.clone(),
            rule: rule.clone(),
            matched: String::new(),
        };
        let applies: Vec<Apply> = profile
            .rules
            .iter()
            .zip(&plan.rules)
            .map(|(rule, planned)| Apply {
                rewrite: false,
                group: rule.name.clone(),
                limits: rule.limits.clone(),
                scope: rule.scope,
                allow_move: rule.allow_move,
                whole_unit: rule.whole_unit,
                in_place: true,
                sharers: Vec::new(),
                members: planned.processes.iter().map(|member| member.key).collect(),
                reason: reason(&rule.name),
                caused_at: clock::now(),
            })
            .collect();
        let holds: Vec<Hold> = plan
            .critical
            .iter()
            .map(|planned| Hold {
                group: Name::of_reservation(&planned.name),
                critical: planned.name.clone(),
                reservation: planned.reservation,
                members: planned.processes.iter().map(|member| member.key).collect(),
            })
            .collect();
        let (throttle, critical) = (self.parts.throttle.clone(), self.critical.clone());
        let asked = self.parts.worker.ask(move || {
            for (planned, apply) in plan.rules.iter_mut().zip(&applies) {
                if !apply.members.is_empty() {
                    planned.how = rungs(&throttle, apply, &critical);
                }
            }
            for (planned, hold) in plan.critical.iter_mut().zip(&holds) {
                if !hold.members.is_empty() && !hold.reservation.is_empty() {
                    planned.how = throttle.plan_reservation(hold);
                }
            }
            send(answer, Ok(plan));
        });
        if !asked {
            tracing::warn!("too many moves are waiting to tell what a profile would do");
        }
    }
}

/// How limits would be brought into force, in words.
fn rungs(throttle: &Throttle, apply: &Apply, critical: &BTreeSet<ProcKey>) -> Vec<String> {
    match throttle.plan(apply, critical) {
        Ok(plan) => {
            let mut lines = Vec::new();
            if !plan.accepted.is_empty() {
                lines.push(plan.how());
            }
            lines.extend(plan.refused.iter().map(|(key, why)| format!("leaves {} alone: {why}", key.pid)));
            lines
        }
        Err(error) => vec![format!("cannot be done: {}", chain(&error))],
    }
}
