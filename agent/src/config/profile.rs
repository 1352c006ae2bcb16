//! Profiles as written, to validated ones. Reads one file and the account database, nothing else.

use std::path::{Path, PathBuf};

use super::error::{Finding, Findings, Severity};
use super::fields::Cursor;
use super::file::{self, Place, Source, Trust, Value};
use super::host::Host;
use super::{calendar, condition, conflicts, critical, extends, limits, matching, policy};
use crate::model::id::Name;
use crate::model::limits::{Limits, Scope};
use crate::model::policy::Policy;
use crate::model::rule::{OnConflict, Profile, Rule, Turn};

pub(super) const PROFILE_KEYS: &[&str] =
    &["name", "version", "description", extends::KEY, "critical_processes", "throttling_rules", "schedule"];
const RULE_KEYS: &[&str] = &[
    "name",
    "description",
    "match",
    "when",
    "limits",
    "scope",
    "policy",
    "allow_move",
    "on_conflict",
    "whole_unit",
    "priority",
    "enabled",
];

/// Longest description in bytes.
const DESCRIPTION_MAX: usize = 4_096;
/// The version of a profile that says none.
pub(super) const FIRST_VERSION: &str = "1.0";
/// Longest version in bytes.
const VERSION_MAX: usize = 64;

/// Checks a profile file that somebody names, against this machine. The profile is there when there are no
/// errors; there may be warnings with it. A file that root would not trust is only warned about, because
/// validating it acts upon nothing. Profiles that it names are beside it, or in one of the `shared` directories.
#[must_use]
pub fn validate_profile_file(path: &Path, shared: &[PathBuf]) -> (Option<Profile>, Findings) {
    let source = match file::read::read(path, Trust::Anyone) {
        Ok(source) => source,
        Err(error) => return (None, error.into_finding().into()),
    };
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let dirs: Vec<PathBuf> =
        path.parent().into_iter().map(Path::to_owned).chain(shared.iter().cloned()).collect();
    let (profile, mut findings) = parse_among(&source, stem, Siblings::In(&dirs), &Host::detect());
    if let Err(error) = file::read::read(path, Trust::of_this_process()) {
        let finding = error.into_finding();
        let message = format!("the daemon will refuse this file: {}", finding.message);
        findings.push(Finding { severity: Severity::Warning, message, ..finding });
    }
    (profile, findings.sorted())
}

/// Where the profiles are that a schedule names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Siblings<'a> {
    /// In one of these directories, the first that has it, without fail.
    In(&'a [PathBuf]),
    /// They may yet come into the first of these directories.
    Awaited(&'a [PathBuf]),
    /// Nobody knows.
    Unknown,
}

impl Siblings<'_> {
    /// The file of a profile: the strongest that there is, else where it is expected; `None` when nobody knows.
    pub(super) fn file(self, name: &Name) -> Option<PathBuf> {
        let (Self::In(dirs) | Self::Awaited(dirs)) = self else { return None };
        let file = |dir: &PathBuf| dir.join(format!("{name}.yaml"));
        dirs.iter().map(file).find(|file| file.exists()).or_else(|| dirs.first().map(file))
    }
}

/// Validates the text of a profile. `stem` is the name that its file has, where that matters; the profiles that it
/// names are beside it then.
#[must_use]
pub fn parse(source: &Source, stem: Option<&str>, host: &Host) -> (Option<Profile>, Findings) {
    let beside: Vec<PathBuf> =
        stem.and_then(|_| source.path().parent()).map(Path::to_owned).into_iter().collect();
    let siblings = if beside.is_empty() { Siblings::Unknown } else { Siblings::In(&beside) };
    parse_among(source, stem, siblings, host)
}

/// As [`parse`], with other profiles elsewhere.
pub(super) fn parse_among(
    source: &Source,
    stem: Option<&str>,
    siblings: Siblings<'_>,
    host: &Host,
) -> (Option<Profile>, Findings) {
    let node = match file::parse(source) {
        Ok(node) => node,
        Err(finding) => return (None, (*finding).into()),
    };
    let mut findings = Findings::new();
    let Some((source, node)) = extends::resolve(source, node, siblings, &mut findings) else {
        return (None, findings.sorted());
    };
    let root = Cursor::root(&source, &node);
    if node.value == Value::Null {
        let finding = root.error("the file is empty").with_fix("a profile needs at least name: and a rule");
        return (None, finding.into());
    }
    let profile = read_profile(&root, stem, siblings, host, &mut findings);
    let profile = if findings.has_errors() { None } else { profile };
    (profile, findings.sorted())
}

fn read_profile(
    root: &Cursor<'_>,
    stem: Option<&str>,
    siblings: Siblings<'_>,
    host: &Host,
    findings: &mut Findings,
) -> Option<Profile> {
    let map = root.map(PROFILE_KEYS, &[], findings)?;
    let name = map.required("name", findings).and_then(|value| {
        let name = read_name(value, findings)?;
        if let Some(stem) = stem
            && stem != name.as_str()
        {
            let message = format!("the profile is named \"{name}\", but its file {stem:?}");
            findings.push(value.error(message).with_fix(format!("rename the file to {name}.yaml")));
        }
        Some(name)
    });
    let version = map.get("version").map_or_else(
        || Some(FIRST_VERSION.to_owned()),
        |value| {
            let version = short(value, VERSION_MAX, false, findings)?;
            if version.is_empty() {
                findings.push(value.error("the version is empty").with_fix("leave it out: it is 1.0 then"));
                return None;
            }
            Some(version)
        },
    );
    let description = text_or_empty(map.get("description"), findings);
    let critical = map.get("critical_processes").map(|list| critical::read(list, host, findings));
    let rules = map.get("throttling_rules").map(|list| read_rules(list, host, findings));
    let (critical, rules) = (critical.unwrap_or_default(), rules.unwrap_or_default());
    let schedule = map.get("schedule").map(|list| read_schedule(list, siblings, findings));
    let schedule = schedule.unwrap_or_default();
    conflicts::check(&critical, &rules, findings);
    if critical.is_empty() && rules.is_empty() && schedule.is_empty() && !findings.has_errors() {
        findings.push(root.warning("no rule and no critical process: the profile does nothing"));
    }
    Some(Profile {
        name: name?,
        version: version?,
        description: description?,
        critical: critical.into_iter().map(|(critical, _)| critical).collect(),
        rules: rules.into_iter().map(|(rule, _)| rule).collect(),
        schedule,
    })
}

fn read_schedule(list: &Cursor<'_>, siblings: Siblings<'_>, findings: &mut Findings) -> Vec<Turn> {
    let mut turns = Vec::new();
    for item in list.list(findings).unwrap_or_default() {
        let Some(map) = item.map(&["cron", "profile"], &[], findings) else { continue };
        let cron = map.required("cron", findings).and_then(|at| {
            let text = at.text(findings)?;
            if let Err(error) = calendar::parse(text) {
                let finding = at.error(format!("{text:?} is no cron expression: {error}"));
                let fix = "write five fields, as in 0 9 * * 1-5: minute, hour, day, month, day of the week";
                findings.push(finding.with_fix(fix));
                return None;
            }
            Some(text.to_owned())
        });
        let profile = map.required("profile", findings).and_then(|at| {
            let name = read_name(at, findings)?;
            check_sibling(at, &name, siblings, findings);
            Some(name)
        });
        if let (Some(cron), Some(profile)) = (cron, profile) {
            turns.push(Turn { cron, profile });
        }
    }
    turns
}

fn check_sibling(at: &Cursor<'_>, name: &Name, siblings: Siblings<'_>, findings: &mut Findings) {
    let Some(path) = siblings.file(name).filter(|path| !path.exists()) else { return };
    let message = format!("unknown profile \"{name}\": there is no {}", path.display());
    let finding = match siblings {
        Siblings::Awaited(_) => at.warning(message).with_fix("import it before this one is activated"),
        Siblings::In(_) | Siblings::Unknown => at.error(message).with_fix("create it, or correct the name"),
    };
    findings.push(finding);
}

fn read_rules<'a>(list: &Cursor<'a>, host: &Host, findings: &mut Findings) -> Vec<(Rule, Cursor<'a>)> {
    let mut names = Vec::new();
    let items = list.list(findings).unwrap_or_default();
    items.iter().filter_map(|item| read_rule(item, &mut names, host, findings)).collect()
}

fn read_rule<'a>(
    item: &Cursor<'a>,
    names: &mut Vec<(Name, Place)>,
    host: &Host,
    findings: &mut Findings,
) -> Option<(Rule, Cursor<'a>)> {
    let map = item.map(RULE_KEYS, &[], findings)?;
    let name = map.required("name", findings).and_then(|at| unique(at, names, findings));
    let description = text_or_empty(map.get("description"), findings);
    let at = map.required("match", findings);
    let matches = at.and_then(|at| matching::parse(at, host, findings));
    let when = map.get("when").map(|at| condition::when(at, findings));
    let policy_at = map.get("policy");
    let limits = match (map.get("limits"), policy_at) {
        (None, Some(at)) if policy::has_limits(at) => Some(Limits::default()),
        (_, _) => map.required("limits", findings).and_then(|at| limits::parse(at, host, findings)),
    };
    let scope = map.get("scope").map_or(Some(Scope::default()), |at| {
        at.choice(&[("group", Scope::Group), ("process", Scope::Process)], findings)
    });
    let policy = match (policy_at, &limits) {
        (Some(at), Some(limits)) => policy::parse(at, limits, host, findings),
        // Their own errors are told; the policy's are not to wait for that.
        (Some(at), None) => policy::parse(at, &policy::fitting(at), host, findings),
        (None, _) => Some(Policy::Fixed),
    };
    let flag = |key, default, findings: &mut Findings| match map.get(key) {
        Some(at) => at.boolean(findings),
        None => Some(default),
    };
    let allow_move = flag("allow_move", false, findings);
    let whole_unit = flag("whole_unit", false, findings);
    let on_conflict = map.get("on_conflict").map_or(Some(OnConflict::default()), |at| {
        at.choice(&[("yield", OnConflict::Yield), ("reassert", OnConflict::Reassert)], findings)
    });
    let enabled = flag("enabled", true, findings);
    let priority = map.get("priority").map_or(Some(0), |at| {
        let range = i128::from(i32::MIN)..=i128::from(i32::MAX);
        let number = at.integer(range, "a priority from -2147483648 to 2147483647", findings)?;
        i32::try_from(number).ok()
    });
    let rule = Rule {
        name: name?,
        description: description?,
        matches: matches?,
        when: match when {
            Some(when) => Some(when?),
            None => None,
        },
        limits: limits?,
        policy: policy?,
        scope: scope?,
        allow_move: allow_move?,
        on_conflict: on_conflict?,
        whole_unit: whole_unit?,
        priority: priority?,
        enabled: enabled?,
    };
    Some((rule, at?.clone()))
}

pub(super) fn read_name(at: &Cursor<'_>, findings: &mut Findings) -> Option<Name> {
    match at.text(findings)?.parse::<Name>() {
        Ok(name) => Some(name),
        Err(error) => {
            let finding = at.error(error.to_string());
            findings.push(finding.with_fix("use lower-case letters, digits, dot, underscore and hyphen"));
            None
        }
    }
}

pub(super) fn unique(
    at: &Cursor<'_>,
    names: &mut Vec<(Name, Place)>,
    findings: &mut Findings,
) -> Option<Name> {
    let name = read_name(at, findings)?;
    if let Some((_, first)) = names.iter().find(|(other, _)| *other == name) {
        let message = format!("the name \"{name}\" is taken at {}:{}", first.line, first.column);
        findings.push(at.error(message).with_fix("names are unique: choose another"));
        return None;
    }
    names.push((name.clone(), at.place()));
    Some(name)
}

fn text_or_empty(at: Option<&Cursor<'_>>, findings: &mut Findings) -> Option<String> {
    at.map_or_else(|| Some(String::new()), |at| short(at, DESCRIPTION_MAX, true, findings))
}

fn short(at: &Cursor<'_>, max: usize, multiline: bool, findings: &mut Findings) -> Option<String> {
    let text = at.text(findings)?;
    if text.len() > max {
        findings.push(at.error(format!("{} bytes are more than {max}", text.len())));
        return None;
    }
    // They would reach the terminal of whoever lists the profiles.
    if text.chars().any(|c| c.is_control() && !(c == '\n' && multiline)) {
        findings.push(at.error("contains control characters").with_fix("remove them"));
        return None;
    }
    Some(text.to_owned())
}
