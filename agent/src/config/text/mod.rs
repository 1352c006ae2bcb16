//! Changes to a YAML text that leave everything else as it was written. Knows lines, indentation, quotes and
//! brackets; whether a cut was right is for the parser to say afterwards, and every caller has to ask it.

mod entry;
mod scan;

use super::file::{Node, Place, Value};
use scan::{length, quoted};

pub(super) use entry::Entry;

/// A text whose parsed tree is known.
pub(super) struct Text<'a> {
    text: &'a str,
    root: &'a Node,
    /// Where each line begins, and behind the last one the end of the text.
    starts: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str, root: &'a Node) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let mut starts: Vec<_> = std::iter::once(0).chain(ends).collect();
        if starts.last() != Some(&text.len()) {
            starts.push(text.len());
        }
        Self { text, root, starts }
    }

    /// Adds an entry of these lines at the end of a list of the root.
    pub(super) fn append(&self, key: &str, lines: &[String]) -> Option<String> {
        let (at, indent) = match self.list(key) {
            None if self.root.value == Value::Null
                || !self.rest(self.root.place)?.starts_with(['{', '"']) =>
            {
                let text = self.insert(self.text.len(), &format!("{key}:"))?;
                let text = if text.ends_with('\n') { text } else { text + self.newline() };
                let block = self.block(&text, lines, 2);
                return Some(text + &block);
            }
            None => return None,
            Some((at, list)) => match &list.value {
                Value::Null => (self.trimmed(self.line(at)? + 1, self.limit(at)?, false), 2),
                Value::List(items) if items.is_empty() => return self.append_to_empty(at, lines),
                Value::List(items) => {
                    let last = Entry::of_list(self, key, items.len().checked_sub(1)?)?;
                    (last.end_with_comments()?, last.dash())
                }
                Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
                    return None;
                }
            },
        };
        let at = *self.starts.get(at)?;
        self.insert(at, &self.block(self.text.get(..at)?, lines, indent))
    }

    /// `webhooks: []` becomes a list of lines.
    fn append_to_empty(&self, key: Place, lines: &[String]) -> Option<String> {
        let (start, end) = self.value_after(key, self.line(key)? + 1, false)?;
        let line_end = *self.starts.get(self.line(key)? + 1)?;
        let head = self.text.get(..start)?.trim_end_matches(' ');
        let tail = self.text.get(end..line_end)?;
        let rest = self.text.get(line_end..)?;
        let first = format!("{head}{tail}");
        Some(format!("{first}{}{rest}", self.block(&first, lines, 2)))
    }

    /// The lines of an entry to stand behind `before`.
    fn block(&self, before: &str, lines: &[String], indent: usize) -> String {
        let newline = self.newline();
        let mut block = String::new();
        if !before.is_empty() && !before.ends_with('\n') {
            block.push_str(newline);
        }
        for (index, line) in lines.iter().enumerate() {
            let lead = if index == 0 { "- " } else { "  " };
            block.push_str(&format!("{:indent$}{lead}{line}{newline}", ""));
        }
        block
    }

    fn insert(&self, at: usize, new: &str) -> Option<String> {
        self.replace(at..at, new)
    }

    fn replace(&self, range: std::ops::Range<usize>, new: &str) -> Option<String> {
        let (head, tail) = (self.text.get(..range.start)?, self.text.get(range.end..)?);
        let newline = if !head.is_empty() && !head.ends_with('\n') && range.start == self.text.len() {
            self.newline()
        } else {
            ""
        };
        // A block brings its own line break.
        let newline = if new.starts_with(['\n', '\r']) { "" } else { newline };
        Some(format!("{head}{newline}{new}{tail}"))
    }

    fn newline(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// Place of a list's key, and the list.
    fn list(&self, key: &str) -> Option<(Place, &'a Node)> {
        let Value::Map(entries) = &self.root.value else { return None };
        let is_list = |(name, _): &&(Node, Node)| name.value == Value::Text(key.to_owned());
        entries.iter().find(is_list).map(|(name, value)| (name.place, value))
    }

    /// The line behind the value of a key of the root: that of the next key, or the end of the text.
    fn limit(&self, list: Place) -> Option<usize> {
        let Value::Map(entries) = &self.root.value else { return None };
        let later = entries.iter().map(|(key, _)| key.place.line).filter(|line| *line > list.line).min();
        match later {
            Some(line) => usize::try_from(line).ok()?.checked_sub(1),
            None => Some(self.lines()),
        }
    }

    fn lines(&self) -> usize {
        self.starts.len() - 1
    }

    fn line(&self, place: Place) -> Option<usize> {
        usize::try_from(place.line).ok()?.checked_sub(1)
    }

    fn line_text(&self, line: usize) -> &'a str {
        let range = self.starts.get(line).zip(self.starts.get(line + 1));
        range.and_then(|(start, end)| self.text.get(*start..*end)).unwrap_or("")
    }

    /// Columns count characters.
    fn offset(&self, place: Place) -> Option<usize> {
        let line = self.line(place)?;
        let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
        let bytes: usize = self.line_text(line).chars().take(column).map(char::len_utf8).sum();
        Some(self.starts.get(line)? + bytes)
    }

    fn rest(&self, place: Place) -> Option<&'a str> {
        self.text.get(self.offset(place)?..)
    }

    /// The end of the lines from `from` to `limit` without those at the end that are empty, and without comments
    /// if `comments`.
    fn trimmed(&self, from: usize, limit: usize, comments: bool) -> usize {
        let is_content = |line: &usize| {
            let text = self.line_text(*line).trim();
            !(text.is_empty() || comments && text.starts_with('#'))
        };
        (from..limit).rev().find(is_content).map_or(from, |line| line + 1)
    }

    /// Where the value of the key at `key` begins and ends; an empty range behind the colon when there is none.
    /// It ends before line `limit`.
    fn value_after(&self, key: Place, limit: usize, is_flow: bool) -> Option<(usize, usize)> {
        let at = self.offset(key)?;
        let name = self.text.get(at..)?;
        let quoted = if name.starts_with(['"', '\'']) { quoted(name)? } else { 0 };
        let colon = at + quoted + name.get(quoted..)?.find(':')? + 1;
        let line_end = *self.starts.get(self.line(key)? + 1)?;
        let on_line = self.text.get(colon..line_end)?;
        let blank = on_line.len() - on_line.trim_start_matches([' ', '\t']).len();
        let start = colon + blank;
        let here = self.text.get(start..line_end)?;
        let below = here.trim().is_empty() || here.starts_with('#') || here.starts_with(['|', '>']);
        let until = *self.starts.get(limit)?;
        if below {
            let last = self.trimmed(self.line(key)? + 1, limit, true);
            if last == self.line(key)? + 1 && !here.starts_with(['|', '>']) {
                return Some((colon, colon));
            }
            let end = *self.starts.get(last)?;
            let trailing = self.text.get(..end)?.trim_end().len();
            return Some((colon, trailing));
        }
        let length = length(self.text.get(start..until)?, is_flow)?;
        Some((start, start + length))
    }
}

impl Text<'_> {
    /// Columns before the dash of the item at a place; `None` when something else precedes it.
    fn dash(&self, place: Place) -> Option<usize> {
        let line = self.line(place)?;
        let before = self.text.get(*self.starts.get(line)?..self.offset(place)?)?;
        let indent = before.len() - before.trim_start_matches(' ').len();
        let rest = before.get(indent..)?.strip_prefix('-')?;
        (!rest.is_empty() && rest.trim().is_empty()).then_some(indent)
    }
}
