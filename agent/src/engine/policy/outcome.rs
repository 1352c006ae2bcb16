//! What became of actions: limits that hold, limits that are lifted, failures that are tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::action::ActionId;
use crate::engine::input::Outcome;
use crate::engine::outbox::Outbox;
use crate::engine::policy::conflict::Dispute;
use crate::engine::policy::group::{Batch, Pause};
use crate::engine::policy::throttle::{Flight, Step, Throttle};
use crate::engine::view::Counts;
use crate::model::id::{Name, ProcKey};
use crate::model::limits::Limits;
use crate::model::notice::Notice;
use crate::model::process::Comm;
use crate::model::reason::Reason;
use crate::model::time::Timestamp;

/// Waits after the first, second and every further failure in a row.
const BACK_OFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Wait before a group that seemed empty is looked at again.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Whom the executor refused to limit.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// The processes, and why.
    pub(crate) members: Vec<(ProcKey, String)>,
    /// The group that nobody could be limited for, in words, and why it was asked for.
    pub(crate) nobody: Option<(Name, String, Reason)>,
}

impl Throttle {
    /// Takes in what became of an action. Returns whom the executor refused.
    pub(crate) fn outcome(
        &mut self,
        id: ActionId,
        outcome: Outcome,
        counts: &mut Counts,
        out: &mut Outbox,
    ) -> Refused {
        let Some(Flight { group: name, step }) = self.flights.remove(&id) else {
            counts.odd_outcomes += 1;
            return Refused::default();
        };
        if let Some(group) = self.groups.get_mut(&name) {
            group.flying = group.flying.saturating_sub(1);
        }
        self.dirty.insert(name.clone());
        let error = match outcome {
            Outcome::Applied { how, members, refused, borrowed, at } => match step {
                Step::Apply { asked, limits, batch } => {
                    let applied = Applied { how, members, refused, borrowed, at, asked, limits, batch };
                    return self.applied(&name, applied, counts, out);
                }
                Step::Detach { key, .. } => {
                    self.departed(&[key]);
                    return Refused::default();
                }
                Step::Release { .. } | Step::Reap => {
                    "the executor answered a release by an application".into()
                }
            },
            Outcome::Released => match step {
                Step::Release { reason, keys } => {
                    self.departed(&keys);
                    self.released(&name, reason, counts, out);
                    return Refused::default();
                }
                Step::Reap => {
                    self.released(&name, Reason::Empty, counts, out);
                    return Refused::default();
                }
                Step::Detach { key, .. } => {
                    self.departed(&[key]);
                    return Refused::default();
                }
                Step::Apply { .. } => "the executor answered an application by a release".into(),
            },
            Outcome::Busy => match step {
                Step::Reap => {
                    self.pause(&name, Pause::Busy(out.now().after(BUSY_WAIT)));
                    return Refused::default();
                }
                Step::Release { .. } | Step::Detach { .. } | Step::Apply { .. } => {
                    "the executor reports processes that remain".into()
                }
            },
            Outcome::Entangled { why } => match step {
                Step::Detach { key, reason: reason @ Reason::Protected { .. } } => {
                    self.departed(&[key]);
                    self.untangle(&name, reason);
                    return Refused::default();
                }
                Step::Detach { .. } | Step::Release { .. } | Step::Reap | Step::Apply { .. } => why,
            },
            Outcome::Failed { error } => error,
        };
        self.failed(&name, step, error, counts, out);
        Refused::default()
    }

    fn applied(&mut self, name: &Name, applied: Applied, counts: &mut Counts, out: &mut Outbox) -> Refused {
        let Applied { how, members, mut refused, borrowed, at, asked, limits, batch } = applied;
        let Some(group) = self.groups.get_mut(name) else { return Refused::default() };
        let limited: BTreeSet<ProcKey> = members.into_iter().collect();
        let named: BTreeSet<ProcKey> = refused.iter().map(|(key, _)| *key).collect();
        let (took, left): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(key, _)| limited.contains(key));
        for (key, _) in &took {
            if let Some(member) = group.members.get_mut(key) {
                member.limited = Some(at);
            }
        }
        let silent = left.into_iter().filter(|(key, _)| !named.contains(key));
        refused.extend(silent.map(|(key, _)| (key, "the executor did not confirm it".to_owned())));
        refused.retain(|(key, _)| group.remove(*key).is_some());
        let mut nobody = None;
        (group.failures, group.error) = (0, None);
        if !limited.is_empty() || group.in_force.is_some() {
            group.in_force.get_or_insert(at);
            group.how = Some(how.clone());
            group.borrowed = borrowed;
            counts.applied += 1;
            let before = group.held.replace(limits.clone());
            if let Some(from) = before
                && took.is_empty()
                && matches!(batch.reason, Reason::Adjusted { .. })
            {
                out.notify(Notice::ThrottleAdjusted {
                    group: name.clone(),
                    from,
                    to: limits,
                    reason: batch.reason,
                });
                return Refused { members: refused, nobody };
            }
            out.notify(Notice::ThrottleApplied {
                group: name.clone(),
                limits,
                processes: took,
                how,
                reason: batch.reason,
                latency_ns: u64::try_from(at.since(batch.caused_at).as_nanos()).ok(),
            });
        } else if let Some((key, why)) = refused.first() {
            counts.failed += 1;
            let error = format!("every process was refused, first pid {}: {why}", key.pid);
            nobody = Some((name.clone(), error, batch.reason));
        }
        Refused { members: refused, nobody }
    }

    fn released(&mut self, name: &Name, reason: Reason, counts: &mut Counts, out: &mut Outbox) {
        if let Some(group) = self.groups.get_mut(name) {
            (group.in_force, group.how, group.held) = (None, None, None);
            (group.rewrite, group.dispute) = (false, Dispute::default());
            (group.failures, group.error) = (0, None);
            // Whoever came in meanwhile was born there, or waits; either way the limits are gone.
            for (key, member) in &mut group.members {
                if member.limited.take().is_some() {
                    member.born = false;
                    group.joining.insert(*key);
                }
            }
        }
        counts.released += 1;
        out.notify(Notice::ThrottleRemoved { group: name.clone(), reason });
    }

    fn failed(&mut self, name: &Name, step: Step, error: String, counts: &mut Counts, out: &mut Outbox) {
        counts.failed += 1;
        let Some(group) = self.groups.get_mut(name) else { return };
        let (error, reason) = match step {
            Step::Apply { asked, batch, .. } => {
                for (key, _) in asked {
                    if group.members.get(&key).is_some_and(|member| member.limited.is_none()) {
                        group.joining.insert(key);
                    }
                }
                group.relimit |= group.in_force.is_some();
                // Writing what is in force already is harmless; leaving what is not would not be.
                group.rewrite |= group.in_force.is_some();
                let reason = batch.reason.clone();
                group.batch = Some(batch);
                (error, reason)
            }
            Step::Release { reason, mut keys } => {
                if let Some((_, more)) = group.release.take() {
                    keys.extend(more);
                }
                group.release = Some((reason.clone(), keys));
                (format!("release: {error}"), reason)
            }
            Step::Detach { key, reason } => {
                if self.departing.contains(&key) {
                    group.leaving.push((key, reason.clone()));
                }
                (format!("taking pid {} out: {error}", key.pid), reason)
            }
            Step::Reap => (format!("removing the empty group: {error}"), Reason::Empty),
        };
        let wait = BACK_OFF.get(group.failures as usize).or(BACK_OFF.last()).copied().unwrap_or(BUSY_WAIT);
        group.failures = group.failures.saturating_add(1);
        let news = group.error.as_ref() != Some(&error);
        group.error = Some(error.clone());
        self.pause(name, Pause::Failure(out.now().after(wait)));
        if news {
            out.notify(Notice::ThrottleFailed { group: name.clone(), error, reason });
        }
    }
}

struct Applied {
    how: String,
    members: Vec<ProcKey>,
    refused: Vec<(ProcKey, String)>,
    borrowed: bool,
    at: Timestamp,
    asked: Vec<(ProcKey, Comm)>,
    limits: Limits,
    batch: Batch,
}
