//! How long somebody waited for a CPU of late, for whoever asks while the probes are armed: told from what was read when it
//! was asked last, else from a brief look. It must not arm them, nor keep them armed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use crate::cgroup::find;
use crate::control::proto::Holder;
use crate::daemon::kept::{BRIEF, Kept};
use crate::daemon::probes::answer::{DIRS_MAX, grown, together};
use crate::daemon::probes::listening::Counters;
use crate::model::id::ProcKey;
use crate::model::latency::{ByCpu, Reading, Totals, Waits, blame, since, sum};
use crate::model::time::{Timestamp, millis};
use crate::source::SourceError;

/// Most of those who had the CPUs that are told for each process.
const HOLDERS_MAX: usize = 5;

/// Most cgroups that are looked for below those which are asked about.
const BELOW_MAX: usize = 256;

/// Who is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// All that are in these cgroups and below.
    Cgroups(Vec<PathBuf>),
    /// These processes, and who had the CPUs that they waited for.
    Processes(Vec<ProcKey>),
}

/// What is told of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waited {
    /// Its waits.
    pub waits: Waits,
    /// Who had the CPUs, the most first.
    pub holders: Vec<Holder>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Of so long, in ms.
    pub over_ms: u64,
    /// In the order in which it was asked; absent: not measured yet.
    pub of: Vec<Option<Waited>>,
}

/// Who had the CPUs, by cgroup, in hundredths of a percent; nobody in particular: cgroups without a slot.
type Shares = Vec<(Option<u64>, u32)>;

/// A question. Why it is not measured is an answer.
#[derive(Debug)]
pub(super) struct Ask {
    /// About whom.
    pub of: Vec<Whose>,
    /// Where the answer goes; whoever asked may have gone away.
    pub answer: oneshot::Sender<Result<Recent, String>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recently {
    kept: Kept<Reading>,
    /// Brief looks under way: until when, and since what.
    open: Vec<(Timestamp, Reading, Ask)>,
}

impl Recently {
    /// The probes are armed, and count from here on.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.kept = Kept::default();
        let nothing = Reading {
            at,
            cgroups: Vec::new(),
            other: ByCpu::new(),
            watched: Vec::new(),
            totals: Totals::default(),
        };
        self.kept.keep(at, nothing);
    }

    /// Somebody asks.
    pub(super) fn ask(&mut self, ask: Ask, counted: &impl Counters, mount: Option<&Path>, now: Timestamp) {
        let reading = match counted.all() {
            Ok(reading) => reading,
            Err(error) => return drop(ask.answer.send(Err(unreadable(&error)))),
        };
        if let Some((_, from)) = self.kept.before(now) {
            drop(ask.answer.send(Ok(recent(&ask.of, from, &reading, mount))));
            self.kept.keep(now, reading);
        } else {
            self.open.push((now.after(BRIEF), reading, ask));
        }
    }

    /// When [`Self::finish`] has something to do.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.open.iter().map(|(until, ..)| *until).min()
    }

    /// How many look.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Answers those whose time has come, all together; without the probes, all.
    pub(super) fn finish(&mut self, counted: Option<&impl Counters>, mount: Option<&Path>, now: Timestamp) {
        self.kept.drop_old(now);
        let due = |(until, ..): &mut (Timestamp, Reading, Ask)| counted.is_none() || *until <= now;
        let due: Vec<_> = self.open.extract_if(.., due).collect();
        if due.is_empty() {
            return;
        }
        let reading = counted.map_or_else(
            || Err("the scheduler's probes went away meanwhile".to_owned()),
            |counted| counted.all().map_err(|error| unreadable(&error)),
        );
        for (_, from, ask) in due {
            let told = reading.as_ref().map(|reading| recent(&ask.of, &from, reading, mount));
            drop(ask.answer.send(told.map_err(Clone::clone)));
            self.kept.keep(from.at, from);
        }
    }
}

fn unreadable(error: &SourceError) -> String {
    format!("the scheduler's probes cannot be read: {}", crate::model::chain::chain(error))
}

fn recent(of: &[Whose], from: &Reading, to: &Reading, mount: Option<&Path>) -> Recent {
    let cgroups: BTreeMap<u64, ByCpu> = grown(&to.cgroups, &from.cgroups).into_iter().collect();
    let watched: BTreeMap<ProcKey, ByCpu> = grown(&to.watched, &from.watched).into_iter().collect();
    let mut users: Vec<(Option<u64>, ByCpu)> =
        cgroups.iter().map(|(id, waits)| (Some(*id), waits.clone())).collect();
    users.push((None, since(&to.other, Some(&from.other))));
    let mut room = BELOW_MAX;
    let found: Vec<Option<(Waits, Shares)>> = of
        .iter()
        .map(|waiter| match waiter {
            Whose::Cgroups(dirs) => {
                let ids: Vec<u64> = dirs.iter().flat_map(|dir| find::ids_below(dir, &mut room)).collect();
                // A cgroup in which nobody ran has no slot, and nobody waited there.
                ids.first()?;
                Some((sum(&together(ids.iter().filter_map(|id| cgroups.get(id)))), Vec::new()))
            }
            Whose::Processes(keys) => {
                let mut known = keys.iter().filter_map(|key| watched.get(key)).peekable();
                known.peek()?;
                let waits = together(known);
                let mut holders = blame(&waits, &users);
                holders.truncate(HOLDERS_MAX);
                Some((sum(&waits), holders))
            }
        })
        .collect();
    let ids: BTreeSet<u64> =
        found.iter().flatten().flat_map(|(_, holders)| holders).filter_map(|(id, _)| *id).collect();
    let dirs = mount.map(|mount| find::by_ids(mount, ids, DIRS_MAX)).unwrap_or_default();
    let path = |id: Option<u64>| {
        let Some(id) = id else { return "cgroups without a slot".to_owned() };
        let named = mount.zip(dirs.get(&id)).and_then(|(mount, dir)| find::path_of(mount, dir));
        named.unwrap_or_else(|| format!("cgroup {id}, which is gone"))
    };
    let told = |(waits, holders): (Waits, Shares)| Waited {
        waits,
        holders: holders
            .into_iter()
            .map(|(id, share)| Holder { cgroup: path(id), group: None, share })
            .collect(),
    };
    Recent { over_ms: millis(to.at.since(from.at)), of: found.into_iter().map(|one| one.map(told)).collect() }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const VITAL: ProcKey = ProcKey { pid: 7, start: 1 };

    /// One CPU: each second the watched process waits a tenth of it, and a hog has the rest.
    #[derive(Default)]
    struct Machine {
        at: Cell<u64>,
        reads: Cell<u32>,
        hog: u64,
    }

    impl Machine {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(self.at.get() * 1_000_000)
        }

        fn pass(&self, millis: u64) {
            self.at.set(self.at.get() + millis);
        }
    }

    impl Counters for Machine {
        fn watched(&self) -> Result<Vec<(ProcKey, ByCpu)>, SourceError> {
            Ok(self.all()?.watched)
        }

        fn all(&self) -> Result<Reading, SourceError> {
            self.reads.set(self.reads.get() + 1);
            let millis = self.at.get();
            let mut vital = Waits { wait_ns: millis * 100_000, longest_ns: 5_000_000, ..Waits::default() };
            vital.counts[13] = millis / 100;
            let hog = Waits { on_cpu_ns: millis * 900_000, wait_ns: millis * 50_000, ..Waits::default() };
            Ok(Reading {
                at: self.now(),
                cgroups: vec![(self.hog, vec![hog])],
                other: vec![Waits::default()],
                watched: vec![(VITAL, vec![vital])],
                totals: Totals::default(),
            })
        }
    }

    fn ask(
        recently: &mut Recently,
        machine: &Machine,
        of: Vec<Whose>,
    ) -> oneshot::Receiver<Result<Recent, String>> {
        let (answer, told) = oneshot::channel();
        recently.ask(Ask { of, answer }, machine, None, machine.now());
        told
    }

    fn told(mut answer: oneshot::Receiver<Result<Recent, String>>) -> Recent {
        answer.try_recv().unwrap().unwrap()
    }

    #[test]
    fn the_first_answer_takes_a_brief_look_and_later_ones_none() {
        let cgroup = tempfile::tempdir().unwrap();
        let hog = std::fs::metadata(cgroup.path()).unwrap().ino();
        let (mut recently, machine) = (Recently::default(), Machine { hog, ..Machine::default() });
        machine.pass(1_000_000);
        recently.begin(machine.now());
        machine.pass(120_000);
        let all = || {
            let hog = Whose::Cgroups(vec![cgroup.path().to_owned(), "/gone".into()]);
            vec![
                Whose::Processes(vec![VITAL]),
                hog,
                Whose::Processes(vec![]),
                Whose::Cgroups(vec!["/gone".into()]),
            ]
        };
        let mut first = ask(&mut recently, &machine, all());
        assert!(first.try_recv().is_err() && recently.open() == 1, "armed too long ago");
        assert_eq!(recently.due(), Some(machine.now().after(BRIEF)));
        recently.finish(Some(&machine), None, machine.now());
        machine.pass(300);
        recently.finish(Some(&machine), None, machine.now());
        let Recent { over_ms, of } = told(first);
        assert_eq!((over_ms, recently.due()), (300, None));
        let [Some(vital), Some(hog), None, None] = of.as_slice() else { panic!("{of:?}") };
        assert_eq!((vital.waits.wait_ns, vital.waits.count()), (30_000_000, 3));
        let [Holder { cgroup, group: None, share }] = vital.holders.as_slice() else { panic!("{vital:?}") };
        assert_eq!(
            (cgroup.as_str(), *share),
            (format!("cgroup {}, which is gone", machine.hog).as_str(), 10_000)
        );
        assert_eq!((hog.waits.wait_ns, hog.holders.len()), (15_000_000, 0));
        machine.pass(2_000);
        assert_eq!(told(ask(&mut recently, &machine, all())).over_ms, 2_300, "since the look began");
        machine.pass(30_000);
        assert_eq!(told(ask(&mut recently, &machine, all())).over_ms, 30_000);
        assert_eq!(machine.reads.get(), 4, "nothing is read unless somebody asks");
    }

    #[test]
    fn shortly_after_arming_all_that_was_counted_is_of_late() {
        let (mut recently, machine) = (Recently::default(), Machine::default());
        recently.begin(machine.now());
        machine.pass(5_000);
        let answer = told(ask(&mut recently, &machine, vec![Whose::Processes(vec![VITAL])]));
        assert_eq!((answer.over_ms, answer.of[0].as_ref().unwrap().waits.wait_ns), (5_000, 500_000_000));
    }

    #[test]
    fn whoever_asks_is_told_when_the_probes_go() {
        let (mut recently, machine) = (Recently::default(), Machine::default());
        let mut answer = ask(&mut recently, &machine, Vec::new());
        recently.finish(None::<&Machine>, None, machine.now());
        let why = answer.try_recv().unwrap().unwrap_err();
        assert!(why.contains("went away") && recently.open() == 0, "{why}");
    }
}
