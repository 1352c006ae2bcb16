//! Carries out the engine's actions, live or dry.

pub mod apply;
pub mod attribute;
pub mod drift;
mod emergency;
pub mod dry;
pub mod fail_point;
pub mod group;
pub mod health;
pub mod kernel;
mod level;
pub mod moves;
pub mod plan;
mod program;
pub mod protect;
mod protection;
mod release;
pub mod reservation;
pub mod restart;
pub mod restore;
mod take_back;
mod task;
pub mod throttle;
pub mod webhook;

pub use crate::effect::kernel::{EffectError, Kernel};
pub use crate::effect::task::Hold;
pub use crate::effect::throttle::{MoveBatch, Step, Throttle};

#[cfg(test)]
mod bed;
#[cfg(test)]
mod ownership;
#[cfg(test)]
mod protection_tests;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod reservation_tests;
#[cfg(test)]
mod succession;
#[cfg(test)]
mod systemd_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod sequences;
