//! `dynamic`: limits that change over time, and rules that hold under conditions.

use clap::{ArgGroup, Args, Subcommand};

use super::error::{CliResult, usage};
use super::globals::Context;
use super::output::View;
use super::page::{Always, Page, Wide, dash, moment, or_dash};
use super::throttle::{Grouping, LimitArgs, Selection, conclude};
use crate::config::file::Value;
use crate::config::policy::{node, read_policy};
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{
    DynamicApplied, DynamicApply, DynamicRemove, DynamicRemoved, DynamicStatus, Moving, Request, Throttled,
};
use crate::model::id::Name;
use crate::model::limits::Limits;
use crate::model::policy::Policy;
use crate::model::policy::table::{Description, POLICIES};
use crate::model::reason::readings;

/// Arguments of `dynamic`.
#[derive(Args, Debug)]
pub(super) struct Dynamic {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Put a policy over that of a rule or a group, or limit processes by one
    Apply(Box<Apply>),
    /// Show what changes by itself: limits that move, and rules that hold under conditions
    #[command(visible_alias = "ls")]
    List,
    /// Take a policy away that was applied by hand
    #[command(visible_alias = "rm")]
    Remove {
        /// Rule or group
        target: Name,
    },
    /// List the policies and their parameters
    Policies,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("processes").required(true).args(["target", "pid", "pattern"]))]
pub(super) struct Apply {
    /// Rule of the active profile, or group made by hand
    target: Option<Name>,
    #[command(flatten)]
    selection: Selection,
    /// Policy: gradual, adaptive, schedule or latency
    #[arg(long, value_name = "POLICY")]
    policy: String,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    grouping: Grouping,
}

/// A flag for every parameter of the table.
#[derive(Args, Debug)]
#[command(next_help_heading = "Parameters of policies")]
struct Parameters {
    /// gradual: the quota at first
    #[arg(long, value_name = "PERCENT")]
    from: Option<String>,
    /// gradual: until the limit is reached, such as 5m
    #[arg(long, value_name = "DURATION")]
    over: Option<String>,
    /// gradual: between two steps; adaptive: between two measurements
    #[arg(long, value_name = "DURATION")]
    interval: Option<String>,
    /// adaptive: what is held and where, such as cpu=40% or load1=4
    #[arg(long = "hold", value_name = "WHAT=VALUE")]
    hold: Option<String>,
    /// adaptive, latency: the lowest quota
    #[arg(long, value_name = "PERCENT")]
    min: Option<String>,
    /// adaptive: the highest quota
    #[arg(long, value_name = "PERCENT")]
    max: Option<String>,
    /// adaptive: at least this long between two changes; latency: between two steps back
    #[arg(long, value_name = "DURATION")]
    cooldown: Option<String>,
    /// adaptive: how far from the target nothing is changed, such as 5%
    #[arg(long, value_name = "PERCENT")]
    deadband: Option<String>,
    /// schedule: hours and their limits, such as 'Mon..Fri 09:00-17:00 cpu=30%'; may be repeated
    #[arg(long, value_name = "HOURS LIMITS")]
    windows: Vec<String>,
    /// schedule: time zone of the hours, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// latency: the CPU weight at which the group is held first, 1 to 100
    #[arg(long, value_name = "WEIGHT")]
    weight: Option<u64>,
}

impl Dynamic {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::Apply(apply) => apply.run(context),
            Command::List => {
                let dynamics: Vec<DynamicStatus> = context.ask(feature::DYNAMIC, &Request::Dynamics)?;
                context.output.show(&dynamics)
            }
            Command::Remove { target } => {
                let request = Request::DynamicRemove(DynamicRemove { target, dry_run: context.dry_run });
                context.output.show(&context.ask::<DynamicRemoved>(feature::DYNAMIC, &request)?)
            }
            Command::Policies => context.output.show(&POLICIES.to_vec()),
        }
    }
}

impl Apply {
    fn run(self, context: &Context) -> CliResult {
        let limits = self.limits.limits();
        let policy = self.policy(&limits)?;
        let Some(target) = self.target else {
            let spec = self.grouping.spec(self.selection.processes(context)?, limits, policy, context)?;
            let throttled: Box<Throttled> = context.ask(feature::DYNAMIC, &Request::Throttle(spec))?;
            return conclude(context, &throttled);
        };
        if self.grouping.is_given() {
            return Err(usage(format!(
                "{target} has its group: what makes one goes with --pid or --pattern"
            ))
            .into());
        }
        let limits = Some(limits).filter(|limits| !limits.is_empty());
        let request = DynamicApply { target, limits, policy, dry_run: context.dry_run };
        let applied: Box<DynamicApplied> = context.ask(feature::DYNAMIC, &Request::DynamicApply(request))?;
        context.output.show(&*applied)
    }

    /// The policy, read as a profile would be.
    fn policy(&self, limits: &Limits) -> CliResult<Policy> {
        let written = self.parameters.written();
        // On a rule or a group the limits may be those that are there, which only the daemon knows.
        let lenient = self.target.is_some() && limits.is_empty();
        let findings = match read_policy(&self.policy, written, (!lenient).then_some(limits)) {
            Ok(Policy::Fixed) => {
                return Err(usage("fixed limits are what throttle is for").into());
            }
            Ok(policy) => return Ok(policy),
            Err(findings) => findings,
        };
        let one = |finding: &crate::config::Finding| match &finding.fix {
            Some(fix) => format!("{}: {} ({fix})", finding.key, finding.message),
            None => format!("{}: {}", finding.key, finding.message),
        };
        let all: Vec<String> = findings.iter().map(one).collect();
        let failure = Failure::new(FailureKind::Usage, all.join("\n  "));
        Err(failure.with_hint("process-throttler dynamic policies lists the parameters").into())
    }
}

impl Parameters {
    /// As they would be written in a profile.
    fn written(&self) -> Vec<(&'static str, Value)> {
        let single = [
            ("from", &self.from),
            ("over", &self.over),
            ("interval", &self.interval),
            ("min", &self.min),
            ("max", &self.max),
            ("cooldown", &self.cooldown),
            ("deadband", &self.deadband),
            ("timezone", &self.timezone),
        ];
        let given = single.into_iter().filter_map(|(key, value)| Some((key, Value::Text(value.clone()?))));
        let mut written: Vec<_> = given.collect();
        if let Some(weight) = self.weight {
            written.push(("weight", Value::Integer(weight.into())));
        }
        if let Some(hold) = &self.hold {
            let (key, value) = hold.split_once('=').unwrap_or((hold.as_str(), ""));
            written.push(("target", map([(key, Value::Text(value.to_owned()))])));
        }
        if !self.windows.is_empty() {
            let windows = self.windows.iter().map(|text| node(window(text)));
            written.push(("windows", Value::List(windows.collect())));
        }
        written
    }
}

/// Words with `=` are limits, the others are hours.
fn window(text: &str) -> Value {
    let (limits, hours): (Vec<&str>, Vec<&str>) =
        text.split_ascii_whitespace().partition(|word| word.contains('='));
    let limits = limits.into_iter().filter_map(|word| word.split_once('='));
    let limits = limits.map(|(key, value)| match value.parse() {
        Ok(number) => (key, Value::Integer(number)),
        Err(_text) => (key, Value::Text(value.to_owned())),
    });
    map([("hours", Value::Text(hours.join(" "))), ("limits", map(limits))])
}

fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let entries = entries.into_iter();
    Value::Map(entries.map(|(key, value)| (node(Value::Text(key.to_owned())), node(value))).collect())
}

impl View for Vec<DynamicStatus> {
    const KIND: &'static str = "DynamicList";

    fn page(&self, page: &mut Page) {
        page.table(
            [
                Always("NAME"),
                Wide("RULE"),
                Always("WHAT"),
                Always("STATE"),
                Always("LIMITS"),
                Wide("BY HAND"),
                Wide("SINCE"),
                Always("MEASURED"),
            ],
            self.iter().map(|one| {
                let (what, states) = match &one.what {
                    Moving::Policy(policy @ Policy::Latency(_)) => {
                        (policy.kind().as_str(), ["active", "at rest"])
                    }
                    Moving::Policy(policy) => (policy.kind().as_str(), ["active", "pending"]),
                    Moving::Conditions => ("conditions", ["hold", "do not hold"]),
                };
                [
                    one.name.to_string(),
                    or_dash(one.rule.as_ref()),
                    what.to_owned(),
                    states[usize::from(!one.active)].to_owned(),
                    or_dash(one.limits.as_ref()),
                    if one.overridden { "yes" } else { "no" }.to_owned(),
                    or_dash(one.since.map(moment)),
                    dash(readings(&one.readings)),
                ]
            }),
        );
    }
}

impl View for DynamicApplied {
    const KIND: &'static str = "DynamicApplied";

    fn page(&self, page: &mut Page) {
        let verb = if self.dry_run { "would follow" } else { "follows" };
        page.line(format!("{} {verb} the {} policy on {}", self.target, self.policy.kind(), self.limits));
        for group in &self.groups {
            page.line(format!("group {group}"));
        }
    }
}

impl View for DynamicRemoved {
    const KIND: &'static str = "DynamicRemoved";

    fn page(&self, page: &mut Page) {
        let line = match (self.released, self.dry_run) {
            (true, false) => "released",
            (true, true) => "would be released",
            (false, false) => "has the limits again that are written",
            (false, true) => "would have the limits again that are written",
        };
        page.line(format!("{} {line}", self.target));
    }
}

impl View for Vec<Description> {
    const KIND: &'static str = "PolicyList";

    fn page(&self, page: &mut Page) {
        for (index, one) in self.iter().enumerate() {
            if index > 0 {
                page.gap();
            }
            page.line(format!("{}: {}", one.policy, one.does));
            if !one.parameters.is_empty() {
                page.table(
                    [Always("PARAMETER"), Always("TAKES"), Always("DEFAULT"), Always("DOES")],
                    one.parameters.iter().map(|parameter| {
                        let default =
                            if parameter.default.is_empty() { "must be given" } else { parameter.default };
                        [parameter.name, parameter.takes, default, parameter.does].map(str::to_owned)
                    }),
                );
            }
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn policies() -> Vec<Description> {
    POLICIES.to_vec()
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[test]
    fn every_parameter_of_every_policy_has_a_flag() {
        let command = Parameters::augment_args(clap::Command::new("test"));
        let flags: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for parameter in POLICIES.iter().flat_map(|one| one.parameters) {
            // What is held is no target of the command.
            let flag = if parameter.name == "target" { "hold" } else { parameter.name };
            assert!(flags.contains(&flag), "--{flag}");
        }
    }

    #[test]
    fn windows_have_hours_and_limits() {
        let parameters = Parameters {
            windows: vec!["Mon..Fri 09:00-17:00 cpu=30% pids=50".to_owned(), "Sat cpu=80%".to_owned()],
            timezone: Some("Europe/Berlin".to_owned()),
            ..empty()
        };
        let policy = read_policy("schedule", parameters.written(), Some(&Limits::default())).unwrap();
        let Policy::Schedule(schedule) = policy else { panic!("{policy:?}") };
        assert_eq!(schedule.windows[0].hours.to_string(), "Mon..Fri 09:00-17:00");
        assert_eq!(schedule.windows[0].limits.to_string(), "cpu=30% pids=50");
        assert_eq!(schedule.windows[1].hours.to_string(), "Sat 00:00-24:00");
        assert_eq!(schedule.timezone.name(), Some("Europe/Berlin"));
    }

    fn empty() -> Parameters {
        Parameters {
            from: None,
            over: None,
            interval: None,
            hold: None,
            min: None,
            max: None,
            cooldown: None,
            deadband: None,
            windows: Vec::new(),
            timezone: None,
            weight: None,
        }
    }
}
