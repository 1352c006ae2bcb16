//! Single values of a profile's text, set and taken out by the path of their keys; comments and everything else
//! stay as they were written.
//!
//! Every change is checked by parsing its outcome: it must say what the text said before, but for the change.
//! What is written in a form that this cannot follow is refused, never rewritten. Whether the outcome is a valid
//! profile is not known here.

use super::error::Finding;
use super::export;
use super::file::{self, Node, Place, Source, Value};
use super::text::{Entry, Text};

/// Longest path, in bytes.
const PATH_MAX: usize = 1_024;

/// One value to set or to take out.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    path: String,
    /// `None`: the key is taken out.
    value: Option<Value>,
}

/// Why a text was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ReviseError {
    /// It is no `path=value`, or no path.
    #[error("{0:?} is not a path of keys such as throttling_rules.NAME.limits.cpu, with =VALUE to set it")]
    Path(String),
    /// The value is malformed.
    #[error("the value of {path}: {message}")]
    Value {
        /// The path.
        path: String,
        /// Why.
        message: String,
    },
    /// There is no such thing in the text.
    #[error("{path}: there is no {missing}{}", choices(.known))]
    Missing {
        /// The whole path.
        path: String,
        /// The part of it that is not there.
        missing: String,
        /// What is there in its place.
        known: Vec<String>,
    },
    /// The text cannot be parsed.
    #[error("{0}")]
    Malformed(Box<Finding>),
    /// The text is written in a way that is not understood well enough.
    #[error("{path} is written in a form that --set and --unset cannot change")]
    Unfit {
        /// The path.
        path: String,
    },
}

fn choices(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) }
}

impl Revision {
    /// Out of `path=value`. The value is YAML where it begins with a bracket, a brace or a quote, else a number,
    /// `true` or `false`, or a text.
    ///
    /// # Errors
    /// When there is no path or no value, or the value is malformed.
    pub fn set(text: &str) -> Result<Self, ReviseError> {
        let (path, value) = text.split_once('=').ok_or_else(|| ReviseError::Path(text.to_owned()))?;
        let path = path_of(path)?;
        match value_of(value.trim()) {
            Ok(value) => Ok(Self { path, value: Some(value) }),
            Err(message) => Err(ReviseError::Value { path, message }),
        }
    }

    /// Takes out what is at a path.
    ///
    /// # Errors
    /// When it is no path.
    pub fn unset(path: &str) -> Result<Self, ReviseError> {
        Ok(Self { path: path_of(path)?, value: None })
    }

    /// A text at a path.
    #[must_use]
    pub fn text(path: &str, value: &str) -> Self {
        Self { path: path.to_owned(), value: Some(Value::Text(value.to_owned())) }
    }
}

/// Makes the changes one after the other.
///
/// # Errors
/// When one of them cannot be made; nothing is then.
pub fn revise(source: &Source, revisions: &[Revision]) -> Result<String, ReviseError> {
    let mut now = source.clone();
    for revision in revisions {
        let text = revise_one(&now, revision)?;
        now = Source::new(source.path().to_owned(), text);
    }
    Ok(now.into_text())
}

fn path_of(text: &str) -> Result<String, ReviseError> {
    let path = text.trim();
    let malformed = path.is_empty() || path.len() > PATH_MAX || path.split('.').any(str::is_empty);
    if malformed { Err(ReviseError::Path(text.to_owned())) } else { Ok(path.to_owned()) }
}

fn value_of(text: &str) -> Result<Value, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+-.~".contains(c);
    if text.is_empty() {
        return Err("it is empty; --unset takes a key out".to_owned());
    }
    if !text.starts_with(['[', '{', '"', '\'']) && !text.chars().all(is_plain) {
        return Ok(Value::Text(text.to_owned()));
    }
    let source = Source::new("value".into(), format!("v: {text}"));
    let node = file::parse(&source).map_err(|finding| finding.message)?;
    match node.get("v").map(|node| &node.value) {
        None | Some(Value::Null) => Err("it is nothing; --unset takes a key out".to_owned()),
        Some(value) => Ok(value.clone()),
    }
}

/// One step from a map or a list into what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

fn revise_one(source: &Source, revision: &Revision) -> Result<String, ReviseError> {
    let Revision { path, value } = revision;
    let before = file::parse(source).map_err(ReviseError::Malformed)?;
    let (steps, rest) = resolve(&before, path)?;
    let (steps, value) = match (value, rest.as_slice()) {
        (None, []) => (shortened(&before, steps), None),
        (None, [missing, ..]) => return Err(missing_key(path, missing)),
        (Some(value), rest) => {
            let mut steps = steps;
            let mut value = value.clone();
            // Maps that are not there yet are written around the value.
            for key in rest.iter().skip(1).rev() {
                value = Value::Map(vec![(node(Value::Text(key.clone())), node(value))]);
            }
            steps.extend(rest.first().map(|key| Step::Key(key.clone())));
            (steps, Some(value))
        }
    };
    let expected = amended(&before, &steps, value.as_ref());
    if expected.says(&before) {
        return Ok(source.text().to_owned());
    }
    let unfit = || ReviseError::Unfit { path: path.clone() };
    let flow = value.as_ref().map(flow);
    let text = written(source.text(), &before, &steps, flow.as_deref()).ok_or_else(unfit)?;
    let after =
        file::parse(&Source::new(source.path().to_owned(), text.clone())).map_err(|_finding| unfit())?;
    if after.says(&expected) { Ok(text) } else { Err(unfit()) }
}

fn missing_key(path: &str, missing: &str) -> ReviseError {
    ReviseError::Missing { path: path.to_owned(), missing: missing.to_owned(), known: Vec::new() }
}

/// As far as the tree goes, and the keys that are not there.
fn resolve(root: &Node, path: &str) -> Result<(Vec<Step>, Vec<String>), ReviseError> {
    let words = words(path);
    let (mut at, mut steps, mut next) = (root, Vec::new(), 0);
    while let Some(word) = words.get(next) {
        match &at.value {
            Value::Map(_) => {
                let Some(value) = at.get(word) else { break };
                steps.push(Step::Key(word.clone()));
                at = value;
                next += 1;
            }
            Value::List(items) => {
                let (index, used) = item(items, &words[next..]).ok_or_else(|| ReviseError::Missing {
                    path: path.to_owned(),
                    missing: word.clone(),
                    known: items.iter().filter_map(name).map(str::to_owned).collect(),
                })?;
                steps.push(Step::Item(index));
                at = &items[index];
                next += used;
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
                return Err(missing_key(path, word));
            }
        }
    }
    Ok((steps, words[next..].to_vec()))
}

/// The parts of a path; `rules[2]` has two.
fn words(path: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in path.split('.') {
        match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((key, index)) if !key.is_empty() => {
                words.extend([key.to_owned(), index.to_owned()]);
            }
            Some(_) | None => words.push(part.to_owned()),
        }
    }
    words
}

/// The item that the first of these words name, and how many words that took: names may have dots.
fn item(items: &[Node], words: &[String]) -> Option<(usize, usize)> {
    let named = (1..=words.len()).rev().find_map(|used| {
        let wanted = words[..used].join(".");
        let index = items.iter().position(|item| name(item) == Some(&wanted))?;
        Some((index, used))
    });
    named.or_else(|| {
        let index = words.first()?.parse::<usize>().ok()?;
        (index < items.len()).then_some((index, 1))
    })
}

fn name(item: &Node) -> Option<&str> {
    item.get("name")?.text()
}

/// To take the only item out is to take its list out.
fn shortened(root: &Node, mut steps: Vec<Step>) -> Vec<Step> {
    if let Some(Step::Item(_)) = steps.last() {
        let list = steps[..steps.len() - 1].iter().try_fold(root, |at, step| enter(at, step));
        if matches!(list.map(|list| &list.value), Some(Value::List(items)) if items.len() == 1) {
            steps.pop();
        }
    }
    steps
}

fn enter<'a>(at: &'a Node, step: &Step) -> Option<&'a Node> {
    match (step, &at.value) {
        (Step::Key(key), Value::Map(_)) => at.get(key),
        (Step::Item(index), Value::List(items)) => items.get(*index),
        (Step::Key(_) | Step::Item(_), _) => None,
    }
}

fn node(value: Value) -> Node {
    Node { value, place: Place::default() }
}

/// The tree with a value set or taken out.
fn amended(at: &Node, steps: &[Step], value: Option<&Value>) -> Node {
    let mut now = at.clone();
    let Some((step, rest)) = steps.split_first() else {
        return value.map_or(now, |value| node(value.clone()));
    };
    let ends = rest.is_empty() && value.is_none();
    match (step, &mut now.value) {
        (Step::Key(key), Value::Map(entries)) => {
            let is_it = |(name, _): &(Node, Node)| name.text() == Some(key);
            match entries.iter().position(is_it) {
                Some(index) if ends => drop(entries.remove(index)),
                Some(index) => {
                    let (_, inner) = &mut entries[index];
                    *inner = amended(inner, rest, value);
                }
                None => {
                    let inner = amended(&node(Value::Null), rest, value);
                    entries.push((node(Value::Text(key.clone())), inner));
                }
            }
        }
        (Step::Item(index), Value::List(items)) => match items.get_mut(*index) {
            Some(_) if ends => drop(items.remove(*index)),
            Some(inner) => *inner = amended(inner, rest, value),
            None => {}
        },
        (Step::Key(_) | Step::Item(_), _) => {}
    }
    now
}

fn written(text: &str, root: &Node, steps: &[Step], value: Option<&str>) -> Option<String> {
    let text = Text::new(text, root);
    let mut entry = Entry::root(&text)?;
    let mut steps = steps;
    loop {
        match (steps, value) {
            ([Step::Key(key)], Some(value)) => return entry.set(key, value),
            ([Step::Key(key)], None) => return entry.unset(key),
            ([Step::Key(key), Step::Item(index)], None) => return entry.item(key, *index)?.cut(),
            ([Step::Key(key), Step::Item(index), rest @ ..], _) if !rest.is_empty() => {
                entry = entry.item(key, *index)?;
                steps = rest;
            }
            ([Step::Key(key), rest @ ..], _) if matches!(rest.first(), Some(Step::Key(_))) => {
                entry = entry.map(key)?;
                steps = rest;
            }
            _ => return None,
        }
    }
}

/// A value on one line, good within brackets too.
fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(number) => number.to_string(),
        // With a point, so that it stays what it is.
        Value::Float(number) => format!("{number:?}"),
        Value::Text(text) => export::quoted(text),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| flow(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let pairs: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", flow(&key.value), flow(&value.value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# top
name: web   # the name
description: >
  folded
  text
critical_processes:
  - name: nginx
    match: { exe: /usr/sbin/nginx, user: root }   # both
    restart:
      unit: nginx.service
      # how often
      max: 5
throttling_rules:
  # copies
  - name: back.ups
    match:
      any:
        - { comm: rsync }
    limits: { cpu: 30%, nice: 10 }   # soft
    priority: 1

  - { name: jobs, match: { comm: x }, limits: { cpu: 5% } }
# the end
";

    fn change(text: &str, sets: &[&str], unsets: &[&str]) -> Result<String, ReviseError> {
        let sets = sets.iter().map(|set| Revision::set(set).unwrap());
        let revisions: Vec<_> =
            sets.chain(unsets.iter().map(|path| Revision::unset(path).unwrap())).collect();
        revise(&Source::new("/x.yaml".into(), text.to_owned()), &revisions)
    }

    /// Lines that differ, as `-` and `+`.
    fn lines(before: &str, after: &str) -> Vec<String> {
        let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
        let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("-{}", line.trim()));
        let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+{}", line.trim()));
        gone.chain(come).collect()
    }

    #[test]
    fn one_value_changes_and_nothing_else() {
        for (set, expected) in [
            ("name=other", "+name: other   # the name"),
            ("throttling_rules.back.ups.limits.cpu=20%", "+limits: { cpu: 20%, nice: 10 }   # soft"),
            ("throttling_rules[0].limits.cpu=20%", "+limits: { cpu: 20%, nice: 10 }   # soft"),
            (
                "throttling_rules.jobs.limits.pids=7",
                "+- { name: jobs, match: { comm: x }, limits: { cpu: 5%, pids: 7 } }",
            ),
            ("throttling_rules.back.ups.enabled=false", "+enabled: false"),
            ("throttling_rules.back.ups.when.load1=> 4", "+when: { load1: \"> 4\" }"),
            (
                "critical_processes.nginx.match.user=www, data",
                "+match: { exe: /usr/sbin/nginx, user: \"www, data\" }   # both",
            ),
            ("critical_processes.nginx.restart.max=6", "+max: 6"),
            ("description=\"short\"", "+description: short"),
            ("throttling_rules.back.ups.match={comm: [1, 'a b']}", "+match: { comm: [1, \"a b\"] }"),
        ] {
            let after = change(TEXT, &[set], &[]).unwrap();
            let lines = lines(TEXT, &after);
            assert!(lines.iter().any(|line| line == expected), "{set}: {lines:?}");
            assert!(
                after.contains("# top") && after.contains("# copies") && after.ends_with("# the end\n"),
                "{after}"
            );
            assert_eq!(change(&after, &[set], &[]).unwrap(), after, "{set}: twice is once");
        }
    }

    #[test]
    fn keys_and_items_are_taken_out() {
        for (path, expected) in [
            ("throttling_rules.back.ups.limits.nice", "+limits: { cpu: 30% }   # soft"),
            ("throttling_rules.back.ups.priority", "-priority: 1"),
            ("critical_processes.nginx.restart.max", "-max: 5"),
            ("throttling_rules.jobs", "-- { name: jobs, match: { comm: x }, limits: { cpu: 5% } }"),
            ("critical_processes.nginx", "-critical_processes:"),
        ] {
            let after = change(TEXT, &[], &[path]).unwrap();
            let lines = lines(TEXT, &after);
            assert!(lines.iter().any(|line| line == expected), "{path}: {lines:?}");
            assert!(matches!(change(&after, &[], &[path]), Err(ReviseError::Missing { .. })), "{path}");
        }
    }

    #[test]
    fn json_is_changed_too() {
        let json = "{\n  \"name\": \"web\",\n  \"throttling_rules\": [{ \"name\": \"a\", \"limits\": { \"cpu\": \"5%\" } }]\n}\n";
        let after = change(json, &["throttling_rules.a.limits.cpu=9%"], &[]).unwrap();
        assert_eq!(after, json.replace("\"5%\"", "9%"));
    }

    #[test]
    fn what_cannot_be_changed_is_refused() {
        let missing = change(TEXT, &["throttling_rules.gone.priority=1"], &[]).unwrap_err();
        assert!(missing.to_string().ends_with("there is no gone; there are back.ups, jobs"), "{missing}");
        assert!(matches!(change(TEXT, &["name.first=1"], &[]), Err(ReviseError::Missing { .. })));
        // The anchor is the alias's value too.
        let shared = "a: &x { cpu: 1% }\nb: *x\n";
        assert!(matches!(change(shared, &["b.cpu=2%"], &[]), Err(ReviseError::Unfit { .. })));
        assert!(matches!(change("a: [\n", &["b=1"], &[]), Err(ReviseError::Malformed(_))));
        for bad in ["a", "=1", "a..b=1", ".=1", "a=", "a=~", "a=[1", "a={b: ", "a=\"x"] {
            assert!(Revision::set(bad).is_err(), "{bad:?}");
        }
        assert!(Revision::unset("").is_err());
    }
}
