//! Profiles that are built upon others: `extends` names a profile beside it or of a shared directory, and what it says holds
//! where this one says nothing else.
//!
//! Files are merged as trees in which every value keeps its file and place, so that whatever is wrong is told where
//! it was written. The rules: `name` is the profile's own; entries of the two lists that have the same name become
//! one; every other key of the profile or of such an entry is taken whole from the file that is nearest.

use std::path::Path;

use super::error::{Finding, Findings};
use super::fields::Cursor;
use super::file::{self, Node, ReadError, Source, Trust, Value};
use super::profile::{Siblings, read_name};
use crate::model::id::Name;

/// The key.
pub(super) const KEY: &str = "extends";
/// Longest chain of profiles, the first included.
const CHAIN_MAX: usize = 8;
/// What a profile does not take from its base.
const OWN: [&str; 2] = ["name", KEY];
/// Lists whose entries have names.
const LISTS: [&str; 2] = ["critical_processes", "throttling_rules"];

/// The profile's tree with those of its bases merged into it, and their texts in its source. As it was when it
/// extends none; `None` when that cannot be done.
pub(super) fn resolve(
    source: &Source,
    node: Node,
    siblings: Siblings<'_>,
    findings: &mut Findings,
) -> Option<(Source, Node)> {
    let mut chain: Vec<Name> = own_name(&node).into_iter().collect();
    let mut sources = source.clone();
    let mut merged = node.clone();
    let mut last = (source.clone(), node);
    loop {
        let Some(at) = last.1.get(KEY) else { return Some((sources, merged)) };
        let at = Cursor::at(&last.0, at, KEY);
        let name = read_name(&at, findings)?;
        if let Some(finding) = objection(&at, &chain, &name) {
            findings.push(finding);
            return None;
        }
        let (base, tree) = match load(&at, &name, siblings) {
            Ok(loaded) => loaded,
            Err(finding) => {
                findings.push(*finding);
                return None;
            }
        };
        chain.push(name);
        let mut placed = tree.clone();
        placed.set_file(sources.add(base.clone()));
        merged = over(merged, placed);
        last = (base, tree);
    }
}

/// The profile that a text extends, if it says so.
pub(super) fn named(node: &Node) -> Option<Name> {
    node.get(KEY)?.text()?.parse().ok()
}

fn own_name(node: &Node) -> Option<Name> {
    node.get("name")?.text()?.parse().ok()
}

fn objection(at: &Cursor<'_>, chain: &[Name], name: &Name) -> Option<Finding> {
    if chain.contains(name) {
        let mut circle: Vec<&str> = chain.iter().map(Name::as_str).collect();
        circle.push(name.as_str());
        let message = format!("profiles extend each other in a circle: {}", circle.join(" → "));
        return Some(at.error(message).with_fix("remove one of the extends"));
    }
    (chain.len() >= CHAIN_MAX).then(|| {
        at.error(format!("more than {CHAIN_MAX} profiles extend one another"))
            .with_fix("merge some of them: process-throttler profile export --resolved")
    })
}

fn load(at: &Cursor<'_>, name: &Name, siblings: Siblings<'_>) -> Result<(Source, Node), Box<Finding>> {
    let Some(path) = siblings.file(name) else {
        let message = format!("profile {name} cannot be found: this text is in no directory of profiles");
        return Err(Box::new(at.error(message)));
    };
    let source =
        file::read::read(&path, Trust::of_this_process()).map_err(|error| refused(at, &path, error))?;
    let node = file::parse(&source)?;
    Ok((source, node))
}

fn refused(at: &Cursor<'_>, path: &Path, error: ReadError) -> Box<Finding> {
    if error.is_not_found() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let message = format!("unknown profile {name:?}: there is no {}", path.display());
        return Box::new(at.error(message).with_fix("create or import it first, or correct the name"));
    }
    Box::new(error.into_finding())
}

/// What `near` says, and for the rest what `base` says.
fn over(near: Node, base: Node) -> Node {
    let place = near.place;
    let (Value::Map(mut entries), Value::Map(others)) = (near.value.clone(), base.value) else { return near };
    for (key, value) in others {
        let Some(name) = key.text().map(str::to_owned) else { continue };
        if OWN.contains(&name.as_str()) {
            continue;
        }
        match entries.iter_mut().find(|(other, _)| other.value == key.value) {
            Some((_, mine)) if LISTS.contains(&name.as_str()) => *mine = join(mine.clone(), value),
            Some(_) => {}
            None => entries.push((key, value)),
        }
    }
    Node { value: Value::Map(entries), place }
}

/// The base's entries in their order, each under the one of the same name, then those that the base has not.
fn join(near: Node, base: Node) -> Node {
    let place = near.place;
    let (Value::List(mut mine), Value::List(theirs)) = (near.value.clone(), base.value) else { return near };
    let mut joined = Vec::new();
    for item in theirs {
        let is_same = |other: &Node| name(&item).is_some() && name(other) == name(&item);
        match mine.iter().position(is_same) {
            Some(index) => joined.push(beneath(mine.remove(index), item)),
            None => joined.push(item),
        }
    }
    joined.append(&mut mine);
    Node { value: Value::List(joined), place }
}

/// An entry's own keys, and those that only the base's entry has.
fn beneath(near: Node, base: Node) -> Node {
    let place = near.place;
    let (Value::Map(mut entries), Value::Map(others)) = (near.value.clone(), base.value) else { return near };
    let own: Vec<Value> = entries.iter().map(|(key, _)| key.value.clone()).collect();
    entries.extend(others.into_iter().filter(|(key, _)| !own.contains(&key.value)));
    Node { value: Value::Map(entries), place }
}

fn name(item: &Node) -> Option<&str> {
    item.get("name")?.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::host::Host;
    use crate::config::{export, profile};
    use crate::model::rule::Profile;

    fn host() -> Host {
        Host {
            cpus: None,
            online: || None,
            memory: None,
            user: |_| Ok(None),
            group: |_| Ok(None),
            program: |_| None,
        }
    }

    /// Reads the first of some profiles of a directory.
    fn read(files: &[(&str, &str)]) -> (Option<Profile>, Findings) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(format!("{name}.yaml")), text).unwrap();
        }
        let (name, text) = files[0];
        let source = Source::new(dir.path().join(format!("{name}.yaml")), text.to_owned());
        profile::parse(&source, Some(name), &host())
    }

    const BASE: &str = "name: base
description: the base
throttling_rules:
  - name: backups
    match: { comm: rsync }
    limits: { cpu: 30%, nice: 5 }
    priority: 3
  - name: builds
    match: { comm: make }
    limits: { cpu: 50% }
";

    #[test]
    fn the_nearest_file_wins_key_by_key() {
        let child = "name: web
extends: base
throttling_rules:
  - name: own
    match: { comm: x }
    limits: { nice: 1 }
  - name: backups
    limits: { cpu: 10% }
";
        let (profile, findings) = read(&[("web", child), ("base", BASE)]);
        let profile = profile.unwrap_or_else(|| panic!("{findings}"));
        assert_eq!((profile.name.as_str(), profile.description.as_str()), ("web", "the base"));
        let rules: Vec<_> = profile.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(rules, ["backups", "builds", "own"]);
        assert_eq!((profile.rules[0].limits.to_string().as_str(), profile.rules[0].priority), ("cpu=10%", 3));
        let alone = export::to_yaml(&profile);
        assert_eq!(read(&[("web", alone.as_str())]).0.unwrap(), profile, "the resolved text needs no base");
        // Two levels: a grandchild that says nothing is the child under another name.
        let (same, _) = read(&[("grand", "name: grand\nextends: web\n"), ("web", child), ("base", BASE)]);
        assert_eq!(same.unwrap(), Profile { name: "grand".parse().unwrap(), ..profile });
    }

    #[test]
    fn errors_are_told_in_the_file_where_they_are() {
        let bad = BASE.replace("comm: make", "comm: [make]");
        let (profile, findings) =
            read(&[("web", "name: web\nextends: base\nbogus: 1\n"), ("base", bad.as_str())]);
        assert!(profile.is_none());
        let places: Vec<_> = findings
            .iter()
            .map(|finding| {
                (finding.file.file_name().unwrap().to_str().unwrap(), finding.line, &*finding.snippet)
            })
            .collect();
        assert_eq!(places, [("base.yaml", 9, "    match: { comm: [make] }"), ("web.yaml", 3, "bogus: 1")]);
    }

    #[test]
    fn circles_and_missing_bases_are_errors_at_their_place() {
        let message = |files: &[(&str, &str)]| {
            let (profile, findings) = read(files);
            assert!(profile.is_none());
            let finding = findings.iter().next().unwrap().clone();
            let file = finding.file.file_name().unwrap().to_string_lossy().into_owned();
            format!("{file}:{}:{}: {}", finding.line, finding.column, finding.message)
        };
        let (a, b) = (("a", "name: a\nextends: b\n"), ("b", "extends: a\nname: b\n"));
        assert_eq!(message(&[a, b]), "b.yaml:1:10: profiles extend each other in a circle: a → b → a");
        let itself = message(&[("a", "name: a\nextends: a\n")]);
        assert_eq!(itself, "a.yaml:2:10: profiles extend each other in a circle: a → a");
        assert!(message(&[a]).starts_with("a.yaml:2:10: unknown profile \"b\": there is no "));
        assert!(message(&[("a", "name: a\nextends: ../b\n")]).starts_with("a.yaml:2:10: name \"../b\""));
        let names: Vec<String> = (0..=CHAIN_MAX).map(|index| format!("p{index}")).collect();
        let texts: Vec<String> =
            (0..=CHAIN_MAX).map(|at| format!("name: p{at}\nextends: p{}\n", at + 1)).collect();
        let files: Vec<_> =
            names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert!(message(&files).contains("more than 8 profiles"));
    }
}
