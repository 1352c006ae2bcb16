//! What can go wrong between us and systemd, with operation, unit, property and value.

use std::io;
use std::time::Duration;

/// Why systemd did not do something.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Neither of its sockets answers.
    #[error("systemd cannot be reached over D-Bus: {tried}")]
    Unreachable {
        /// Each socket and its error.
        tried: String,
    },
    /// It answered with an error, or the connection broke.
    #[error("{operation}")]
    Call {
        /// What was asked, with unit, property and value.
        operation: String,
        /// Its answer.
        source: Answer,
    },
    /// It did not answer.
    #[error("{operation}: systemd did not answer within {waited:?}")]
    Silent {
        /// What was asked.
        operation: String,
        /// For how long we waited.
        waited: Duration,
    },
    /// It answers, but what was begun has not ended.
    #[error("{operation}: not done within {waited:?}")]
    Late {
        /// What was asked.
        operation: String,
        /// For how long we waited.
        waited: Duration,
    },
    /// It took a value and shows another, or did something else than was asked.
    #[error("{operation}: {why}")]
    Other {
        /// What was asked.
        operation: String,
        /// What came of it.
        why: String,
    },
    /// A drop-in file of a unit could not be read, written or removed.
    #[error("{operation} {path}")]
    DropIn {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// The thread that talks to it could not be started.
    #[error("start the thread that talks to systemd")]
    Thread(#[source] io::Error),
}

/// An error reply, or a failure of the connection.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Answer {
    /// D-Bus error name, such as `org.freedesktop.systemd1.NoSuchUnit`; empty for failures of the connection.
    pub name: String,
    /// In words.
    pub text: String,
}

impl Answer {
    pub(crate) fn of(error: &zbus::Error) -> Self {
        if let zbus::Error::MethodError(name, text, _) = error {
            let name = name.to_string();
            let text = text.clone().unwrap_or_else(|| name.clone());
            return Self { name, text };
        }
        if let zbus::Error::FDO(error) = error {
            use zbus::DBusError as _;
            let name = error.name().to_string();
            let text = error.description().unwrap_or(&name).to_owned();
            return Self { name, text };
        }
        Self { name: String::new(), text: error.to_string() }
    }
}

impl SystemdError {
    /// Whether systemd answered that there is no such unit, or that it is gone by now.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        const NAMES: [&str; 4] = [
            "org.freedesktop.systemd1.NoSuchUnit",
            "org.freedesktop.systemd1.NoUnitForPID",
            "org.freedesktop.DBus.Error.UnknownObject",
            "org.freedesktop.DBus.Error.UnknownInterface",
        ];
        matches!(self, Self::Call { source, .. } if NAMES.contains(&source.name.as_str()))
    }

    /// Whether a unit of that name is there already.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.name == "org.freedesktop.systemd1.UnitExists")
    }

    /// Whether systemd does not answer at all: the next call would wait in vain, too.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. })
    }

    pub(crate) fn other(operation: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Other { operation: operation.into(), why: why.into() }
    }
}
