//! What follows from a match: limits, protection, alerts.

mod bystander;
pub(crate) mod conflict;
pub(crate) mod critical;
pub(crate) mod dynamic;
pub(crate) mod give_way;
pub(crate) mod group;
mod groups;
pub(crate) mod health;
mod motion;
pub(crate) mod objective;
pub(crate) mod outcome;
pub mod protect;
pub(crate) mod protection;
pub(crate) mod refusal;
pub(crate) mod reservation;
pub(crate) mod restart;
pub(crate) mod throttle;
