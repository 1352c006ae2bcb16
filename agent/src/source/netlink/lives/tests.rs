//! Messages against a `/proc` of the test's own.

use super::*;
use crate::model::process::Comm;
use crate::procfs::tree::{Task, Tree};

/// 10 s after boot: tick 1000.
const AT: Timestamp = Timestamp::from_nanos(10_000_000_000);

struct World {
    tree: Tree,
    lives: Lives,
}

impl World {
    /// Process 1 is known, and nothing else.
    fn new() -> Self {
        let tree = Tree::new();
        tree.put(&Task { comm: b"init", ..Task::new(1, 1) });
        let mut lives = Lives::new(tree.proc());
        lives.snapshot(&mut |_| {}).unwrap();
        Self { tree, lives }
    }

    fn batch(&mut self, changes: &[Change]) -> Vec<Event> {
        let mut events = Vec::new();
        for change in changes {
            self.lives.handle(*change, AT, &mut |event| events.push(event));
        }
        self.lives.settle(&mut |event| events.push(event));
        events
    }
}

fn fork(child: u32) -> Change {
    Change::Fork { parent: 1, child }
}

fn exit(tid: u32, tgid: u32, status: u32) -> Change {
    Change::Exit { tid, tgid, status }
}

#[track_caller]
fn only_exit(events: &[Event]) -> Exit {
    let [Event::Exit(exit)] = events else { panic!("one exit expected: {events:?}") };
    *exit
}

#[test]
fn a_life_in_three_batches() {
    let mut world = World::new();
    world.tree.put(&Task { comm: b"sh", ..Task::new(7, 999) });
    let [Event::Fork(born)] = world.batch(&[fork(7)])[..] else { panic!("fork") };
    assert_eq!((born.key, born.comm), (ProcKey { pid: 7, start: 999 }, Comm::from_bytes(b"sh")));
    world.tree.put(&Task { comm: b"cat", ..Task::new(7, 999) });
    let [Event::Exec(run)] = world.batch(&[Change::Exec { tgid: 7 }])[..] else { panic!("exec") };
    assert_eq!((run.key, run.comm, run.execed), (born.key, Comm::from_bytes(b"cat"), Some(AT)));
    world.tree.put(&Task { comm: b"cat", state: 'Z', ..Task::new(7, 999) });
    let exit = only_exit(&world.batch(&[exit(7, 7, 3 << 8)]));
    assert_eq!((exit.process, exit.status), (run, Some(Status::Code(3))));
    assert_eq!(exit.cpu, Some(Duration::from_millis(500)));
}

#[test]
fn a_fork_that_ends_unread_takes_after_its_parent() {
    let mut world = World::new();
    let exit = only_exit(&world.batch(&[fork(7), exit(7, 7, 9)]));
    assert_eq!(
        (exit.process.key, exit.process.comm),
        (ProcKey { pid: 7, start: 1000 }, Comm::from_bytes(b"init"))
    );
    assert_eq!((exit.process.ppid, exit.status), (1, Some(Status::Signal { number: 9, core: false })));
    assert_eq!(exit.cpu, None);
}

#[test]
fn an_unread_exec_is_counted_and_not_given_a_wrong_name() {
    let mut world = World::new();
    assert_eq!(world.batch(&[fork(7), Change::Exec { tgid: 7 }, exit(7, 7, 0)]), []);
    assert_eq!(world.lives.unidentified(), 1);
    assert_eq!(world.batch(&[exit(8, 8, 0)]), [], "a process never heard of");
    assert_eq!(world.lives.unidentified(), 2);
}

#[test]
fn a_zombie_tells_what_was_not_read_in_time() {
    let mut world = World::new();
    world.tree.put(&Task { comm: b"true", state: 'Z', ..Task::new(7, 998) });
    let exit = only_exit(&world.batch(&[fork(7), Change::Exec { tgid: 7 }, exit(7, 7, 0)]));
    assert_eq!((exit.process.key.start, exit.process.comm), (998, Comm::from_bytes(b"true")));
}

#[test]
fn a_reported_birth_is_followed_by_its_end() {
    let mut world = World::new();
    world.tree.put(&Task { comm: b"sh", ..Task::new(7, 999) });
    world.batch(&[fork(7)]);
    world.tree.remove(7);
    let exit = only_exit(&world.batch(&[Change::Exec { tgid: 7 }, exit(7, 7, 0)]));
    assert_eq!((exit.process.key.start, exit.process.comm), (999, Comm::from_bytes(b"sh")));
    assert_eq!(world.lives.unidentified(), 0);
}

#[test]
fn threads_that_end_are_no_deaths() {
    let mut world = World::new();
    world.tree.put(&Task { threads: 3, ..Task::new(7, 999) });
    world.batch(&[fork(7)]);
    assert_eq!(world.batch(&[exit(71, 7, 0), exit(72, 7, 0)]), []);
    assert!(!world.lives.is_pending());
}

#[test]
fn a_process_outlives_its_leader() {
    let mut world = World::new();
    world.tree.put(&Task::new(7, 999));
    world.batch(&[fork(7)]);
    world.tree.put(&Task { state: 'Z', threads: 2, ..Task::new(7, 999) });
    assert_eq!(world.batch(&[exit(7, 7, 5 << 8)]), []);
    assert!(world.lives.is_pending());
    assert_eq!(world.batch(&[exit(71, 7, 0)]), [], "one thread is still on the books");
    world.tree.put(&Task { state: 'Z', threads: 1, ..Task::new(7, 999) });
    let mut events = Vec::new();
    world.lives.recheck(AT, &mut |event| events.push(event));
    assert_eq!(only_exit(&events).status, Some(Status::Code(5)), "the leader's code");
    assert!(!world.lives.is_pending());
}

#[test]
fn the_last_threads_code_wins_over_the_leaders() {
    let mut world = World::new();
    world.tree.put(&Task { state: 'Z', threads: 2, ..Task::new(7, 999) });
    world.batch(&[fork(7), exit(7, 7, 0)]);
    world.tree.remove(7);
    assert_eq!(only_exit(&world.batch(&[exit(71, 7, 4 << 8)])).status, Some(Status::Code(4)));
}

#[test]
fn a_leader_replaced_by_exec_is_no_death() {
    let mut world = World::new();
    world.tree.put(&Task { threads: 2, ..Task::new(7, 999) });
    world.batch(&[fork(7)]);
    assert_eq!(world.batch(&[exit(7, 7, 0)]), [], "alive and no zombie");
    assert!(!world.lives.is_pending());
    let [Event::Exec(_)] = world.batch(&[Change::Exec { tgid: 7 }])[..] else { panic!("exec") };
    world.tree.remove(7);
    assert_eq!(only_exit(&world.batch(&[exit(7, 7, 2 << 8)])).status, Some(Status::Code(2)));
}

#[test]
fn a_reused_pid_does_not_keep_the_dead_alive() {
    let mut world = World::new();
    world.tree.put(&Task::new(7, 999));
    world.batch(&[fork(7)]);
    world.tree.put(&Task { comm: b"heir", ..Task::new(7, 2000) });
    let exit = only_exit(&world.batch(&[exit(7, 7, 0)]));
    assert_eq!((exit.process.key.start, exit.cpu), (999, None));
}

#[test]
fn a_message_from_before_the_snapshot_ends_nobody() {
    let mut world = World::new();
    world.tree.put(&Task { comm: b"heir", ..Task::new(7, 2000) });
    let mut alive = Vec::new();
    world.lives.snapshot(&mut |event| alive.push(event)).unwrap();
    assert_eq!(alive.len(), 2);
    assert_eq!(world.batch(&[exit(7, 7, 0), fork(7)]), []);
}

#[test]
fn a_snapshot_keeps_the_time_of_the_exec() {
    let mut world = World::new();
    world.tree.put(&Task::new(7, 999));
    world.batch(&[fork(7), Change::Exec { tgid: 7 }]);
    let mut execed = None;
    world
        .lives
        .snapshot(&mut |event| {
            if event.process().key.pid == 7 {
                execed = event.process().execed;
            }
        })
        .unwrap();
    assert_eq!(execed, Some(AT));
}

#[test]
fn unreadable_processes_are_counted() {
    let mut world = World::new();
    world.tree.write("7/stat", b"7 (cut");
    assert_eq!(world.batch(&[fork(7)]), []);
    assert!(world.lives.unreadable() > 0);
}
