//! Looks that were taken at known times, and what is told of a death between them.

use super::*;
use crate::model::last_seconds::Waiting;
use crate::model::signal::Hundredths;
use crate::procfs::tree::{Task, Tree};

const KEY: ProcKey = ProcKey { pid: 10, start: 100 };

fn at(millis: u64) -> Timestamp {
    Timestamp::from_nanos(millis * 1_000_000)
}

/// A process whose only thread ran and waited for so many ms.
fn put(tree: &Tree, ran: u64, waited: u64) {
    tree.put(&Task::new(KEY.pid, KEY.start));
    tree.write("10/schedstat", format!("{} {} 1\n", ran * 1_000_000, waited * 1_000_000).as_bytes());
}

fn waited(lookout: &Lookout, tree: &Tree, now: Timestamp) -> Option<Waiting> {
    lookout.waited(KEY, lookout.before(KEY, now)?, now, &tree.proc())
}

#[test]
fn it_looks_while_there_is_something_to_look_at() {
    let tree = Tree::new();
    let mut lookout = Lookout::default();
    lookout.stir();
    assert_eq!(lookout.due(), None);
    lookout.watch(KEY, true);
    assert_eq!(lookout.due(), Some(Timestamp::ZERO), "at once");
    lookout.look(at(1_000), &tree.proc());
    assert_eq!(lookout.due(), Some(at(6_000)), "also if it could not be read");
    lookout.watch(KEY, true);
    assert_eq!(lookout.due(), Some(at(6_000)), "it is not new");
    lookout.watch(ProcKey { pid: 11, ..KEY }, true);
    assert_eq!(lookout.due(), Some(at(2_000)), "but no more often than that");
    lookout.look(at(2_000), &tree.proc());
    lookout.stir();
    assert_eq!(lookout.due(), Some(at(3_000)));
    lookout.watch(KEY, false);
    lookout.watch(ProcKey { pid: 11, ..KEY }, false);
    assert_eq!(lookout.due(), None);
    assert!(lookout.before(KEY, at(4_000)).is_some(), "what was seen is for the death, which is told later");
}

#[test]
fn a_death_is_compared_with_the_newest_look_that_is_old_enough() {
    let tree = Tree::new();
    let proc = tree.proc();
    let mut lookout = Lookout::default();
    let before = |lookout: &Lookout, key, now| lookout.before(key, at(now)).map(|look| look.at);
    lookout.watch(KEY, true);
    for seconds in [1, 6, 11] {
        lookout.look(at(seconds * 1_000), &proc);
    }
    assert_eq!(before(&lookout, KEY, 12_500), Some(at(11_000)));
    assert_eq!(before(&lookout, KEY, 11_500), Some(at(6_000)), "half a second says little");
    assert_eq!(before(&lookout, KEY, 30_000), None, "not the last seconds any more");

    let late = ProcKey { pid: 11, ..KEY };
    lookout.watch(late, true);
    lookout.look(at(12_000), &proc);
    assert_eq!(before(&lookout, late, 12_500), Some(at(12_000)), "the only look at it");
    assert_eq!(before(&lookout, late, 12_050), Some(at(11_000)), "too short: the machine's alone");
    let never = ProcKey { pid: 12, ..KEY };
    assert_eq!(before(&lookout, never, 13_500), Some(at(12_000)));
}

#[test]
fn the_wait_lasts_until_the_death_where_the_dead_can_be_read() {
    let tree = Tree::new();
    let mut lookout = Lookout::default();
    lookout.watch(KEY, true);
    put(&tree, 100, 0);
    lookout.look(at(1_000), &tree.proc());
    put(&tree, 1_100, 4_000);
    lookout.look(at(6_000), &tree.proc());
    put(&tree, 1_600, 5_000);

    let told = waited(&lookout, &tree, at(8_000)).unwrap();
    assert_eq!((told.window_ms, told.ended_ms, told.threads), (2_000, 0, 1));
    assert_eq!((told.waited, told.ran), (Hundredths(5_000), Hundredths(2_500)));

    // Reaped, or one that took over its pid: what is known ended before.
    let expected = Waiting {
        window_ms: 5_000,
        ended_ms: 2_000,
        threads: 1,
        waited: Hundredths(8_000),
        ran: Hundredths(2_000),
    };
    tree.put(&Task::new(KEY.pid, KEY.start + 1));
    assert_eq!(waited(&lookout, &tree, at(8_000)), Some(expected));
    tree.remove(KEY.pid);
    assert_eq!(waited(&lookout, &tree, at(8_000)), Some(expected));
}

#[test]
fn a_wait_that_was_seen_once_is_not_told_without_the_dead() {
    let tree = Tree::new();
    let mut lookout = Lookout::default();
    lookout.watch(KEY, true);
    put(&tree, 100, 0);
    lookout.look(at(1_000), &tree.proc());
    tree.remove(KEY.pid);
    assert_eq!(waited(&lookout, &tree, at(3_000)), None);
}

#[test]
fn no_more_is_looked_at_than_the_most() {
    let tree = Tree::new();
    let mut lookout = Lookout::default();
    for pid in 1..=80 {
        lookout.watch(ProcKey { pid, start: 100 }, true);
    }
    lookout.look(at(1_000), &tree.proc());
    assert_eq!(lookout.looks.front().unwrap().processes.len(), PROCESSES_MAX);
    assert_eq!(lookout.due(), Some(at(6_000)), "and those beyond are not new for ever");
}

#[test]
fn quotas_are_those_of_the_cgroup_and_all_above_but_the_root() {
    let lookout = Lookout { mount: Some(PathBuf::from("/cg")), ..Lookout::default() };
    let levels = |dir: &str| -> Vec<String> {
        lookout.levels(Path::new(dir)).map(|level| level.display().to_string()).collect()
    };
    assert_eq!(levels("/cg/a/b"), ["/cg/a/b", "/cg/a"]);
    assert_eq!(levels("/cg"), ["/cg"]);
    assert_eq!(levels("/cg/1/2/3/4/5/6/7/8/9").len(), LEVELS_MAX);
}
