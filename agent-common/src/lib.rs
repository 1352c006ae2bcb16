//! The contract between the kernel-side programs and the agent: names, wire records, map values, and the
//! decisions the programs take, as pure functions that are unit-tested on the host.
//!
//! Everything here is `no_std`, `repr(C)`, free of padding and made of integers: no Rust enum crosses the
//! wire. It must not format, allocate or know policy.
#![no_std]

pub mod abi;
pub mod event;
pub mod gate;
pub mod header;
pub mod layout;
pub mod loss;
pub mod offsets;
pub mod sched;
pub mod settings;
pub mod text;
#[cfg(feature = "user")]
pub mod user;
