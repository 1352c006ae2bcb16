//! The audit log: who changed what, and what was refused, in files that show when they were altered.
//!
//! JSON lines in the log directory, each with a hash over itself and the line before, flushed to the disk before a
//! change counts as audited. The daemon and offline commands write the same files under a lock. Nothing here decides
//! what is worth a record, and nothing here changes anything but the log.

pub mod actor;
pub mod chain;
pub mod files;
pub mod log;
pub mod notice;
pub mod query;
pub mod record;
pub mod ship;
pub mod verify;

pub use actor::Actor;
pub use log::{AuditError, Log};
pub use record::{Entry, Outcome, Record};
