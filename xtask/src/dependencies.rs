//! What the program is built from: which crates are in it, and which run on the machine that builds it. As cargo tells,
//! for the platform that packages are for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cargo::{output_of, workspace_root};

/// The platform of packages.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// The package that is the program.
const PROGRAM: &str = "process-throttler";
const REFERENCE: &str = "docs/dependencies.md";

/// A crate of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) licence: String,
    /// Where its sources are.
    pub(crate) dir: PathBuf,
    /// Whether its code is in the program.
    pub(crate) is_inside: bool,
    /// Whether its code runs when the program is built: it is a macro, or has a build script.
    pub(crate) runs_at_build: bool,
}

/// Every crate that the program is built from, in the order of names and versions.
///
/// # Errors
/// When cargo does not tell, or not what it should.
pub(crate) fn all() -> Result<Vec<Dependency>> {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM];
    let metadata: Value =
        serde_json::from_str(&output_of("cargo", &arguments)?).context("parse cargo's metadata")?;
    of(&metadata)
}

/// Writes the reference; with `check`, only compares it.
///
/// # Errors
/// As [`all`], when it cannot be written, or, with `check`, is stale.
pub(crate) fn reference(check: bool) -> Result<()> {
    let (path, text) = (workspace_root()?.join(REFERENCE), page(&all()?));
    if check {
        let now = fs::read_to_string(&path).with_context(|| format!("read {REFERENCE}"))?;
        ensure!(now == text, "{REFERENCE} is stale: run `cargo xtask docs`, and look at what is new");
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("write {REFERENCE}"))
}

fn of(metadata: &Value) -> Result<Vec<Dependency>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let id = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (id(&package["id"]), package)).collect();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (id(&node["id"]), node)).collect();
    let root = packages.iter().find(|(_, package)| package["name"] == PROGRAM);
    let (root, _) = root.with_context(|| format!("cargo knows no package {PROGRAM}"))?;

    let is_macro = |package: &str| has_target(&packages[package], "proc-macro");
    let reached = |kinds: &[&str], through_macros: bool| {
        let mut found = BTreeSet::new();
        let mut open = vec![root.clone()];
        while let Some(package) = open.pop() {
            if (is_macro(&package) && !through_macros) || !found.insert(package.clone()) {
                continue;
            }
            for edge in list(&nodes[&package]["deps"]) {
                let wanted = |kind: &Value| kinds.contains(&kind["kind"].as_str().unwrap_or("normal"));
                if list(&edge["dep_kinds"]).iter().any(wanted) {
                    open.push(id(&edge["pkg"]));
                }
            }
        }
        found
    };
    let inside = reached(&["normal"], false);
    let mut found = Vec::new();
    for one in reached(&["normal", "build"], true) {
        let package = &packages[&one];
        // Those of this workspace have none.
        if package["source"].is_null() {
            continue;
        }
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let manifest = PathBuf::from(text("manifest_path"));
        found.push(Dependency {
            name: text("name"),
            version: text("version"),
            licence: text("license"),
            dir: manifest.parent().context("a manifest is in a directory")?.to_owned(),
            is_inside: inside.contains(&one),
            runs_at_build: is_macro(&one) || has_target(package, "custom-build"),
        });
    }
    found.sort();
    Ok(found)
}

fn has_target(package: &Value, kind: &str) -> bool {
    let targets = package["targets"].as_array();
    targets.is_some_and(|targets| {
        targets
            .iter()
            .any(|target| target["kind"].as_array().is_some_and(|kinds| kinds.contains(&kind.into())))
    })
}

/// Names only: a new version of what is there already is for the lock file to tell.
fn page(all: &[Dependency]) -> String {
    let names = |wanted: &dyn Fn(&&Dependency) -> bool| {
        let names: BTreeSet<&str> = all.iter().filter(wanted).map(|one| one.name.as_str()).collect();
        names
    };
    let twice = names(&|one| {
        one.is_inside && all.iter().any(|other| other.is_inside && other.name == one.name && other != *one)
    });
    let mut page = String::from(
        "# Dependencies\n\nWritten by `cargo xtask docs`. Whoever adds a crate sees here, in review, what comes with it. Versions \
         and digests are in `Cargo.lock`; the rules are in `deny.toml`; packages have the licences of all in \
         `THIRD-PARTY.gz`.\n",
    );
    for (title, why, names) in [
        ("In the program", "Their code is linked into it.", names(&|one| one.is_inside)),
        (
            "In it in several versions",
            "More to build and to patch; gone when those that need the older one have moved on.",
            twice,
        ),
        (
            "Run where it is built",
            "Build scripts and macros: they can do whatever the building user can.",
            names(&|one| one.runs_at_build),
        ),
    ] {
        let list: Vec<String> = names.iter().map(|name| format!("- {name}")).collect();
        let _written = write!(page, "\n## {title}: {}\n\n{why}\n\n{}\n", names.len(), list.join("\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata() -> Value {
        let package = |name: &str, version: &str, source: Option<&str>, kind: &str| {
            json!({
                "id": format!("{name}@{version}"), "name": name, "version": version, "license": "MIT",
                "source": source, "manifest_path": format!("/r/{name}/Cargo.toml"), "targets": [{ "kind": [kind] }],
            })
        };
        let node = |id: &str, deps: &[(&str, Option<&str>)]| {
            let dep =
                |(pkg, kind): &(&str, Option<&str>)| json!({ "pkg": pkg, "dep_kinds": [{ "kind": kind }] });
            json!({ "id": id, "deps": deps.iter().map(dep).collect::<Vec<_>>() })
        };
        let index = Some("registry+x");
        json!({
            "packages": [
                package(PROGRAM, "0", None, "lib"), package("a", "1", index, "lib"), package("a", "2", index, "lib"),
                package("derive", "1", index, "proc-macro"), package("syn", "1", index, "lib"),
                package("cc", "1", index, "lib"), package("sys", "1", index, "custom-build"),
                package("test", "1", index, "lib"),
            ],
            "resolve": { "nodes": [
                node("process-throttler@0", &[("a@1", None), ("derive@1", None), ("sys@1", None), ("test@1", Some("dev"))]),
                node("a@1", &[("a@2", None)]), node("a@2", &[]), node("derive@1", &[("syn@1", None)]),
                node("syn@1", &[]), node("cc@1", &[]), node("sys@1", &[("cc@1", Some("build"))]), node("test@1", &[]),
            ] },
        })
    }

    #[test]
    fn what_is_inside_and_what_only_builds_are_told_apart() {
        let told: Vec<_> = of(&metadata())
            .unwrap()
            .into_iter()
            .map(|one| (format!("{} {}", one.name, one.version), one.is_inside, one.runs_at_build))
            .collect();
        let expected = [
            ("a 1", true, false),
            ("a 2", true, false),
            ("cc 1", false, false),
            ("derive 1", false, true),
            ("syn 1", false, false),
            ("sys 1", true, true),
        ];
        assert_eq!(told, expected.map(|(name, inside, runs)| (name.to_owned(), inside, runs)));
    }

    #[test]
    fn the_page_has_names_once() {
        let page = page(&of(&metadata()).unwrap());
        assert!(
            page.contains("## In the program: 2\n\nTheir code is linked into it.\n\n- a\n- sys\n"),
            "{page}"
        );
        assert!(page.contains("## In it in several versions: 1\n"), "{page}");
        assert!(page.ends_with("\n\n- derive\n- sys\n"), "{page}");
    }
}
