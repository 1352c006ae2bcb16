//! How the audit log is kept and where it is sent, as the configuration says. Plain values.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::id::Name;
use crate::model::telemetry::Access;

/// Settings of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSettings {
    /// When a file is closed, and how many are kept.
    pub rotation: Rotation,
    /// Where records are sent. Names are unique.
    pub ship: Vec<Destination>,
}

/// When a file of the audit log is closed, and how many closed ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Before a file grows beyond so many bytes.
    pub size: u64,
    /// Once its first record is so old.
    pub after: Duration,
    /// Closed files that are kept; the oldest go first.
    pub keep: usize,
}

impl Rotation {
    /// What holds where the configuration says nothing.
    pub const DEFAULT: Self = Self { size: 16 << 20, after: Duration::from_secs(30 * 24 * 3_600), keep: 24 };
}

impl Default for Rotation {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Where records are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its name, which its progress is kept under.
    pub name: Name,
    /// What it is.
    pub to: Receiver,
}

/// Who takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// The journal of this machine, by its own protocol.
    Journald,
    /// A syslog receiver, by RFC 5424.
    Syslog {
        /// Name or address of the machine.
        host: String,
        /// Its port.
        port: u16,
        /// How it is reached.
        transport: Transport,
    },
    /// A receiver of OTLP over HTTP, as log records.
    Otlp {
        /// The URL of logs, path included.
        url: String,
        /// How it is asked.
        access: Access,
    },
}

/// How a syslog receiver is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram per record (RFC 5426). Nothing tells whether it arrived.
    Udp,
    /// A stream, each record after its length (RFC 6587).
    Tcp,
    /// The same within TLS (RFC 5425).
    Tls {
        /// PEM file of the certificates that the receiver's must descend from. Absolute.
        ca_file: PathBuf,
    },
}
