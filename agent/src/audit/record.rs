//! What a record holds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::actor::Actor;

/// Version of the form of a record.
pub const VERSION: u32 = 1;
/// Longest text in a record, in bytes; what is longer is cut.
pub const TEXT_MAX: usize = 4_096;
/// Most facts in a record.
const FACTS_MAX: usize = 32;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It did not work, and nothing stands.
    Failure,
    /// It is not permitted, or something stands in its way; nothing was done.
    Denied,
    /// Some of it was done.
    Partial,
    /// Nobody did it: it happened.
    Observed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Success, Self::Failure, Self::Denied, Self::Partial, Self::Observed];

    /// As records spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
            Self::Partial => "partial",
            Self::Observed => "observed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is to be recorded: a record without its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in ms since the Unix epoch.
    pub unix_ms: i64,
    /// Its type, such as `throttle.applied`.
    pub kind: &'static str,
    /// Who.
    pub actor: Actor,
    /// To what, such as `group backups`.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// In words.
    pub detail: String,
    /// The event that tells the same, if one does.
    pub event: Option<String>,
    /// Single facts, by name.
    pub facts: BTreeMap<String, String>,
}

impl Entry {
    /// A success without words.
    #[must_use]
    pub fn new(unix_ms: i64, kind: &'static str, actor: Actor, subject: impl Into<String>) -> Self {
        Self {
            unix_ms,
            kind,
            actor,
            subject: subject.into(),
            outcome: Outcome::Success,
            detail: String::new(),
            event: None,
            facts: BTreeMap::new(),
        }
    }

    /// The same with how it ended.
    #[must_use]
    pub fn ended(self, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), ..self }
    }

    /// The same with a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        if self.facts.len() < FACTS_MAX {
            self.facts.insert(name.to_owned(), cut(value.to_string()));
        }
        self
    }

    /// In its place: after the record whose hash is `prev`.
    pub(super) fn placed(&self, seq: u64, prev: &str) -> Body {
        let time = jiff::Timestamp::from_millisecond(self.unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Body {
            v: VERSION,
            seq,
            time,
            kind: self.kind.to_owned(),
            actor: self.actor.clone(),
            subject: cut(self.subject.clone()),
            outcome: self.outcome,
            detail: cut(self.detail.clone()),
            event: self.event.clone(),
            facts: self.facts.clone(),
            prev: prev.to_owned(),
        }
    }
}

/// All of a record that its hash covers, in the order in which it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Body {
    /// [`VERSION`].
    pub v: u32,
    /// Its number: 1 for the first, without gaps.
    pub seq: u64,
    /// When.
    pub time: jiff::Timestamp,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who.
    pub actor: Actor,
    /// To what.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The event that tells the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Single facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// Hash of the record before.
    pub prev: String,
}

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Record {
    /// What the hash covers.
    #[serde(flatten)]
    pub body: Body,
    /// SHA-256 over the hash of the record before and this one without the hash, in hexadecimal.
    pub hash: String,
}

/// Cuts a text at [`TEXT_MAX`] bytes, between characters.
fn cut(mut text: String) -> String {
    const MARK: &str = "…";
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX - MARK.len()));
        text.push_str(MARK);
    }
    text
}
