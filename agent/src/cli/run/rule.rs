//! Which rule of a profile a command takes its limits from.

use super::program::Program;
use crate::cli::error::{CliResult, failed, usage};
use crate::control::failure::{Failure, FailureKind};
use crate::engine::action::Wants;
use crate::engine::view::Plan;
use crate::engine::{Own, plan};
use crate::model::id::{Name, ProcKey};
use crate::model::limits::Limits;
use crate::model::process::{Facts, Process};
use crate::model::rule::{Profile, Rule};
use crate::procfs::Proc;

/// Deepest chain of parents that a rule may ask about.
const ANCESTORS_MAX: usize = 64;

/// The limits of the rule that is named, of the only one that is enabled, or of the one that would limit the
/// command.
pub(super) fn choose(
    profile: &Profile,
    named: Option<&Name>,
    program: &Program,
    proc: &Proc,
) -> CliResult<Limits> {
    if let Some(named) = named {
        let found = find(profile, named).ok_or_else(|| {
            let message = format!("profile {} has no rule {named}", profile.name);
            Failure::new(FailureKind::NotFound, message).with_hint(hint(profile))
        })?;
        return Ok(found.limits.clone());
    }
    let enabled: Vec<&Rule> = profile.rules.iter().filter(|rule| rule.enabled).collect();
    if let [only] = enabled.as_slice() {
        return Ok(only.limits.clone());
    }
    let none = |why: String| usage(format!("profile {}: {why}", profile.name)).with_hint(hint(profile));
    if enabled.is_empty() {
        return Err(none("no rule is enabled".to_owned()).into());
    }
    // Nobody is spared here as the agent and its ancestors are: this process is to become the command.
    let nobody = Own { key: ProcKey { pid: 0, start: 0 }, ancestors: Vec::new() };
    let told = plan(profile, &nobody, lineage(program, proc)?).map_err(|error| failed(&error))?;
    let mine = told.into_iter().filter(|entry| entry.process.key.pid == std::process::id());
    for entry in mine {
        match entry.plan {
            Plan::Limit { limits, .. } => return Ok(limits),
            Plan::Spare { rule, because } => {
                return Err(none(format!("rule {rule} does not limit {}: {because}", shown(program))).into());
            }
            Plan::Watch { .. } => {}
        }
    }
    Err(none(format!("no rule limits {}", shown(program))).into())
}

fn find<'a>(profile: &'a Profile, name: &Name) -> Option<&'a Rule> {
    profile.rules.iter().find(|rule| rule.name == *name)
}

fn shown(program: &Program) -> String {
    program.path().display().to_string()
}

fn hint(profile: &Profile) -> String {
    let rules: Vec<String> = profile
        .rules
        .iter()
        .map(|rule| if rule.enabled { rule.name.to_string() } else { format!("{} (disabled)", rule.name) })
        .collect();
    if rules.is_empty() { "it has no rules".to_owned() } else { format!("say --rule: {}", rules.join(", ")) }
}

/// This process as it will be when it is the command, and its ancestors as they are.
fn lineage(program: &Program, proc: &Proc) -> CliResult<Vec<(Process, Facts)>> {
    let mut found: Vec<(Process, Facts)> = Vec::new();
    let mut pid = std::process::id();
    while pid != 0 && found.len() < ANCESTORS_MAX {
        let Some(process) = proc.process(pid).map_err(|error| failed(&error))? else { break };
        let facts = proc.facts(process.key, Wants::ALL).map_err(|error| failed(&error))?.unwrap_or_default();
        pid = process.ppid;
        found.push((process, facts));
    }
    if let Some((process, facts)) = found.first_mut() {
        process.comm = program.comm();
        (facts.exe, facts.cmdline) = (program.exe(), Some(program.cmdline()));
    }
    Ok(found)
}
