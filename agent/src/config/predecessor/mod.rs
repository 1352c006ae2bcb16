//! Profiles in the format of the earlier Go program, to ours. Every key is accounted for: carried over,
//! changed, or left out and why. Guesses nothing that would limit or protect more than the file says.

mod rule;

use std::fmt;

use serde::Serialize;

use super::calendar;
use super::error::Findings;
use super::fields::{Cursor, Map};
use super::file::{Node, Value};
use super::host::Host;
use super::profile::FIRST_VERSION;
use crate::model::id::{NAME_MAX, Name};
use crate::model::rule::{Critical, Profile, Rule, Turn};

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MigrationNote {
    /// Path of the key in the imported file.
    pub key: String,
    /// Line in the imported file.
    pub line: u32,
    /// Column there.
    pub column: u32,
    /// Whether its meaning is in the profile.
    pub carried: bool,
    /// What became of it, or why it was left out.
    pub outcome: String,
}

impl fmt::Display for MigrationNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.carried { "carried over" } else { "not carried over" };
        write!(f, "{}:{}: {}: {verb}: {}", self.line, self.column, self.key, self.outcome)
    }
}

const PROFILE_KEYS: &[&str] = &[
    "name",
    "version",
    "description",
    "author",
    "created",
    "modified",
    "critical_processes",
    "throttling_rules",
    "schedule",
    "settings",
    "active",
    "applied_at",
];
const CRITICAL_KEYS: &[&str] = &[
    "pattern",
    "protection_level",
    "restart_policy",
    "oom_score_adj",
    "priority",
    "health_check",
    "dependencies",
    "resource_reserve",
];
const UNCHANGED: &str = "unchanged";

/// Whether a parsed file is in the earlier program's format: it has keys that only that one has.
#[must_use]
pub fn is_predecessor(root: &Node) -> bool {
    let any_item = |list: &str, key: &str| match root.get(list).map(|node| &node.value) {
        Some(Value::List(items)) => items.iter().any(|item| item.get(key).is_some()),
        Some(_) | None => false,
    };
    ["author", "created", "modified", "settings", "active", "applied_at"]
        .iter()
        .any(|key| root.get(key).is_some())
        || any_item("critical_processes", "pattern")
        || any_item("throttling_rules", "matcher")
}

/// Converts; the profile is `None` when there are errors.
pub(super) fn convert(
    root: &Cursor<'_>,
    host: &Host,
    findings: &mut Findings,
) -> (Option<Profile>, Vec<MigrationNote>) {
    let mut migration = Migration { host, findings, notes: Vec::new() };
    let profile = migration.profile(root);
    let notes = migration.notes;
    let profile = if findings.has_errors() { None } else { profile };
    (profile, notes)
}

/// A cron expression as it was written, or the beginning of a range of hours on some days of the week.
fn crontab(time: &str, days: Option<&Cursor<'_>>) -> Option<String> {
    if days.is_none() && calendar::parse(time).is_ok() {
        return Some(time.to_owned());
    }
    let (hour, minute) = time.split('-').next()?.trim().split_once(':')?;
    let days = match days.map(Cursor::value) {
        None => "*".to_owned(),
        Some(Value::List(items)) => {
            let day = |node: &Node| match &node.value {
                Value::Text(text) => Some(text.get(..3)?.to_ascii_uppercase()),
                Value::Null
                | Value::Bool(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::List(_)
                | Value::Map(_) => None,
            };
            items.iter().map(day).collect::<Option<Vec<_>>>()?.join(",")
        }
        Some(
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Map(_),
        ) => {
            return None;
        }
    };
    let number = |text: &str| text.parse::<u8>().ok();
    let cron = format!("{} {} * * {days}", number(minute)?, number(hour)?);
    calendar::parse(&cron).is_ok().then_some(cron)
}

struct Migration<'f> {
    host: &'f Host,
    findings: &'f mut Findings,
    notes: Vec<MigrationNote>,
}

impl Migration<'_> {
    fn carried(&mut self, at: &Cursor<'_>, outcome: impl Into<String>) {
        self.note(at, true, outcome.into());
    }

    fn dropped(&mut self, at: &Cursor<'_>, outcome: impl Into<String>) {
        self.note(at, false, outcome.into());
    }

    fn note(&mut self, at: &Cursor<'_>, carried: bool, outcome: String) {
        let place = at.place();
        let key = at.path().to_owned();
        self.notes.push(MigrationNote { key, line: place.line, column: place.column, carried, outcome });
    }

    fn keep(&mut self, map: &Map<'_>, keys: &[&str]) {
        for key in keys {
            if let Some(at) = map.get(key) {
                self.carried(at, UNCHANGED);
            }
        }
    }

    fn drop_keys(&mut self, map: &Map<'_>, reasons: &[(&str, &str)]) {
        for (key, reason) in reasons {
            if let Some(at) = map.get(key) {
                self.dropped(at, *reason);
            }
        }
    }

    fn profile(&mut self, root: &Cursor<'_>) -> Option<Profile> {
        let map = root.map(PROFILE_KEYS, &[], self.findings)?;
        let at = map.required("name", self.findings)?;
        let text = at.text(self.findings)?;
        let name = self.name(at, text, &[])?;
        let text = |key: &str, default: &str, findings: &mut Findings| match map.get(key) {
            Some(at) => at.text(findings).map(str::to_owned),
            None => Some(default.to_owned()),
        };
        let version = text("version", FIRST_VERSION, self.findings);
        let version = version.map(|text| if text.is_empty() { FIRST_VERSION.to_owned() } else { text });
        let description = text("description", "", self.findings);
        self.keep(&map, &["version", "description"]);
        self.drop_keys(
            &map,
            &[
                ("author", "profiles have no author; the file's history has"),
                ("created", "the file's own times are kept by the file system"),
                ("modified", "the file's own times are kept by the file system"),
                ("settings", "the agent's settings are in config.yaml, and these had no effect"),
                ("active", "which profile is active is the daemon's state"),
                ("applied_at", "which profile is active is the daemon's state"),
            ],
        );
        let critical = map.get("critical_processes").map(|at| self.all_critical(at)).unwrap_or_default();
        let rules = map.get("throttling_rules").map(|at| self.rules(at)).unwrap_or_default();
        let schedule = map.get("schedule").map(|at| self.schedule(at)).unwrap_or_default();
        Some(Profile { name, version: version?, description: description?, critical, rules, schedule })
    }

    /// Entries were parsed there and never executed. Times that are no cron expression cannot be meant as one.
    fn schedule(&mut self, at: &Cursor<'_>) -> Vec<Turn> {
        let mut turns = Vec::new();
        for item in at.list(self.findings).unwrap_or_default() {
            let Some(map) = item.map(&["time", "profile_name", "days"], &[], self.findings) else { continue };
            let time = map.required("time", self.findings).and_then(|at| Some((at, at.text(self.findings)?)));
            let profile = map
                .required("profile_name", self.findings)
                .and_then(|at| Some((at, at.text(self.findings)?)));
            let (Some((time_at, time)), Some((profile_at, profile))) = (time, profile) else { continue };
            let days = map.get("days").filter(|at| *at.value() != Value::List(Vec::new()));
            let Some(cron) = crontab(time, days) else {
                self.dropped(
                    &item,
                    format!("{time:?} is no time of day and no cron expression of five fields"),
                );
                continue;
            };
            let Some(name) = self.name(profile_at, profile, &[]) else { continue };
            self.carried(time_at, format!("cron: {cron:?}"));
            turns.push(Turn { cron, profile: name });
        }
        turns
    }

    fn all_critical(&mut self, at: &Cursor<'_>) -> Vec<Critical> {
        let mut all: Vec<Critical> = Vec::new();
        for item in at.list(self.findings).unwrap_or_default() {
            let Some(map) = item.map(CRITICAL_KEYS, &[], self.findings) else { continue };
            let Some(pattern_at) = map.required("pattern", self.findings) else { continue };
            let Some(pattern) = pattern_at.text(self.findings) else { continue };
            let taken: Vec<Name> = all.iter().map(|critical| critical.name.clone()).collect();
            let Some(name) = self.name(&item, pattern, &taken) else { continue };
            let matches = self.match_name(pattern_at, pattern, false);
            const PROTECTION: &str = "its match is by name alone, which any process can give itself: add exe, user or uid to it, and then protection_level";
            self.drop_keys(
                &map,
                &[
                    ("protection_level", PROTECTION),
                    ("oom_score_adj", PROTECTION),
                    ("priority", PROTECTION),
                    (
                        "restart_policy",
                        "it ran a command line read from the process; write restart: { unit: … } instead",
                    ),
                    (
                        "health_check",
                        "a command needs a user now, and is a list; write the health_check anew",
                    ),
                    ("dependencies", "they are names of critical processes now; write them anew"),
                    ("resource_reserve", "its match is by name alone, which any process can give itself: add exe, user or uid to it, and then reserve: { cpu_percent: …, memory: … }"),
                ],
            );
            all.push(Critical::new(name, matches));
        }
        all
    }

    fn rules(&mut self, at: &Cursor<'_>) -> Vec<Rule> {
        let mut all: Vec<Rule> = Vec::new();
        for item in at.list(self.findings).unwrap_or_default() {
            let taken: Vec<Name> = all.iter().map(|rule| rule.name.clone()).collect();
            all.extend(self.rule(&item, &taken));
        }
        all
    }

    /// A valid name out of any text, made unique.
    fn name(&mut self, at: &Cursor<'_>, text: &str, taken: &[Name]) -> Option<Name> {
        let mut slug = String::new();
        for c in text.to_lowercase().chars().take(NAME_MAX - 4) {
            let c = if c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c) { c } else { '-' };
            if slug.is_empty() && !c.is_ascii_alphanumeric() || slug.ends_with('-') && c == '-' {
                continue;
            }
            slug.push(c);
        }
        let slug = slug.trim_end_matches(['-', '.']);
        let base = if slug.is_empty() { "unnamed" } else { slug };
        // One more candidate than there are names that could be taken.
        let unique = (1..=taken.len() + 1)
            .map(|number| if number == 1 { base.to_owned() } else { format!("{base}-{number}") })
            .filter_map(|candidate| candidate.parse::<Name>().ok())
            .find(|candidate| !taken.contains(candidate));
        match &unique {
            Some(name) if name.as_str() == text => self.carried(at, UNCHANGED),
            Some(name) => self.carried(at, format!("name: {name}")),
            None => self.findings.push(at.error(format!("no name can be made of {text:?}"))),
        }
        unique
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::export::to_yaml;
    use crate::config::file::{self, Source};

    fn import(text: &str) -> (Option<Profile>, Vec<MigrationNote>, Findings) {
        let host = Host {
            cpus: None,
            online: || None,
            memory: None,
            user: |name| Ok(["root", "ci"].iter().position(|known| *known == name).map(|at| at as u32)),
            group: |_| Ok(None),
            program: |_| None,
        };
        let source = Source::new("/old.yaml".into(), text.to_owned());
        let node = file::parse(&source).unwrap();
        assert!(is_predecessor(&node));
        let mut findings = Findings::new();
        let (profile, notes) = convert(&Cursor::root(&source, &node), &host, &mut findings);
        (profile, notes, findings)
    }

    const OLD: &str = "name: Production Web
version: \"1.0\"
description: web
author: ops
created: 2024-01-01T00:00:00Z
critical_processes:
  - pattern: nginx.*
    protection_level: maximum
    restart_policy: always
    oom_score_adj: -1000
    priority: -20
    health_check: {type: port, target: \"80,443\", interval: 30s, timeout: 5s, retries: 3}
    resource_reserve: {cpu_percent: 20, memory_mb: 512}
  - pattern: nginx-.*
throttling_rules:
  - name: limit-backup-processes
    description: backups
    matcher: {pattern: backup.*|rsync.*, match_type: name}
    limits: {cpu_quota: 30000, cpu_period: 100000, cpu_shares: 512, memory_limit: 1073741824, pids_limit: 50, blkio_weight: 100}
    enabled: true
    priority: 2
  - name: jobs
    matcher: {pattern: 'batch_.*', match_type: cmdline, exact_match: true}
    limits: {cpu_quota: -1, pids_limit: 10}
  - name: tar
    matcher: {pattern: tar, exact_match: true, match_type: name}
    limits: {cpu_quota: 5000, cpu_period: 10000}
    enabled: false
  - name: users
    matcher: {pattern: ^root|ci$, match_type: user}
    limits: {memory_limit: 512000000}
    enabled: true
  - name: nothing
    matcher: {pattern: x, match_type: name}
    limits: {cpu_quota: 0}
schedule:
  - {time: \"0 9 * * 1-5\", profile_name: business-hours}
  - {time: \"08:30-17:00\", profile_name: Office, days: [Monday, Fri]}
  - {time: noon, profile_name: lunch}
settings: {update_interval: 5s}
";

    #[test]
    fn an_empty_version_is_none() {
        let (profile, _, findings) = import(&OLD.replace("version: \"1.0\"", "version: \"\""));
        assert_eq!(profile.map(|profile| profile.version).as_deref(), Some("1.0"), "{findings}");
    }

    #[test]
    fn every_key_is_accounted_for() {
        let (profile, notes, findings) = import(OLD);
        assert!(!findings.has_errors(), "{findings}");
        assert_eq!(
            to_yaml(&profile.unwrap()),
            "name: production-web
version: \"1.0\"
description: web
critical_processes:
  - name: nginx
    match: { comm: { regex: \".*(nginx.*).*\" } }
  - name: nginx-2
    match: { comm: { regex: \".*(nginx-.*).*\" } }
throttling_rules:
  - name: limit-backup-processes
    description: backups
    match: { comm: { regex: \".*(backup.*|rsync.*).*\" } }
    limits: { cpu: 30%, cpu_weight: 50, memory_max: 1G, pids: 50, io_weight: 20 }
    scope: process
    allow_move: false
    priority: -2
    enabled: true
  - name: jobs
    match: { cmdline_regex: \"^(?:batch_.*)$\" }
    limits: { pids: 10 }
    scope: process
    allow_move: false
    priority: 0
    enabled: false
  - name: tar
    match: { comm: tar }
    limits: { cpu: 50% }
    scope: process
    allow_move: false
    priority: 0
    enabled: false
  - name: users
    match: { any: [{ user: root }, { user: ci }] }
    limits: { memory_max: 500000K }
    scope: process
    allow_move: false
    priority: 0
    enabled: true
schedule:
  - cron: \"0 9 * * 1-5\"
    profile: business-hours
  - cron: \"30 8 * * MON,FRI\"
    profile: office
"
        );
        let dropped: Vec<_> =
            notes.iter().filter(|note| !note.carried).map(|note| (note.line, note.key.as_str())).collect();
        assert_eq!(
            dropped,
            [
                (4, "author"),
                (5, "created"),
                (40, "settings"),
                (8, "critical_processes[0].protection_level"),
                (10, "critical_processes[0].oom_score_adj"),
                (11, "critical_processes[0].priority"),
                (9, "critical_processes[0].restart_policy"),
                (12, "critical_processes[0].health_check"),
                (13, "critical_processes[0].resource_reserve"),
                (24, "throttling_rules[1].limits.cpu_quota"),
                (35, "throttling_rules[4].limits.cpu_quota"),
                (33, "throttling_rules[4]"),
                (39, "schedule[2]"),
            ]
        );
        let shown = notes.iter().find(|note| note.key.ends_with("cpu_shares")).unwrap().to_string();
        assert_eq!(shown, "19:64: throttling_rules[0].limits.cpu_shares: carried over: cpu_weight: 50");
    }

    #[test]
    fn what_cannot_be_expressed_is_an_error_at_its_place() {
        let (profile, _, findings) = import(
            "name: x
author: y
throttling_rules:
  - name: a
    matcher: {pattern: '1.*', match_type: pid}
    limits: {cpu_quota: 500, cpu_period: 100000}
  - name: b
    matcher: {pattern: 'adm.*', match_type: user}
    limits: {memory_limit: 12}
  - name: c
    matcher: {pattern: nobody-here, match_type: user, typo: 1}
    limits: {pids_limit: 99999999}
",
        );
        assert!(profile.is_none());
        let places: Vec<_> = findings.iter().map(|finding| (finding.line, finding.column)).collect();
        assert_eq!(places, [(5, 24), (6, 25), (8, 24), (9, 28), (11, 55), (11, 24), (12, 26)], "{findings}");
    }
}
