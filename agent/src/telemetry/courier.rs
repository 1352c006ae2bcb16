//! Brings log records to a receiver of OTLP and waits for its answer: for a thread of its own that may wait.

use std::io;

use tokio::runtime::{Builder, Runtime};

use super::otlp::logs::{self, LogRecord};
use super::otlp::{self, Origin};
use super::post::Poster;
use crate::model::chain::chain;
use crate::model::telemetry::Access;

/// See the module.
#[derive(Debug)]
pub struct Courier {
    url: String,
    poster: Poster,
    origin: Origin,
    runtime: Option<Runtime>,
}

impl Courier {
    /// To the URL of logs. Nothing is read or contacted yet.
    #[must_use]
    pub const fn new(url: String, access: Access, origin: Origin) -> Self {
        Self { url, poster: Poster::new(access), origin, runtime: None }
    }

    /// Sends records in one request; all of them have been taken when it returns.
    ///
    /// # Errors
    /// When they were not, or not all of them. Never with a secret in it.
    pub fn bring(&mut self, records: &[LogRecord]) -> io::Result<()> {
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => self.runtime.insert(Builder::new_current_thread().enable_all().build()?),
        };
        let encoded: Vec<Vec<u8>> = records.iter().map(logs::encode).collect();
        let body = otlp::batch(&self.origin, encoded.iter().map(Vec::as_slice));
        let answer = runtime
            .block_on(self.poster.post(&self.url, body))
            .map_err(|error| io::Error::other(format!("{}: {}", self.url, chain(&error))))?;
        match otlp::rejected(&answer) {
            (0, _) => Ok(()),
            (count, why) => {
                Err(io::Error::other(format!("{}: {count} records were rejected: {why}", self.url)))
            }
        }
    }
}
