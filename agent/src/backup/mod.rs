//! Backups: configuration, state and audit trail in one archive, and the way back.
//!
//! A backup is a gzip-compressed tar of regular files, its manifest first, encrypted with age where recipients are
//! given. What is read from an archive is believed only where the manifest and the bounds of [`read`] allow it.
//! Asks no daemon and prints nothing: the daemon and the commands call this, and hold the lock that it needs.

mod crypt;
mod draft;
mod error;
mod inside;
mod manifest;
mod read;
mod restore;
mod room;
mod secrets;
mod shelf;
mod switch;
mod tar;
mod trial;
mod write;

#[cfg(test)]
mod hostile_tests;

pub use draft::{Draft, Order};
pub use error::BackupError;
pub use inside::{Database, Inside, Place};
pub use manifest::{FileRecord, LeftOut, Manifest};
pub use read::Archive;
pub use restore::{Change, Fate, Prepared, Restored, foresee};
pub use shelf::{Entry, Shelf};
pub use switch::{is_pending, recover};

/// Told how many bytes have been worked on since the last call.
pub type Progress<'a> = &'a mut dyn FnMut(u64);
