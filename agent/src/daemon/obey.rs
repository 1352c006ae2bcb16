//! Commands, on the engine thread. Those that limit or release are answered when their actions have outcomes.

use std::collections::BTreeSet;

use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{Explanation, Member, Refused, Released, Throttled};
use crate::daemon::command::{Answer, Command};
use crate::daemon::pending::Settled;
use crate::daemon::recall::manual;
use crate::daemon::report;
use crate::daemon::turn::Turn;
use crate::effect::dry::plan_lines;
use crate::engine::action::{Apply, Wants, What};
use crate::engine::input::{Input, ManualThrottle, Outcome, ReleaseTarget};
use crate::engine::view::GroupView;
use crate::model::container;
use crate::model::id::{Name, ProcKey};
use crate::model::policy::Policy;
use crate::model::process::Comm;
use crate::model::reason::Reason;
use crate::model::rule::Profile;
use crate::store::Store;

/// Sends an answer; whoever asked may have gone away.
pub(super) fn send<T>(answer: Answer<T>, result: Result<T, Failure>) {
    drop(answer.send(result));
}

impl Turn {
    /// Carries out a command.
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Status(answer) => {
                let status = self.status();
                send(answer, Ok(status));
            }
            Command::Figures(answer) => {
                let figures = self.figures();
                send(answer, Ok(figures));
            }
            Command::Groups(answer) => {
                let groups = self.groups();
                send(answer, Ok(groups));
            }
            Command::Explain { pid, answer } => {
                let result = self.explain(pid);
                send(answer, result);
            }
            Command::Plan { profile, answer } => {
                self.tell_plan(&profile, answer);
            }
            Command::Throttle { throttle, dry_run, answer } => self.throttle(throttle, dry_run, answer),
            Command::Recall(answer) => self.recall(answer),
            Command::Release { target, reason, dry_run, answer } => {
                self.release(target, reason, dry_run, answer)
            }
            Command::Activate { profile, answer } => self.activate(profile, answer),
            Command::Emergency { stop, told, uid, answer } => self.emergency(stop, told, uid, answer),
            Command::Dynamics(answer) => {
                let dynamics = self.dynamics();
                send(answer, Ok(dynamics));
            }
            Command::ApplyPolicy { target, limits, policy, reason, dry_run, answer } => {
                self.apply_policy(target, (limits, policy), reason, dry_run, answer);
            }
            Command::RemovePolicy { target, reason, dry_run, answer } => {
                self.remove_policy(target, reason, dry_run, answer);
            }
            Command::Criticals(answer) => {
                let criticals = self.criticals();
                send(answer, Ok(criticals));
            }
            Command::RestartCritical { name, dry_run, answer } => {
                self.restart_critical(name, dry_run, answer);
            }
            Command::Remember { restarts, answer } => {
                self.feed(Input::Remembered { restarts }, clock::now());
                send(answer, Ok(()));
            }
            Command::CopyState { to, answer } => {
                let copied = self.parts.throttle.with_store(|store| store.copy_to(&to));
                send(answer, copied.map_err(|error| Failure::from_error(FailureKind::Failed, &error)));
            }
            Command::CheckState(answer) => {
                let found = self.parts.throttle.with_store(Store::inspect);
                send(answer, found.map_err(|error| Failure::from_error(FailureKind::Failed, &error)));
            }
            Command::Resync(answer) => {
                let now = clock::now();
                self.feed(Input::Profile { profile: self.active.clone() }, now);
                let result = self.snapshot();
                self.act();
                send(answer, result.map_err(|error| Failure::from_error(FailureKind::Failed, &error)));
            }
            Command::Stop { release, answer } => self.stop(release, answer),
        }
    }

    fn explain(&mut self, pid: u32) -> Result<Explanation, Failure> {
        self.refresh(pid);
        let Some(explained) = self.parts.engine.explain(pid) else {
            return Err(Failure::new(FailureKind::NotFound, format!("no process {pid}")));
        };
        let key = explained.process.key;
        let facts = self.parts.proc.facts(key, Wants::ALL).ok().flatten().unwrap_or_default();
        let view = self.parts.engine.snapshot();
        let limited = explained.limited.as_ref();
        let group =
            limited.and_then(|limited| view.groups.into_iter().find(|group| group.name == limited.group));
        Ok(Explanation {
            key,
            comm: explained.process.comm,
            ppid: explained.process.ppid,
            uid: explained.process.uid,
            container: facts.cgroup_path.as_deref().and_then(container::of_cgroup),
            facts,
            ended: None,
            protected: explained.protected.clone().or_else(|| explained.refused.clone()),
            protection: explained.protection.as_ref().map(report::protection),
            cpu_delay: None,
            reservation: explained.reservation.clone().map(|view| report::reservation(view).to_string()),
            profile: view.profile,
            rules: report::verdicts(&explained),
            group: group.map(report::group),
            history: Vec::new(),
        })
    }

    /// Makes sure that engine and source know a process that `/proc` has, one that is younger than the last sweep
    /// or that has taken over its pid since: a source that does not know it would not tell its end.
    fn refresh(&mut self, pid: u32) {
        let Ok(Some(process)) = self.parts.proc.process(pid) else { return };
        if self.parts.engine.explain(pid).is_none_or(|known| known.process.key != process.key) {
            if let Err(error) = self.snapshot() {
                tracing::error!(%error, pid, "cannot look for a process");
            }
            self.act();
        }
    }

    fn throttle(&mut self, throttle: ManualThrottle, dry_run: bool, answer: Answer<Throttled>) {
        if let Some(words) = self.parts.engine.emergency() {
            let failure = Failure::new(FailureKind::Conflict, words);
            return send(answer, Err(failure.with_hint("process-throttler emergency resume")));
        }
        let taken =
            self.parts.engine.snapshot().groups.into_iter().find(|group| group.name == throttle.group);
        if let Some(rule) = taken.and_then(|group| group.rule) {
            let message = format!("group {} belongs to rule {rule}", throttle.group);
            let failure = Failure::new(FailureKind::Conflict, message).with_hint("choose another --group");
            return send(answer, Err(failure));
        }
        for key in &throttle.processes {
            self.refresh(key.pid);
        }
        let (able, refused) = self.sort_out(&throttle.processes);
        if able.is_empty() {
            let why: Vec<String> =
                refused.iter().map(|one| format!("pid {}: {}", one.pid, one.why)).collect();
            return send(
                answer,
                Err(Failure::new(
                    FailureKind::Conflict,
                    format!("no process may be limited: {}", why.join("; ")),
                )),
            );
        }
        let mut reply = Throttled {
            group: throttle.group.clone(),
            limits: throttle.limits.clone(),
            how: String::new(),
            members: self.members(&able),
            refused,
            until: throttle.until.and_then(report::wall),
            dry_run,
        };
        if dry_run {
            return self.would_apply(&throttle, able, reply, answer);
        }
        let throttle = ManualThrottle { processes: able, ..throttle };
        let earlier = self.wishes.get(&throttle.group).cloned();
        self.feed_and_wait(Input::Throttle(throttle.clone()), move |turn, settled| {
            // Nothing to do: all of them are in the group under these limits already.
            if settled.is_empty() {
                if matches!(throttle.policy, Policy::Latency(_)) && throttle.limits.is_empty() {
                    reply.how = "until it has to give way to a critical process".to_owned();
                }
                let noted = turn.note_wish(throttle);
                return send(answer, noted.map(|()| reply));
            }
            // Those who were in the group before have not come into it now, and are limited anew all the same.
            let made = turn.parts.engine.made_by_hand();
            let inside = made.get(&throttle.group).map_or(&[][..], Vec::as_slice);
            let of_these = throttle.processes.iter().filter(|key| inside.contains(key)).copied().collect();
            match applied(&settled, of_these) {
                Ok((how, members, refused)) => {
                    reply.how = how;
                    reply.members = turn.members(&members);
                    reply.refused.extend(refused.into_iter().map(|(key, why)| Refused { pid: key.pid, why }));
                    let noted = turn.note_wish(ManualThrottle { processes: members, ..throttle });
                    send(answer, noted.map(|()| reply));
                }
                Err(error) => {
                    // All or nothing: what the engine would try again later was asked for now.
                    let ManualThrottle { group, reason, .. } = throttle;
                    let earlier = earlier.map(|wish| (turn.sort_out(&wish.members).0, wish));
                    let undo = if let Some((able, wish)) = earlier.filter(|(able, _)| !able.is_empty()) {
                        Input::Throttle(manual(wish, able))
                    } else {
                        turn.forget_wish(&group);
                        Input::Release { target: ReleaseTarget::Group(group), reason }
                    };
                    turn.feed(undo, clock::now());
                    turn.act();
                    send(answer, Err(Failure::new(FailureKind::Failed, error)));
                }
            }
        });
    }

    /// Tells how limits would be brought into force, or why they could not be.
    fn would_apply(
        &self,
        throttle: &ManualThrottle,
        members: Vec<ProcKey>,
        reply: Throttled,
        answer: Answer<Throttled>,
    ) {
        let apply = Apply {
            group: throttle.group.clone(),
            limits: throttle.limits.clone(),
            scope: throttle.scope,
            allow_move: throttle.allow_move,
            whole_unit: throttle.whole_unit,
            // The executor makes sure that nobody else is in the cgroup.
            in_place: true,
            sharers: Vec::new(),
            rewrite: false,
            members,
            reason: throttle.reason.clone(),
            caused_at: clock::now(),
        };
        let (throttle, critical) = (self.parts.throttle.clone(), self.critical.clone());
        let asked = self.parts.worker.ask(move || {
            let plan = throttle.plan(&apply, &critical);
            let how = plan.map(|plan| format!("({})", plan_lines(&apply, &plan).join("; ")));
            let told = how.map(|how| Throttled { how, ..reply });
            send(answer, told.map_err(|error| Failure::from_error(FailureKind::Failed, &error)));
        });
        if !asked {
            // The answer's sender went with the question: the caller learns that the daemon is busy.
            tracing::warn!("too many moves are waiting to tell what a throttle would do");
        }
    }

    /// Which of these processes may be limited, and why the others may not.
    pub(super) fn sort_out(&self, keys: &[ProcKey]) -> (Vec<ProcKey>, Vec<Refused>) {
        let mut able = Vec::new();
        let mut refused = Vec::new();
        for key in keys {
            let explained =
                self.parts.engine.explain(key.pid).filter(|explained| explained.process.key == *key);
            match explained.map(|explained| explained.protected) {
                Some(None) => able.push(*key),
                Some(Some(why)) => refused.push(Refused { pid: key.pid, why }),
                None => refused.push(Refused { pid: key.pid, why: "it is gone".to_owned() }),
            }
        }
        (able, refused)
    }

    fn members(&self, keys: &[ProcKey]) -> Vec<Member> {
        let comm =
            |key: &ProcKey| self.parts.engine.explain(key.pid).map_or_else(Comm::default, |e| e.process.comm);
        keys.iter().map(|key| Member { key: *key, comm: comm(key) }).collect()
    }

    fn release(&mut self, target: ReleaseTarget, reason: Reason, dry_run: bool, answer: Answer<Released>) {
        let groups = self.parts.engine.snapshot().groups;
        let chosen: Vec<GroupView> = groups
            .into_iter()
            .filter(|group| match &target {
                ReleaseTarget::All => true,
                ReleaseTarget::Group(name) => group.name == *name,
                ReleaseTarget::Rule(rule) => group.rule.as_ref() == Some(rule),
                ReleaseTarget::Process(key) => group.members.iter().any(|member| member.key == *key),
            })
            .collect();
        // What is to come back after a restart can be taken back although nothing holds it now.
        let known = match &target {
            ReleaseTarget::All => true,
            ReleaseTarget::Group(name) => !chosen.is_empty() || self.wishes.get(name).is_some(),
            ReleaseTarget::Rule(_) | ReleaseTarget::Process(_) => !chosen.is_empty(),
        };
        if !known {
            let what = match &target {
                ReleaseTarget::All => "anything".to_owned(),
                ReleaseTarget::Group(name) => format!("group {name}"),
                ReleaseTarget::Rule(rule) => format!("rule {rule}"),
                ReleaseTarget::Process(key) => format!("process {}", key.pid),
            };
            return send(
                answer,
                Err(Failure::new(FailureKind::NotFound, format!("{what} limits nothing now"))),
            );
        }
        let (groups, processes) = match &target {
            ReleaseTarget::Process(key) => (Vec::new(), vec![*key]),
            ReleaseTarget::Group(name) if chosen.is_empty() => (vec![name.clone()], Vec::new()),
            ReleaseTarget::All | ReleaseTarget::Group(_) | ReleaseTarget::Rule(_) => {
                (chosen.iter().map(|group| group.name.clone()).collect(), Vec::new())
            }
        };
        let reply = Released { groups, processes, dry_run };
        if dry_run {
            return send(answer, Ok(reply));
        }
        let noted = self.forget_wishes(&target, &chosen);
        self.feed_and_wait(Input::Release { target, reason }, move |_turn, settled| {
            let result = match failures(&settled) {
                errors if errors.is_empty() => noted.map(|()| reply),
                errors if errors.len() < settled.len() => {
                    Err(Failure::new(FailureKind::Partial, errors.join("; ")))
                }
                errors => Err(Failure::new(FailureKind::Failed, errors.join("; "))),
            };
            send(answer, result);
        });
    }

    fn activate(&mut self, profile: Option<Box<Profile>>, answer: Answer<Option<Name>>) {
        let previous = std::mem::replace(&mut self.active, profile.clone());
        self.feed_and_wait(Input::Profile { profile }, move |turn, settled| {
            let errors = failures(&settled);
            let name = previous.as_ref().map(|profile| profile.name.clone());
            if errors.is_empty() {
                return send(answer, Ok(name));
            }
            turn.active.clone_from(&previous);
            turn.feed(Input::Profile { profile: previous }, clock::now());
            turn.renew_hints();
            turn.act();
            let back = name.map_or_else(|| "no profile".to_owned(), |name| format!("profile {name}"));
            let message = format!("rolled back, {back} is in force: {}", errors.join("; "));
            send(answer, Err(Failure::new(FailureKind::Failed, message)));
        });
        self.renew_hints();
    }

    fn stop(&mut self, release: bool, answer: Answer<Vec<String>>) {
        self.stopping = true;
        self.remember_members();
        if !release {
            return send(answer, Ok(Vec::new()));
        }
        let input = Input::Release { target: ReleaseTarget::All, reason: Reason::Stopping };
        self.feed_and_wait(input, move |_turn, settled| send(answer, Ok(failures(&settled))));
    }
}

/// What was applied to which of those that were asked for, or the first error.
type Sum = (String, Vec<ProcKey>, Vec<(ProcKey, String)>);

fn applied(settled: &[Settled], members: Vec<ProcKey>) -> Result<Sum, String> {
    let (mut hows, mut refused) = (BTreeSet::new(), Vec::new());
    for (what, outcome) in settled {
        match outcome {
            Outcome::Applied { how, refused: not, members: _, borrowed: _, at: _ } => {
                hows.insert(how.clone());
                refused.extend(not.iter().cloned());
            }
            Outcome::Failed { error } | Outcome::Entangled { why: error } => return Err(error.clone()),
            Outcome::Released | Outcome::Busy => {
                if matches!(what, What::Apply(_)) {
                    return Err("the limits were lifted meanwhile".to_owned());
                }
            }
        }
    }
    if members.is_empty() {
        let why: Vec<String> = refused.iter().map(|(key, why)| format!("pid {}: {why}", key.pid)).collect();
        return Err(format!("no process could be limited: {}", why.join("; ")));
    }
    Ok((hows.into_iter().collect::<Vec<_>>().join(", "), members, refused))
}

pub(super) fn failures(settled: &[Settled]) -> Vec<String> {
    settled
        .iter()
        .filter_map(|(_, outcome)| match outcome {
            Outcome::Failed { error } | Outcome::Entangled { why: error } => Some(error.clone()),
            Outcome::Applied { .. } | Outcome::Released | Outcome::Busy => None,
        })
        .collect()
}
