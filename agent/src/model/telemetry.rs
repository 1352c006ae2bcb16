//! How figures are shown and sent, as the configuration says. Plain values.

use core::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Port of the metrics where the configuration names none: the one that Prometheus' registry has for OpenTelemetry.
pub const PORT: u16 = 9_464;

/// Settings of the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Where they can be fetched over TCP; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Where they are pushed to.
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
    /// The URL of its metrics, path included.
    pub url: String,
    /// From one push to the next.
    pub interval: Duration,
    /// Time for one push, from connecting to the answer; not longer than the interval.
    pub timeout: Duration,
    /// What is sent with each push.
    pub headers: Vec<Header>,
    /// Certificates that are trusted instead of the system's. Absolute.
    pub ca_file: Option<PathBuf>,
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
    /// The first line of this file, which nobody else may see. Absolute. Read for every push.
    File(PathBuf),
}
