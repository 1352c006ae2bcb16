//! What is to be done about one process: watched, left alone, limited.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::action::What;
use crate::engine::policy::group::Joiner;
use crate::engine::policy::group::{Member, Origin, Terms};
use crate::engine::policy::protect;
use crate::engine::process::{Bars, Entry, Instance, Open};
use crate::engine::rule::matcher::Subject;
use crate::engine::rule::{CompiledRule, Exemption, First, Needs, RuleSet, Standing};
use crate::engine::view::Membership;
use crate::model::id::{Name, ProcKey};
use crate::model::reason::{Reason, readings};
use crate::model::rule::Rule;
use crate::model::time::Timestamp;

impl Rule {
    pub(super) fn terms(&self) -> Terms {
        Terms {
            origin: Origin::Rule(self.name.clone()),
            limits: self.limits.clone(),
            policy: self.policy.clone(),
            scope: self.scope,
            allow_move: self.allow_move,
            on_conflict: self.on_conflict,
            whole_unit: self.whole_unit,
        }
    }
}

impl Engine {
    /// Applies the profile to a process that is new or has changed.
    pub(super) fn evaluate(&mut self, key: ProcKey) {
        let Some(rules) = self.rules.clone() else { return };
        let Some(entry) = self.table.get(key) else { return };
        if entry.process.kthread {
            return;
        }
        self.counts.evaluations += 1;
        let Standing { named, exemption, needs } = rules.standing(&Subject::of(entry, &self.table));
        let was = entry.critical.clone();
        let was_protected = was.as_ref().is_some_and(|instance| instance.protected);
        let name = match named {
            First::One(critical) => Some(critical.name.clone()),
            First::Perhaps(_) if !needs.is_empty() => was.map(|instance| instance.name),
            First::Perhaps(_) | First::None => None,
        };
        let protected = match exemption {
            Some(Exemption::Undecided(_)) => was_protected,
            Some(Exemption::Instance(_) | Exemption::Undecidable(_)) => true,
            None => false,
        };
        let is_none = matches!(named, First::None) && exemption.is_none();
        self.set_critical(key, name.map(|name| Instance { name, protected }));
        if is_none {
            self.disinherit(key);
        }
        self.ask(key, needs);
        match exemption {
            Some(Exemption::Undecided(_)) => {}
            Some(why @ (Exemption::Instance(_) | Exemption::Undecidable(_))) => {
                self.spare(key, why.to_string());
            }
            None => self.evaluate_rules(&rules, key),
        }
    }

    fn evaluate_rules(&mut self, rules: &Arc<RuleSet>, key: ProcKey) {
        let Some(entry) = self.table.get(key) else { return };
        if let Some(protected) = protect::verdict(&entry.process, &self.config.own) {
            return self.spare(key, protected.to_string());
        }
        let refused = entry.bars.as_ref().is_some_and(|bars| bars.refused.is_some());
        if self.stopping
            || self.emergency.is_on()
            || refused
            || self.membership(key) == Some(Membership::Manual)
        {
            return;
        }
        let mut needs = Needs::default();
        let subject = Subject::of(entry, &self.table);
        match rules.owner(&subject, entry.bars.as_deref(), &self.conditions.dormant, &mut needs) {
            First::Perhaps(_) => return self.ask(key, needs),
            First::One(rule) => self.place(&rules.profile, rule, key),
            First::None => self.settle(key),
        }
        if let Some(entry) = self.table.get_mut(key) {
            entry.open = Open::No;
        }
        // Dropped while others wait for them, facts would be asked for again and again.
        if self.waiting.is_empty() {
            self.table.decided(key);
        }
    }

    /// A rule owns the process: see that it is in the rule's group.
    fn place(&mut self, profile: &Name, rule: &CompiledRule, key: ProcKey) {
        let Some(entry) = self.table.get(key) else { return };
        let process = entry.process;
        let terms = self.terms_of(&rule.spec);
        let name = terms.group_name(key);
        let measured = self.conditions.readings(&rule.spec.name);
        let condition = if measured.is_empty() { String::new() } else { format!("; {}", readings(measured)) };
        let reason = |matched: &str| Reason::Rule {
            profile: profile.clone(),
            rule: rule.spec.name.clone(),
            matched: format!("{matched}{condition}"),
        };
        if let Some(group) = entry.group.clone() {
            if group == name {
                return self.throttle.set_membership(&name, key, Membership::Matched);
            }
            let born_there = self.member(key).is_some_and(|member| member.born);
            if !born_there && entry.open == Open::No {
                return;
            }
            let (_, matched) = rule.matcher.why(&Subject::of(entry, &self.table));
            if born_there {
                self.throttle.hand_over(&group, key);
            } else {
                self.throttle.leave(&group, key, reason(&matched));
            }
            self.set_group(key, None);
        }
        let Some(entry) = self.table.get(key) else { return };
        let (_, matched) = rule.matcher.why(&Subject::of(entry, &self.table));
        let limited = self.born_limited(key).filter(|(group, _)| *group == name);
        let limited = limited.filter(|_| terms.is_inherited()).map(|(_, since)| since);
        let caused_at = entry.cause.max(self.ruled);
        let reason = reason(&matched);
        let joiner =
            Joiner { process: &process, membership: Membership::Matched, matched, limited, caused_at };
        let policy = terms.policy.clone();
        match self.throttle.join(&name, terms, &reason, joiner, self.out.now()) {
            Ok(()) => {
                self.counts.matches += 1;
                self.set_group(key, Some(name));
                self.begin_to_follow(&policy);
            }
            Err(why) => self.note_refusal(key, why),
        }
    }

    /// No rule owns the process. One that ran another program stays where it is limited, since it is part of
    /// the work that began there; so does one that was born limited. A new profile lets go of it.
    fn settle(&mut self, key: ProcKey) {
        let Some(entry) = self.table.get(key) else { return };
        let process = entry.process;
        if let Some(group) = entry.group.clone() {
            let matched = self.membership(key) == Some(Membership::Matched);
            let rule = self.throttle.group(&group).and_then(|group| group.terms.rule().cloned());
            return match rule {
                Some(rule) if matched && entry.open == Open::ToProfile => {
                    self.throttle.leave(&group, key, Reason::RuleGone { rule });
                    self.set_group(key, None);
                }
                Some(_) | None => self.throttle.set_membership(&group, key, Membership::Inherited),
            };
        }
        let (name, since) = match self.born_limited(key) {
            Some(born) => born,
            None => {
                let Some(home) = self.throttle.in_cgroup(process.cgroup) else { return };
                match self.found_limited(key, &home) {
                    Some(since) => (home, since),
                    None => return self.throttle.intruded(&home, &process),
                }
            }
        };
        let Some(group) = self.throttle.group(&name) else { return };
        let (terms, reason) = (group.terms.clone(), group.reason.clone());
        let barred = |rule: &Name| entry.bars.as_ref().is_some_and(|bars| bars.exempt.contains(rule));
        if terms.rule().is_some_and(barred) {
            return;
        }
        let joiner = Joiner {
            process: &process,
            membership: Membership::Inherited,
            matched: format!("its parent {} was limited when it was born", process.ppid),
            limited: terms.is_inherited().then_some(since),
            caused_at: since,
        };
        match self.throttle.join(&name, terms, &reason, joiner, self.out.now()) {
            Ok(()) => self.set_group(key, Some(name)),
            Err(why) => self.note_refusal(key, why),
        }
    }

    /// The group in whose cgroup a process was born, because its parent was limited by then, and its birth.
    fn born_limited(&self, key: ProcKey) -> Option<(Name, Timestamp)> {
        let process = &self.table.get(key)?.process;
        let parent = self.table.ancestors(process).next()?;
        let name = parent.group.as_ref()?;
        let since = self.throttle.group(name)?.members.get(&parent.process.key)?.limited?;
        (process.started >= since).then(|| (name.clone(), process.started))
    }

    /// Since when the limits of a group hold for a process that was first seen in the cgroup that they are on.
    /// Its parent is one of the group's, or gone: only those could give birth to it there. One whose parent is
    /// elsewhere was put there.
    fn found_limited(&self, key: ProcKey, home: &Name) -> Option<Timestamp> {
        let entry = self.table.get(key)?;
        let group = self.throttle.group(home)?;
        let elsewhere =
            |parent: &Entry| parent.process.key.pid != 1 && parent.process.cgroup != entry.process.cgroup;
        let put = entry.came || self.table.ancestors(&entry.process).next().is_some_and(elsewhere);
        let since = group.in_force?.max(entry.process.started);
        (group.borrowed && !put).then_some(since)
    }

    /// A process that may not be limited: take it out of wherever it is.
    fn spare(&mut self, key: ProcKey, why: String) {
        let Some(entry) = self.table.get(key) else { return };
        if let Some(group) = entry.group.clone() {
            self.throttle.leave(&group, key, Reason::Protected { why: why.clone() });
            // Also one that was not brought in yet: it may have been born in the group's cgroup.
            self.throttle.expel(&group, key, Reason::Protected { why });
            return self.set_group(key, None);
        }
        if entry.bars.as_ref().is_some_and(|bars| bars.expelled) {
            return;
        }
        // Born in a group's cgroup, and protected by the time it was first seen: limited all the same.
        // Its parent's limits may have come into force around its birth: whether it is in their cgroup, the
        // executor sees.
        let parents = self.table.ancestors(&entry.process).next().and_then(|parent| parent.group.clone());
        let Some(group) = parents.or_else(|| self.throttle.in_cgroup(entry.process.cgroup)) else { return };
        if let Some(entry) = self.table.get_mut(key) {
            entry.bars.get_or_insert_with(Box::<Bars>::default).expelled = true;
        }
        self.throttle.expel(&group, key, Reason::Protected { why });
    }

    /// Asks for what is missing. What has been asked already is waited for.
    fn ask(&mut self, key: ProcKey, needs: Needs) {
        let own = (!needs.own.is_empty()).then_some((key, needs.own));
        for (asked, wants) in needs.ancestors.into_iter().chain(own) {
            if asked != key {
                self.waiting.insert((asked, key));
            }
            let wants = self.table.ask(asked, wants);
            if !wants.is_empty() {
                self.counts.inspections += 1;
                self.out.push(What::Inspect { key: asked, wants });
            }
        }
    }

    /// Notes which critical process this is an instance of, and has it watched and protected accordingly.
    fn set_critical(&mut self, key: ProcKey, new: Option<Instance>) {
        let Some(entry) = self.table.get_mut(key) else { return };
        if entry.critical == new {
            if let Some(instance) = &new {
                self.criticals.called(&instance.name, &entry.process);
            }
            return;
        }
        let old = std::mem::replace(&mut entry.critical, new.clone());
        let (process, now) = (entry.process, self.out.now());
        let before = old.as_ref().map(|instance| instance.protected);
        let after = new.as_ref().map(|instance| instance.protected);
        if let Some(old) = &old {
            self.criticals.remove(&old.name, &process, now);
        }
        if let Some(new) = &new {
            self.criticals.add(&new.name, &process, now);
        }
        if before != after {
            let (on, protected) = (after.is_some(), after.unwrap_or(false));
            self.out.push(What::Watch { key, on, protected });
        }
        for instance in old.iter().chain(&new) {
            self.care_for(&instance.name);
        }
        self.keep(key);
    }

    pub(super) fn set_group(&mut self, key: ProcKey, group: Option<Name>) {
        if let Some(entry) = self.table.get_mut(key) {
            entry.group = group;
        }
    }

    pub(super) fn exempt(&mut self, key: ProcKey, rule: &Name) {
        if let Some(entry) = self.table.get_mut(key) {
            let bars = entry.bars.get_or_insert_with(Box::<Bars>::default);
            if !bars.exempt.contains(rule) {
                bars.exempt.push(rule.clone());
            }
        }
    }

    pub(super) fn membership(&self, key: ProcKey) -> Option<Membership> {
        self.member(key).map(|member| member.membership)
    }

    fn member(&self, key: ProcKey) -> Option<&Member> {
        let group = self.table.get(key)?.group.as_ref()?;
        self.throttle.group(group)?.members.get(&key)
    }
}
