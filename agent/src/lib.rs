//! process-throttler: keeps the processes that matter responsive by limiting the ones that starve them.
//!
//! Modules in the order in which data flows; `docs/ARCHITECTURE.md` draws it and states the invariants.
#![deny(unsafe_code)]

pub mod clock;
pub mod sys;
pub mod model;
pub mod source;
pub mod decode;
pub mod engine;
pub mod alert;
pub mod audit;
pub mod container;
pub mod sealed;
pub mod config;
pub mod procfs;
pub mod cgroup;
pub mod systemd;
pub mod effect;
pub mod store;
pub mod telemetry;
pub mod backup;
pub mod control;
pub mod daemon;
pub mod health;
pub mod cli;
