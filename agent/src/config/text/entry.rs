//! One map of a YAML text: its lines and its values, in blocks or in braces.

use super::Text;
use super::scan::length;
use crate::config::file::{Node, Place, Value};

/// One map: its lines and its values.
pub(in crate::config) struct Entry<'a> {
    text: &'a Text<'a>,
    node: &'a Node,
    /// The lines from its first value, or the dash before it, to its last value.
    lines: std::ops::Range<usize>,
    /// Columns before the dash, of an item of a list.
    dash: Option<usize>,
}

impl<'a> Entry<'a> {
    /// The text as a whole.
    pub(in crate::config) fn root(text: &'a Text<'a>) -> Option<Self> {
        Self::new(text, text.root, text.lines(), None)
    }

    /// An item of a list of the root; `None` when it does not begin with a dash on a line.
    pub(in crate::config) fn of_list(text: &'a Text<'a>, key: &str, index: usize) -> Option<Self> {
        let (at, list) = text.list(key)?;
        let item = Self::of(text, list, text.limit(at)?, index)?;
        item.dash.is_some().then_some(item)
    }

    /// The map that is the value of a key.
    pub(in crate::config) fn map(&self, key: &str) -> Option<Self> {
        let at = self.key(key)?;
        Self::new(self.text, self.node.get(key)?, self.limit_of(at)?, None)
    }

    /// The map at an index of the list that is the value of a key.
    pub(in crate::config) fn item(&self, key: &str, index: usize) -> Option<Self> {
        let at = self.key(key)?;
        Self::of(self.text, self.node.get(key)?, self.limit_of(at)?, index)
    }

    fn of(text: &'a Text<'a>, list: &'a Node, limit: usize, index: usize) -> Option<Self> {
        let Value::List(items) = &list.value else { return None };
        let node = items.get(index)?;
        let limit = match items.get(index + 1) {
            Some(next) => text.line(next.place)?,
            None => limit,
        };
        Self::new(text, node, limit, text.dash(node.place))
    }

    fn new(text: &'a Text<'a>, node: &'a Node, limit: usize, dash: Option<usize>) -> Option<Self> {
        let first = text.line(node.place)?;
        if !matches!(node.value, Value::Map(_)) || limit < first {
            return None;
        }
        // Several in braces may share a line.
        Some(Self { text, node, lines: first..text.trimmed(first + 1, limit.max(first + 1), true), dash })
    }

    /// Columns before the dash.
    pub(super) fn dash(&self) -> usize {
        self.dash.unwrap_or(0)
    }

    /// Writes a value, in place of the present one or behind the last.
    pub(in crate::config) fn set(&self, key: &str, value: &str) -> Option<String> {
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
    pub(in crate::config) fn unset(&self, key: &str) -> Option<String> {
        let at = self.key(key)?;
        let line = self.text.line(at)?;
        if !self.is_flow()? {
            // Beside the dash there is no line to take out.
            if line == self.lines.start && self.dash.is_some() {
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
    pub(in crate::config) fn cut(&self) -> Option<String> {
        let start = *self.text.starts.get(self.lines.start)?;
        let end = *self.text.starts.get(self.end_with_comments()?)?;
        self.text.replace(start..end, "")
    }

    /// The line behind it and the comments right below that are indented as its values are.
    pub(super) fn end_with_comments(&self) -> Option<usize> {
        let dash = self.dash();
        let is_ours = |line: &usize| {
            let text = self.text.line_text(*line);
            text.trim_start().starts_with('#') && text.len() - text.trim_start().len() > dash
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
