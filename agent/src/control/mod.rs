//! The control socket: HTTP/1.1 with JSON on a unix socket, versioned `/v1`.
//!
//! The server turns requests into [`server::Call`]s that the daemon answers; it decides nothing itself but
//! who may ask.

pub mod access;
pub mod client;
mod desk;
pub mod failure;
pub mod feature;
pub mod peer;
pub mod proto;
mod routes;
pub mod server;
mod socket;
pub mod stream;

#[cfg(test)]
mod tests;
