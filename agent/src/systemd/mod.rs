//! systemd over D-Bus: which unit a cgroup is, what its limits are, and how to change them with systemd's own
//! means, so that nothing is ever written behind its back.
//!
//! Knows nothing of rules, groups or intents. Every call is bounded in time but takes about a millisecond, so
//! none is made on the engine thread.

pub mod bus;
pub mod dropin;
pub mod error;
pub mod name;
mod private;
pub mod property;
pub mod service;
pub mod transient;
pub mod unit;

#[cfg(test)]
pub(crate) mod fake;

pub use crate::systemd::bus::{Bus, Sockets};
pub use crate::systemd::error::SystemdError;
pub use crate::systemd::property::{Property, Value};
pub use crate::systemd::unit::{KillMode, Unit};
