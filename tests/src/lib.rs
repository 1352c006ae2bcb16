//! The harness: starts the real agent in private directories, makes real processes for it to find, and
//! reads back from the kernel what it did to them. The behaviour tests, the demo and the benchmarks share it.
//!
//! It links nothing of the agent: what it knows is the contract users see. It touches only processes and
//! cgroups that it made itself, and every one of them is owned by a guard that cleans up on drop.

pub mod binary;
pub mod cgroup;
pub mod clock;
pub mod command;
pub mod daemon;
pub mod disk;
pub mod follow;
pub mod foreign;
pub mod guide;
pub mod installed;
pub mod kernel;
pub mod places;
pub mod profile;
pub mod program;
pub mod prometheus;
pub mod receiver;
pub mod reference;
pub mod restored;
pub mod schemas;
pub mod scrape;
pub mod sink;
pub mod storm;
pub mod systemd;
pub mod terminal;
pub mod tool;
pub mod workload;
