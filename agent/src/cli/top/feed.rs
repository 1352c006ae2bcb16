//! What `top` shows, read anew for every look, and what it does when told to. Nothing is drawn here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::screen::{Data, Order};
use crate::cli::error::{CliError, CliResult, failed};
use crate::cli::globals::Context;
use crate::cli::{offline, processes};
use crate::clock;
use crate::control::failure::Failure;
use crate::control::proto::{
    DaemonStatus, GroupStatus, ProcRef, Release, ReleaseOf, Released, Reply, Request, Throttle, Throttled,
};
use crate::model::id::Name;
use crate::model::limits::{Limits, Scope};
use crate::model::policy::Policy;
use crate::model::time::Timestamp;
use crate::procfs::Proc;
use crate::procfs::listing::CpuTimes;

/// How long one look waits for the daemon: a late answer is worth nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the data comes from.
pub(super) struct Feed<'a> {
    context: &'a Context,
    proc: Proc,
    cpu: CpuTimes,
    /// When the groups were last looked at, and for how long they had been held back, in µs.
    held: Option<(Timestamp, BTreeMap<Name, u64>)>,
}

impl<'a> Feed<'a> {
    /// Starts the first measurement.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(super) fn new(context: &'a Context) -> CliResult<Self> {
        let proc = processes::host(context)?;
        let cpu = proc.cpu_times(clock::now()).map_err(|error| failed(&error))?;
        Ok(Self { context, proc, cpu, held: None })
    }

    /// Looks at everything. What the daemon does not tell is told as a trouble, and the rest is shown.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(super) fn read(&mut self) -> CliResult<Data> {
        let now = clock::now();
        let rows = processes::all_since(&self.proc, &self.cpu)?;
        self.cpu = self.proc.cpu_times(now).map_err(|error| failed(&error))?;
        let mut data = Data { rows, ..Data::default() };
        match self.ask::<Box<DaemonStatus>>(&Request::Status) {
            Ok(Some(daemon)) => {
                data.daemon = Some(*daemon);
                self.ask_for(&Request::Groups, &mut data.groups, &mut data.trouble);
                self.ask_for(&Request::Criticals, &mut data.critical, &mut data.trouble);
            }
            // Limits outlive the daemon; they are in the record.
            Ok(None) => match offline::groups(self.context) {
                Ok(groups) => data.groups = groups,
                Err(error) => data.trouble = told(error),
            },
            Err(error) => data.trouble = told(error),
        }
        data.held = self.held_back(now, &data.groups);
        Ok(data)
    }

    fn ask<T: TryFrom<Reply, Error = Box<Reply>>>(&self, request: &Request) -> CliResult<Option<T>> {
        self.context.ask_quickly(request, PATIENCE)?.map_err(|error| Failure::from(error).into())
    }

    fn ask_for<T>(&self, request: &Request, place: &mut Vec<T>, trouble: &mut Option<String>)
    where
        Vec<T>: TryFrom<Reply, Error = Box<Reply>>,
    {
        match self.ask::<Vec<T>>(request) {
            Ok(found) => *place = found.unwrap_or_default(),
            Err(error) => *trouble = told(error),
        }
    }

    /// Share of the time since the last look for which the quota held each group back, in percent of it.
    fn held_back(&mut self, now: Timestamp, groups: &[GroupStatus]) -> BTreeMap<Name, f64> {
        let time = |group: &GroupStatus| Some((group.group.clone(), group.throttled_us?));
        let held: BTreeMap<Name, u64> = groups.iter().filter_map(time).collect();
        let Some((since, before)) = self.held.replace((now, held.clone())) else { return BTreeMap::new() };
        let passed = now.since(since).as_micros().max(1) as f64;
        let share = |(name, us): (Name, u64)| {
            let grown = us.saturating_sub(*before.get(&name)?);
            Some((name, 100.0 * grown as f64 / passed))
        };
        held.into_iter().filter_map(share).collect()
    }

    /// Does as told, with the daemon or without it, and says how it ended.
    pub(super) fn carry_out(&self, order: &Order) -> String {
        let done = match order {
            Order::Limit { process, cpu, .. } => self.limit(&Throttle {
                processes: vec![ProcRef::from(*process)],
                limits: Limits { cpu: Some(*cpu), ..Limits::default() },
                policy: Policy::Fixed,
                group: None,
                scope: Scope::Group,
                allow_move: false,
                whole_unit: false,
                for_ms: None,
                dry_run: self.context.dry_run,
            }),
            Order::Release { group } => self
                .release(&Release { target: ReleaseOf::Group(group.clone()), dry_run: self.context.dry_run }),
        };
        done.unwrap_or_else(|error| told(error).unwrap_or_else(|| "not done".to_owned()))
    }

    fn limit(&self, spec: &Throttle) -> CliResult<String> {
        let throttled: Box<Throttled> = match self.context.ask_if_running(&Request::Throttle(spec.clone()))? {
            Some(throttled) => throttled,
            None => Box::new(offline::throttle(self.context, spec)?),
        };
        if let Some(refused) = throttled.refused.first() {
            return Ok(format!("not limited: process {}: {}", refused.pid, refused.why));
        }
        let verb = if throttled.dry_run { "would be limited" } else { "limited" };
        Ok(format!("group {} {verb} to {} {}", throttled.group, throttled.limits, throttled.how))
    }

    fn release(&self, spec: &Release) -> CliResult<String> {
        let released: Released = match self.context.ask_if_running(&Request::Release(spec.clone()))? {
            Some(released) => released,
            None => offline::release(self.context, spec)?,
        };
        let verb = if released.dry_run { "would be released" } else { "released" };
        let names: Vec<&str> = released.groups.iter().map(Name::as_str).collect();
        Ok(if names.is_empty() {
            "nothing was released".to_owned()
        } else {
            format!("{} {verb}", names.join(", "))
        })
    }
}

/// An error in one line; `None` for one that says nothing.
fn told(error: CliError) -> Option<String> {
    match error {
        CliError::Failed(failure) | CliError::Unstarted { failure, .. } => {
            Some(failure.message.replace('\n', " "))
        }
        CliError::Exit(kind) => Some(format!("failed: {kind:?}")),
        CliError::PipeClosed => None,
    }
}
