//! What two profiles say differently, by the names of their entries and the keys within. What means the same is no
//! difference, however it is written: comments, order of keys, order of entries where it decides nothing.

use serde::Serialize;
use serde_json::{Map, Value};

use super::export;
use crate::model::rule::{Profile, Rule};

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Difference {
    /// What, such as `throttling_rules.backups.limits.cpu`.
    pub path: String,
    /// The first profile's value; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The second profile's value; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Lists whose entries have names, and lists in which order means nothing.
const NAMED: [&str; 2] = ["critical_processes", "throttling_rules"];
const UNORDERED: [&str; 4] = ["any", "all", "dependencies", "schedule"];

/// The differences from one profile to another, their names aside, in the order of the format's keys.
///
/// # Errors
/// None that a profile can cause; the serialiser's signature has them.
pub fn diff(before: &Profile, after: &Profile) -> Result<Vec<Difference>, serde_json::Error> {
    let mut found = Vec::new();
    let (one, other) = (tree(before)?, tree(after)?);
    compare("", &one, &other, &mut found);
    found.retain(|difference| difference.path != "name");
    let (old, new) = (contested(&before.rules, &after.rules), contested(&after.rules, &before.rules));
    if old != new {
        let names = |names: Vec<&str>| Some(names.into_iter().collect());
        found.push(Difference {
            path: "order of throttling_rules".to_owned(),
            before: names(old),
            after: names(new),
        });
    }
    Ok(found)
}

fn tree(profile: &Profile) -> Result<Value, serde_json::Error> {
    serde_json::from_str(&export::to_json(profile)?)
}

/// Rules of both profiles that share a priority with another one, in the order in which they are tried: what the
/// order of the file decides.
fn contested<'a>(rules: &'a [Rule], others: &[Rule]) -> Vec<&'a str> {
    let in_both =
        |rule: &&Rule| others.iter().any(|other| other.name == rule.name && other.priority == rule.priority);
    let mut common: Vec<&Rule> = rules.iter().filter(in_both).collect();
    common.sort_by_key(|rule| rule.priority);
    let shares = |rule: &&&Rule| common.iter().filter(|other| other.priority == rule.priority).count() > 1;
    common.iter().filter(shares).map(|rule| rule.name.as_str()).collect()
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    let key = path.rsplit('.').next().unwrap_or(path);
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => objects(path, one, other, found),
        (Value::Array(one), Value::Array(other)) if NAMED.contains(&path) => named(path, one, other, found),
        (Value::Array(one), Value::Array(other)) if UNORDERED.contains(&key) && same_items(one, other) => {}
        (one, other) if means_same(one, other) => {}
        (one, other) => found.push(difference(path, Some(one), Some(other))),
    }
}

fn objects(path: &str, one: &Map<String, Value>, other: &Map<String, Value>, found: &mut Vec<Difference>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, value) in one {
        match other.get(key) {
            Some(new) => compare(&join(key), value, new, found),
            None if NAMED.contains(&key.as_str()) => compare(key, value, &Value::Array(Vec::new()), found),
            None => found.push(difference(&join(key), Some(value), None)),
        }
    }
    for (key, value) in other.iter().filter(|(key, _)| !one.contains_key(*key)) {
        if NAMED.contains(&key.as_str()) {
            compare(key, &Value::Array(Vec::new()), value, found);
        } else {
            found.push(difference(&join(key), None, Some(value)));
        }
    }
}

fn named(path: &str, one: &[Value], other: &[Value], found: &mut Vec<Difference>) {
    let name = |item: &Value| item.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    for item in one {
        let name_of = name(item);
        let path = format!("{path}.{name_of}");
        match other.iter().find(|new| name(new) == name_of) {
            Some(new) => compare(&path, item, new, found),
            None => found.push(difference(&path, Some(item), None)),
        }
    }
    for item in other.iter().filter(|item| !one.iter().any(|old| name(old) == name(item))) {
        found.push(difference(&format!("{path}.{}", name(item)), None, Some(item)));
    }
}

/// Equal but for the order of what has none.
fn means_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| {
                    other.get(key).is_some_and(|new| match (value, new) {
                        (Value::Array(a), Value::Array(b)) if UNORDERED.contains(&key.as_str()) => {
                            same_items(a, b)
                        }
                        (value, new) => means_same(value, new),
                    })
                })
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| means_same(one, other))
        }
        (one, other) => one == other,
    }
}

fn same_items(one: &[Value], other: &[Value]) -> bool {
    let mut left: Vec<&Value> = other.iter().collect();
    one.len() == other.len()
        && one.iter().all(|item| {
            let at = left.iter().position(|new| means_same(item, new));
            at.map(|at| left.swap_remove(at)).is_some()
        })
}

fn difference(path: &str, before: Option<&Value>, after: Option<&Value>) -> Difference {
    Difference { path: path.to_owned(), before: before.cloned(), after: after.cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Source;
    use crate::config::host::Host;
    use crate::config::profile::parse;

    fn read(text: &str) -> Profile {
        let (profile, findings) =
            parse(&Source::new("/p.yaml".into(), text.to_owned()), None, &Host::detect());
        profile.unwrap_or_else(|| panic!("{findings}"))
    }

    fn changes(before: &str, after: &str) -> Vec<String> {
        let shown = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        let all = diff(&read(before), &read(after)).unwrap();
        all.iter().map(|one| format!("{} {} {}", one.path, shown(&one.before), shown(&one.after))).collect()
    }

    const ONE: &str = "name: a
throttling_rules:
  - { name: x, match: { any: [{ comm: p }, { comm: q }] }, limits: { cpu: 30% }, priority: 1 }
  - { name: y, match: { comm: r }, limits: { nice: 5 }, priority: 2 }
";

    #[test]
    fn order_and_writing_are_no_difference() {
        let same = "# other
throttling_rules:
  - { priority: 2, name: y, limits: { nice: 5 }, match: { comm: r } }
  - name: x
    match: { any: [{ comm: q }, { comm: p }] }
    limits: { cpu: 30% }
    priority: 1
    enabled: true
name: b
";
        assert_eq!(changes(ONE, same), [""; 0]);
    }

    #[test]
    fn differences_have_names_and_keys() {
        let other = "name: b
description: new
throttling_rules:
  - { name: x, match: { any: [{ comm: p }] }, limits: { cpu: 20%, nice: 3 }, priority: 1 }
  - { name: z, match: { comm: s }, limits: { nice: 5 } }
";
        let found = changes(ONE, other);
        assert_eq!(
            found[..3],
            [
                "throttling_rules.x.limits.cpu \"30%\" \"20%\"",
                "throttling_rules.x.limits.nice - 3",
                "throttling_rules.x.match.any [{\"comm\":\"p\"},{\"comm\":\"q\"}] [{\"comm\":\"p\"}]",
            ]
        );
        assert!(found[3].starts_with("throttling_rules.y {") && found[3].ends_with(" -"), "{found:?}");
        assert!(found[4].starts_with("throttling_rules.z - {"), "{found:?}");
        assert_eq!(found[5..], ["description - \"new\""]);
        // All of one kind at once.
        assert_eq!(changes(ONE, "name: a\nschedule: []\n").len(), 2);
    }

    #[test]
    fn order_is_a_difference_where_it_decides() {
        let tied = ONE.replace("priority: 2", "priority: 1");
        let (head, rules) = tied.split_once("rules:\n").unwrap();
        let (x, y) = rules.split_once("\n").unwrap();
        let turned = format!("{head}rules:\n{y}{x}\n");
        assert_eq!(changes(&tied, &turned), ["order of throttling_rules [\"x\",\"y\"] [\"y\",\"x\"]"]);
    }
}
