//! Where the entries of a list and their values begin and end in a YAML text. Knows lines, indentation,
//! quotes and brackets; whether a cut was right is for the parser to say afterwards.

use super::LIST;
use crate::config::file::{Node, Place, Value};

/// A text whose parsed tree is known.
pub(super) struct Text<'a> {
    text: &'a str,
    root: &'a Node,
    /// Where each line begins, and behind the last one the end of the text.
    starts: Vec<usize>,
}

/// One entry of the list: its lines and its values.
pub(super) struct Entry<'a> {
    text: &'a Text<'a>,
    node: &'a Node,
    /// The lines from its dash to its last value.
    lines: std::ops::Range<usize>,
    /// Columns before the dash.
    dash: usize,
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

    /// Adds an entry of these lines at the end of the list.
    pub(super) fn append(&self, lines: &[String]) -> Option<String> {
        let (at, indent) = match self.list() {
            None if self.root.value == Value::Null
                || !self.rest(self.root.place)?.starts_with(['{', '"']) =>
            {
                let text = self.insert(self.text.len(), &format!("{LIST}:"))?;
                let text = if text.ends_with('\n') { text } else { text + self.newline() };
                let block = self.block(&text, lines, 2);
                return Some(text + &block);
            }
            None => return None,
            Some((key, list)) => match &list.value {
                Value::Null => (self.trimmed(self.line(key)? + 1, self.limit()?, false), 2),
                Value::List(items) if items.is_empty() => return self.append_to_empty(key, lines),
                Value::List(items) => {
                    let last = Entry::new(self, items.len().checked_sub(1)?)?;
                    (last.end_with_comments()?, last.dash)
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

    /// Place of the list's key, and the list.
    fn list(&self) -> Option<(Place, &'a Node)> {
        let Value::Map(entries) = &self.root.value else { return None };
        let is_list = |(key, _): &&(Node, Node)| key.value == Value::Text(LIST.to_owned());
        entries.iter().find(is_list).map(|(key, value)| (key.place, value))
    }

    /// The line behind the list: that of the next key, or the end of the text.
    fn limit(&self) -> Option<usize> {
        let (list, _) = self.list()?;
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

impl<'a> Entry<'a> {
    /// The entry at an index; `None` when it does not begin with a dash on a line.
    pub(super) fn new(text: &'a Text<'a>, index: usize) -> Option<Self> {
        let Value::List(items) = &text.list()?.1.value else { return None };
        let node = items.get(index)?;
        let first = text.line(node.place)?;
        let dash = text.dash(node.place)?;
        let limit = match items.get(index + 1) {
            Some(next) => text.line(next.place)?,
            None => text.limit()?,
        };
        Some(Self { text, node, lines: first..text.trimmed(first + 1, limit, true), dash })
    }

    /// Writes a value, in place of the present one or behind the last.
    pub(super) fn set(&self, key: &str, value: &str) -> Option<String> {
        if let Some(at) = self.key(key) {
            let (start, end) = self.text.value_after(at, self.limit_of(at)?, self.is_flow()?)?;
            let space = if self.text.text.get(..start)?.ends_with(':') { " " } else { "" };
            return self.text.replace(start..end, &format!("{space}{value}"));
        }
        if self.is_flow()? {
            let start = self.text.offset(self.node.place)?;
            let close = start + length(self.text.text.get(start..)?, true)?.checked_sub(1)?;
            let end = self.text.text.get(..close)?.trim_end().len();
            let comma = if self.text.text.get(..end)?.ends_with('{') { " " } else { ", " };
            return self.text.insert(end, &format!("{comma}{key}: {value}"));
        }
        let at = *self.text.starts.get(self.lines.end)?;
        let indent = usize::try_from(self.node.place.column).ok()?.checked_sub(1)?;
        self.text.insert(at, &format!("{:indent$}{key}: {value}{}", "", self.text.newline()))
    }

    /// Takes a key and its value out.
    pub(super) fn unset(&self, key: &str) -> Option<String> {
        let at = self.key(key)?;
        let line = self.text.line(at)?;
        if !self.is_flow()? {
            // Beside the dash there is no line to take out.
            if line == self.lines.start {
                return None;
            }
            let end = self.text.trimmed(line + 1, self.limit_of(at)?, true);
            return self.text.replace(*self.text.starts.get(line)?..*self.text.starts.get(end)?, "");
        }
        let start = self.text.offset(at)?;
        let (_, end) = self.text.value_after(at, self.lines.end, true)?;
        let tail = self.text.text.get(end..)?;
        if let Some(rest) = tail.trim_start().strip_prefix(',') {
            let rest = rest.trim_start();
            return self.text.replace(start..self.text.text.len() - rest.len(), "");
        }
        let head = self.text.text.get(..start)?.trim_end().strip_suffix(',')?;
        self.text.replace(head.len()..end, "")
    }

    /// The text without this entry and the comments within it.
    pub(super) fn cut(&self) -> Option<String> {
        let start = *self.text.starts.get(self.lines.start)?;
        let end = *self.text.starts.get(self.end_with_comments()?)?;
        self.text.replace(start..end, "")
    }

    /// The line behind it and the comments right below that are indented as its values are.
    fn end_with_comments(&self) -> Option<usize> {
        let is_ours = |line: &usize| {
            let text = self.text.line_text(*line);
            text.trim_start().starts_with('#') && text.len() - text.trim_start().len() > self.dash
        };
        Some((self.lines.end..self.text.lines()).find(|line| !is_ours(line)).unwrap_or(self.text.lines()))
    }

    fn key(&self, key: &str) -> Option<Place> {
        let Value::Map(entries) = &self.node.value else { return None };
        let is_it = |(name, _): &&(Node, Node)| name.value == Value::Text(key.to_owned());
        entries.iter().find(is_it).map(|(name, _)| name.place)
    }

    /// The line behind which a value of the key at `at` cannot go on: that of the next key, or the end.
    fn limit_of(&self, at: Place) -> Option<usize> {
        let Value::Map(entries) = &self.node.value else { return None };
        if self.is_flow()? {
            return Some(self.lines.end);
        }
        let later = entries.iter().map(|(key, _)| key.place.line).filter(|line| *line > at.line).min();
        match later {
            Some(line) => usize::try_from(line).ok()?.checked_sub(1),
            None => Some(self.lines.end),
        }
    }

    /// Whether it is written in braces.
    fn is_flow(&self) -> Option<bool> {
        Some(self.text.rest(self.node.place)?.starts_with('{'))
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

/// Bytes of the value that a text begins with: in quotes, in brackets, or plain on one line. Within braces
/// (`is_flow`) a plain value ends at a comma or bracket.
fn length(text: &str, is_flow: bool) -> Option<usize> {
    match text.as_bytes().first()? {
        b'"' | b'\'' => quoted(text),
        b'[' | b'{' => bracketed(text),
        _ => {
            let line = text.lines().next()?;
            let comment = line.find(" #").unwrap_or(line.len());
            let inside = if is_flow { line.find([',', '}', ']']) } else { None };
            Some(line.get(..comment.min(inside.unwrap_or(line.len())))?.trim_end().len())
        }
    }
}

/// Bytes of a quoted text with its quotes.
fn quoted(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            // Twice within single quotes is one that does not end them.
            if quote == '\'' && text.get(at + 1..).is_some_and(|rest| rest.starts_with('\'')) {
                chars.next();
            } else {
                return Some(at + 1);
            }
        }
    }
    None
}

/// Bytes up to the bracket that closes the first one.
fn bracketed(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(c) = text.get(at..)?.chars().next() {
        match c {
            '"' | '\'' => {
                at += quoted(text.get(at..)?)?;
                continue;
            }
            '#' if text.get(..at)?.ends_with([' ', '\n', '\t']) => {
                at += text.get(at..)?.find('\n')?;
                continue;
            }
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += c.len_utf8();
        if depth == 0 {
            return Some(at);
        }
    }
    None
}
