//! One attempt at an endpoint and what follows from its answer. The rules are pure and told the time; only
//! [`client`] talks to anybody.

pub mod address;
pub mod breaker;
mod certificate;
pub mod client;
pub mod judge;
pub mod limiter;
mod resolve;
pub mod schedule;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
