//! What follows from a match: limits, protection, alerts.

mod bystander;
pub(crate) mod conflict;
pub(crate) mod critical;
pub(crate) mod group;
mod outcome;
pub mod protect;
pub(crate) mod throttle;
