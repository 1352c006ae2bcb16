//! How figures, events and traces are shown and sent, as the configuration says. Plain values.

use core::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::signal::Hundredths;

/// Port of the metrics where the configuration names none: the one that Prometheus' registry has for OpenTelemetry.
pub const PORT: u16 = 9_464;

/// Settings of the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Where they can be fetched over TCP; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Where they are pushed to, and events and traces sent.
    pub otlp: Option<Otlp>,
    /// Whether the kernel shall count what the BPF programs take, for as long as the agent runs.
    pub bpf_run_time: bool,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))), otlp: None, bpf_run_time: false }
    }
}

/// A receiver of OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The URL of each signal that is sent there, path included.
    pub urls: Urls,
    /// How many of the events that do not concern critical processes are traced.
    pub trace_ratio: Hundredths,
    /// From one push of metrics to the next.
    pub interval: Duration,
    /// How it is asked; the time for a request is not longer than the interval.
    pub access: Access,
}

/// How a receiver of OTLP is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Time for one request, from connecting to the answer.
    pub timeout: Duration,
    /// What is sent with each request.
    pub headers: Vec<Header>,
    /// Certificates that are trusted instead of the system's. Absolute.
    pub ca_file: Option<PathBuf>,
}

/// What OTLP tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Figures.
    Metrics,
    /// Events.
    Logs,
    /// How decisions came about.
    Traces,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    /// As OTLP and the configuration call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }
}

/// A URL for each signal that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Urls {
    /// Of metrics.
    pub metrics: Option<String>,
    /// Of logs.
    pub logs: Option<String>,
    /// Of traces.
    pub traces: Option<String>,
}

impl Urls {
    /// That of a signal.
    #[must_use]
    pub fn of(&self, signal: Signal) -> Option<&str> {
        match signal {
            Signal::Metrics => self.metrics.as_deref(),
            Signal::Logs => self.logs.as_deref(),
            Signal::Traces => self.traces.as_deref(),
        }
    }
}

/// An HTTP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name, in lower case.
    pub name: String,
    /// Its value, or where that is.
    pub value: HeaderValue,
}

/// See [`Header`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// As it is written: visible ASCII.
    Plain(String),
    /// The first line of this file, which nobody else may see. Absolute. Read for every request.
    File(PathBuf),
}
