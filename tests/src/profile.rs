//! Texts of profiles. JSON is YAML, and quotes paths and names that YAML would take for something else.

use std::path::Path;

use serde_json::{Value, json};

/// A profile under construction.
#[derive(Clone, Debug)]
pub struct ProfileText {
    name: String,
    critical: Vec<Value>,
    rules: Vec<Value>,
}

impl ProfileText {
    /// An empty profile.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), critical: Vec::new(), rules: Vec::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a critical process, known by its executable.
    #[must_use]
    pub fn critical(self, name: &str, exe: &Path) -> Self {
        self.critical_matching(name, &json!({ "exe": exe }))
    }

    /// Adds a critical process with any match.
    #[must_use]
    pub fn critical_matching(mut self, name: &str, matches: &Value) -> Self {
        self.critical.push(json!({ "name": name, "match": matches }));
        self
    }

    /// Adds a critical process as it is written.
    #[must_use]
    pub fn critical_value(mut self, critical: Value) -> Self {
        self.critical.push(critical);
        self
    }

    /// Adds a critical process, known by its executable, with further keys.
    #[must_use]
    pub fn critical_with(mut self, name: &str, exe: &Path, keys: &Value) -> Self {
        let mut entry = json!({ "name": name, "match": { "exe": exe } });
        if let (Some(entry), Some(keys)) = (entry.as_object_mut(), keys.as_object()) {
            entry.extend(keys.clone());
        }
        self.critical.push(entry);
        self
    }

    /// Adds a rule for processes of this comm.
    #[must_use]
    pub fn rule(self, name: &str, comm: &str, limits: &Value) -> Self {
        self.rule_matching(name, &json!({ "comm": comm }), limits, "group")
    }

    /// Adds a rule with any match and scope.
    #[must_use]
    pub fn rule_matching(self, name: &str, matches: &Value, limits: &Value, scope: &str) -> Self {
        self.rule_value(json!({ "name": name, "match": matches, "limits": limits, "scope": scope }))
    }

    /// Adds a rule as it is written.
    #[must_use]
    pub fn rule_value(mut self, rule: Value) -> Self {
        self.rules.push(rule);
        self
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { name, critical, rules } = self;
        let profile = json!({
            "name": name,
            "version": "1.0",
            "description": "made by a test",
            "critical_processes": critical,
            "throttling_rules": rules,
        });
        format!("{profile:#}\n")
    }
}
