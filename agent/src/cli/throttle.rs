//! `throttle`: limits on processes, by hand.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use super::error::{CliResult, usage};
use super::globals::Context;
use super::output::View;
use super::page::{Always, Page, moment};
use super::processes::{self, Field, Query};
use super::status::members;
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{PROCESSES_MAX, ProcRef, Request, Throttle as Spec, Throttled};
use crate::model::attribute::{IoClass, IoLevel, OomScoreAdj, Sched};
use crate::model::cpu_list::CpuList;
use crate::model::id::Name;
use crate::model::limits::{Limits, Scope};
use crate::model::policy::Policy;
use crate::model::time::millis;
use crate::model::unit::{Bytes, CpuPercent, Nice, Weight};

const AFTER_HELP: &str = "\
The limits outlive the daemon: after a restart or a crash it sets them again, with --for for the time that is \
left, until they are released or the processes have ended. A reboot ends them.";

/// The one that would be generated names every limit in one line.
const USAGE: &str =
    "process-throttler throttle [OPTIONS] <--pid <PID>...|--pattern <REGEX> --match <FIELD>> <LIMITS>";

/// Arguments of `throttle`.
#[derive(Args, Debug)]
#[command(
    after_help = AFTER_HELP,
    override_usage = USAGE,
    group = ArgGroup::new("processes").required(true).args(["pid", "pattern"]),
    group = ArgGroup::new("some_limit").required(true).multiple(true).args([
        "cpu", "cpu_weight", "memory", "memory_high", "io_read", "io_write", "io_weight", "pids", "nice",
        "sched", "io_class", "io_priority", "cpu_affinity", "oom_score_adj",
    ])
)]
pub(super) struct Throttle {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    grouping: Grouping,
}

/// Which processes.
#[derive(Args, Debug)]
pub(super) struct Selection {
    /// Process ids
    #[arg(long, value_name = "PID", num_args = 1.., value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// Processes that this regular expression finds in the field of --match
    #[arg(long, value_name = "REGEX", requires = "field")]
    pattern: Option<String>,
    /// What the pattern is compared with
    #[arg(long = "match", value_enum, value_name = "FIELD", requires = "pattern")]
    field: Option<Field>,
}

/// How they are put together, and for how long.
#[derive(Args, Debug)]
#[command(next_help_heading = "Where and how long")]
pub(super) struct Grouping {
    /// Group to put them in; by default one named after the first pid
    #[arg(long, value_name = "GROUP")]
    group: Option<Name>,
    /// Whether the processes share the limits or each has them to itself
    #[arg(long, value_enum, value_name = "SCOPE", default_value_t)]
    scope: ScopeArg,
    /// Limit the whole systemd unit that they are in, although other processes share it
    #[arg(long, conflicts_with = "allow_move")]
    whole_unit: bool,
    /// Move them out of a systemd unit that other processes share, into a scope of their own
    #[arg(long)]
    allow_move: bool,
    /// Release them after this time, such as 10m; needs the daemon
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Hard cap on CPU time, even on an idle machine, in percent of one CPU, such as 30% or 150%
    #[arg(long, value_name = "PERCENT")]
    cpu: Option<CpuPercent>,
    /// Share of CPU time under contention: 1 to 10000, 100 is the default
    #[arg(long, value_name = "WEIGHT")]
    cpu_weight: Option<Weight>,
    /// Memory above which the OOM killer acts inside the group, such as 512M
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// Memory above which the group is reclaimed and slowed
    #[arg(long, value_name = "SIZE")]
    memory_high: Option<Bytes>,
    /// Bytes read per second on every block device, such as 10M
    #[arg(long, value_name = "SIZE")]
    io_read: Option<Bytes>,
    /// Bytes written per second on every block device
    #[arg(long, value_name = "SIZE")]
    io_write: Option<Bytes>,
    /// Share of I/O under contention: 1 to 10000, 100 is the default
    #[arg(long, value_name = "WEIGHT")]
    io_weight: Option<Weight>,
    /// Number of processes and threads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pids: Option<u32>,
    /// Nice value, -20 to 19
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    nice: Option<Nice>,
    /// Scheduling policy of every thread: batch or idle
    #[arg(long, value_name = "POLICY")]
    sched: Option<Sched>,
    /// I/O class of every thread: best-effort or idle
    #[arg(long, value_name = "CLASS")]
    io_class: Option<IoClass>,
    /// I/O priority of every thread within the best-effort class, 0 (first) to 7
    #[arg(long, value_name = "N")]
    io_priority: Option<IoLevel>,
    /// CPUs that every thread is confined to, such as 0-2,5
    #[arg(long, value_name = "CPUS")]
    cpu_affinity: Option<CpuList>,
    /// OOM score adjustment to raise every process to, -1000 to 1000; never lowers it
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    oom_score_adj: Option<OomScoreAdj>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ScopeArg {
    /// They share the limits
    #[default]
    Group,
    /// Each has the limits to itself
    Process,
}

/// Longest `--for`: beyond this nobody waits for the end.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) || duration > DURATION_MAX {
        return Err("must be from 1s to 365days".to_owned());
    }
    Ok(duration)
}

impl LimitArgs {
    /// What is stated.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            cpu: self.cpu,
            cpu_weight: self.cpu_weight,
            memory_low: None,
            memory_high: self.memory_high,
            memory_max: self.memory,
            pids: self.pids,
            io_weight: self.io_weight,
            io_read: self.io_read,
            io_write: self.io_write,
            nice: self.nice,
            sched: self.sched,
            io_class: self.io_class,
            io_priority: self.io_priority,
            cpu_affinity: self.cpu_affinity.clone(),
            oom_score_adj: self.oom_score_adj,
        }
    }
}

impl Throttle {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let processes = self.selection.processes(context)?;
        let spec = self.grouping.spec(processes, self.limits.limits(), Policy::Fixed, context)?;
        let request = Request::Throttle(spec.clone());
        let throttled: Box<Throttled> = if spec.for_ms.is_some() {
            context.ask(feature::MONITORING, &request)?
        } else {
            match context.ask_if_running(&request)? {
                Some(throttled) => throttled,
                None => Box::new(super::offline::throttle(context, &spec)?),
            }
        };
        conclude(context, &throttled)
    }
}

impl Grouping {
    /// Whether any of it was given.
    pub(super) fn is_given(&self) -> bool {
        self.group.is_some()
            || self.scope != ScopeArg::default()
            || self.duration.is_some()
            || self.allow_move
            || self.whole_unit
    }

    /// The request.
    pub(super) fn spec(
        &self,
        processes: Vec<ProcRef>,
        limits: Limits,
        policy: Policy,
        context: &Context,
    ) -> CliResult<Spec> {
        if processes.len() > PROCESSES_MAX {
            let message = format!("{} processes match, {PROCESSES_MAX} is the most", processes.len());
            return Err(usage(message).with_hint("use a narrower pattern, or a rule in a profile").into());
        }
        Ok(Spec {
            processes,
            limits,
            policy,
            group: self.group.clone(),
            scope: match self.scope {
                ScopeArg::Group => Scope::Group,
                ScopeArg::Process => Scope::Process,
            },
            allow_move: self.allow_move,
            whole_unit: self.whole_unit,
            for_ms: self.duration.map(millis),
            dry_run: context.dry_run,
        })
    }
}

impl Selection {
    /// Each with its start, so that no successor of a pid is limited in its place.
    pub(super) fn processes(&self, context: &Context) -> CliResult<Vec<ProcRef>> {
        let proc = processes::host(context)?;
        if let (Some(pattern), Some(field)) = (&self.pattern, self.field) {
            let query = Query::new(pattern, field, false)?;
            let rows = processes::find_targets(&proc, &query)?;
            if rows.is_empty() {
                let message = format!("no process matches {pattern:?}");
                return Err(Failure::new(FailureKind::NotFound, message).into());
            }
            return Ok(rows.into_iter().map(|row| row.key.into()).collect());
        }
        let own = std::process::id();
        let mut found = Vec::with_capacity(self.pid.len());
        for &pid in &self.pid {
            if pid == own {
                return Err(usage(format!("pid {pid} is this command itself")).into());
            }
            let gone = || Failure::new(FailureKind::NotFound, format!("no process has pid {pid}"));
            let key = ProcRef::from(processes::key_of(&proc, pid)?.ok_or_else(gone)?);
            if !found.contains(&key) {
                found.push(key);
            }
        }
        Ok(found)
    }
}

/// Fails where processes that were named are not limited.
pub(super) fn conclude(context: &Context, throttled: &Throttled) -> CliResult {
    if !throttled.members.is_empty() || throttled.refused.is_empty() {
        context.output.show(throttled)?;
    }
    if throttled.refused.is_empty() {
        return Ok(());
    }
    let left_out: Vec<String> =
        throttled.refused.iter().map(|refused| format!("process {}: {}", refused.pid, refused.why)).collect();
    let left_out = left_out.join("\n  ");
    let failure = if throttled.members.is_empty() {
        Failure::new(FailureKind::Denied, format!("no process was limited\n  {left_out}"))
    } else {
        let stands = format!("group {} stands, but without\n  {left_out}", throttled.group);
        let lift = format!("process-throttler release --group {}", throttled.group);
        Failure::new(FailureKind::Partial, stands).with_hint(format!("lift it with: {lift}"))
    };
    Err(failure.into())
}

impl View for Throttled {
    const KIND: &'static str = "Throttled";

    fn page(&self, page: &mut Page) {
        let verb = if self.dry_run { "would be limited" } else { "limited" };
        let until = self.until.map(|until| format!(", until {}", moment(until))).unwrap_or_default();
        page.line(format!("group {} {verb} to {} {}{until}", self.group, self.limits, self.how));
        page.gap();
        members(page, &self.members);
        if !self.refused.is_empty() {
            page.gap();
            page.table(
                [Always("LEFT OUT"), Always("WHY")],
                self.refused.iter().map(|refused| [refused.pid.to_string(), refused.why.clone()]),
            );
        }
    }
}
