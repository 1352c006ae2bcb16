//! Rules: which of them owns a process. Evaluation is pure and three-valued; it must not act.

pub mod compile;
pub(crate) mod condition;
mod hint;
pub(crate) mod matcher;
mod why;

use std::collections::BTreeSet;
use std::fmt;

use crate::engine::action::Wants;
use crate::engine::process::Bars;
use crate::engine::rule::matcher::{AncestorWants, Matcher, Subject, Tri};
use crate::model::critical::{Expect, Protection};
use crate::model::id::Name;
use crate::model::rule::Rule;

pub use crate::engine::rule::compile::{CompileError, PatternError};

/// A profile, compiled.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// The profile's name.
    pub(crate) profile: Name,
    /// In declared order.
    pub(crate) criticals: Vec<CompiledCritical>,
    /// By priority, then in declared order; disabled ones too, to be explained.
    pub(crate) rules: Vec<CompiledRule>,
}

/// A critical process, compiled.
#[derive(Clone, Debug)]
pub(crate) struct CompiledCritical {
    pub(crate) name: Name,
    pub(crate) matcher: Matcher,
    /// Whether its instances are exempt from limits. Not where a process can bring the match about by naming
    /// itself: whoever chose a critical name would escape every rule.
    pub(crate) protects: bool,
    /// What there is to be of it.
    pub(crate) expect: Option<Expect>,
    /// What its instances are to have; nothing where it does not protect.
    pub(crate) protection: Protection,
}

/// A rule, compiled.
#[derive(Clone, Debug)]
pub(crate) struct CompiledRule {
    pub(crate) spec: Rule,
    pub(crate) matcher: Matcher,
}

/// What must be known before a question is decided.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Of the process itself.
    pub(crate) own: Wants,
    /// Of its ancestors.
    pub(crate) ancestors: AncestorWants,
}

impl Needs {
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.ancestors.is_empty()
    }
}

/// The first that matches.
#[derive(Debug)]
pub(crate) enum First<'a, T> {
    /// This one.
    One(&'a T),
    /// None does.
    None,
    /// This one may, depending on facts that are not known.
    Perhaps(&'a T),
}

/// What the critical entries make of a process.
#[derive(Debug)]
pub(crate) struct Standing<'a> {
    /// The entry that its death is told by.
    pub(crate) named: First<'a, CompiledCritical>,
    /// Why it is exempt from limits, if so.
    pub(crate) exemption: Option<Exemption<'a>>,
    /// What must be known before both are decided; empty when nothing more can be.
    pub(crate) needs: Needs,
}

/// Why a process is exempt from limits: what it is, or may be, an instance of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exemption<'a> {
    /// It is one.
    Instance(&'a Name),
    /// It may be one: facts are missing that can be had.
    Undecided(&'a Name),
    /// It may be one: facts are missing that cannot be had.
    Undecidable(&'a Name),
}

impl fmt::Display for Exemption<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(name) => write!(f, "it is an instance of critical process {name}"),
            Self::Undecided(name) => write!(f, "it may be critical process {name}; that is not known yet"),
            Self::Undecidable(name) => write!(f, "it may be critical process {name}, which cannot be told"),
        }
    }
}

impl RuleSet {
    /// The critical process that `subject` is an instance of: the one that its death is told by. What is
    /// missing is added to `needs`.
    pub(crate) fn critical(&self, subject: &Subject<'_>, needs: &mut Needs) -> First<'_, CompiledCritical> {
        first(&self.criticals, |critical| &critical.matcher, Undecidable::IsPerhaps, subject, needs)
    }

    /// What the critical entries make of `subject`.
    pub(crate) fn standing(&self, subject: &Subject<'_>) -> Standing<'_> {
        let mut open = Needs::default();
        let named = self.critical(subject, &mut open);
        let mut needs = Needs::default();
        let exemption = self.exemption(&named, subject, &mut needs);
        let needs = match (&named, exemption) {
            // Includes what the exemption needs.
            (First::Perhaps(_), _) => open,
            (First::One(_), Some(Exemption::Undecided(_))) => needs,
            (First::One(_) | First::None, _) => Needs::default(),
        };
        Standing { named, exemption, needs }
    }

    /// Any protecting entry exempts, also one behind the entry that names the process.
    fn exemption<'a>(
        &'a self,
        named: &First<'a, CompiledCritical>,
        subject: &Subject<'_>,
        needs: &mut Needs,
    ) -> Option<Exemption<'a>> {
        match named {
            First::None => return None,
            First::One(critical) if critical.protects => return Some(Exemption::Instance(&critical.name)),
            First::One(_) | First::Perhaps(_) => {}
        }
        let protecting = self.criticals.iter().filter(|critical| critical.protects);
        match first(protecting, |critical| &critical.matcher, Undecidable::IsPerhaps, subject, needs) {
            First::One(critical) => Some(Exemption::Instance(&critical.name)),
            First::Perhaps(critical) if needs.is_empty() => Some(Exemption::Undecidable(&critical.name)),
            First::Perhaps(critical) => Some(Exemption::Undecided(&critical.name)),
            First::None => None,
        }
    }

    /// The rule that owns `subject`: the first enabled one that matches, that it is not exempt from, and whose
    /// conditions hold; those of `dormant` rules do not.
    pub(crate) fn owner(
        &self,
        subject: &Subject<'_>,
        bars: Option<&Bars>,
        dormant: &BTreeSet<Name>,
        needs: &mut Needs,
    ) -> First<'_, CompiledRule> {
        let exempt = |rule: &CompiledRule| bars.is_some_and(|bars| bars.exempt.contains(&rule.spec.name));
        let holds = |rule: &CompiledRule| rule.spec.enabled && !dormant.contains(&rule.spec.name);
        let rules = self.rules.iter().filter(|rule| holds(rule) && !exempt(rule));
        first(rules, |rule| &rule.matcher, Undecidable::IsNo, subject, needs)
    }

    /// The enabled rule of this name.
    pub(crate) fn rule(&self, name: &Name) -> Option<&CompiledRule> {
        self.rules.iter().find(|rule| rule.spec.enabled && rule.spec.name == *name)
    }
}

/// How conditions are weighed that facts which cannot be had leave undecided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Undecidable {
    /// As not matching: what is not known to match is not limited.
    IsNo,
    /// As perhaps matching: what may be critical is not limited either.
    IsPerhaps,
}

fn first<'a, T>(
    items: impl IntoIterator<Item = &'a T>,
    matcher: impl Fn(&T) -> &Matcher,
    undecidable: Undecidable,
    subject: &Subject<'_>,
    needs: &mut Needs,
) -> First<'a, T> {
    let mut perhaps = None;
    for item in items {
        let before = needs.ancestors.len();
        match matcher(item).eval(subject, &mut needs.ancestors) {
            Tri::Yes => {
                return match (perhaps, undecidable) {
                    // Whichever of the two it is, it is critical.
                    (None, _) | (Some(_), Undecidable::IsPerhaps) => First::One(item),
                    // An open question that comes first is decided first.
                    (Some(earlier), Undecidable::IsNo) => First::Perhaps(earlier),
                };
            }
            Tri::No => {}
            Tri::Unknown(wants) => {
                needs.own = needs.own.and(wants);
                let open = !wants.is_empty() || needs.ancestors.len() > before;
                if open || undecidable == Undecidable::IsPerhaps {
                    perhaps.get_or_insert(item);
                }
            }
        }
    }
    perhaps.map_or(First::None, First::Perhaps)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Builders for the tests of rules.

    use super::*;
    use crate::model::limits::{Limits, Scope};
    use crate::model::process::Facts;
    use crate::model::rule::{Match, OnConflict, Profile};

    pub(crate) fn compiled(matches: &Match) -> Matcher {
        rule_set(vec![("r", matches.clone())]).rules.remove(0).matcher
    }

    pub(crate) fn facts(exe: &str, cmdline: &str, cgroup: &str) -> Facts {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        Facts { exe: some(exe), cmdline: some(cmdline), cgroup_path: some(cgroup) }
    }

    pub(crate) fn rule(name: &str, matches: Match) -> Rule {
        Rule {
            name: name.parse().unwrap(),
            description: String::new(),
            matches,
            when: None,
            limits: Limits { cpu: Some("30%".parse().unwrap()), ..Limits::default() },
            policy: crate::model::policy::Policy::Fixed,
            scope: Scope::Group,
            allow_move: false,
            on_conflict: OnConflict::Yield,
            whole_unit: false,
            priority: 0,
            enabled: true,
        }
    }

    pub(crate) fn profile(rules: Vec<Rule>) -> Profile {
        Profile {
            name: "test".parse().unwrap(),
            version: "1".to_owned(),
            description: String::new(),
            critical: Vec::new(),
            rules,
            schedule: Vec::new(),
        }
    }

    pub(crate) fn rule_set(rules: Vec<(&str, Match)>) -> RuleSet {
        let rules = rules.into_iter().map(|(name, matches)| rule(name, matches)).collect();
        RuleSet::compile(&profile(rules)).unwrap()
    }
}
