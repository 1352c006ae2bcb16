//! A spell of too few instances: since when, whether it was told, and when it is over. It must not count them.

use std::time::Duration;

use crate::model::absence::Absence;
use crate::model::process::Process;
use crate::model::time::Timestamp;

/// How long there must be enough instances again before that is told: one that dies at once is not back.
pub(crate) const SETTLES: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    /// Since when there are too few.
    pub(crate) since: Timestamp,
    why: Absence,
    /// Whether it was told that it is down.
    down: bool,
    /// Whether it was told that it is missing.
    missing: bool,
    /// Since when there are enough again, and the instance that made them enough.
    back: Option<(Timestamp, Process)>,
}

/// What is to be told of a spell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tale {
    /// It lasts for too long.
    Missing {
        /// Why.
        why: Absence,
        /// How long it is.
        absent: Duration,
    },
    /// It is over.
    Back {
        /// The instance that made them enough.
        by: Process,
        /// How long it was.
        absent: Duration,
    },
}

impl Spell {
    pub(crate) const fn new(since: Timestamp, why: Absence) -> Self {
        Self { since, why, down: false, missing: false, back: None }
    }

    /// There are too few again before it was told that there are enough.
    pub(crate) const fn relapse(&mut self) {
        self.back = None;
    }

    /// It is told that it is down.
    pub(crate) const fn tell_down(&mut self) {
        self.down = true;
    }

    /// Whether somebody waits to hear of its end.
    pub(crate) const fn is_told(&self) -> bool {
        self.down || self.missing
    }

    /// Whether there are enough again.
    pub(crate) const fn is_over(&self) -> bool {
        self.back.is_some()
    }

    /// There are enough from now on.
    pub(crate) fn fill(&mut self, by: &Process, now: Timestamp) {
        self.back.get_or_insert((now, *by));
    }

    /// One of those that came is called otherwise by now.
    pub(crate) fn called(&mut self, process: &Process) {
        if let Some((_, by)) = &mut self.back
            && by.key == process.key
        {
            *by = *process;
        }
    }

    /// When [`Self::tale`] has something to tell. `within`: how long a spell may be; `hold`: whether nothing is
    /// to be told yet, because deaths are so many that they are summed up.
    pub(crate) fn due(&self, within: Option<Duration>, hold: bool) -> Option<Timestamp> {
        if hold {
            return None;
        }
        match self.back {
            Some((at, _)) => Some(at.after(SETTLES)),
            None => within.filter(|_| !self.missing).map(|within| self.since.after(within)),
        }
    }

    /// What is to be told at `now`; after its end the spell is to be forgotten.
    pub(crate) fn tale(&mut self, within: Option<Duration>, hold: bool, now: Timestamp) -> Option<Tale> {
        if self.due(within, hold).is_none_or(|due| due > now) {
            return None;
        }
        match self.back {
            Some((at, by)) => Some(Tale::Back { by, absent: at.since(self.since) }),
            None => {
                self.missing = true;
                Some(Tale::Missing { why: self.why, absent: now.since(self.since) })
            }
        }
    }
}
