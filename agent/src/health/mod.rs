//! Whether the agent can do its work on this machine, and what to do where it cannot. Works with and without a daemon,
//! changes nothing, and says of a check that could not be made that it was not made.

mod configuration;
mod critical;
mod daemon;
mod resources;
mod system;
mod webhooks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::Dirs;
use crate::control::proto::{CriticalStatus, DaemonStatus};

/// How a check ended. In the order of how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// The agent works, but not as well as it could; or the check could not be made.
    Warning,
    /// The agent cannot do its work.
    Error,
}

/// What a check is about. In the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// The machine, and what it permits.
    System,
    /// The daemon.
    Daemon,
    /// Files that are read at a start.
    Configuration,
    /// What the agent needs room in.
    Resources,
    /// Endpoints.
    Webhooks,
    /// Critical processes of the active profile.
    Critical,
}

impl Category {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Daemon => "daemon",
            Self::Configuration => "configuration",
            Self::Resources => "resources",
            Self::Webhooks => "webhooks",
            Self::Critical => "critical",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// What it is about.
    pub category: Category,
    /// Its name, unique within the category.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was found, in a line.
    pub message: String,
    /// Figures and names behind it.
    pub details: BTreeMap<&'static str, String>,
    /// What to do: where `command` is there, in words what that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommendation: Option<String>,
    /// A command that can be typed as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Check {
    fn new(category: Category, name: impl Into<String>, status: Status, message: impl Into<String>) -> Self {
        Self {
            category,
            name: name.into(),
            status,
            message: message.into(),
            details: BTreeMap::new(),
            recommendation: None,
            command: None,
        }
    }

    fn ok(category: Category, name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(category, name, Status::Ok, message)
    }

    fn warning(category: Category, name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(category, name, Status::Warning, message)
    }

    fn error(category: Category, name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(category, name, Status::Error, message)
    }

    /// A check that could not be made, which is no good news and no bad.
    fn not_made(category: Category, name: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::warning(category, name, format!("not checked: {why}"))
    }

    fn detail(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.insert(name, value.to_string());
        self
    }

    fn advise(mut self, words: impl Into<String>) -> Self {
        self.recommendation = Some(words.into());
        self
    }

    fn run(mut self, words: impl Into<String>, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self.advise(words)
    }
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// The worst of them.
    pub status: Status,
    /// How many ended well.
    pub ok: usize,
    /// How many ended with a warning.
    pub warnings: usize,
    /// How many with an error.
    pub errors: usize,
    /// The checks, by category, in an order that is always the same.
    pub checks: Vec<Check>,
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        let count = |status| checks.iter().filter(|check| check.status == status).count();
        Self {
            status: checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok),
            ok: count(Status::Ok),
            warnings: count(Status::Warning),
            errors: count(Status::Error),
            checks,
        }
    }
}

/// What a daemon told, or why it told nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Told<T> {
    /// This.
    This(T),
    /// None runs.
    NotRunning,
    /// One runs, and did not tell.
    Nothing(String),
}

/// What checks are made with.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// Where files are.
    pub dirs: &'a Dirs,
    /// The daemon's state.
    pub daemon: Told<Box<DaemonStatus>>,
    /// The critical processes that it watches.
    pub critical: Told<Vec<CriticalStatus>>,
    /// Whether others are asked: endpoints.
    pub all: bool,
}

/// Makes every check.
pub async fn check(inputs: &Inputs<'_>) -> Report {
    let (settings, files) = configuration::check(inputs.dirs, &inputs.daemon);
    let mut checks = system::check(settings.as_ref(), &inputs.dirs.host);
    checks.extend(daemon::check(&inputs.daemon));
    checks.extend(files);
    checks.extend(resources::check(inputs.dirs, &inputs.daemon));
    checks.extend(webhooks::check(settings.as_ref(), inputs).await);
    checks.extend(critical::check(&inputs.critical));
    Report::new(checks)
}
