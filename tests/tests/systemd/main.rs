//! Behaviours of the agent on a host that systemd runs, one per module. Needs root, systemd as pid 1 and cgroup v2.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module as a whole")]

mod bad_input;
mod clock;
mod critical;
mod daemon;
mod installed;
mod package;
mod scope;
mod unit;
