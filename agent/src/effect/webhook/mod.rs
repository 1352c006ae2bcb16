//! Webhook deliveries: what was written durably to the outbox reaches the endpoint, signed, at least once and
//! always under the same id, or ends as a dead letter that is told. Never decides what is worth telling.

pub mod deliver;
#[cfg(test)]
pub(crate) mod fake;
pub mod payload;
pub mod secret;
