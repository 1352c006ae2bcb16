//! Who is meant by the target of a look, on the main thread.

use std::sync::PoisonError;
use std::time::Duration;

use super::answer::{Subject, Watched, Watching};
use crate::cgroup::membership::below;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{
    CriticalStatus, LOOK_MAX_MS, Latency, LatencyLook, LatencyTarget, Member, ProcRef,
};
use crate::daemon::command::Command;
use crate::daemon::requests::{Office, Result};
use crate::model::id::{Name, ProcKey};
use crate::model::process::Wants;
use crate::source::sched::WATCHED_MAX;

impl Office {
    /// Looks how long processes wait for a CPU.
    pub(in crate::daemon) async fn latency(&self, asked: LatencyLook) -> Result<Latency> {
        let LatencyLook { target, for_ms } = asked;
        if !(100..=LOOK_MAX_MS).contains(&for_ms) {
            let message = format!("a look lasts from 100 ms to {LOOK_MAX_MS} ms, not {for_ms} ms");
            return Err(Failure::new(FailureKind::Invalid, message));
        }
        // Before anything is looked up: nobody may look.
        self.probes.permitted()?;
        let subject = match target {
            None => {
                let all = self.ask(Command::Criticals).await?;
                Subject { whole: true, ..self.instances(all) }
            }
            Some(LatencyTarget::Name(name)) => self.named(&name).await?,
            Some(LatencyTarget::Pid(pid)) => {
                let key = self.identify(ProcRef { pid, start: None })?;
                self.of_processes(vec![(None, key)])
            }
            Some(LatencyTarget::Cgroup(path)) => self.cgroup(&path)?,
        };
        let mut latency = self.probes.look(subject, Duration::from_millis(for_ms)).await?;
        self.name_holders(&mut latency.holders).await?;
        Ok(latency)
    }

    /// Tells the probes which processes are critical, when they want to know.
    pub async fn tell_critical(&self) {
        match self.ask(Command::Criticals).await {
            Ok(all) => {
                let members = all.iter().flat_map(|critical| &critical.instances);
                self.probes.critical(members.map(|member| member.key).collect());
            }
            Err(failure) => tracing::debug!(%failure, "the probes are not told who is critical"),
        }
    }

    /// The instances of critical processes.
    fn instances(&self, all: Vec<CriticalStatus>) -> Subject {
        let members = all.into_iter().flat_map(|critical| {
            let name = critical.name.to_string();
            critical.instances.into_iter().map(move |member| (Some(name.clone()), member.key))
        });
        self.of_processes(members.collect())
    }

    /// A critical process, or else a group.
    async fn named(&self, name: &Name) -> Result<Subject> {
        let mut critical = self.ask(Command::Criticals).await?;
        critical.retain(|critical| critical.name == *name);
        if !critical.is_empty() {
            return Ok(self.instances(critical));
        }
        let groups = self.ask(Command::Groups).await?;
        let Some(group) = groups.into_iter().map(|placed| placed.status).find(|group| group.group == *name)
        else {
            let message = format!("no critical process and no group is named {name}");
            return Err(Failure::new(FailureKind::NotFound, message)
                .with_hint("critical list and status show their names; a cgroup begins with /"));
        };
        let of_group = |Member { key, comm: _ }: Member| (Some(name.to_string()), key);
        Ok(self.of_processes(group.members.into_iter().map(of_group).collect()))
    }

    /// These processes and the cgroups they are in. One that is gone meanwhile is left out without a word.
    pub(in crate::daemon) fn of_processes(&self, named: Vec<(Option<String>, ProcKey)>) -> Subject {
        let proc = self.proc.lock().unwrap_or_else(PoisonError::into_inner);
        let mut subject = Subject::default();
        for (name, key) in named {
            if subject.processes.len() == WATCHED_MAX {
                subject.left_out += 1;
                continue;
            }
            let Ok(Some(process)) = proc.process(key.pid) else { continue };
            if process.key != key {
                continue;
            }
            let wants = Wants { cgroup_path: true, ..Wants::default() };
            let path = proc.facts(key, wants).ok().flatten().and_then(|facts| facts.cgroup_path);
            if let (Some(path), Some(hierarchy)) = (path, proc.hierarchy())
                && let Some(id) = hierarchy.id(&path)
                && let Ok(dir) = below(&hierarchy.mount, &path)
                && !subject.cgroups.iter().any(|one| one.id == id)
            {
                subject.cgroups.push(Watching { id, dir });
            }
            let name = name.unwrap_or_else(|| process.comm.to_string());
            subject.processes.push(Watched { key, name, comm: process.comm });
        }
        subject
    }

    fn cgroup(&self, path: &str) -> Result<Subject> {
        let proc = self.proc.lock().unwrap_or_else(PoisonError::into_inner);
        let absent = || Failure::new(FailureKind::NotFound, format!("no cgroup {path:?}"));
        let hierarchy = proc.hierarchy().ok_or_else(absent)?;
        let id = hierarchy.id(path.as_bytes()).ok_or_else(absent)?;
        let dir = below(&hierarchy.mount, path.as_bytes()).map_err(|_outside| absent())?;
        Ok(Subject { cgroups: vec![Watching { id, dir }], ..Subject::default() })
    }
}
