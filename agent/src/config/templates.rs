//! Profiles to begin with: the examples that are shipped, and an empty one.

use crate::model::id::Name;

/// A shipped example.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The shipped examples, by name.
pub const TEMPLATES: [Template; 3] = [
    Template { name: "batch", text: include_str!("../../../packaging/profiles/batch.yaml") },
    Template {
        name: "production-web",
        text: include_str!("../../../packaging/profiles/production-web.yaml"),
    },
    Template { name: "workstation", text: include_str!("../../../packaging/profiles/workstation.yaml") },
];

/// A profile that does nothing yet.
#[must_use]
pub fn empty(name: &Name) -> String {
    format!(
        "# What to write here: docs/guides/profiles.md and docs/configuration.md.
name: {name}
version: \"1.0\"
critical_processes: []
throttling_rules: []
#  - name: backups
#    match: {{ comm: rsync }}
#    limits: {{ cpu: 30%, io_weight: 20, nice: 10 }}
"
    )
}
