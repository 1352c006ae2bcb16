//! Configuration: what was written, merged and validated, with every error at file:line:column.
//!
//! `paths` says where files are, `file` reads, parses and writes them, `fields` walks a parsed tree, and
//! `profile` and `settings` turn it into validated values. Nothing here starts, limits or contacts anything.

mod access;
mod audit;
mod backup;
pub mod calendar;
mod condition;
mod conflicts;
mod critical;
pub mod diff;
pub mod error;
pub mod export;
mod extends;
mod fields;
pub mod file;
pub mod host;
mod limits;
pub mod logging;
mod metrics;
mod matching;
mod parts;
pub mod paths;
pub mod policy;
pub mod probes;
pub mod predecessor;
pub mod profile;
pub mod profiles;
pub mod revise;
pub mod settings;
mod subsume;
pub mod templates;
mod text;
mod noise;
mod webhook;
pub mod webhooks;

#[cfg(test)]
mod tests;

pub use error::{Finding, Findings};
pub use paths::Dirs;
pub use profile::validate_profile_file;
pub use profiles::ProfileStore;
pub use settings::Settings;
