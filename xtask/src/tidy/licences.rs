//! Licences, sources and banned crates of the dependencies, by the rules in `deny.toml`.
//!
//! cargo-deny reads the same file; docs/adr/0031 says why its three offline checks are done here. It stays the tool of
//! choice where it is installed.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cargo::output_of;
use crate::tidy::Finding;

/// The programs: that of the host, and the one that runs in the kernel.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "agent-ebpf/Cargo.toml"];

/// Checks every package of the lock files.
///
/// # Errors
/// When `deny.toml` or cargo's metadata cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let text = fs::read_to_string(root.join("deny.toml")).context("read deny.toml")?;
    let rules = Rules::parse(&text)?;
    let mut findings = Vec::new();
    for manifest in MANIFESTS {
        let arguments = ["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest];
        let metadata: Value =
            serde_json::from_str(&output_of("cargo", &arguments)?).context("parse cargo's metadata")?;
        let packages = metadata["packages"].as_array().context("cargo's metadata lists packages")?;
        let lock = manifest.replace(".toml", ".lock");
        findings.extend(packages.iter().flat_map(|package| rules.check(&lock, package)));
    }
    Ok(findings)
}

/// The lists in `deny.toml` that are checked here.
#[derive(Debug, PartialEq, Eq)]
struct Rules {
    allowed_licences: Vec<String>,
    allowed_registries: Vec<String>,
    banned: Vec<String>,
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        Ok(Self {
            allowed_licences: list(text, "licenses", "allow")?,
            allowed_registries: list(text, "sources", "allow-registry")?,
            banned: list(text, "bans", "deny")?,
        })
    }

    fn check(&self, lock: &str, package: &Value) -> Vec<Finding> {
        let name = package["name"].as_str().unwrap_or("?");
        let mut findings = Vec::new();
        let mut found = |text: String| findings.push(Finding::new(lock, 0, format!("{name}: {text}")));
        let licence = package["license"].as_str().unwrap_or("none");
        if !self.permits(licence) {
            found(format!("licence {licence} is not allowed by deny.toml"));
        }
        // Packages of the workspace have no source.
        if let Some(source) = package["source"].as_str()
            && !self.allowed_registries.iter().any(|registry| source == format!("registry+{registry}"))
        {
            found(format!("source {source} is not allowed by deny.toml"));
        }
        if self.banned.iter().any(|banned| banned == name) {
            found("banned by deny.toml".to_owned());
        }
        findings
    }

    /// Whether an SPDX expression can be satisfied: `AND` and `OR` with brackets, `/` as an old form of `OR`.
    fn permits(&self, expression: &str) -> bool {
        let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let mut words = expression.split_whitespace().peekable();
        let value = self.any_of(&mut words);
        value && words.next().is_none()
    }

    fn any_of<'a>(&self, words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
        let mut value = self.all_of(words);
        while words.next_if_eq(&"OR").is_some() {
            value |= self.all_of(words);
        }
        value
    }

    fn all_of<'a>(&self, words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
        let mut value = self.one(words);
        while words.next_if_eq(&"AND").is_some() {
            value &= self.one(words);
        }
        value
    }

    fn one<'a>(&self, words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
        if words.next_if_eq(&"(").is_some() {
            let value = self.any_of(words);
            return words.next_if_eq(&")").is_some() && value;
        }
        let Some(name) = words.next() else { return false };
        let mut name = name.to_owned();
        if words.next_if_eq(&"WITH").is_some() {
            name = format!("{name} WITH {}", words.next().unwrap_or_default());
        }
        self.allowed_licences.contains(&name)
    }
}

/// The strings of `key = [ … ]` in a section of `deny.toml`, where each is `"…"` or `{ crate = "…", … }`.
fn list(text: &str, section: &str, key: &str) -> Result<Vec<String>> {
    let missing = || format!("deny.toml has no [{section}] {key}");
    let body = text.split(&format!("[{section}]\n")).nth(1).with_context(missing)?;
    let body = body.split("\n[").next().unwrap_or(body);
    let start = body.find(&format!("{key} = [")).with_context(missing)?;
    let array = &body[start..];
    let array = array.get(..array.find("\n]").or(array.find(']')).unwrap_or(array.len())).unwrap_or(array);
    let lines = array.lines().map(|line| line.split(" #").next().unwrap_or(line));
    // Only the first string of a line is a name; what follows is its reason.
    Ok(lines.filter_map(|line| Some(line.split('"').nth(1)?.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[licenses]\nallow = [\n  \"MIT\", # why\n  \"Apache-2.0\",\n  \"Apache-2.0 WITH LLVM-exception\",\n]\n\n\
                        [bans]\ndeny = [\n  { crate = \"openssl\", reason = \"rustls\" },\n]\n\n\
                        [sources]\nallow-registry = [\"https://example.org/index\"]\n";

    fn rules() -> Rules {
        Rules::parse(TEXT).unwrap()
    }

    #[test]
    fn expressions_are_satisfied_by_allowed_licences_only() {
        for good in ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(GPL-3.0 OR MIT) AND Apache-2.0"] {
            assert!(rules().permits(good), "{good}");
        }
        assert!(rules().permits("Apache-2.0 WITH LLVM-exception"));
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "", "(MIT", "MIT Apache-2.0", "MIT WITH Classpath"]
        {
            assert!(!rules().permits(bad), "{bad}");
        }
    }

    #[test]
    fn packages_are_checked_for_all_three() {
        let package =
            serde_json::json!({ "name": "openssl", "license": "GPL-3.0", "source": "git+https://x" });
        assert_eq!(rules().check("Cargo.lock", &package).len(), 3);
        let source = "registry+https://example.org/index";
        let package =
            serde_json::json!({ "name": "serde", "license": "MIT OR Apache-2.0", "source": source });
        assert!(rules().check("Cargo.lock", &package).is_empty());
        let own = serde_json::json!({ "name": "xtask", "license": "MIT OR Apache-2.0", "source": null });
        assert!(rules().check("Cargo.lock", &own).is_empty());
    }
}
