//! Names of the agent's features, as `daemon status` lists them and the message about a missing daemon has
//! them. Each is one that this version has.

/// Events of processes as they come and go.
pub const MONITORING: &str = "continuous-monitoring";
/// Limits that follow a profile's rules.
pub const RULES: &str = "rule-throttling";
/// Limits by hand.
pub const MANUAL: &str = "manual-throttling";
/// Watch over critical processes, and what is known of single ones.
pub const CRITICAL: &str = "critical-process-monitoring";
/// Limits that change over time, and rules that hold under conditions.
pub const DYNAMIC: &str = "dynamic-throttling";
/// Profiles that come into force by the calendar.
pub const SCHEDULED: &str = "scheduled-profiles";
/// What happened, and what happens.
pub const EVENTS: &str = "event-stream";
/// Alerts that are posted.
pub const WEBHOOKS: &str = "webhooks";
/// Who changed what.
pub const AUDIT: &str = "audit-log";

/// Whether critical processes answer.
pub const HEALTH_CHECKS: &str = "health-checks";
/// Critical processes that died are started again.
pub const RESTART: &str = "auto-restart";
/// Critical processes are spared by the OOM killer and the scheduler.
pub const PROTECTION: &str = "protection";
/// Which events are alerts, that begin, stand and end.
pub const ALERTS: &str = "alerts";

/// How long processes wait for a CPU.
pub const PROBES: &str = "scheduler-probes";

/// Figures, for whoever fetches them or receives them.
pub const METRICS: &str = "metrics-export";

/// Events and traces, for whoever receives OTLP.
pub const EXPORT: &str = "event-export";

/// All of them, and whether they need the daemon.
pub const ALL: [(&str, bool); 16] = [
    (MONITORING, true),
    (RULES, true),
    (MANUAL, false),
    (DYNAMIC, true),
    (SCHEDULED, true),
    (CRITICAL, true),
    (HEALTH_CHECKS, true),
    (RESTART, true),
    (PROTECTION, true),
    (EVENTS, true),
    (ALERTS, true),
    (WEBHOOKS, true),
    (AUDIT, false),
    (PROBES, true),
    (METRICS, true),
    (EXPORT, true),
];
