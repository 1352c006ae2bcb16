//! What requests ask to change, as the audit log has it: by the daemon for those of its socket, and by commands for
//! what they do without one.

use crate::audit::{Actor, Entry, Outcome};
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{
    Acknowledge, Activate, BackUp, CriticalRestart, DryRun, DynamicApply, DynamicRemove, Emergency,
    EmergencyOrder, Release, ReleaseOf, Replayed, Reply, Request, Throttle, WebhookReplay, WebhookTest,
};
use crate::control::server::Answer;
use crate::daemon::audit::now;

/// What a request would change: its record but for how it ended. `None` for one that changes nothing.
#[must_use]
pub fn change(request: &Request, actor: Actor) -> Option<Entry> {
    let entry = |kind: &'static str, subject: String| Some(Entry::new(now(), kind, actor.clone(), subject));
    match request {
        Request::Throttle(throttle) if !throttle.dry_run => self::throttle(throttle, actor),
        Request::Release(Release { target, dry_run: false }) => entry("request.release", of(target)),
        Request::Activate(Activate { profile, dry_run: false }) => {
            entry("request.activate", format!("profile {profile}"))
        }
        Request::Deactivate(DryRun { dry_run: false }) => {
            entry("request.deactivate", "the active profile".to_owned())
        }
        Request::Emergency(Emergency { order, dry_run: false }) => match order {
            EmergencyOrder::Stop { reason } => {
                Some(entry("request.emergency_stop", "host".to_owned())?.with("reason", reason))
            }
            EmergencyOrder::Resume => entry("request.emergency_resume", "host".to_owned()),
            EmergencyOrder::Tell => None,
        },
        Request::DynamicApply(DynamicApply { target, limits, policy, dry_run: false }) => {
            let entry = entry("request.dynamic_apply", format!("target {target}"))?;
            let entry = entry.with("policy", policy.kind());
            Some(match limits {
                Some(limits) => entry.with("limits", limits),
                None => entry,
            })
        }
        Request::DynamicRemove(DynamicRemove { target, dry_run: false }) => {
            entry("request.dynamic_remove", format!("target {target}"))
        }
        Request::WebhookTest(WebhookTest { endpoint }) => {
            entry("request.webhook_test", format!("webhook {endpoint}"))
        }
        Request::WebhookReplay(WebhookReplay { which, dry_run: false }) => match which {
            Replayed::Id(id) => entry("request.webhook_replay", format!("delivery {id}")),
            Replayed::Matching(query) => {
                let of = query
                    .endpoint
                    .as_ref()
                    .map_or("all webhooks".to_owned(), |name| format!("webhook {name}"));
                entry("request.webhook_replay", of)
            }
        },
        Request::CriticalRestart(CriticalRestart { name, dry_run: false }) => {
            entry("request.critical_restart", format!("critical {name}"))
        }
        Request::BackUp(BackUp { name, dry_run: false, .. }) => {
            let subject =
                name.as_ref().map_or_else(|| "the next backup".to_owned(), |name| format!("backup {name}"));
            entry("request.backup", subject)
        }
        Request::Reload(DryRun { dry_run: false }) => entry("request.reload", "configuration".to_owned()),
        Request::Acknowledge(Acknowledge { name, comment, dry_run: false, .. }) => {
            let entry = entry("request.acknowledge", format!("critical {name}"))?;
            Some(match comment {
                Some(comment) => entry.with("comment", comment),
                None => entry,
            })
        }
        Request::Throttle(_)
        | Request::Release(_)
        | Request::Activate(_)
        | Request::Deactivate(_)
        | Request::Emergency(_)
        | Request::DynamicApply(_)
        | Request::DynamicRemove(_)
        | Request::WebhookReplay(_)
        | Request::CriticalRestart(_)
        | Request::Reload(_)
        | Request::Acknowledge(_)
        | Request::BackUp(_)
        | Request::State
        | Request::Status
        | Request::Groups
        | Request::Explain { .. }
        | Request::Plan { .. }
        | Request::ActiveProfile
        | Request::Events(_)
        | Request::Follow(_)
        | Request::Record
        | Request::Dynamics
        | Request::WebhookStates
        | Request::Deliveries(_)
        | Request::Delivery { .. }
        | Request::Criticals
        | Request::Latency(_)
        | Request::Metrics
        | Request::Alerts => None,
    }
}

/// With how the daemon answered.
#[must_use]
pub fn answered(entry: Entry, result: &Result<Answer, Failure>) -> Entry {
    match result {
        Err(failure) => failed(entry, failure),
        Ok(Answer::Reply(Reply::Failure(failure))) => failed(entry, failure),
        Ok(Answer::Reply(Reply::Throttled(throttled))) if !throttled.refused.is_empty() => {
            let refused = throttled.refused.iter().map(|one| format!("pid {}: {}", one.pid, one.why));
            let refused = refused.collect::<Vec<_>>().join("; ");
            entry.ended(Outcome::Partial, format!("not limited: {refused}"))
        }
        Ok(Answer::Reply(_) | Answer::Stream(_)) => entry,
    }
}

/// With how it failed.
#[must_use]
pub fn failed(entry: Entry, failure: &Failure) -> Entry {
    let outcome = match failure.kind {
        FailureKind::Denied | FailureKind::Conflict => Outcome::Denied,
        FailureKind::Partial => Outcome::Partial,
        FailureKind::Failed
        | FailureKind::Usage
        | FailureKind::NotRunning
        | FailureKind::NotFound
        | FailureKind::Invalid => Outcome::Failure,
    };
    entry.ended(outcome, failure.message.clone())
}

/// Pids that a record names; the others are counted.
const PIDS: usize = 64;

fn throttle(throttle: &Throttle, actor: Actor) -> Option<Entry> {
    let first = throttle.processes.first().map(|process| process.pid);
    let subject = match (&throttle.group, first) {
        (Some(group), _) => format!("group {group}"),
        (None, Some(pid)) => format!("group pid-{pid}"),
        (None, None) => "no process".to_owned(),
    };
    let mut pids: Vec<String> =
        throttle.processes.iter().take(PIDS).map(|process| process.pid.to_string()).collect();
    if throttle.processes.len() > PIDS {
        pids.push(format!("and {} more", throttle.processes.len() - PIDS));
    }
    let entry = Entry::new(now(), "request.throttle", actor, subject).with("limits", &throttle.limits);
    Some(entry.with("pids", pids.join(" ")))
}

fn of(target: &ReleaseOf) -> String {
    match target {
        ReleaseOf::All => "all groups".to_owned(),
        ReleaseOf::Group(group) => format!("group {group}"),
        ReleaseOf::Rule(rule) => format!("rule {rule}"),
        ReleaseOf::Process(process) => format!("process {}", process.pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::proto::{Refused, Throttled};
    use crate::model::limits::Limits;

    fn release(dry_run: bool) -> Request {
        Request::Release(Release { target: ReleaseOf::Group("web".parse().unwrap()), dry_run })
    }

    #[test]
    fn what_changes_nothing_has_no_record() {
        for request in
            [release(true), Request::Status, Request::Alerts, Request::Reload(DryRun { dry_run: true })]
        {
            assert_eq!(change(&request, Actor::Daemon), None);
        }
        let entry = change(&release(false), Actor::uid(5)).unwrap();
        assert_eq!((entry.kind, entry.subject.as_str()), ("request.release", "group web"));
    }

    #[test]
    fn a_record_says_how_it_ended() {
        let entry = || change(&release(false), Actor::uid(5)).unwrap();
        for (kind, outcome) in [
            (FailureKind::Denied, Outcome::Denied),
            (FailureKind::Conflict, Outcome::Denied),
            (FailureKind::Partial, Outcome::Partial),
            (FailureKind::NotFound, Outcome::Failure),
        ] {
            let ended = answered(entry(), &Err(Failure::new(kind, "because")));
            assert_eq!((ended.outcome, ended.detail.as_str()), (outcome, "because"));
        }
        let throttled = Throttled {
            group: "web".parse().unwrap(),
            limits: Limits::default(),
            how: String::new(),
            members: Vec::new(),
            refused: vec![Refused { pid: 1, why: "never touched".to_owned() }],
            until: None,
            dry_run: false,
        };
        let ended = answered(entry(), &Ok(Answer::Reply(Reply::Throttled(Box::new(throttled)))));
        assert_eq!(
            (ended.outcome, ended.detail.as_str()),
            (Outcome::Partial, "not limited: pid 1: never touched")
        );
    }
}
