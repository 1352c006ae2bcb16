//! How long threads waited for a CPU: `/proc/PID/schedstat` and `/proc/PID/task/TID/schedstat`, three numbers each:
//! ns on a CPU, ns on a run queue, and how often it was given a CPU (Documentation/scheduler/sched-stats). Time in
//! which a CPU quota holds a thread back counts as waiting, too: it stays runnable.

use std::os::fd::AsFd as _;

use rustix::fs::{Dir, Mode, OFlags};

use crate::model::id::ProcKey;
use crate::procfs::read::{self, number};
use crate::procfs::{Entry, Proc, ProcError};

/// Three numbers of at most 20 digits.
const SCHEDSTAT_MAX: usize = 64;

/// The counters of one thread since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Thread {
    tid: u32,
    ran_ns: u64,
    waited_ns: u64,
}

/// The counters of a process's threads at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Ascending.
    threads: Vec<Thread>,
    /// Whether these are all of its threads.
    complete: bool,
}

/// What threads did between two moments, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// How many threads that is, those that ended in between not counted.
    pub threads: u32,
    /// Time on a CPU, in ns.
    pub ran_ns: u64,
    /// Time on a run queue, in ns.
    pub waited_ns: u64,
}

impl Waits {
    /// What was done since an earlier moment. One thread that was not there then has done all of it since, if all
    /// that were there are known; otherwise it is left out.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Waited {
        let mut sum = Waited::default();
        for thread in &self.threads {
            let (ran, waited) =
                match earlier.threads.binary_search_by_key(&thread.tid, |before| before.tid).ok() {
                    Some(at) => earlier.threads.get(at).map_or((0, 0), |b| (b.ran_ns, b.waited_ns)),
                    None if earlier.complete => (0, 0),
                    None => continue,
                };
            sum.threads += 1;
            sum.ran_ns = sum.ran_ns.saturating_add(thread.ran_ns.saturating_sub(ran));
            sum.waited_ns = sum.waited_ns.saturating_add(thread.waited_ns.saturating_sub(waited));
        }
        sum
    }

    /// How many threads are in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether none is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Whether it is all of a process that has one thread.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.complete && self.threads.len() == 1
    }
}

impl Proc {
    /// The counters of a process, of at most so many of its threads, oldest first; also of one that is dead and not
    /// reaped, whose first thread alone is left. `None` when it is gone or the kernel keeps no such counters.
    ///
    /// # Errors
    /// When a file of it cannot be read or is malformed.
    pub fn waits(&self, key: ProcKey, most: usize) -> Result<Option<Waits>, ProcError> {
        let Some(entry) = self.entry(key.pid)? else { return Ok(None) };
        let Some(stat) = entry.stat()?.filter(|stat| stat.key() == key) else { return Ok(None) };
        let tids = if stat.threads > 1 { entry.tids(most)? } else { vec![key.pid] };
        let single = stat.threads <= 1;
        let mut threads = Vec::with_capacity(tids.len());
        for tid in tids.iter().take(most) {
            let name = if single { "schedstat".to_owned() } else { format!("task/{tid}/schedstat") };
            threads.extend(entry.schedstat(&name, *tid)?);
        }
        threads.sort_unstable();
        let complete = tids.len() <= most;
        Ok((!threads.is_empty()).then_some(Waits { threads, complete }))
    }
}

impl Entry {
    /// The thread ids, one more than `most` at most.
    fn tids(&self, most: usize) -> Result<Vec<u32>, ProcError> {
        let path = || self.path.join("task");
        let failed = |errno| ProcError::io("listing", &path(), errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(&self.dir, "task", flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(errno) if read::is_gone(errno) => return Ok(Vec::new()),
            Err(errno) => return Err(failed(errno)),
        };
        let mut tids = Vec::new();
        for entry in Dir::read_from(&dir).map_err(failed)? {
            match entry {
                Ok(entry) => tids.extend(number::<u32>(entry.file_name().to_bytes())),
                // It was reaped meanwhile.
                Err(errno) if read::is_gone(errno) => break,
                Err(errno) => return Err(failed(errno)),
            }
            if tids.len() > most {
                break;
            }
        }
        Ok(tids)
    }

    fn schedstat(&self, name: &str, tid: u32) -> Result<Option<Thread>, ProcError> {
        let mut buffer = [0; SCHEDSTAT_MAX];
        let path = || self.path.join(name);
        let Some(text) = read::head(self.dir.as_fd(), name, &mut buffer, path)? else { return Ok(None) };
        let (ran_ns, waited_ns, slices) =
            parse(text).ok_or_else(|| ProcError::malformed(path(), "three numbers"))?;
        // A thread that exists has run; a kernel without these counters writes zeros (fs/proc/base.c).
        Ok(((ran_ns, slices) != (0, 0)).then_some(Thread { tid, ran_ns, waited_ns }))
    }
}

fn parse(text: &[u8]) -> Option<(u64, u64, u64)> {
    let mut numbers = text.strip_suffix(b"\n")?.split(|byte| *byte == b' ').map(number::<u64>);
    let found = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(threads: &[(u32, u64, u64)], complete: bool) -> Waits {
        let thread = |&(tid, ran_ns, waited_ns)| Thread { tid, ran_ns, waited_ns };
        Waits { threads: threads.iter().map(thread).collect(), complete }
    }

    #[test]
    fn cut_off_or_malformed_is_nothing() {
        let text = b"152015 1326838 2\n";
        assert_eq!(parse(text), Some((152_015, 1_326_838, 2)));
        for end in 0..text.len() {
            assert_eq!(parse(text.get(..end).unwrap()), None, "cut at {end}");
        }
        for bad in ["1 2\n", "1 2 3 4\n", "1  2 3\n", "-1 2 3\n", "1 +2 3\n", "99999999999999999999 1 1\n"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn threads_that_come_and_go_never_count_twice() {
        let before = waits(&[(1, 100, 10), (2, 500, 50)], true);
        let after = waits(&[(1, 150, 30), (3, 7, 70)], true);
        assert_eq!(after.since(&before), Waited { threads: 2, ran_ns: 57, waited_ns: 90 });
        let part = waits(&[(1, 100, 10)], false);
        assert_eq!(after.since(&part), Waited { threads: 1, ran_ns: 50, waited_ns: 20 });
        let reused = waits(&[(1, 3, 4)], true);
        assert_eq!(reused.since(&before), Waited { threads: 1, ran_ns: 0, waited_ns: 0 });
    }

    #[test]
    fn this_process_and_its_threads() {
        let proc = Proc::host().unwrap();
        let key = proc.process(std::process::id()).unwrap().unwrap().key;
        let (held, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let all = proc.waits(key, 1_000).unwrap().unwrap();
        assert!(all.len() >= 2 && all.complete && !all.is_single() && !all.is_empty());
        let one = proc.waits(key, 1).unwrap().unwrap();
        assert_eq!((one.len(), one.complete), (1, false));
        assert!(proc.waits(key, 1_000).unwrap().unwrap().since(&all).ran_ns > 0);
        assert_eq!(proc.waits(ProcKey { start: key.start + 1, ..key }, 1_000).unwrap(), None);
        drop(held);
        thread.join().unwrap().unwrap_err();
    }
}
