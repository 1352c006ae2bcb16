//! Behaviours of the agent on the real kernel, one per module. Needs root; `cargo xtask test` runs it.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module as a whole")]

mod alert_lifecycle;
mod audit;
mod backup;
mod bad_cgroups;
mod bad_input;
mod bystanders;
mod cli_outputs;
mod conflicts;
mod critical_alert;
mod critical_causes;
mod daemon_lifecycle;
mod deliveries;
mod dry_run;
mod dynamic_policies;
mod emergency;
mod endpoints;
mod exec_to_throttle;
mod exit_codes;
mod fallback_sources;
mod guides;
mod health;
mod health_command;
mod killed_at_points;
mod last_seconds;
mod loss_accounting;
mod manual_limits_survive;
mod process_attributes;
mod profiles;
mod protection;
mod real_receivers;
mod release_on_sigkill;
mod restart;
mod roles;
mod run_command;
mod webhooks;
