//! One rule of the earlier program: its matcher, its limits, and what they become.

use std::fmt;

use super::Migration;
use crate::config::fields::Cursor;
use crate::model::id::Name;
use crate::model::limits::{Limits, Scope};
use crate::model::policy::Policy;
use crate::model::rule::{Match, OnConflict, Pattern, Rule};
use crate::model::unit::{Bytes, CpuPercent, Weight};

const RULE_KEYS: &[&str] = &["name", "description", "matcher", "limits", "enabled", "priority"];
const LIMIT_KEYS: &[&str] =
    &["cpu_quota", "cpu_period", "cpu_shares", "memory_limit", "pids_limit", "blkio_weight"];

/// What a pattern is about.
#[derive(Clone, Copy)]
enum Kind {
    Name,
    Cmdline,
    Pid,
    User,
}

impl Migration<'_> {
    pub(super) fn rule(&mut self, item: &Cursor<'_>, taken: &[Name]) -> Option<Rule> {
        let map = item.map(RULE_KEYS, &[], self.findings)?;
        let at = map.required("name", self.findings)?;
        let text = at.text(self.findings)?;
        let name = self.name(at, text, taken)?;
        let description = match map.get("description") {
            Some(at) => at.text(self.findings)?.to_owned(),
            None => String::new(),
        };
        self.keep(&map, &["description", "enabled"]);
        let matcher = map.required("matcher", self.findings)?.clone();
        let limits_at = map.required("limits", self.findings)?.clone();
        let errors = self.findings.errors();
        let (matches, limits) = (self.matcher(&matcher), self.limits(&limits_at));
        let enabled = match map.get("enabled") {
            Some(at) => at.boolean(self.findings)?,
            None => {
                self.carried(item, "enabled: false, as a rule without the key was");
                false
            }
        };
        let priority = match map.get("priority") {
            Some(at) => {
                let range = i128::from(-i32::MAX)..=i128::from(i32::MAX);
                let number = at.integer(range, "a priority", self.findings)?;
                self.carried(at, format!("priority: {}, because lower numbers come first now", -number));
                i32::try_from(-number).ok()?
            }
            None => 0,
        };
        if self.findings.errors() > errors {
            return None;
        }
        let limits = limits?;
        if limits.is_empty() {
            self.dropped(item, "the rule limits nothing");
            return None;
        }
        self.carried(item, "scope: process, because each process had limits of its own; allow_move: false");
        let matches = matches?;
        Some(Rule {
            name,
            description,
            matches,
            when: None,
            limits,
            policy: Policy::Fixed,
            scope: Scope::Process,
            allow_move: false,
            on_conflict: OnConflict::Yield,
            whole_unit: false,
            priority,
            enabled,
        })
    }

    fn matcher(&mut self, at: &Cursor<'_>) -> Option<Match> {
        let map = at.map(&["pattern", "match_type", "exact_match"], &[], self.findings)?;
        let pattern_at = map.required("pattern", self.findings)?;
        let pattern = pattern_at.text(self.findings)?;
        let exact = match map.get("exact_match") {
            Some(at) => at.boolean(self.findings)?,
            None => false,
        };
        if pattern.is_empty() {
            self.findings.push(pattern_at.error("is empty: it matched every process"));
            return None;
        }
        for key in ["match_type", "exact_match"] {
            if let Some(at) = map.get(key) {
                self.carried(at, "decides how the pattern is written");
            }
        }
        let kinds =
            [("name", Kind::Name), ("cmdline", Kind::Cmdline), ("pid", Kind::Pid), ("user", Kind::User)];
        let kind = match map.get("match_type") {
            Some(at) => at.choice(&kinds, self.findings)?,
            None => Kind::Name,
        };
        match kind {
            Kind::Cmdline => {
                let regex = if exact { format!("^(?:{pattern})$") } else { pattern.to_owned() };
                self.carried(pattern_at, format!("cmdline_regex: {regex:?}"));
                Some(Match::CmdlineRegex(regex))
            }
            Kind::Pid => {
                let pid = pattern.parse().ok().filter(|pid| *pid >= 1);
                if pid.is_none() {
                    let finding = pattern_at.error("a pid pattern that is no single pid cannot be expressed");
                    self.findings.push(finding.with_fix("remove the rule, or match by name"));
                }
                let pid = pid?;
                self.carried(
                    pattern_at,
                    format!("pid: {pid}, and no longer every pid that contains these digits"),
                );
                Some(Match::Pid(pid))
            }
            Kind::User => self.match_users(pattern_at, pattern),
            Kind::Name => Some(self.match_name(pattern_at, pattern, exact)),
        }
    }

    /// The earlier program searched the process name for the expression, anywhere in it.
    pub(super) fn match_name(&mut self, at: &Cursor<'_>, pattern: &str, exact: bool) -> Match {
        let pattern = if exact {
            // The kernel cuts names there, and the earlier program saw no more of them.
            if is_plain(pattern) && pattern.len() <= 15 {
                Pattern::Exact(pattern.to_owned())
            } else {
                Pattern::Regex(pattern.to_owned())
            }
        } else {
            Pattern::Regex(format!(".*({pattern}).*"))
        };
        let shown = match &pattern {
            Pattern::Exact(text) => format!("comm: {text:?}"),
            Pattern::Regex(text) | Pattern::Prefix(text) | Pattern::Glob(text) => {
                format!("comm: {{ regex: {text:?} }}")
            }
        };
        self.carried(at, shown);
        Match::Comm(pattern)
    }

    /// User names, where the expression is nothing but one or several of them.
    fn match_users(&mut self, at: &Cursor<'_>, pattern: &str) -> Option<Match> {
        let names: Vec<&str> = pattern.trim_start_matches('^').trim_end_matches('$').split('|').collect();
        if !names.iter().all(|name| is_plain(name)) {
            let finding = at.error("an expression for user names cannot be expressed");
            self.findings.push(finding.with_fix("name the users: one|other"));
            return None;
        }
        let mut users = Vec::new();
        for name in names {
            match (self.host.user)(name) {
                Ok(Some(uid)) => users.push(Match::User { name: name.to_owned(), uid }),
                Ok(None) => {
                    self.findings.push(at.error(format!("there is no user {name:?} on this machine")));
                }
                Err(error) => {
                    self.findings.push(at.error(format!("looking up user {name:?} failed: {error}")));
                }
            }
        }
        self.carried(at, "user, by the whole name and no longer by any part of it");
        if users.len() == 1 { users.pop() } else { Some(Match::Any(users)) }
    }

    fn limits(&mut self, at: &Cursor<'_>) -> Option<Limits> {
        let map = at.map(LIMIT_KEYS, &[], self.findings)?;
        let mut number = |key: &str| match map.get(key) {
            Some(at) => {
                let range = i128::from(i64::MIN)..=i128::from(i64::MAX);
                at.integer(range, "a 64-bit number", self.findings).map(|number| (number, at.clone()))
            }
            None => None,
        };
        let [quota, period, shares, memory, pids, blkio] = [
            number("cpu_quota"),
            number("cpu_period"),
            number("cpu_shares"),
            number("memory_limit"),
            number("pids_limit"),
            number("blkio_weight"),
        ];
        let period = match period {
            Some((period, at)) => {
                self.carried(&at, "as part of cpu");
                period
            }
            None => 100_000,
        };
        let mut limits = Limits::default();
        if let Some((quota, at)) = self.limited(quota) {
            let millis = (period > 0).then(|| quota.saturating_mul(100_000) / period);
            limits.cpu =
                millis.and_then(|millis| u64::try_from(millis).ok()).and_then(CpuPercent::from_millis);
            self.converted(
                &at,
                "cpu",
                limits.cpu,
                "a CPU limit from 1% to 100000%, as quota of a positive period",
            );
        }
        if let Some((shares, at)) = self.limited(shares) {
            limits.cpu_weight = scaled_weight(shares, 1_024);
            self.converted(&at, "cpu_weight", limits.cpu_weight, "a number of shares");
        }
        if let Some((memory, at)) = self.limited(memory) {
            limits.memory_max = u64::try_from(memory).ok().and_then(Bytes::new);
            self.converted(&at, "memory_max", limits.memory_max, "a size of at least 4096 bytes");
        }
        if let Some((pids, at)) = self.limited(pids) {
            limits.pids = u32::try_from(pids).ok().filter(|pids| *pids <= 4 << 20);
            self.converted(&at, "pids", limits.pids, "a number of tasks up to 4194304");
        }
        if let Some((weight, at)) = self.limited(blkio) {
            limits.io_weight = scaled_weight(weight, 500);
            self.converted(&at, "io_weight", limits.io_weight, "a weight");
        }
        Some(limits)
    }

    /// Zero and below meant no limit.
    fn limited<'a>(&mut self, number: Option<(i128, Cursor<'a>)>) -> Option<(i128, Cursor<'a>)> {
        let (number, at) = number?;
        if number <= 0 {
            self.dropped(&at, format!("{number} meant no limit"));
            return None;
        }
        Some((number, at))
    }

    fn converted<T: fmt::Display>(&mut self, at: &Cursor<'_>, key: &str, value: Option<T>, what: &str) {
        match value {
            Some(value) => self.carried(at, format!("{key}: {value}")),
            None => self.findings.push(at.error(format!("cannot become {key}: not {what}"))),
        }
    }
}

/// A number relative to its old default, relative to 100: how the kernel (`sched_weight_to_cgroup`) and systemd
/// (`cgroup_weight_cpu_shares_to_weight` and its sibling for I/O) convert shares and weights.
fn scaled_weight(number: i128, default: i128) -> Option<Weight> {
    let scaled = number.checked_mul(100)?.checked_add(default / 2)? / default;
    u64::try_from(scaled.clamp(1, 10_000)).ok().and_then(Weight::new)
}

/// Whether an expression means nothing but its own text.
fn is_plain(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_scaled_by_their_defaults() {
        let cpu = |shares| scaled_weight(shares, 1_024).unwrap().get();
        assert_eq!((cpu(1_024), cpu(2), cpu(512), cpu(262_144)), (100, 1, 50, 10_000));
        let io = |weight| scaled_weight(weight, 500).unwrap().get();
        assert_eq!((io(500), io(10), io(1_000)), (100, 2, 200));
    }
}
