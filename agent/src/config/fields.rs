//! Walking a parsed file: the value of a key as the kind it should be, or a finding at its place.
//!
//! Every accessor reports and returns `None` instead of stopping, so that one pass finds everything.

use std::ops::RangeInclusive;

use super::error::{Finding, Findings, Severity};
use super::file::{Node, Place, Source, Value};

/// Longest list of any kind.
const MAX_ITEMS: usize = 1_024;

/// A value, its place, and the path of keys that leads to it.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    source: &'a Source,
    node: &'a Node,
    path: String,
}

/// The known keys of a map.
#[derive(Debug)]
pub(super) struct Map<'a> {
    at: Cursor<'a>,
    entries: Vec<(&'a str, Cursor<'a>)>,
}

impl<'a> Cursor<'a> {
    pub(super) const fn root(source: &'a Source, node: &'a Node) -> Self {
        Self { source, node, path: String::new() }
    }

    /// A value whose key is known.
    pub(super) fn at(source: &'a Source, node: &'a Node, path: &str) -> Self {
        Self { source, node, path: path.to_owned() }
    }

    /// Where it stands, in words that follow the name of a thing.
    pub(super) fn whereabouts(&self) -> String {
        let Place { line, file, .. } = self.node.place;
        match file {
            0 => format!("at line {line}"),
            file => format!("at line {line} of {}", self.source.file(file).path().display()),
        }
    }

    pub(super) const fn value(&self) -> &'a Value {
        &self.node.value
    }

    pub(super) const fn place(&self) -> Place {
        self.node.place
    }

    /// The keys that lead here, such as `throttling_rules[2].limits`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// An error at this value.
    pub(super) fn error(&self, message: impl Into<String>) -> Finding {
        self.finding(Severity::Error, self.node.place, &self.path, message.into())
    }

    /// An error at this value that does not quote the line: a secret may be in it.
    pub(super) fn secret_error(&self, message: impl Into<String>) -> Finding {
        Finding { snippet: String::new(), ..self.error(message) }
    }

    /// A warning at this value.
    pub(super) fn warning(&self, message: impl Into<String>) -> Finding {
        self.finding(Severity::Warning, self.node.place, &self.path, message.into())
    }

    /// A text without NUL.
    pub(super) fn text(&self, findings: &mut Findings) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) if text.contains('\0') => {
                findings.push(self.error("contains a NUL character"));
                None
            }
            Value::Text(text) => Some(text),
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
                findings.push(self.wrong("a text").with_fix("put it in quotes"));
                None
            }
            Value::Null | Value::List(_) | Value::Map(_) => self.expected("a text", findings),
        }
    }

    /// An integer within a range; `what` names it with its range, such as `a uid from 0 to 4294967294`.
    pub(super) fn integer(
        &self,
        range: RangeInclusive<i128>,
        what: &str,
        findings: &mut Findings,
    ) -> Option<i128> {
        match &self.node.value {
            Value::Integer(number) if range.contains(number) => Some(*number),
            Value::Integer(number) => {
                findings.push(self.error(format!("{number} is not {what}")));
                None
            }
            Value::Null
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => self.expected(what, findings),
        }
    }

    pub(super) fn boolean(&self, findings: &mut Findings) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::Null
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => self.expected("true or false", findings),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)], findings: &mut Findings) -> Option<T> {
        let text = self.text(findings)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let message = format!("{text:?} is not one of {}", words.join(", "));
            let finding = self.error(message);
            // The message has named all of them.
            findings.push(match nearest(text, &words) {
                Some(near) => finding.with_fix(format!("did you mean {near}?")),
                None => finding.with_fix("write one of them"),
            });
        }
        chosen
    }

    pub(super) fn list(&self, findings: &mut Findings) -> Option<Vec<Self>> {
        let Value::List(items) = &self.node.value else { return self.expected("a list", findings) };
        if items.len() > MAX_ITEMS {
            findings.push(self.error(format!("a list of {} is longer than {MAX_ITEMS}", items.len())));
            return None;
        }
        let item =
            |(index, node)| Self { source: self.source, node, path: format!("{}[{index}]", self.path) };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A map with known keys. Reports unknown, unsupported and repeated keys; `unsupported` are keys of the
    /// documented format that this version does not act upon, and so must not seem to accept.
    pub(super) fn map(
        &self,
        known: &[&str],
        unsupported: &[&str],
        findings: &mut Findings,
    ) -> Option<Map<'a>> {
        let Value::Map(nodes) = &self.node.value else { return self.expected("a map of keys", findings) };
        if nodes.len() > MAX_ITEMS {
            findings.push(self.error(format!("a map of {} keys has more than {MAX_ITEMS}", nodes.len())));
            return None;
        }
        let mut seen: Vec<(&str, Place)> = Vec::new();
        let mut entries = Vec::new();
        for (key, value) in nodes {
            let Value::Text(name) = &key.value else {
                let message = format!("a key must be a text, not {}", key.value.kind());
                findings.push(self.finding(Severity::Error, key.place, &self.path, message));
                continue;
            };
            let name = name.as_str();
            let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
            let at_key = |message: String| self.finding(Severity::Error, key.place, &path, message);
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
                let message = format!("duplicate key {name:?}, first at {}:{}", first.line, first.column);
                findings.push(at_key(message).with_fix("remove one of them"));
                continue;
            }
            seen.push((name, key.place));
            if known.contains(&name) {
                entries.push((name, Self { source: self.source, node: value, path }));
            } else if unsupported.contains(&name) {
                let message = format!("{name:?} is not supported by this version yet");
                findings.push(at_key(message).with_fix("remove it: it would have no effect"));
            } else {
                let finding = at_key(format!("unknown key {name:?}"));
                findings.push(suggest(finding, name, known));
            }
        }
        Some(Map { at: self.clone(), entries })
    }

    fn expected<T>(&self, what: &str, findings: &mut Findings) -> Option<T> {
        findings.push(self.wrong(what));
        None
    }

    fn wrong(&self, what: &str) -> Finding {
        self.error(format!("expected {what}, found {}", self.node.value.kind()))
    }

    fn finding(&self, severity: Severity, place: Place, path: &str, message: String) -> Finding {
        let Place { line, column, file } = place;
        let source = self.source.file(file);
        Finding::at(severity, source.path(), source.line(line), line, column, message).with_key(path)
    }
}

impl<'a> Map<'a> {
    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<&Cursor<'a>> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, cursor)| cursor)
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, key: &str, findings: &mut Findings) -> Option<&Cursor<'a>> {
        let found = self.get(key);
        if found.is_none() {
            findings.push(self.at.error(format!("key {key:?} is missing")).with_fix(format!("add {key}: …")));
        }
        found
    }

    /// The keys that are there, in the order of the file.
    pub(super) fn entries(&self) -> &[(&'a str, Cursor<'a>)] {
        &self.entries
    }
}

/// Adds the nearest known word as the fix, or all of them.
fn suggest(finding: Finding, word: &str, known: &[&str]) -> Finding {
    finding.with_fix(match nearest(word, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known are {}", known.join(", ")),
    })
}

/// The known word that is most like another, if any is like it.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // The distance is quadratic in the length, and a word far longer than any key resembles none.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase().replace('-', "_");
    let distances = known.iter().map(|known| (strsim::damerau_levenshtein(&lower, known), *known));
    let (distance, near) = distances.min()?;
    (distance <= 2.max(near.len() / 3)).then_some(near)
}
