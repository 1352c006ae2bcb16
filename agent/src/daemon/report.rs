//! What the engine shows, as the control socket tells it.

use std::time::SystemTime;

use crate::clock;
use crate::control::proto::{
    CriticalReservation, GroupStatus, Member, Plan, PlannedCritical, PlannedRule, PolicyStatus, RuleVerdict,
};
use crate::engine::view::{self, Answer, GroupView, Judgement};
use crate::model::id::Name;
use crate::model::process::Process;
use crate::model::reservation::Reservation;
use crate::model::rule::{Profile, Rule};
use crate::model::time::Timestamp;

/// A moment since boot on the wall clock.
#[must_use]
pub fn wall(at: Timestamp) -> Option<jiff::Timestamp> {
    since_epoch(clock::wall_at(at))
}

/// A wall-clock time as the JSON has it.
#[must_use]
pub fn since_epoch(time: SystemTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::try_from(time).ok()
}

/// Now, by the machine's wall clock.
#[must_use]
pub fn now() -> jiff::Zoned {
    since_epoch(clock::wall()).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system())
}

/// A group, without what its cgroups say.
#[must_use]
pub fn group(view: GroupView) -> GroupStatus {
    let GroupView {
        name,
        rule,
        base: _,
        state: _,
        limits,
        motion,
        scope,
        reason,
        created: _,
        in_force,
        how,
        until,
        error,
        conflicts,
        members,
    } = view;
    let how = match (how, error) {
        (Some(how), None) => how,
        (Some(how), Some(error)) => format!("{how}; last try failed: {error}"),
        (None, Some(error)) => format!("not in force: {error}"),
        (None, None) => String::new(),
    };
    GroupStatus {
        group: name,
        rule,
        limits,
        scope,
        how,
        conflicts,
        members: members.iter().map(|member| Member { key: member.key, comm: member.comm }).collect(),
        throttled_periods: None,
        throttled_us: None,
        cpu_delay: None,
        policy: motion.map(|motion| PolicyStatus {
            policy: motion.policy,
            written: motion.written,
            readings: motion.readings,
            changed: motion.changed.and_then(wall),
        }),
        reason,
        since: in_force.and_then(wall),
        until: until.and_then(wall),
    }
}

/// What every rule says of a process, critical entries first, as they are judged first.
#[must_use]
pub fn verdicts(explanation: &view::Explanation) -> Vec<RuleVerdict> {
    let owner = explanation.rules.iter().find(|rule| Some(&rule.name) == explanation.owner.as_ref());
    explanation
        .critical
        .iter()
        .chain(&explanation.rules)
        .map(|judgement| {
            let why = match judgement.answer {
                Answer::Yes => match owner.and_then(|owner| overruled(judgement, owner)) {
                    Some(overruled) => format!("{}; {overruled}", judgement.why),
                    None => judgement.why.clone(),
                },
                Answer::No => judgement.why.clone(),
                Answer::Unknown => format!("facts are missing: {}", judgement.why),
                Answer::Exempt => format!("released from it by an operator; {}", judgement.why),
                Answer::Dormant => format!("its conditions do not hold; {}", judgement.why),
                Answer::Disabled => "the rule is disabled".to_owned(),
            };
            RuleVerdict {
                rule: judgement.name.clone(),
                priority: judgement.priority,
                matched: judgement.answer == Answer::Yes,
                why,
            }
        })
        .collect()
}

/// Why a rule that matches is not the one that applies.
fn overruled(judgement: &Judgement, owner: &Judgement) -> Option<String> {
    let (mine, theirs) = (judgement.priority?, owner.priority?);
    let rule = &owner.name;
    if judgement.name == *rule {
        None
    } else if mine == theirs {
        Some(format!("rule {rule} applies instead: it has the same priority and is declared earlier"))
    } else {
        Some(format!("rule {rule} applies instead: its priority {theirs} comes before {mine}"))
    }
}

fn member(process: &Process) -> Member {
    Member { key: process.key, comm: process.comm }
}

/// What activating `profile` would do, by rule and critical entry in declared order.
#[must_use]
pub fn plan(profile: &Profile, entries: &[view::PlanEntry], released: Vec<Name>) -> Plan {
    let rules = profile.rules.iter().map(|rule| {
        let of_rule = |plan: &view::Plan| match plan {
            view::Plan::Limit { rule: owner, .. } => *owner == rule.name,
            view::Plan::Watch { .. } | view::Plan::Spare { .. } => false,
        };
        let spared: Vec<String> = entries
            .iter()
            .filter_map(|entry| match &entry.plan {
                view::Plan::Spare { rule: name, because } if *name == rule.name => Some(format!(
                    "leaves {} ({}) alone: {because}",
                    entry.process.key.pid, entry.process.comm
                )),
                view::Plan::Spare { .. } | view::Plan::Limit { .. } | view::Plan::Watch { .. } => None,
            })
            .collect();
        let notes =
            if rule.enabled { [conditions(rule), spared].concat() } else { vec!["disabled".to_owned()] };
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        PlannedRule {
            rule: rule.name.clone(),
            limits: rule.limits.clone(),
            scope: rule.scope,
            processes: entries
                .iter()
                .filter(|entry| of_rule(&entry.plan))
                .map(|entry| member(&entry.process))
                .collect(),
            how: Vec::new(),
            note,
        }
    });
    let critical = profile.critical.iter().map(|critical| PlannedCritical {
        name: critical.name.clone(),
        protection: critical.protection.clone(),
        reservation: if critical.matches.is_forgeable() {
            Reservation::NONE
        } else {
            critical.protection.reservation()
        },
        how: Vec::new(),
        processes: entries
            .iter()
            .filter(
                |entry| matches!(&entry.plan, view::Plan::Watch { critical: name } if *name == critical.name),
            )
            .map(|entry| member(&entry.process))
            .collect(),
    });
    Plan { profile: profile.name.clone(), rules: rules.collect(), critical: critical.collect(), released }
}

/// What is reserved for a critical process, or why it is not.
pub(super) fn reservation(view: view::ReservationView) -> CriticalReservation {
    let view::ReservationView { reservation, since, how, error } = view;
    CriticalReservation { values: reservation, since: since.and_then(wall), how, error }
}

/// What is done to keep a process alive, or why it is not.
pub(super) fn protection(view: &view::ProtectionView) -> String {
    let view::ProtectionView { critical, protection, since, error } = view;
    let state = match (error, since) {
        (Some(error), _) => format!("not given: {error}"),
        (None, Some(_)) => "in force".to_owned(),
        (None, None) => "being given".to_owned(),
    };
    format!("{protection}, as {critical}; {state}")
}

/// Under which conditions a rule would do what is planned, and how its limits would move.
fn conditions(rule: &Rule) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(when) = &rule.when {
        let thresholds = when.thresholds.iter().map(ToString::to_string);
        let hours = when.hours.iter().map(|hours| format!("at {hours}"));
        notes.push(format!("only while {}", thresholds.chain(hours).collect::<Vec<_>>().join(" and ")));
    }
    if !rule.policy.is_fixed() {
        notes.push(format!("{} policy", rule.policy.kind()));
    }
    notes
}
