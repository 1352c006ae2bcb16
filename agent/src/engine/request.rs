//! What people ask for: profiles, limits by hand, releases.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::action::What;
use crate::engine::input::{ManualThrottle, ReleaseTarget};
use crate::engine::policy::group::Joiner;
use crate::engine::policy::group::{Origin, Terms};
use crate::engine::policy::protect;
use crate::engine::policy::refusal::Refusals;
use crate::engine::process::Open;
use crate::engine::rule::RuleSet;
use crate::engine::rule::matcher::Subject;
use crate::engine::view::Membership;
use crate::model::id::{Name, ProcKey};
use crate::model::notice::Notice;
use crate::model::reason::Reason;
use crate::model::rule::{OnConflict, Profile};

impl Engine {
    /// Puts a profile into force, or none. One that does not compile changes nothing.
    pub(super) fn activate(&mut self, profile: Option<Box<Profile>>) {
        let rules = match profile.as_deref().map(RuleSet::compile).transpose() {
            Ok(rules) => rules.map(Arc::new),
            Err(error) => {
                let detail = format!("{error}: {}", error.source);
                return self.out.notify(Notice::ConfigurationChanged { detail, accepted: false });
            }
        };
        let before = std::mem::replace(&mut self.rules, rules.clone());
        self.ruled = self.out.now();
        self.refusals = Refusals::default();
        self.renew_conditions(before.as_deref());
        self.retire(rules.as_deref());
        let criticals = rules.iter().flat_map(|rules| &rules.criticals);
        let expected = criticals.map(|critical| (critical.name.clone(), critical.expect));
        for key in self.criticals.renew(expected, &mut self.out) {
            if let Some(entry) = self.table.get_mut(key) {
                entry.critical = None;
                self.out.push(What::Watch { key, on: false, protected: false });
            }
        }
        self.renew_objectives(profile.as_deref());
        self.renew_care(profile.as_deref());
        let name = rules.as_ref().map(|rules| rules.profile.clone());
        self.out.notify(Notice::ProfileActivated { profile: name });
        for key in self.table.keys() {
            if let Some(entry) = self.table.get_mut(key) {
                entry.open = Open::ToProfile;
                entry.bars = None;
            }
            self.evaluate(key);
        }
        self.keep_all();
        self.reconsider();
    }

    /// Releases the groups of rules that are gone or do not hold, and gives those that stay their new limits.
    fn retire(&mut self, rules: Option<&RuleSet>) {
        let now = self.out.now();
        for (name, rule) in self.rule_groups() {
            let Some(found) = rules.and_then(|rules| Some((rules, rules.rule(&rule)?))) else {
                self.release_group(&name, &Reason::RuleGone { rule });
                continue;
            };
            if let Some(readings) = self.conditions.against(&rule) {
                self.release_group(&name, &Reason::Condition { rule, readings });
                continue;
            }
            let (set, terms) = (found.0, self.terms_of(&found.1.spec));
            let Some(group) = self.throttle.group(&name) else { continue };
            if group.terms.scope != terms.scope {
                self.release_group(&name, &Reason::RuleGone { rule });
                continue;
            }
            let matched = match &group.reason {
                Reason::Rule { matched, .. } => matched.clone(),
                Reason::Operator { .. }
                | Reason::Adjusted { .. }
                | Reason::Condition { .. }
                | Reason::RuleGone { .. }
                | Reason::Protected { .. }
                | Reason::Intruded { .. }
                | Reason::Empty
                | Reason::Expired
                | Reason::Stopping
                | Reason::Recovered => String::new(),
            };
            let reason = Reason::Rule { profile: set.profile.clone(), rule, matched };
            self.throttle.set_terms(&name, terms, reason, now);
        }
    }

    /// Limits processes by hand: all of those named, or none.
    pub(super) fn throttle_by_hand(&mut self, request: ManualThrottle) {
        let ManualThrottle { group, limits, policy, scope, allow_move, whole_unit, processes, until, reason } =
            request;
        let terms = Terms {
            origin: Origin::Operator(group.clone()),
            limits,
            policy,
            scope,
            allow_move,
            whole_unit,
            on_conflict: OnConflict::Yield,
        };
        let processes: BTreeSet<ProcKey> = processes.into_iter().collect();
        if let Some(error) = self.objection(&group, &terms, &processes) {
            self.counts.failed += 1;
            return self.out.notify(Notice::ThrottleFailed { group, error, reason });
        }
        let now = self.out.now();
        self.overrides.remove(&group);
        for (name, old) in self.operator_groups(&group) {
            if old.scope != terms.scope {
                self.release_group(&name, &reason);
            } else {
                self.throttle.set_terms(&name, terms.clone(), reason.clone(), now);
                self.throttle.set_until(&name, until);
            }
        }
        for key in processes {
            let name = terms.group_name(key);
            let Some(entry) = self.table.get(key) else { continue };
            let process = entry.process;
            if let Some(held) = entry.group.clone() {
                if held == name {
                    self.throttle.set_membership(&name, key, Membership::Manual);
                    continue;
                }
                self.throttle.leave(&held, key, reason.clone());
                self.set_group(key, None);
            }
            let joiner = Joiner {
                process: &process,
                membership: Membership::Manual,
                matched: "named by an operator".to_owned(),
                limited: None,
                caused_at: now,
            };
            match self.throttle.join(&name, terms.clone(), &reason, joiner, now) {
                Ok(()) => {
                    self.set_group(key, Some(name.clone()));
                    self.throttle.set_until(&name, until);
                }
                Err(why) => self.note_refusal(key, why),
            }
        }
        self.begin_to_follow(&terms.policy);
    }

    /// Why a throttle by hand must not be; names every process that stands against it.
    fn objection(&self, group: &Name, terms: &Terms, processes: &BTreeSet<ProcKey>) -> Option<String> {
        if self.stopping {
            return Some("the agent is stopping".to_owned());
        }
        if let Some(words) = self.emergency.words() {
            return Some(words);
        }
        if terms.limits.is_empty() && terms.policy.is_fixed() {
            return Some("no limit is given".to_owned());
        }
        if processes.is_empty() {
            return Some("no process is given".to_owned());
        }
        let taken = self.rules.as_ref().is_some_and(|rules| rules.rule(group).is_some());
        if taken || self.rule_groups().iter().any(|(name, _)| name == group) {
            return Some(format!("group {group} belongs to a rule"));
        }
        let against = processes.iter().filter_map(|key| {
            let why = self.objection_to(*key)?;
            Some(format!("pid {}: {why}", key.pid))
        });
        let against: Vec<String> = against.collect();
        (!against.is_empty()).then(|| against.join("; "))
    }

    fn objection_to(&self, key: ProcKey) -> Option<String> {
        let Some(entry) = self.table.get(key) else {
            return Some("it is not known: it is gone, or its pid was reused".to_owned());
        };
        if let Some(protected) = protect::verdict(&entry.process, &self.config.own) {
            return Some(protected.to_string());
        }
        let standing = self.rules.as_ref()?.standing(&Subject::of(entry, &self.table));
        standing.exemption.map(|exemption| exemption.to_string())
    }

    /// Releases what an operator, or the end of the agent, names. What does not exist is no error here.
    pub(super) fn release(&mut self, target: ReleaseTarget, reason: &Reason) {
        if *reason == Reason::Stopping {
            self.stopping = true;
            self.listen();
        }
        let all: Vec<(Name, Origin)> =
            self.throttle.iter().map(|(name, group)| (name.clone(), group.terms.origin.clone())).collect();
        let wanted = |name: &Name, origin: &Origin| match (&target, origin) {
            (ReleaseTarget::All, _) => true,
            (ReleaseTarget::Group(wanted), Origin::Rule(_)) => name == wanted,
            (ReleaseTarget::Group(wanted), Origin::Operator(base)) => name == wanted || base == wanted,
            (ReleaseTarget::Rule(wanted), Origin::Rule(rule)) => rule == wanted,
            (ReleaseTarget::Rule(_), Origin::Operator(_)) | (ReleaseTarget::Process(_), _) => false,
        };
        for (name, origin) in &all {
            if wanted(name, origin) {
                self.release_group(name, reason);
            }
        }
        if let ReleaseTarget::Process(key) = target {
            self.release_process(key, reason);
        }
        if self.stopping {
            self.protections.stop(&mut self.out);
            self.reservations.stop(&mut self.out);
        }
    }

    fn release_process(&mut self, key: ProcKey, reason: &Reason) {
        let Some(name) = self.table.get(key).and_then(|entry| entry.group.clone()) else { return };
        let origin = self.throttle.group(&name).map(|group| group.terms.origin.clone());
        self.throttle.leave(&name, key, reason.clone());
        self.set_group(key, None);
        match origin {
            Some(Origin::Rule(rule)) => self.exempt(key, &rule),
            Some(Origin::Operator(_)) | None => self.evaluate(key),
        }
    }

    /// Releases a group. Whoever an operator releases from a rule's group is exempt from the rule until a
    /// profile is activated; whoever comes out of a group made by hand falls to the rules again.
    pub(super) fn release_group(&mut self, name: &Name, reason: &Reason) {
        let Some(origin) = self.throttle.group(name).map(|group| group.terms.origin.clone()) else { return };
        let members = self.throttle.release(name, reason.clone());
        let by_hand = matches!(reason, Reason::Operator { .. });
        for key in &members {
            self.set_group(*key, None);
            if let (Origin::Rule(rule), true) = (&origin, by_hand) {
                self.exempt(*key, rule);
            }
        }
        if matches!(origin, Origin::Operator(_)) {
            for key in members {
                self.evaluate(key);
            }
        }
    }

    /// The groups of rules: group, rule.
    pub(super) fn rule_groups(&self) -> Vec<(Name, Name)> {
        let groups = self.throttle.iter().filter_map(|(name, group)| match &group.terms.origin {
            Origin::Rule(rule) => Some((name.clone(), rule.clone())),
            Origin::Operator(_) => None,
        });
        groups.collect()
    }

    /// The groups that an operator made under this name, and their terms.
    pub(super) fn operator_groups(&self, base: &Name) -> Vec<(Name, Terms)> {
        let of_base = |terms: &Terms| matches!(&terms.origin, Origin::Operator(name) if name == base);
        let groups = self.throttle.iter().filter(|(_, group)| of_base(&group.terms));
        groups.map(|(name, group)| (name.clone(), group.terms.clone())).collect()
    }
}
