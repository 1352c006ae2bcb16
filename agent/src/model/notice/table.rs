//! The event types of the contract, one row each: what every part that tells of events has to agree on. Plain
//! data; what a single notice means is in [`super::part`].

use crate::model::notice::{Notice, Severity};

/// What an event tells of. Events of one type about the same subject are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A critical process of the profile.
    Critical,
    /// A group.
    Group,
    /// A webhook endpoint.
    Endpoint,
    /// The machine, or the agent itself.
    Host,
}

/// When an endpoint is told of events that are not alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each at once.
    AtOnce,
    /// Alike ones together, see `group_wait` of `model::endpoint::Noise`.
    Together,
}

/// What a type has to do with alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: it happens and is over.
    Event,
    /// It begins one.
    Begins,
    /// It ends those of these types.
    Ends(&'static [&'static str]),
}

/// An event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Its name, `type` in events and deliveries.
    pub name: &'static str,
    /// How bad, if nothing makes it otherwise.
    pub severity: Severity,
    /// Its type in the audit log.
    pub audit: &'static str,
    /// The counter of such events.
    pub metric: &'static str,
    /// What it tells of.
    pub about: About,
    /// How endpoints are told.
    pub pace: Pace,
    /// Its part in alerts.
    pub stage: Stage,
    /// What it means.
    pub meaning: &'static str,
    /// Whether this version gives it. The others are names that are taken.
    pub given: bool,
}

impl EventType {
    /// The type of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        EVENT_TYPES.iter().find(|row| row.name == name)
    }
}

/// What ends when a critical process is seen again.
pub const ABSENCE: &[&str] = &["critical_process_down", "critical_process_missing"];

/// Alerts that mean that a critical process does not do its work; those that need it are not told meanwhile.
pub const OUTAGES: [&str; 3] = ["critical_process_down", "critical_process_missing", "health_check_failed"];

macro_rules! event_types {
    ($($given:ident $name:literal $severity:ident $about:ident $pace:ident $stage:expr,
       $audit:literal, $metric:literal, $meaning:literal;)+) => {
        /// All types, by theme.
        pub const EVENT_TYPES: &[EventType] = &[$(EventType {
            name: $name,
            severity: Severity::$severity,
            audit: $audit,
            metric: concat!("process_throttler.", $metric),
            about: About::$about,
            pace: Pace::$pace,
            stage: $stage,
            meaning: $meaning,
            given: event_types!(@$given),
        }),+];
    };
    (@given) => { true };
    (@taken) => { false };
}

event_types! {
    given "critical_process_down" Critical Critical AtOnce Stage::Begins,
        "critical.down", "critical.deaths", "a critical process died";
    given "critical_process_missing" Critical Critical AtOnce Stage::Begins,
        "critical.missing", "critical.missing", "a critical process is not there although it should be";
    given "critical_process_restart" Info Critical AtOnce Stage::Event,
        "critical.restart", "critical.restarts", "a critical process is restarted, or that was given up";
    given "critical_process_recovered" Info Critical AtOnce Stage::Ends(ABSENCE),
        "critical.recovered", "critical.recoveries", "a critical process is there again";
    given "protection_failed" Warning Critical AtOnce Stage::Event,
        "critical.unprotected", "critical.unprotected", "a critical process could not be given its protection";
    given "health_check_failed" Critical Critical AtOnce Stage::Begins,
        "health.failed", "health.failures", "a critical process does not answer its health check";
    given "health_check_recovered" Info Critical AtOnce Stage::Ends(&["health_check_failed"]),
        "health.recovered", "health.recoveries", "a critical process answers its health check again";
    given "latency_slo_violated" Warning Critical AtOnce Stage::Begins,
        "latency.violated", "latency.violations", "a critical process waits longer for a CPU than its objective says";
    given "latency_slo_recovered" Info Critical AtOnce Stage::Ends(&["latency_slo_violated"]),
        "latency.recovered", "latency.recoveries", "its waiting times are within the objective again";
    given "throttle_applied" Info Group Together Stage::Event,
        "throttle.applied", "throttle.applied", "limits came into force on a group";
    given "throttle_adjusted" Info Group Together Stage::Event,
        "throttle.adjusted", "throttle.adjusted", "a policy changed the limits of a group";
    given "throttle_failed" Warning Group Together Stage::Event,
        "throttle.failed", "throttle.failures", "limits could not be brought into force";
    given "throttle_removed" Info Group Together Stage::Ends(&["throttle_conflict"]),
        "throttle.removed", "throttle.removed", "a group was released and its prior values restored";
    given "throttle_conflict" Warning Group Together Stage::Begins,
        "throttle.conflict", "throttle.conflicts",
        "somebody else changed what a limit had set; an alert when theirs stays";
    taken "resource_limit_reached" Warning Group Together Stage::Event,
        "throttle.reached", "throttle.reached", "a group ran into its limits";
    taken "system_overload" Warning Host Together Stage::Event,
        "system.overload", "system.overloads", "the machine is overloaded";
    given "emergency_stop" Critical Host AtOnce Stage::Begins,
        "emergency.stop", "emergency.stops", "everything was lifted, and nothing is limited until somebody resumes";
    given "emergency_resumed" Info Host AtOnce Stage::Ends(&["emergency_stop"]),
        "emergency.resume", "emergency.resumes", "the emergency is over: rules limit again";
    given "profile_activated" Info Host AtOnce Stage::Event,
        "profile.activated", "profile.activations", "a profile came into force, or none is any more";
    given "configuration_changed" Info Host AtOnce Stage::Event,
        "configuration.changed", "configuration.changes",
        "a configuration was loaded, or refused, which is a warning";
    given "backup_created" Info Host AtOnce Stage::Event,
        "backup.created", "backups.created", "a backup was written";
    given "security_violation" Critical Host AtOnce Stage::Event,
        "security.violation", "security.violations", "somebody tried what is denied";
    given "events_lost" Warning Host Together Stage::Event,
        "events.lost", "events.lost", "the kernel dropped records; the process table was rebuilt";
    given "probes_shed" Warning Host AtOnce Stage::Event,
        "probes.shed", "probes.shed", "the scheduler's probes cost more than they may and rest for a minute";
    given "webhook_disabled" Warning Endpoint AtOnce Stage::Event,
        "webhook.disabled", "webhook.disabled", "an endpoint said that it wants nothing any more";
    given "test" Info Host AtOnce Stage::Event,
        "test", "events.tests", "sent on request, to every endpoint whose list of events allows it";
}

impl Notice {
    /// The row of its type.
    #[must_use]
    pub fn event_type(&self) -> Option<&'static EventType> {
        EventType::named(self.kind())
    }
}

#[cfg(test)]
mod tests;
