//! How a command ends when it does not end well.

use std::io;

use crate::control::failure::{Failure, FailureKind};

/// Why a command stops early.
#[derive(Debug)]
pub enum CliError {
    /// It failed: told on stderr, and the kind is the exit code.
    Failed(Box<Failure>),
    /// A command that was to be run could not be: told on stderr, with the exit code that shells have for it.
    Unstarted {
        /// 126 or 127.
        code: u8,
        /// What to say.
        failure: Box<Failure>,
    },
    /// All was said on stdout already; only the exit code is left.
    Exit(FailureKind),
    /// Whoever read the output has enough of it. No error.
    PipeClosed,
}

/// What a command returns.
pub type CliResult<T = ()> = Result<T, CliError>;

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<io::Error> for CliError {
    /// Of writing output: other errors are turned into a [`Failure`] where their path is known.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::PipeClosed
        } else {
            Failure::new(FailureKind::Failed, format!("write output: {error}")).into()
        }
    }
}

/// The failure of an operation that is nobody's fault.
#[must_use]
pub fn failed(error: &dyn std::error::Error) -> CliError {
    Failure::from_error(FailureKind::Failed, error).into()
}

/// A command line that cannot be meant.
#[must_use]
pub fn usage(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Usage, message)
}

/// What a command says that needs the daemon and finds none. The text is part of the contract.
#[must_use]
pub fn requires_daemon(feature: &str) -> Failure {
    Failure::new(
        FailureKind::NotRunning,
        format!(
            "This feature ({feature}) requires the process-throttler daemon to be running.\n\
             Start it with: process-throttler daemon start\n\
             Or enable it as a service: systemctl enable --now process-throttler"
        ),
    )
}
