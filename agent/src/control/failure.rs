//! Refusals and errors as they cross the control socket, and the one table of what they mean to scripts.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::model::chain::chain;

/// What kind of failure: each kind has an exit code and an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It was tried and did not work; nothing stands.
    Failed,
    /// The command line or request cannot be meant.
    Usage,
    /// The daemon is needed and does not run. Never sent by the daemon itself.
    NotRunning,
    /// There is no such process, group, rule or profile.
    NotFound,
    /// Not permitted.
    Denied,
    /// A configuration or request does not hold water.
    Invalid,
    /// Another state of things stands in the way.
    Conflict,
    /// Some of it was done and stands; the message names what.
    Partial,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Failed,
        Self::Usage,
        Self::NotRunning,
        Self::NotFound,
        Self::Denied,
        Self::Invalid,
        Self::Conflict,
        Self::Partial,
    ];

    /// Exit code of a command and HTTP status of a reply: the table of the contract.
    const fn codes(self) -> (u8, u16) {
        match self {
            Self::Failed => (1, 500),
            Self::Usage => (2, 400),
            Self::NotRunning => (3, 503),
            Self::NotFound => (4, 404),
            Self::Denied => (5, 403),
            Self::Invalid => (6, 422),
            Self::Conflict => (7, 409),
            Self::Partial => (8, 500),
        }
    }

    /// Exit code of a command that fails so.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        self.codes().0
    }

    /// The kind with this exit code.
    #[must_use]
    pub fn from_exit_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i32::from(kind.exit_code()) == code)
    }

    /// HTTP status of a reply that fails so.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.codes().1
    }
}

/// A failure for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// What went wrong, with its causes: operation, object, value.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// An error with its chain of causes, each told once.
    #[must_use]
    pub fn from_error(kind: FailureKind, error: &dyn std::error::Error) -> Self {
        Self::new(kind, chain(error))
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_contract() {
        let table: Vec<_> = FailureKind::ALL.iter().map(|kind| (*kind, kind.exit_code())).collect();
        assert_eq!(
            table,
            [
                (FailureKind::Failed, 1),
                (FailureKind::Usage, 2),
                (FailureKind::NotRunning, 3),
                (FailureKind::NotFound, 4),
                (FailureKind::Denied, 5),
                (FailureKind::Invalid, 6),
                (FailureKind::Conflict, 7),
                (FailureKind::Partial, 8),
            ]
        );
        assert!(FailureKind::ALL.iter().all(|kind| (400..600).contains(&kind.http_status())));
    }
}
