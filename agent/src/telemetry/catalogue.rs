//! Every metric there is: name, unit, labels, help. The only place where one is declared; the reference in
//! `docs/metrics.md` is made from it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::model::notice::table::EVENT_TYPES;

/// What all names begin with.
pub const NAMESPACE: &str = "process_throttler";

/// How a metric is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It only rises, until its series or the agent begins anew.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Times, by length.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its name, with the namespace.
    pub name: &'static str,
    /// How it is counted.
    pub kind: Kind,
    /// Its unit in the notation of UCUM; empty where there is none.
    pub unit: &'static str,
    /// What tells its series apart.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

impl Instrument {
    /// Its name in Prometheus' text: by OpenTelemetry's rules for that, with the unit and `_total` of a counter.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            // Annotations in braces are no units.
            _ => "",
        };
        let total = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{unit}{total}", self.name.replace('.', "_"))
    }
}

macro_rules! instruments {
    ($($constant:ident $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Instrument = Instrument {
                name: concat!("process_throttler.", $name),
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                help: $help,
            };
        )+
        /// All but the counters of events, which follow from the table of events.
        const OWN: &[Instrument] = &[$($constant),+];
    };
}

instruments! {
    BUILD Gauge "build.info" "" ["version"] "1, with the version of the agent.";
    UPTIME Gauge "uptime" "s" [] "Time since the agent was started.";
    SOURCE Gauge "source.info" "" ["source", "exact"]
        "1, with where process events come from, and whether losses are counted exactly.";
    SOURCE_DEGRADED Gauge "source.degraded" "" [] "1 while process events do not come from the best source.";
    EVENTS_RECEIVED Counter "events.received" "{event}" ["kind"]
        "Process events that the agent took in: exec, fork, alive (found by a sweep or snapshot), exit.";
    EVENTS_LOST Counter "events.lost" "{event}" ["stage"]
        "What was lost: records in the kernel's ring buffers (ring), records that were not understood (decode), events that found no room in the journal (journal), deliveries given up because too many were pending (outbox).";
    RING_RECORDS Counter "ring.records" "{record}" ["outcome"]
        "Records that the kernel side decided to send, by whether the ring buffers had room for them: sent or dropped.";
    RING_WAKEUPS Counter "ring.wakeups" "{wakeup}" [] "Times the kernel side woke the agent.";
    RING_WAITING Gauge "ring.waiting" "By" ["ring"]
        "Bytes in a ring buffer of the kernel side that the agent has not taken out yet: priority (critical and matched processes), bulk.";
    RING_CAPACITY Gauge "ring.capacity" "By" ["ring"] "Bytes that a ring buffer of the kernel side has room for.";
    PROCESSES Gauge "processes" "{process}" [] "Live processes that the agent knows.";
    RESYNCS Counter "resyncs" "{resync}" [] "Times the process table was rebuilt from a snapshot.";
    EVALUATIONS Counter "rule.evaluations" "{evaluation}" [] "Times the rules were evaluated for a process.";
    MATCHES Counter "rule.matches" "{process}" [] "Processes brought into a group by a rule.";
    THROTTLES Gauge "throttle.active" "{group}" ["profile", "resource"]
        "Groups under limits, by the profile that asked for it (by-hand: an operator) and by what is limited: cpu, memory, io, pids, attributes.";
    EFFECTS Counter "effects" "{action}" ["action", "result"]
        "Changes that the agent tried to make, by how they ended: applied, partly (some processes were refused), refused, failed, released, kept (processes were still in the group).";
    EFFECT_TIME Histogram "throttle.effect.duration" "s" []
        "From the decision to limit to the moment when the limits were read back.";
    REACTION_TIME Histogram "throttle.reaction.duration" "s" []
        "From the exec that made a rule match, or the change of the rules, to the moment when the limits were read back.";
    GROUP_PROCESSES Gauge "group.processes" "{process}" ["group"] "Processes under the limits of a group.";
    CPU_TIME Counter "cgroup.cpu.time" "s" ["group"]
        "CPU time used in the cgroups of a throttled group, or by its processes where no cgroup accounts it, since the agent first looked.";
    THROTTLED_TIME Counter "cgroup.cpu.throttled" "s" ["group"]
        "Time for which CPU quotas held a group's cgroups back (summed over CPUs by the kernel).";
    THROTTLED_PERIODS Counter "cgroup.cpu.throttled.periods" "{period}" ["group"]
        "Periods in which a group's cgroups used up their CPU quota.";
    PERIODS Counter "cgroup.cpu.periods" "{period}" ["group"] "Periods in which a group's cgroups ran under a CPU quota.";
    MEMORY Gauge "cgroup.memory.usage" "By" ["group"] "Memory charged to the cgroups of a group that has a memory limit.";
    GROUP_WAIT Histogram "group.run_queue.wait" "s" ["group"]
        "Times for which threads in the cgroups of a throttled group waited for a CPU; only while the scheduler's probes are armed.";
    PRESSURE_WAITING Counter "pressure.waiting" "s" ["resource"]
        "Time for which at least one task of the machine waited for a resource (PSI some): cpu, memory, io.";
    PRESSURE_STALLED Counter "pressure.stalled" "s" ["resource"]
        "Time for which all tasks of the machine waited for a resource (PSI full).";
    EMERGENCY Gauge "emergency.active" "" [] "1 while an emergency stop is in force.";
    CONFIG_REFUSED Gauge "configuration.refused" "" []
        "1 while the last good configuration is in force because a newer one has errors.";
    CRITICAL_UP Gauge "critical.up" "" ["critical"]
        "1 while a critical process has as many instances as there must be, and is not unhealthy.";
    CRITICAL_INSTANCES Gauge "critical.instances" "{process}" ["critical"] "Live instances of a critical process.";
    CRITICAL_WANTED Gauge "critical.instances.wanted" "{process}" ["critical"] "Instances that a critical process must have.";
    CRITICAL_HEALTHY Gauge "critical.healthy" "" ["critical"]
        "1 while the health checks of a critical process succeed; absent where it is not checked, or was not yet.";
    CRITICAL_DEATHS Counter "critical.deaths" "{process}" ["critical", "cause"]
        "Instances of a critical process that ended: exited (by itself with code 0), failed (with another code), signal, oom (killed for a memory limit), unknown.";
    CRITICAL_RESTARTS Counter "critical.restarts" "{restart}" ["critical", "result"]
        "Attempts to restart a critical process: done, pending (left to the service manager), declined, failed.";
    CRITICAL_WAIT Histogram "critical.run_queue.wait" "s" ["critical"]
        "Times for which threads of a critical process waited for a CPU; only while the scheduler's probes are armed.";
    CRITICAL_LATENCY Gauge "critical.latency.violated" "" ["critical"]
        "1 while a critical process waits longer for a CPU than its objective says, for as long as that permits; absent without an objective.";
    HEALTH_CHECKS Counter "health.checks" "{check}" ["critical", "result"]
        "Health checks of a critical process: healthy, unhealthy, not_run.";
    DELIVERIES Counter "webhook.attempts" "{attempt}" ["endpoint", "result"]
        "Attempts to deliver to a webhook endpoint: delivered, failed (to be tried again), rejected.";
    GIVEN_UP Counter "webhook.given_up" "{delivery}" ["endpoint"] "Deliveries that were given up since the agent was started.";
    QUEUE_SIZE Gauge "webhook.queue.size" "{delivery}" ["endpoint", "state"]
        "Deliveries on record, by state: pending, and dead ones, which can be replayed.";
    QUEUE_AGE Gauge "webhook.queue.age" "s" ["endpoint"] "Age of the oldest delivery that is pending; 0 when none is.";
    ENDPOINT_OPEN Gauge "webhook.paused" "" ["endpoint"]
        "1 while nothing is sent to an endpoint because too many attempts failed in a row.";
    AUDIT_RECORDS Counter "audit.records" "{record}" ["result"] "Records of the audit log: written, failed.";
    JOURNAL_WAITING Gauge "journal.queue.size" "{event}" [] "Events on their way to the disk.";
    SELF_CPU Counter "self.cpu.time" "s" ["mode"] "CPU time of the agent: user, system.";
    SELF_MEMORY Gauge "self.memory.usage" "By" [] "Resident memory of the agent.";
    SELF_SWITCHES Counter "self.context_switches" "{switch}" ["type"]
        "Context switches of the agent's threads: voluntary (it slept and was woken), involuntary.";
    SELF_FILES Gauge "self.open_files" "{file}" [] "Open file descriptors of the agent.";
    SELF_THREADS Gauge "self.threads" "{thread}" [] "Threads of the agent.";
    BPF_TIME Counter "bpf.run.time" "s" []
        "Time spent in the agent's BPF programs; only while the kernel keeps these statistics (metrics.bpf_run_time, or kernel.bpf_stats_enabled).";
    BPF_RUNS Counter "bpf.runs" "{run}" [] "Runs of the agent's BPF programs; only while the kernel keeps these statistics.";
    COLLECT_TIME Histogram "metrics.collect.duration" "s" [] "Time that it took to collect these figures.";
    READS Counter "metrics.reads" "{read}" ["reader"] "Times these figures were asked for: prometheus, otlp, socket.";
    OVERFLOWED Gauge "metrics.overflowed" "{series}" []
        "Series that were added up in one with the labels \"other\", because a metric had too many.";
    UNREAD Gauge "metrics.cgroups.unread" "{cgroup}" [] "Cgroups of groups that were not read, because there are too many.";
    PUSHES Counter "metrics.pushes" "{push}" ["result"] "Pushes to the OTLP receiver: ok, failed.";
    PUSH_REJECTED Counter "metrics.push.rejected" "{point}" [] "Points that the OTLP receiver took in a push and rejected.";
    OTLP_SENT Counter "otlp.sent" "{record}" ["signal"] "Events (logs) and spans (traces) that the OTLP receiver took.";
    OTLP_LOST Counter "otlp.lost" "{record}" ["signal", "stage"]
        "Events and spans that the OTLP receiver did not get, by where they were lost: queue (too many were waiting), refused (the receiver refused them), given_up (all attempts failed), rejected (of what it took).";
    OTLP_QUEUE Gauge "otlp.queue.size" "{record}" ["signal"] "Events and spans on their way to the OTLP receiver.";
}

/// Every metric, in the order in which they are told.
pub fn all() -> impl Iterator<Item = Instrument> {
    OWN.iter().copied().chain(of_events())
}

/// The counter of events of a type. `None` where the metric that the table names is one with more labels, or the
/// type is not given.
#[must_use]
pub fn of_event(kind: &str) -> Option<Instrument> {
    let row = EVENT_TYPES.iter().find(|row| row.name == kind && row.given)?;
    let name = row.metric;
    let finer = OWN.iter().any(|own| own.name == name);
    (!finer).then_some(Instrument {
        name,
        kind: Kind::Counter,
        unit: "{event}",
        labels: &[],
        help: row.meaning,
    })
}

fn of_events() -> impl Iterator<Item = Instrument> {
    EVENT_TYPES.iter().filter_map(|row| of_event(row.name))
}

/// The help as a sentence, for events too.
#[must_use]
pub fn sentence(instrument: &Instrument) -> Cow<'static, str> {
    if instrument.help.ends_with('.') {
        Cow::Borrowed(instrument.help)
    } else {
        Cow::Owned(format!("Events: {}.", instrument.help))
    }
}

#[cfg(test)]
mod tests;
