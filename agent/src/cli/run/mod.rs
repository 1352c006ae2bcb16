//! `run`: a command that is limited before its first instruction. This process limits itself, makes sure of it,
//! and becomes the command: signals, terminal and exit code are the command's own from there on.

mod program;
mod rule;

use std::ffi::OsString;

use clap::Args;

use super::error::{CliError, CliResult, failed, usage};
use super::globals::Context;
use super::processes;
use super::profile;
use super::throttle::LimitArgs;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{ProcRef, Release, ReleaseOf, Released, Request, Throttle as Spec, Throttled};
use crate::model::id::{Name, NameError, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::policy::Policy;
use crate::model::rule::Profile;
use program::Program;

const AFTER_HELP: &str = "\
The command starts only when its limits are in force, and what it starts is limited with it. Limits on the \
command line come before those of the rule; of a rule's scope and whole_unit nothing is taken.

The exit code is the command's own; 127 when it is not found and 126 when it cannot be executed. When it \
cannot be limited, it is not started.

Without the daemon, nobody removes the group when the command has ended: the next start of the daemon does, \
or a `release`.";

/// Arguments of `run`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Run {
    /// Take the limits from a rule of this profile
    #[arg(long, value_name = "PROFILE")]
    profile: Option<Name>,
    /// From this rule; by default from the only one that is enabled, or the first that matches the command
    #[arg(long, value_name = "RULE", requires = "profile")]
    rule: Option<Name>,
    /// Group to put the command in; by default one of its own, named after its pid
    #[arg(long, value_name = "GROUP")]
    group: Option<Name>,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
    #[command(flatten)]
    limits: LimitArgs,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let program = Program::find(&self.command)?;
        let proc = processes::host(context)?;
        let own = proc.process(std::process::id()).map_err(|error| failed(&error))?;
        let own = own.ok_or_else(|| Failure::new(FailureKind::Failed, "/proc does not know this process"))?;
        let limits =
            self.limits(context, |profile| rule::choose(&profile, self.rule.as_ref(), &program, &proc))?;
        let group = match self.group.clone() {
            Some(group) => group,
            None => format!("run-{}", own.key.pid).parse().map_err(|error: NameError| failed(&error))?,
        };
        let spec = Spec {
            processes: vec![ProcRef::from(own.key)],
            limits,
            group: Some(group.clone()),
            scope: Scope::Group,
            allow_move: true,
            whole_unit: false,
            policy: Policy::Fixed,
            for_ms: None,
            dry_run: context.dry_run,
        };
        let throttled = match context.ask_if_running(&Request::Throttle(spec.clone()))? {
            Some(throttled) => throttled,
            None => Box::new(super::offline::throttle(context, &spec)?),
        };
        check(&throttled, own.key)?;
        if context.dry_run {
            context.output.message(&format!("{} would be run", program.path().display()));
            return context.output.show(&*throttled);
        }
        // Comes back only if this process could not become the command.
        let failure = program.become_it();
        let target = match self.group {
            None => ReleaseOf::Group(group.clone()),
            Some(_) => ReleaseOf::Process(ProcRef::from(own.key)),
        };
        if let Err(CliError::Failed(left)) = release(context, target) {
            context.output.message(&format!("Warning: group {group} is left behind: {left}"));
        }
        Err(failure)
    }

    /// Those of the command line, and for the rest those of the rule.
    fn limits(
        &self,
        context: &Context,
        choose: impl FnOnce(Profile) -> CliResult<Limits>,
    ) -> CliResult<Limits> {
        let stated = self.limits.limits();
        let limits = match &self.profile {
            Some(name) => overlaid(stated, choose(profile::load(context, name)?)?),
            None => stated,
        };
        if limits.is_empty() {
            let failure = usage("no limit is given");
            return Err(failure.with_hint("say --profile, or a limit such as --cpu 30%").into());
        }
        Ok(limits)
    }
}

/// What is not limited is not started.
fn check(throttled: &Throttled, own: ProcKey) -> CliResult {
    if throttled.members.iter().any(|member| member.key == own) {
        return Ok(());
    }
    let why: Vec<&str> = throttled.refused.iter().map(|refused| refused.why.as_str()).collect();
    let why = if why.is_empty() { "it was not brought into the group".to_owned() } else { why.join("; ") };
    Err(Failure::new(FailureKind::Denied, format!("not started, for it could not be limited: {why}")).into())
}

fn release(context: &Context, target: ReleaseOf) -> CliResult {
    let spec = Release { target, dry_run: false };
    let released: Option<Released> = context.ask_if_running(&Request::Release(spec.clone()))?;
    match released {
        Some(_) => Ok(()),
        None => super::offline::release(context, &spec).map(drop),
    }
}

fn overlaid(stated: Limits, of_rule: Limits) -> Limits {
    let Limits {
        cpu,
        cpu_weight,
        memory_low,
        memory_high,
        memory_max,
        pids,
        io_weight,
        io_read,
        io_write,
        nice,
        sched,
        io_class,
        io_priority,
        cpu_affinity,
        oom_score_adj,
    } = stated;
    // A class and the priority within it are one statement.
    let io_stated = io_class.is_some() || io_priority.is_some();
    let of_rule_io = if io_stated { (None, None) } else { (of_rule.io_class, of_rule.io_priority) };
    Limits {
        cpu: cpu.or(of_rule.cpu),
        cpu_weight: cpu_weight.or(of_rule.cpu_weight),
        memory_low: memory_low.or(of_rule.memory_low),
        memory_high: memory_high.or(of_rule.memory_high),
        memory_max: memory_max.or(of_rule.memory_max),
        pids: pids.or(of_rule.pids),
        io_weight: io_weight.or(of_rule.io_weight),
        io_read: io_read.or(of_rule.io_read),
        io_write: io_write.or(of_rule.io_write),
        nice: nice.or(of_rule.nice),
        sched: sched.or(of_rule.sched),
        io_class: io_class.or(of_rule_io.0),
        io_priority: io_priority.or(of_rule_io.1),
        cpu_affinity: cpu_affinity.or(of_rule.cpu_affinity),
        oom_score_adj: oom_score_adj.or(of_rule.oom_score_adj),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_comes_before_the_rule() {
        let limits = |cpu: &str, pids| Limits { cpu: cpu.parse().ok(), pids, ..Limits::default() };
        assert_eq!(overlaid(limits("30%", None), limits("50%", Some(9))), limits("30%", Some(9)));
        assert_eq!(overlaid(Limits::default(), limits("50%", None)), limits("50%", None));
    }
}
