//! Figures about the agent and what it limits, in one form that has two readers: Prometheus, which fetches them as text,
//! and OTLP, by which they are pushed. Knows which figures there are and how they are written, asks for them when
//! somebody wants them, and keeps none: where they come from is the daemon's affair. And what happens, as log records and
//! traces for whoever receives OTLP.

pub mod catalogue;
pub mod courier;
pub mod histogram;
pub mod lane;
pub mod listener;
pub mod otlp;
pub mod outlet;
mod post;
pub mod prometheus;
pub mod push;
pub mod sheet;
pub mod story;
#[cfg(test)]
pub(crate) mod testing;
mod wire;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::telemetry::catalogue::Kind;

/// A question for all figures as they are now. Whoever asked may have gone away.
#[derive(Debug)]
pub struct Question {
    /// Who asks: `prometheus` or `otlp`.
    pub reader: Reader,
    /// Where the answer goes; an error is why there is none.
    pub answer: oneshot::Sender<Result<Arc<Vec<Family>>, String>>,
}

/// Who reads figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Whoever fetches text over TCP.
    Prometheus,
    /// The push.
    Otlp,
    /// Whoever asks over the control socket.
    Socket,
}

/// A metric with its series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Family {
    /// Its name by OpenTelemetry's conventions, such as `process_throttler.events.lost`.
    pub name: Cow<'static, str>,
    /// Its name in Prometheus' text.
    pub prometheus: String,
    /// How it is counted.
    pub kind: Kind,
    /// Its unit in the notation of UCUM: `s`, `By`, `{event}`; empty where there is none.
    pub unit: Cow<'static, str>,
    /// What it tells.
    pub help: Cow<'static, str>,
    /// Its series, by labels.
    pub points: Vec<Point>,
}

/// One series of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Point {
    /// What tells it from the others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Cow<'static, str>, String>,
    /// Since when it is counted, in ns since 1970; absent: since the agent was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ns: Option<u64>,
    /// The figure.
    #[serde(flatten)]
    pub figure: Figure,
}

/// What a series is at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// A number.
    Value(Number),
    /// Many numbers, by size.
    Histogram(Buckets),
}

/// A number: whole where it counts something.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Number {
    /// Of things or bytes.
    Whole(u64),
    /// Of seconds.
    Real(f64),
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Buckets {
    /// Upper bounds of the buckets but the last, which has none; rising.
    pub bounds: Vec<f64>,
    /// How many there are in each, not those below with them.
    pub counts: Vec<u64>,
    /// The sum of all.
    pub sum: f64,
}

impl Buckets {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds others with the same bounds.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum = sum.saturating_add(*count);
        }
        self.sum += other.sum;
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Number {
    fn from(yes: bool) -> Self {
        Self::Whole(u64::from(yes))
    }
}

impl From<std::time::Duration> for Number {
    fn from(time: std::time::Duration) -> Self {
        Self::Real(time.as_secs_f64())
    }
}

impl std::ops::Add for Number {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Self::Whole(a.saturating_add(b)),
            (Self::Real(a), Self::Real(b)) => Self::Real(a + b),
            (Self::Whole(whole), Self::Real(real)) | (Self::Real(real), Self::Whole(whole)) => {
                Self::Real(real + whole as f64)
            }
        }
    }
}
