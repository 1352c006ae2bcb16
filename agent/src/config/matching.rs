//! Matches as written, to validated ones. Patterns are compiled here only to know that they can be.

use super::error::Findings;
use super::fields::Cursor;
use super::file::Value;
use super::host::{Host, Lookup};
use super::limits::PIDS_MAX;
use crate::model::rule::{Match, Pattern};

/// Keys of a match, in the order in which the validated form lists their conditions.
pub(super) const KEYS: &[&str] =
    &["comm", "exe", "cmdline_regex", "user", "uid", "group", "cgroup", "parent", "pid", "any", "all", "not"];
const UNSUPPORTED: &[&str] = &["unit", "container"];
const PATTERN_KEYS: &[&str] = &["exact", "prefix", "glob", "regex"];

/// `TASK_COMM_LEN` of the kernel without its NUL (proc_pid_comm(5)).
const COMM_MAX: usize = 15;
/// Longest pattern of any kind, in bytes.
const PATTERN_MAX: usize = 4_096;
/// Memory that one compiled regular expression may take, in bytes.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// Which field a pattern is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Comm,
    Exe,
}

/// Reads a match in which all given fields must hold; `None` when anything in it is wrong.
pub(super) fn parse(cursor: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Match> {
    let before = findings.errors();
    let map = cursor.map(KEYS, UNSUPPORTED, findings)?;
    let mut conditions = Vec::new();
    for key in KEYS {
        if let Some(value) = map.get(key) {
            conditions.extend(condition(key, value, host, findings));
        }
    }
    if findings.errors() > before {
        return None;
    }
    if conditions.is_empty() {
        let finding = cursor.error("the match is empty: it would mean every process");
        findings.push(finding.with_fix(format!("name at least one of {}", KEYS.join(", "))));
        return None;
    }
    if conditions.iter().all(|condition| matches!(condition, Match::Not(_))) {
        findings.push(cursor.warning("only `not`: every other process matches"));
    }
    if conditions.len() == 1 { conditions.pop() } else { Some(Match::All(conditions)) }
}

fn condition(key: &str, value: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Match> {
    match key {
        "comm" => pattern(value, Field::Comm, findings).map(Match::Comm),
        "exe" => pattern(value, Field::Exe, findings).map(Match::Exe),
        "cmdline_regex" => {
            let text = nonempty(value, findings)?;
            regex(value, text, false, findings).then(|| Match::CmdlineRegex(text.to_owned()))
        }
        "user" => {
            let (name, uid) = account(value, "user", Some("uid"), host.user, findings)?;
            Some(Match::User { name, uid })
        }
        "uid" => {
            // The last value means "no change" in setuid(2) and is no user's.
            let uid = value.integer(0..=0xffff_fffe, "a uid from 0 to 4294967294", findings)?;
            u32::try_from(uid).ok().map(Match::Uid)
        }
        "group" => {
            let (name, gid) = account(value, "group", None, host.group, findings)?;
            Some(Match::Group { name, gid })
        }
        "cgroup" => {
            let text = nonempty(value, findings)?;
            if !text.starts_with(['/', '*', '{', '[']) {
                let finding =
                    value.error(format!("cgroup paths start with \"/\", {text:?} would never match"));
                findings.push(finding.with_fix(format!("write /{text} or **/{text}")));
                return None;
            }
            glob(value, text, findings).then(|| Match::Cgroup(text.to_owned()))
        }
        "parent" => match value.value() {
            Value::Text(_) => pattern(value, Field::Comm, findings).map(Match::Comm),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::List(_)
            | Value::Map(_) => parse(value, host, findings),
        }
        .map(|parent| Match::Parent(Box::new(parent))),
        "pid" => {
            let pid = value.integer(1..=PIDS_MAX, "a pid from 1 to 4194304", findings)?;
            u32::try_from(pid).ok().map(Match::Pid)
        }
        "any" => alternatives(value, host, findings).map(Match::Any),
        "all" => alternatives(value, host, findings).map(Match::All),
        "not" => parse(value, host, findings).map(|inner| Match::Not(Box::new(inner))),
        other => {
            findings.push(value.error(format!("match key {other:?} has no reader")));
            None
        }
    }
}

fn alternatives(value: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Vec<Match>> {
    let before = findings.errors();
    let items = value.list(findings)?;
    if items.is_empty() {
        findings.push(value.error("the list is empty: it would match nothing"));
    }
    let matches = items.iter().filter_map(|item| parse(item, host, findings)).collect();
    (findings.errors() == before).then_some(matches)
}

/// A plain text, which must be equal, or a map with the one key that says how to compare.
fn pattern(value: &Cursor<'_>, field: Field, findings: &mut Findings) -> Option<Pattern> {
    if !matches!(value.value(), Value::Map(_)) {
        return exact(value, field, findings).map(Pattern::Exact);
    }
    let before = findings.errors();
    let map = value.map(PATTERN_KEYS, &[], findings)?;
    let [(key, inner)] = map.entries() else {
        if findings.errors() == before {
            findings.push(value.error("expected exactly one of exact, prefix, glob, regex"));
        }
        return None;
    };
    if findings.errors() > before {
        return None;
    }
    match *key {
        "exact" => exact(inner, field, findings).map(Pattern::Exact),
        "prefix" => exact(inner, field, findings).map(Pattern::Prefix),
        "glob" => {
            let text = nonempty(inner, findings)?;
            glob(inner, text, findings).then(|| Pattern::Glob(text.to_owned()))
        }
        "regex" => {
            let text = nonempty(inner, findings)?;
            regex(inner, text, true, findings).then(|| Pattern::Regex(text.to_owned()))
        }
        other => {
            findings.push(inner.error(format!("comparison {other:?} has no reader")));
            None
        }
    }
}

/// The literal text of an exact or prefix comparison.
fn exact(value: &Cursor<'_>, field: Field, findings: &mut Findings) -> Option<String> {
    let text = nonempty(value, findings)?;
    match field {
        Field::Comm if text.len() > COMM_MAX => {
            let end = text.floor_char_boundary(COMM_MAX);
            let message = format!(
                "{text:?} has {} bytes, but the kernel cuts comm at {COMM_MAX}: it would never match",
                text.len()
            );
            let fix = format!("write {:?}, or match by exe", &text[..end]);
            findings.push(value.error(message).with_fix(fix));
            None
        }
        Field::Exe if !text.starts_with('/') => {
            let message = format!("{text:?} is not an absolute path: it would never match");
            let fix = format!("write the whole path, or {{glob: '**/{text}'}}");
            findings.push(value.error(message).with_fix(fix));
            None
        }
        Field::Comm | Field::Exe => Some(text.to_owned()),
    }
}

fn nonempty<'a>(value: &Cursor<'a>, findings: &mut Findings) -> Option<&'a str> {
    let text = value.text(findings)?;
    let problem = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > PATTERN_MAX {
        format!("has {} bytes, more than {PATTERN_MAX}", text.len())
    } else {
        return Some(text);
    };
    findings.push(value.error(problem));
    None
}

/// Whether a regular expression compiles, as the engine will use it: `whole` ones anchored at both ends.
fn regex(value: &Cursor<'_>, text: &str, whole: bool, findings: &mut Findings) -> bool {
    let compile = |text: &str| regex::bytes::RegexBuilder::new(text).size_limit(REGEX_SIZE_LIMIT).build();
    // First by itself, so that the anchoring group cannot complete something like `a)|(b`.
    let compiled =
        compile(text).and_then(|regex| if whole { compile(&format!("^(?:{text})$")) } else { Ok(regex) });
    match compiled {
        Ok(regex) => {
            // The second text is one that no expression written for processes allows by accident.
            if regex.is_match(b"") && (!whole || regex.is_match(b"\x01\xc2\xa0~/any thing/~")) {
                findings.push(value.warning("this expression matches every process"));
            }
            true
        }
        Err(error) => {
            // The library draws the expression over several lines; the last one is the message.
            let text = error.to_string();
            let message = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            let finding = value.error(format!("the regular expression does not compile: {message}"));
            findings.push(finding.with_fix("see docs.rs/regex for the syntax, which has no look-around"));
            false
        }
    }
}

pub(super) fn glob(value: &Cursor<'_>, text: &str, findings: &mut Findings) -> bool {
    match globset::GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build() {
        Ok(_) => {
            if text.bytes().all(|byte| byte == b'*') {
                findings.push(value.warning("this glob matches every process"));
            }
            true
        }
        Err(error) => {
            findings.push(value.error(format!("the glob is malformed: {}", error.kind())));
            false
        }
    }
}

/// Name and id of a user or group.
pub(super) fn account(
    value: &Cursor<'_>,
    kind: &str,
    numeric: Option<&str>,
    lookup: Lookup,
    findings: &mut Findings,
) -> Option<(String, u32)> {
    let digits = match value.value() {
        Value::Integer(number) => Some(number.to_string()),
        Value::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            Some(text.clone())
        }
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            None
        }
    };
    if let Some(digits) = digits {
        let finding = value.error(format!("{kind} takes a name, not the number {digits}"));
        findings.push(match numeric {
            Some(key) => finding.with_fix(format!("write {key}: {digits}")),
            None => finding.with_fix(format!("write the {kind}'s name")),
        });
        return None;
    }
    let name = nonempty(value, findings)?;
    let problem = match lookup(name) {
        Ok(Some(id)) => return Some((name.to_owned(), id)),
        Ok(None) => format!("there is no {kind} {name:?} on this machine"),
        Err(error) => format!("looking up {kind} {name:?} failed: {error}"),
    };
    let finding = value.error(problem);
    findings.push(match numeric {
        Some(key) => finding.with_fix(format!("create it, correct the name, or give the number with {key}")),
        None => finding.with_fix("create it or correct the name"),
    });
    None
}
