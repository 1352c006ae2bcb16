//! Policies that change limits over time: what they are doing, and those that operators put over others. On the
//! engine thread.

use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{DynamicApplied, DynamicRemoved, DynamicStatus, Moving};
use crate::daemon::command::Answer;
use crate::daemon::obey::{failures, send};
use crate::daemon::pending::Settled;
use crate::daemon::report;
use crate::daemon::turn::Turn;
use crate::engine::input::{Input, Override, ReleaseTarget};
use crate::engine::view::{GroupView, View};
use crate::model::id::Name;
use crate::model::limits::Limits;
use crate::model::policy::Policy;
use crate::model::reason::Reason;

/// What a name stands for.
struct Target {
    /// What is written there, or was put there by hand.
    limits: Limits,
    policy: Policy,
    by_rule: bool,
    overridden: bool,
    groups: Vec<Name>,
}

/// The reply, unless an action that the command caused has failed.
fn unless_failed<T>(settled: &[Settled], reply: T) -> Result<T, Failure> {
    match failures(settled) {
        errors if errors.is_empty() => Ok(reply),
        errors => Err(Failure::new(FailureKind::Failed, errors.join("; "))),
    }
}

impl Turn {
    /// Everything that changes by itself: groups whose limits move, and rules that hold under conditions only.
    pub(super) fn dynamics(&self) -> Vec<DynamicStatus> {
        let View { groups, conditions, overrides, .. } = self.parts.engine.snapshot();
        let moving = groups.into_iter().filter_map(|group| {
            let motion = group.motion?;
            Some(DynamicStatus {
                name: group.name,
                rule: group.rule,
                what: Moving::Policy(motion.policy),
                overridden: overrides.contains(&motion.target),
                active: group.in_force.is_some(),
                limits: Some(group.limits),
                readings: motion.readings,
                since: motion.changed.or(group.in_force).and_then(report::wall),
            })
        });
        let conditional = conditions.into_iter().map(|condition| DynamicStatus {
            overridden: overrides.contains(&condition.rule),
            rule: Some(condition.rule.clone()),
            name: condition.rule,
            what: Moving::Conditions,
            active: condition.holds,
            limits: None,
            readings: condition.readings,
            since: condition.since.and_then(report::wall),
        });
        moving.chain(conditional).collect()
    }

    /// Puts a policy over that of a rule or a group made by hand.
    pub(super) fn apply_policy(
        &mut self,
        name: Name,
        terms: (Option<Limits>, Policy),
        reason: Reason,
        dry_run: bool,
        answer: Answer<DynamicApplied>,
    ) {
        let Some(target) = self.target(&name) else {
            let failure =
                Failure::new(FailureKind::NotFound, format!("there is no rule and no group {name}"));
            let hint = "name an enabled rule of the active profile or a group made by hand, or use --pid";
            return send(answer, Err(failure.with_hint(hint)));
        };
        let (limits, policy) = terms;
        let limits = limits.unwrap_or(target.limits);
        if matches!(policy, Policy::Gradual(_)) && limits.cpu.is_none() {
            let failure = Failure::new(FailureKind::Invalid, format!("{name} has no cpu limit to ramp to"));
            return send(answer, Err(failure.with_hint("say where it ends: --cpu 30%")));
        }
        let reply = DynamicApplied {
            target: name.clone(),
            limits: limits.clone(),
            policy: policy.clone(),
            groups: target.groups,
            dry_run,
        };
        if dry_run {
            return send(answer, Ok(reply));
        }
        let input = Input::Override(Override { target: name, terms: Some((limits, policy)), reason });
        self.feed_and_wait(input, move |_turn, settled| {
            send(answer, unless_failed(&settled, reply));
        });
    }

    /// Takes away what was put there by hand: what was written holds again, and a group that was made with a policy
    /// is released.
    pub(super) fn remove_policy(
        &mut self,
        name: Name,
        reason: Reason,
        dry_run: bool,
        answer: Answer<DynamicRemoved>,
    ) {
        let Some(target) = self.target(&name) else {
            let failure =
                Failure::new(FailureKind::NotFound, format!("there is no rule and no group {name}"));
            return send(answer, Err(failure));
        };
        let released = !target.overridden;
        if released && target.by_rule {
            let message = if target.policy.is_fixed() {
                format!("rule {name} has no policy by hand")
            } else {
                format!("the policy of rule {name} is the profile's")
            };
            let failure = Failure::new(FailureKind::Conflict, message);
            return send(answer, Err(failure.with_hint("edit the profile, and reload it")));
        }
        if released && target.policy.is_fixed() {
            let failure = Failure::new(FailureKind::NotFound, format!("group {name} has no policy"));
            return send(answer, Err(failure.with_hint(format!("process-throttler release --group {name}"))));
        }
        let reply = DynamicRemoved { target: name.clone(), groups: target.groups, released, dry_run };
        if dry_run {
            return send(answer, Ok(reply));
        }
        let input = if released {
            Input::Release { target: ReleaseTarget::Group(name), reason }
        } else {
            Input::Override(Override { target: name, terms: None, reason })
        };
        self.feed_and_wait(input, move |_turn, settled| {
            send(answer, unless_failed(&settled, reply));
        });
    }

    fn target(&self, name: &Name) -> Option<Target> {
        let View { groups, overrides, .. } = self.parts.engine.snapshot();
        let overridden = overrides.contains(name);
        let of = |group: &&GroupView| group.base == *name;
        let names = groups.iter().filter(of).map(|group| group.name.clone()).collect();
        let active = self.active.as_ref();
        let rule =
            active.and_then(|profile| profile.rules.iter().find(|rule| rule.enabled && rule.name == *name));
        if let Some(rule) = rule {
            let (limits, policy) = (rule.limits.clone(), rule.policy.clone());
            return Some(Target { limits, policy, by_rule: true, overridden, groups: names });
        }
        let group = groups.iter().find(|group| group.base == *name && group.rule.is_none())?;
        let (limits, policy) = match &group.motion {
            Some(motion) => (motion.written.clone(), motion.policy.clone()),
            None => (group.limits.clone(), Policy::Fixed),
        };
        Some(Target { limits, policy, by_rule: false, overridden, groups: names })
    }
}
