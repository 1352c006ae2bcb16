//! Says what the live executor would do, and does nothing.

use std::collections::BTreeSet;

use crate::cgroup::shown;
use crate::effect::group::Rung;
use crate::effect::kernel::{EffectError, Kernel};
use crate::effect::plan::{PlacePlan, Plan, Reach, plan};
use crate::engine::action::{Action, Apply, What};
use crate::model::id::ProcKey;
use crate::systemd::property;

/// What an action would do, a line for each change; empty for actions that change nothing outside.
///
/// # Errors
/// When the live executor would fail for the same reason.
pub fn describe(
    kernel: &Kernel,
    action: &Action,
    critical: &BTreeSet<ProcKey>,
) -> Result<Vec<String>, EffectError> {
    match &action.what {
        What::Apply(apply) => {
            plan(kernel, None, apply, critical, Reach::Systemd).map(|plan| plan_lines(apply, &plan))
        }
        What::Release { group, reason } => Ok(vec![format!("would release group {group}: {reason}")]),
        What::Detach { group, key, reason } => {
            Ok(vec![format!("would take process {} out of group {group}: {reason}", key.pid)])
        }
        What::Protect { key, critical, protection, .. } => {
            Ok(vec![format!("would protect process {} of {critical}: {protection}", key.pid)])
        }
        What::Unprotect { key, .. } => Ok(vec![format!("would protect process {} no longer", key.pid)]),
        What::Disinherit { key, from, .. } => {
            Ok(vec![format!("would take from process {} what it inherited from {}", key.pid, from.pid)])
        }
        What::Reserve { critical, reservation, members, .. } => {
            Ok(vec![format!("would reserve {reservation} for {critical}, {} processes", members.len())])
        }
        What::Unreserve { critical, .. } => {
            Ok(vec![format!("would reserve nothing for {critical} any more")])
        }
        What::Reap { group } => Ok(vec![format!("would remove group {group} if it is empty")]),
        What::Lift => Ok(vec!["would lift everything".to_owned()]),
        What::Resume => Ok(vec!["would limit again".to_owned()]),
        What::Restart { name, by, .. } => Ok(vec![format!("would restart {name} by {by}")]),
        What::Notify { notice } => Ok(vec![format!("would tell: {notice}")]),
        What::Inspect { .. }
        | What::Watch { .. }
        | What::Resync
        | What::Sample(_)
        | What::Listen { .. }
        | What::Check { .. } => Ok(Vec::new()),
    }
}

/// The lines of a plan.
#[must_use]
pub fn plan_lines(apply: &Apply, plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for place in &plan.places {
        if let Some(unit) = place.place.unit.as_ref().filter(|_| place.place.rung.is_systemds()) {
            systemd_lines(unit, place, apply, plan, &mut lines);
            continue;
        }
        for path in place.place.paths() {
            if place.place.rung == Rung::Own && !place.known {
                lines.push(format!("would make cgroup {}", shown(path)));
            }
        }
        for setting in &plan.settings {
            if let (Some(dir), Some(choice)) = (place.place.dir(setting.controller), setting.choices.first())
                && (plan.write || !place.known)
            {
                let line = choice.part.line(&choice.value);
                lines.push(format!("would write {line:?} to {}", shown(&dir.join(choice.file))));
            }
        }
        for mover in &place.movers {
            for path in place.place.paths() {
                lines.push(format!("would move process {} to {}", mover.key.pid, shown(path)));
            }
        }
    }
    for demand in apply.limits.demands() {
        for one in &plan.accepted {
            lines.push(format!("would set {demand} on process {}", one.process.key.pid));
        }
    }
    lines.extend(plan.notes.iter().cloned());
    for (key, why) in &plan.refused {
        lines.push(format!("would leave process {} alone: {why}", key.pid));
    }
    lines
}

/// What systemd would be asked.
fn systemd_lines(unit: &str, place: &PlacePlan, apply: &Apply, plan: &Plan, lines: &mut Vec<String>) {
    if place.place.rung == Rung::Scope && !place.known {
        lines.push(format!("would make unit {unit}"));
    }
    if plan.write || !place.known {
        for (property, wanted) in property::wanted(&apply.limits, &plan.settings) {
            lines.push(format!("would set {}={wanted} of unit {unit}", property.name()));
        }
    }
    for mover in &place.movers {
        let follows = mover.bound_to.as_ref().map(|(service, _)| format!(" that ends with {service}"));
        let follows = follows.unwrap_or_default();
        lines.push(format!("would move process {} to a scope in {unit}{follows}", mover.key.pid));
    }
    if !place.place.why.is_empty() {
        lines.push(format!("{}: {}", place.place.how(), place.place.why));
    }
}
