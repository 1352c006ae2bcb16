//! Finding records, and counting them. Reads only; lines that are no records are counted, and `verify` tells more.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use serde::Serialize;

use super::files::{Place, Snapshot};
use super::record::{Outcome, Record};

/// Most different actors that are counted on their own.
const ACTORS_MAX: usize = 256;
/// What the rest is counted as.
const OTHERS: &str = "others";

/// Which records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not older, in ms since the Unix epoch.
    pub since: Option<i64>,
    /// Not younger, likewise.
    pub until: Option<i64>,
    /// By this actor, see [`super::Actor::is`].
    pub actor: Option<String>,
    /// Of this type, or of the types below it: `throttle` finds `throttle.applied`.
    pub kind: Option<String>,
    /// With this in the subject.
    pub subject: Option<String>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
}

impl Filter {
    /// Whether a record is meant.
    #[must_use]
    pub fn admits(&self, record: &Record) -> bool {
        let (body, at) = (&record.body, record.body.time.as_millisecond());
        let of_kind = |kind: &str| {
            body.kind.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at <= until)
            && self.actor.as_ref().is_none_or(|actor| body.actor.is(actor))
            && self.kind.as_ref().is_none_or(|kind| of_kind(kind))
            && self.subject.as_ref().is_none_or(|subject| body.subject.contains(subject.as_str()))
            && self.outcome.is_none_or(|outcome| body.outcome == outcome)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest, oldest first.
    pub records: VecDeque<Record>,
    /// Lines that are no records.
    pub unreadable: u64,
}

/// The newest `limit` records that the filter admits.
///
/// # Errors
/// When a file cannot be read.
pub fn search(place: &Place, filter: &Filter, limit: usize) -> io::Result<Found> {
    let mut found = Found::default();
    Snapshot::take(place)?.each(|_, _, line| {
        match serde_json::from_slice::<Record>(line.bytes) {
            Ok(record) if filter.admits(&record) => {
                if found.records.len() == limit {
                    found.records.pop_front();
                }
                found.records.push_back(record);
            }
            Ok(_) => {}
            Err(_broken) => found.unreadable += 1,
        }
        true
    })?;
    Ok(found)
}

/// Figures of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stats {
    /// Records.
    pub records: u64,
    /// Lines that are no records.
    pub unreadable: u64,
    /// Files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// When the oldest record was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<jiff::Timestamp>,
    /// When the newest was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<jiff::Timestamp>,
    /// Records that could not be written, as later ones tell.
    pub missing: u64,
    /// Records by type.
    pub types: BTreeMap<String, u64>,
    /// Records by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Records by actor.
    pub actors: BTreeMap<String, u64>,
}

/// Counts the whole log.
///
/// # Errors
/// When a file cannot be read.
pub fn stats(place: &Place) -> io::Result<Stats> {
    let snapshot = Snapshot::take(place)?;
    let (files, bytes) = snapshot.size();
    let mut stats = Stats { files, bytes, ..Stats::default() };
    snapshot.each(|_, _, line| {
        match serde_json::from_slice::<Record>(line.bytes) {
            Ok(record) => stats.count(record),
            Err(_broken) => stats.unreadable += 1,
        }
        true
    })?;
    Ok(stats)
}

impl Stats {
    fn count(&mut self, record: Record) {
        let body = record.body;
        self.records += 1;
        self.oldest.get_or_insert(body.time);
        self.newest = Some(body.time);
        let missing = body.facts.get("missing").and_then(|missing| missing.parse().ok());
        self.missing = self.missing.saturating_add(missing.unwrap_or(0));
        *self.outcomes.entry(body.outcome).or_default() += 1;
        bump(&mut self.types, body.kind);
        bump(&mut self.actors, body.actor.to_string());
    }
}

fn bump(counts: &mut BTreeMap<String, u64>, key: String) {
    let key = if counts.contains_key(&key) || counts.len() < ACTORS_MAX { key } else { OTHERS.to_owned() };
    *counts.entry(key).or_default() += 1;
}
