//! Names of the features that only the daemon provides, as its absence is told and `daemon status` lists them.

/// Limits that follow processes as they come and go, and the event stream.
pub(super) const MONITORING: &str = "continuous-monitoring";
/// Knowledge of each process's history, critical ones first.
pub(super) const CRITICAL: &str = "critical-process-monitoring";
/// Limits that end or change by themselves.
pub(super) const DYNAMIC: &str = "dynamic-throttling";

/// All of them.
pub(super) const ALL: [&str; 3] = [MONITORING, CRITICAL, DYNAMIC];
