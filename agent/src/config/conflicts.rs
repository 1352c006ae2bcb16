//! What contradicts itself between valid entries of a profile: rules for processes that are never limited, and rules
//! that another one leaves nothing to.

use super::error::Findings;
use super::fields::Cursor;
use super::subsume::subsumes;
use crate::model::critical::Critical;
use crate::model::rule::Rule;

/// Most pairs that are compared: a generated profile must not take minutes.
const PAIRS_MAX: usize = 100_000;

/// Adds what is found. The cursors are those of the matches.
pub(super) fn check(
    critical: &[(Critical, Cursor<'_>)],
    rules: &[(Rule, Cursor<'_>)],
    findings: &mut Findings,
) {
    let looks_deep = rules.len().saturating_mul(rules.len().max(critical.len())) <= PAIRS_MAX;
    for (index, (rule, at)) in rules.iter().enumerate() {
        for (protected, other) in critical {
            with_critical(rule, at, protected, other, looks_deep, findings);
        }
        let first =
            rules[..index].iter().find(|(r, _)| r.enabled && rule.enabled && r.matches == rule.matches);
        if let Some((first, other)) = first {
            let place = other.whereabouts();
            let message = format!("rule {} has the same match {place}: only one of them applies", first.name);
            findings.push(at.warning(message));
        } else if looks_deep {
            with_rules(index, rule, at, rules, findings);
        }
    }
}

fn with_critical(
    rule: &Rule,
    at: &Cursor<'_>,
    protected: &Critical,
    other: &Cursor<'_>,
    looks_deep: bool,
    findings: &mut Findings,
) {
    // What is critical for alerts only may be limited, and that is told where it is said to be critical.
    if protected.matches.is_forgeable() {
        return;
    }
    let (name, place) = (&protected.name, other.whereabouts());
    if protected.matches == rule.matches {
        let message = format!("the same match makes {name} critical {place}: the rule would never apply");
        let fix = "critical processes are never throttled: remove one of both";
        findings.push(at.error(message).with_fix(fix));
        return;
    }
    if !looks_deep || !rule.enabled {
        return;
    }
    if subsumes(&protected.matches, &rule.matches) {
        let message =
            format!("every process of this match is critical as {name} {place}: the rule would never apply");
        findings.push(at.warning(message).with_fix("narrow the critical match, or remove the rule"));
    } else if subsumes(&rule.matches, &protected.matches) {
        let message = format!("matches the critical process {name} {place}, too, which is left alone");
        findings.push(at.warning(message).with_fix(format!("say so: add a `not` with the match of {name}")));
    }
}

/// A rule gets nothing when another one comes before it, always holds and matches all that it does.
fn with_rules(
    index: usize,
    rule: &Rule,
    at: &Cursor<'_>,
    rules: &[(Rule, Cursor<'_>)],
    findings: &mut Findings,
) {
    let comes_before = |(position, (other, _)): &(usize, &(Rule, Cursor<'_>))| {
        *position != index
            && rule.enabled
            && other.enabled
            && other.when.is_none()
            && (other.priority, *position) < (rule.priority, index)
    };
    let owner = rules
        .iter()
        .enumerate()
        .filter(comes_before)
        .find(|(_, (other, _))| other.matches != rule.matches && subsumes(&other.matches, &rule.matches));
    if let Some((_, (other, place))) = owner {
        let (name, place) = (&other.name, place.whereabouts());
        let message =
            format!("rule {name} {place} comes first and matches all of this: the rule never applies");
        let fix = format!("give it a priority below {}, or narrow the match of {name}", other.priority);
        findings.push(at.warning(message).with_fix(fix));
    }
}
