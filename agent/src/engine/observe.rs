//! Events and snapshots: who lives, who died, and whose death is an alert.

use crate::engine::action::What;
use crate::engine::process::lifecycle::Seen;
use crate::engine::rule::matcher::Subject;
use crate::engine::rule::{First, Needs};
use crate::engine::{EXIT_GRACE, Engine};
use crate::model::death::Cause;
use crate::model::event::{Event, Exit};
use crate::model::id::{Name, ProcKey};
use crate::model::notice::Notice;
use crate::model::process::Process;
use crate::model::time::Timestamp;

impl Engine {
    pub(super) fn event(&mut self, event: &Event) {
        self.counts.events += 1;
        match event {
            Event::Exec(process) => self.alive(process, true),
            Event::Fork(process) | Event::Alive(process) => self.alive(process, false),
            Event::Exit(exit) => self.exit(exit),
        }
    }

    fn alive(&mut self, process: &Process, exec: bool) {
        let key = process.key;
        if let Some(old) = self.table.superseded(key) {
            self.ended_unseen(old);
        }
        let cgroup = self.table.get(key).map(|entry| entry.process.cgroup);
        let seen = self.table.observe(process, exec, self.out.now());
        if let Some(entry) = self.table.get(key)
            && cgroup.is_some_and(|id| id != entry.process.cgroup)
            && let Some(group) = &entry.group
        {
            self.throttle.moved(group, key, entry.process.cgroup);
        }
        match seen {
            Seen::New | Seen::Execed | Seen::Changed => self.evaluate(key),
            Seen::Same => {}
            Seen::Stale => self.counts.stale += 1,
            Seen::Full => self.counts.evicted += 1,
        }
    }

    fn exit(&mut self, exit: &Exit) {
        self.counts.exits += 1;
        let key = exit.process.key;
        if self.table.is_dead(key) {
            self.counts.stale += 1;
            return;
        }
        if self.table.get(key).is_some() {
            self.ended(exit);
            return;
        }
        self.counts.short_lives += 1;
        if let Some(name) = self.critical_at_death(&exit.process) {
            self.critical_down(&name, exit, None);
        }
        self.table.bury(key);
    }

    /// A process whose whole life came in one record: judged by what the record tells.
    fn critical_at_death(&self, process: &Process) -> Option<Name> {
        let rules = self.rules.as_ref()?;
        let subject = Subject::dead(process, None, &self.table);
        match rules.critical(&subject, &mut Needs::default()) {
            First::One(critical) => Some(critical.name.clone()),
            First::None | First::Perhaps(_) => None,
        }
    }

    /// A known process died.
    fn ended(&mut self, exit: &Exit) {
        let key = exit.process.key;
        // Its own facts may not have come in yet when it dies, or it has become another program since it was looked
        // at; what is known decides.
        let late = self
            .table
            .get(key)
            .filter(|entry| entry.critical.is_none())
            .filter(|entry| entry.inspection.is_open() || entry.process.execed != exit.process.execed)
            .and_then(|_| self.critical_at_death(&exit.process));
        let Some(entry) = self.table.bury(key) else { return };
        self.throttle.died(entry.group.as_ref(), key);
        self.refusals.died(entry.process.cgroup, key);
        self.missing.retain(|(_, missing)| *missing != key);
        self.protections.want(key, None, &mut self.out);
        self.reservations.want(key, None, &mut self.out);
        if let Some(instance) = entry.critical {
            self.out.push(What::Watch { key, on: false, protected: false });
            self.critical_down(&instance.name, exit, entry.group.as_ref());
        } else if let Some(name) = late {
            self.critical_down(&name, exit, entry.group.as_ref());
        }
        self.wake_waiting(key);
    }

    /// A known process is gone and nobody told how.
    pub(super) fn ended_unseen(&mut self, key: ProcKey) {
        let Some(entry) = self.table.get(key) else { return };
        self.counts.missed_exits += 1;
        let process = entry.process;
        let at = self.out.now();
        self.ended(&Exit { process, at, status: None, cpu: None, peak_rss: None, cause: Cause::UNKNOWN });
    }

    fn critical_down(&mut self, name: &Name, exit: &Exit, group: Option<&Name>) {
        if self.criticals.died(name, exit, group, &mut self.out) {
            self.counts.critical_deaths += 1;
            if !self.criticals.is_up(name) {
                self.restarts.died(name, exit.status, &mut self.out);
            }
            self.care_for(name);
        }
    }

    pub(super) fn snapshot_end(&mut self, began: Timestamp) {
        let now = self.out.now();
        let before = self.counts.missed_exits;
        let mut late = 0;
        let gone = self.table.unseen_since(began);
        for key in gone {
            if self.table.get(key).is_some_and(|entry| entry.critical.is_some()) {
                if !self.missing.iter().any(|(_, missing)| *missing == key) {
                    self.missing.insert((now.after(EXIT_GRACE), key));
                    late += 1;
                }
            } else {
                self.ended_unseen(key);
            }
        }
        self.resync.asked = false;
        self.resync.due = Some(now.after(self.config.resync));
        match self.resync.lost_at {
            // What was lost after the snapshot began is not in it.
            Some(at) if at > began => self.ask_resync(),
            Some(_) => {
                let dropped = std::mem::take(&mut self.resync.lost);
                self.resync.lost_at = None;
                let missed_exits = self.counts.missed_exits - before + late;
                self.out.notify(Notice::EventsLost { dropped, missed_exits });
            }
            None => {}
        }
    }

    pub(super) fn lost(&mut self, dropped: u64) {
        self.counts.lost = self.counts.lost.saturating_add(dropped);
        self.resync.lost = self.resync.lost.saturating_add(dropped);
        self.resync.lost_at = Some(self.out.now());
        self.ask_resync();
    }

    /// Evaluates those that waited for facts of this process.
    pub(super) fn wake_waiting(&mut self, key: ProcKey) {
        let first = (key, ProcKey { pid: 0, start: 0 });
        let last = (key, ProcKey { pid: u32::MAX, start: u64::MAX });
        let woken: Vec<(ProcKey, ProcKey)> = self.waiting.range(first..=last).copied().collect();
        for pair in woken {
            self.waiting.remove(&pair);
            self.evaluate(pair.1);
        }
    }
}
