//! What the engine tells of itself.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::engine::policy::group::{Group, Origin};
use crate::engine::policy::protect;
use crate::engine::process::{Bars, Entry};
use crate::engine::rule::matcher::{Subject, Tri};
use crate::engine::rule::{CompiledCritical, CompiledRule, First, Needs};
use crate::engine::view::{
    Answer, ConditionView, Counts, CriticalView, Explanation, GroupState, GroupView, Judgement, Limited,
    MemberView, MotionView, View,
};
use crate::model::id::{Name, ProcKey};
use crate::model::reason::readings;
use crate::model::time::Timestamp;

impl Engine {
    /// The whole state, for people and metrics.
    #[must_use]
    pub fn snapshot(&self) -> View {
        View {
            profile: self.rules.as_ref().map(|rules| rules.profile.clone()),
            groups: self.throttle.iter().map(|(name, group)| group_view(name, group)).collect(),
            conditions: self
                .conditions
                .iter()
                .map(|(rule, latch)| ConditionView {
                    rule: rule.clone(),
                    when: self.rules.as_ref().and_then(|rules| rules.rule(rule)?.spec.when.clone()),
                    holds: latch.on,
                    since: latch.changed,
                    readings: latch.readings.clone(),
                })
                .collect(),
            overrides: self.overrides.keys().cloned().collect(),
            critical: self
                .criticals
                .iter()
                .map(|(name, state)| CriticalView {
                    name: name.clone(),
                    instances: state.instances.iter().copied().collect(),
                    deaths: state.deaths,
                    toll: state.toll,
                    last_death: state.last,
                    wanted: state.wanted(),
                    absent_since: state.absent_since(),
                    flapping: state.is_flapping(),
                    health: self.health.view(name),
                    restart: self.restarts.view(name),
                    reservation: self.reservations.view(name),
                    latency_violated: self.objectives.violated(name),
                })
                .collect(),
            counts: self.counts(),
        }
    }

    /// The critical processes of which there is an instance.
    #[must_use]
    pub fn living_criticals(&self) -> Vec<Name> {
        let living = self.criticals.iter().filter(|(_, state)| !state.instances.is_empty());
        living.map(|(name, _)| name.clone()).collect()
    }

    /// When the present rules came into force, or an emergency ended: what processes did before is no cause of limits.
    #[must_use]
    pub const fn ruled(&self) -> Timestamp {
        self.ruled
    }

    /// Why nothing is limited, when an emergency stop is in force.
    #[must_use]
    pub fn emergency(&self) -> Option<String> {
        self.emergency.words()
    }

    /// The totals alone: cheap.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            processes: self.table.len() as u64,
            evicted: self.counts.evicted + self.table.evicted(),
            ..self.counts
        }
    }

    /// The processes of a group, by pid.
    #[must_use]
    pub fn members(&self, group: &Name) -> Vec<ProcKey> {
        self.throttle.group(group).map(|group| group.members.keys().copied().collect()).unwrap_or_default()
    }

    /// The groups that can be asked to give way to critical processes.
    #[must_use]
    pub fn yielding(&self) -> Vec<Name> {
        self.throttle.yielding().map(|(name, _, _)| name.clone()).collect()
    }

    /// A process that is known to live in this cgroup.
    #[must_use]
    pub fn somebody_in(&self, cgroup: u64) -> Option<ProcKey> {
        self.table.iter().map(|entry| &entry.process).find(|one| one.cgroup == cgroup).map(|one| one.key)
    }

    /// Every known live process, by pid.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcKey> {
        self.table.keys()
    }

    /// Whether this very process is known to live.
    #[must_use]
    pub fn knows(&self, key: ProcKey) -> bool {
        self.table.get(key).is_some()
    }

    /// The groups made by hand, by the name that the operator gave, and who is in them.
    #[must_use]
    pub fn made_by_hand(&self) -> BTreeMap<Name, Vec<ProcKey>> {
        let mut made: BTreeMap<Name, Vec<ProcKey>> = BTreeMap::new();
        for (_, group) in self.throttle.iter() {
            if let Origin::Operator(base) = &group.terms.origin {
                made.entry(base.clone()).or_default().extend(group.members.keys());
            }
        }
        made
    }

    /// Everything about one process: what each rule says of it and why, and what was done. `None` when no
    /// such process is known.
    #[must_use]
    pub fn explain(&self, pid: u32) -> Option<Explanation> {
        let entry = self.table.by_pid(pid)?;
        let subject = Subject::of(entry, &self.table);
        let bars = entry.bars.as_deref();
        let rules = self.rules.as_deref();
        let owner = rules.and_then(|rules| {
            match rules.owner(&subject, bars, &self.conditions.dormant, &mut Needs::default()) {
                First::One(rule) => Some(rule.spec.name.clone()),
                First::None | First::Perhaps(_) => None,
            }
        });
        let criticals = rules.map(|rules| rules.criticals.as_slice()).unwrap_or_default();
        Some(Explanation {
            process: entry.process,
            protected: self.protection(entry),
            critical: criticals.iter().map(|critical| judge_critical(critical, &subject)).collect(),
            rules: rules
                .map(|rules| rules.rules.as_slice())
                .unwrap_or_default()
                .iter()
                .map(|rule| self.judge_rule(rule, &subject, bars))
                .collect(),
            owner,
            limited: self.limited(entry),
            refused: bars.and_then(|bars| bars.refused.clone()),
            protection: self.protections.view(entry.process.key),
            reservation: entry.critical.as_ref().and_then(|one| self.reservations.view(&one.name)),
        })
    }

    fn judge_rule(&self, rule: &CompiledRule, subject: &Subject<'_>, bars: Option<&Bars>) -> Judgement {
        let name = &rule.spec.name;
        let (tri, mut why) = rule.matcher.why(subject);
        let exempt = bars.is_some_and(|bars| bars.exempt.contains(name));
        let measured = self.conditions.readings(name);
        if rule.spec.enabled && !measured.is_empty() {
            why = format!("{why}; {}", readings(measured));
        }
        let answer = match answer(tri) {
            Answer::Yes if !rule.spec.enabled => Answer::Disabled,
            Answer::Yes if exempt => Answer::Exempt,
            Answer::Yes if self.conditions.dormant.contains(name) => Answer::Dormant,
            told @ (Answer::Yes
            | Answer::No
            | Answer::Unknown
            | Answer::Exempt
            | Answer::Disabled
            | Answer::Dormant) => told,
        };
        Judgement { name: name.clone(), priority: Some(rule.spec.priority), answer, why }
    }

    fn protection(&self, entry: &Entry) -> Option<String> {
        if let Some(protected) = protect::verdict(&entry.process, &self.config.own) {
            return Some(protected.to_string());
        }
        let standing = self.rules.as_ref()?.standing(&Subject::of(entry, &self.table));
        standing.exemption.map(|exemption| exemption.to_string())
    }

    fn limited(&self, entry: &Entry) -> Option<Limited> {
        let name = entry.group.as_ref()?;
        let group = self.throttle.group(name)?;
        let member = group.members.get(&entry.process.key)?;
        Some(Limited {
            group: name.clone(),
            membership: member.membership,
            matched: member.matched.clone(),
            reason: group.reason.clone(),
            limits: group.limits().clone(),
            since: member.limited,
            how: group.how.clone(),
            error: group.error.clone(),
        })
    }
}

fn judge_critical(critical: &CompiledCritical, subject: &Subject<'_>) -> Judgement {
    let (tri, why) = critical.why(subject);
    Judgement { name: critical.name.clone(), priority: None, answer: answer(tri), why }
}

const fn answer(tri: Tri) -> Answer {
    match tri {
        Tri::Yes => Answer::Yes,
        Tri::No => Answer::No,
        Tri::Unknown(_) => Answer::Unknown,
    }
}

fn group_view(name: &Name, group: &Group) -> GroupView {
    let state = if group.error.is_some() {
        GroupState::Failing
    } else if group.release.is_some() || (group.members.is_empty() && group.in_force.is_some()) {
        GroupState::Releasing
    } else if group.in_force.is_some() {
        GroupState::Active
    } else if group.rests() {
        GroupState::Resting
    } else {
        GroupState::Pending
    };
    let base = group.terms.rule().or(group.terms.operator()).unwrap_or(name);
    GroupView {
        name: name.clone(),
        rule: group.terms.rule().cloned(),
        base: base.clone(),
        state,
        limits: group.limits().clone(),
        motion: group.motion.as_ref().map(|motion| MotionView {
            policy: group.terms.policy.clone(),
            target: base.clone(),
            written: group.terms.limits.clone(),
            changed: motion.changed,
            readings: motion.readings().to_vec(),
        }),
        scope: group.terms.scope,
        reason: group.reason.clone(),
        created: group.created,
        in_force: group.in_force,
        how: group.how.clone(),
        until: group.until,
        error: group.error.clone(),
        conflicts: group.dispute.clashes().cloned().collect(),
        members: group
            .members
            .iter()
            .map(|(key, member)| MemberView {
                key: *key,
                comm: member.comm,
                membership: member.membership,
                limited: member.limited,
            })
            .collect(),
    }
}
