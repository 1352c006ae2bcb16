//! Changes to the text of `webhooks.yaml` that leave everything else as it was written: order, comments, and
//! the way values are spelled.
//!
//! Every change is checked by parsing its outcome: it must say what the text said before, but for the change.
//! What is written in a form that this cannot follow is refused, never rewritten.

use super::LIST;
use crate::config::export;
use crate::config::file::node::alike;
use crate::config::file::{self, Node, Source, Value};
use crate::config::text::{Entry, Text};
use crate::model::id::Name;

/// A value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// A number.
    Number(u32),
    /// `true` or `false`.
    Bool(bool),
}

impl Written {
    /// In YAML, on one line, good within brackets too.
    fn yaml(&self) -> String {
        match self {
            Self::Text(text) => export::quoted(text),
            Self::Texts(texts) => {
                let items: Vec<_> = texts.iter().map(|text| export::quoted(text)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Number(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
        }
    }

    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(text), Value::Text(other)) => text == other,
            (Self::Texts(texts), Value::List(items)) => {
                texts.len() == items.len()
                    && texts.iter().zip(items).all(|(text, item)| item.value == Value::Text(text.clone()))
            }
            (Self::Number(number), Value::Integer(other)) => i128::from(*number) == *other,
            (Self::Bool(value), Value::Bool(other)) => value == other,
            (Self::Text(_) | Self::Texts(_) | Self::Number(_) | Self::Bool(_), _) => false,
        }
    }
}

/// One key of an endpoint, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: &'static str,
    /// Its new value; `None`: it is taken out.
    pub value: Option<Written>,
}

/// The text is written in a form in which this change cannot be made.
#[derive(Debug)]
pub(super) struct Unfit;

/// Adds an endpoint at the end of the list.
pub(super) fn append(source: &Source, name: &Name, settings: &[Setting]) -> Result<String, Unfit> {
    let mut lines = vec![format!("name: {}", Written::Text(name.to_string()).yaml())];
    let given = settings.iter().filter_map(|setting| Some((setting.key, setting.value.as_ref()?)));
    lines.extend(given.map(|(key, value)| format!("{key}: {}", value.yaml())));
    let before = parse(source)?;
    let text = Text::new(source.text(), &before).append(LIST, &lines).ok_or(Unfit)?;
    let after = reparse(source, &text)?;
    let (old, new) = (items(&before), items(&after));
    let Some((added, kept)) = new.split_last() else { return Err(Unfit) };
    let says = |setting: &Setting| holds(added, setting);
    if is_name(added, name) && settings.iter().all(says) && alike(kept, old) && elsewhere(&before, &after) {
        Ok(text)
    } else {
        Err(Unfit)
    }
}

/// Changes keys of an endpoint.
pub(super) fn change(source: &Source, name: &Name, settings: &[Setting]) -> Result<String, Unfit> {
    let mut now = source.clone();
    for setting in settings {
        let text = change_one(&now, name, setting)?;
        now = Source::new(source.path().to_owned(), text);
    }
    Ok(now.into_text())
}

fn change_one(source: &Source, name: &Name, setting: &Setting) -> Result<String, Unfit> {
    let before = parse(source)?;
    let index = position(&before, name)?;
    let item = items(&before).get(index).ok_or(Unfit)?;
    if holds(item, setting) {
        return Ok(source.text().to_owned());
    }
    let text = Text::new(source.text(), &before);
    let entry = Entry::of_list(&text, LIST, index).ok_or(Unfit)?;
    let text = match &setting.value {
        Some(value) => entry.set(setting.key, &value.yaml()),
        None => entry.unset(setting.key),
    };
    let text = text.ok_or(Unfit)?;
    let after = reparse(source, &text)?;
    let (old, new) = (items(&before), items(&after));
    let others = old.len() == new.len()
        && old.iter().zip(new).enumerate().all(|(at, (old, new))| at == index || old.says(new));
    let changed = new.get(index).ok_or(Unfit)?;
    let kept = |from: &Node, to: &Node| {
        keys(from).all(|key| key == setting.key || alike_at(from.get(key), to.get(key)))
    };
    let rest = kept(item, changed) && kept(changed, item);
    if others && rest && holds(changed, setting) && elsewhere(&before, &after) {
        Ok(text)
    } else {
        Err(Unfit)
    }
}

/// Takes an endpoint out.
pub(super) fn remove(source: &Source, name: &Name) -> Result<String, Unfit> {
    let before = parse(source)?;
    let index = position(&before, name)?;
    let text = Text::new(source.text(), &before);
    let text = Entry::of_list(&text, LIST, index).and_then(|entry| entry.cut()).ok_or(Unfit)?;
    let after = reparse(source, &text)?;
    let (old, new) = (items(&before), items(&after));
    let left = || old.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, item)| item);
    let is_right = left().count() == new.len() && left().zip(new).all(|(old, new)| old.says(new));
    if is_right && elsewhere(&before, &after) { Ok(text) } else { Err(Unfit) }
}

fn parse(source: &Source) -> Result<Node, Unfit> {
    file::parse(source).map_err(|_finding| Unfit)
}

fn reparse(source: &Source, text: &str) -> Result<Node, Unfit> {
    parse(&Source::new(source.path().to_owned(), text.to_owned()))
}

/// The entries of the list.
fn items(root: &Node) -> &[Node] {
    match root.get(LIST).map(|list| &list.value) {
        Some(Value::List(items)) => items,
        Some(
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Map(_),
        )
        | None => &[],
    }
}

fn position(root: &Node, name: &Name) -> Result<usize, Unfit> {
    items(root).iter().position(|item| is_name(item, name)).ok_or(Unfit)
}

fn is_name(item: &Node, name: &Name) -> bool {
    item.get("name").and_then(Node::text) == Some(name.as_str())
}

fn holds(item: &Node, setting: &Setting) -> bool {
    match (&setting.value, item.get(setting.key)) {
        (Some(value), Some(node)) => value.is(&node.value),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn keys(item: &Node) -> impl Iterator<Item = &str> {
    let entries = if let Value::Map(entries) = &item.value { entries.as_slice() } else { &[] };
    entries.iter().filter_map(|(key, _)| key.text())
}

/// Whether all but the list says the same.
fn elsewhere(before: &Node, after: &Node) -> bool {
    let kept =
        |from: &Node, to: &Node| keys(from).all(|key| key == LIST || alike_at(from.get(key), to.get(key)));
    kept(before, after) && kept(after, before)
}

fn alike_at(one: Option<&Node>, other: Option<&Node>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.says(other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
