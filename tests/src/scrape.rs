//! Fetches metrics as Prometheus does, and finds figures in the text.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::daemon::Daemon;

/// A listener that does not answer within this is broken.
const PATIENCE: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The text of one scrape.
#[derive(Clone, Debug)]
pub struct Scrape(pub String);

/// Where the agent says that metrics are: `HOST:PORT`.
///
/// # Errors
/// When it does not say so.
pub fn address(daemon: &Daemon<'_>) -> Result<String> {
    let (_, why) = feature(daemon)?;
    let rest = why.split_once("http://").map(|(_, rest)| rest).with_context(|| why.clone())?;
    Ok(rest.split_once("/metrics").with_context(|| why.clone())?.0.to_owned())
}

/// State of the feature `metrics-export` and why it is so.
///
/// # Errors
/// When the status has none.
pub fn feature(daemon: &Daemon<'_>) -> Result<(String, String)> {
    state_of(daemon, "metrics-export")
}

/// State of a feature and why it is so.
///
/// # Errors
/// When the status has none of that name.
pub fn state_of(daemon: &Daemon<'_>, name: &str) -> Result<(String, String)> {
    let status = daemon.data(&["daemon", "status"])?;
    let features = status["features"].as_array().context("features")?;
    let found = features.iter().find(|feature| feature["name"] == name).context("the feature")?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("why")))
}

impl Scrape {
    /// Over TCP.
    ///
    /// # Errors
    /// When the answer is no text of metrics.
    pub fn over_tcp(address: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE)).context("set the timeout")?;
        stream.write_all(REQUEST).context("ask")?;
        Self::read(stream)
    }

    /// Over the control socket.
    ///
    /// # Errors
    /// As [`Self::over_tcp`].
    pub fn over_socket(path: &Path) -> Result<Self> {
        let mut stream =
            UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE)).context("set the timeout")?;
        stream.write_all(REQUEST).context("ask")?;
        Self::read(stream)
    }

    fn read(mut stream: impl Read) -> Result<Self> {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("read the answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?;
        ensure!(head.starts_with("HTTP/1.1 200") && head.contains("version=0.0.4"), "{answer}");
        Ok(Self(body.to_owned()))
    }

    /// The figure of a series, such as `process_throttler_processes` or `…_total{stage="ring"}`.
    #[must_use]
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// The same, which must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn figure(&self, series: &str) -> Result<f64> {
        self.get(series).with_context(|| format!("no {series} in\n{}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let scrape = Scrape("# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"12\"} 3.5\na 7\n".to_owned());
        assert_eq!(scrape.get("a_total{x=\"12\"}"), Some(3.5));
        assert_eq!((scrape.get("a"), scrape.get("a_total")), (Some(7.0), None));
    }
}
