//! The readers against hostile trees and against the real one.

use std::os::unix::fs::symlink;

use super::tree::{Task, Tree};
use super::*;
use crate::clock;
use crate::model::process::Comm;

const ALL: Wants = Wants { exe: true, cmdline: true, cgroup_path: true };

#[test]
fn a_process_is_put_together_from_its_files() {
    let tree = Tree::new();
    let mount = tempfile::tempdir().unwrap();
    std::fs::create_dir(mount.path().join("group")).unwrap();
    tree.put(&Task { comm: b"a) (b\n", ..Task::new(7, 500) });
    let hierarchy = Hierarchy { version: cgroup::Version::V1Cpu, mount: mount.path().to_owned() };
    let proc = tree.proc().with_hierarchy(Some(hierarchy.clone()));
    let expected = Process {
        key: ProcKey { pid: 7, start: 500 },
        started: Timestamp::from_nanos(5_000_000_000),
        execed: None,
        ppid: 1,
        uid: 1000,
        gid: 100,
        cgroup: hierarchy.id(b"/group").unwrap(),
        comm: Comm::from_bytes(b"a) (b\n"),
        kthread: false,
    };
    assert_eq!(proc.process(7).unwrap(), Some(expected));
    assert_eq!(proc.process(8).unwrap(), None);
}

#[test]
fn only_live_processes_are_listed() {
    let tree = Tree::new();
    tree.put(&Task::new(7, 500));
    tree.put(&Task { state: 'Z', ..Task::new(8, 500) });
    tree.put(&Task { state: 'Z', threads: 2, ..Task::new(9, 500) });
    for other in ["self/x", "sys/kernel/x", "12x/stat", "-3/stat", "+4/stat", "99999999999/stat"] {
        tree.write(other, b"");
    }
    let proc = tree.proc();
    let mut pids: Vec<u32> = proc.processes().unwrap().map(|process| process.unwrap().key.pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, [7, 9]);
    assert!(proc.remains(8).unwrap().is_some_and(|(_, stat)| stat.is_dead()));
}

#[test]
fn bad_files_are_errors_that_name_the_file() {
    for (file, text) in [
        ("stat", Vec::new()),
        ("stat", b"7 (task) S 1".to_vec()),
        ("stat", vec![b'7'; 1 << 20]),
        ("status", Vec::new()),
        ("status", b"Uid:\t0\t0\t0\t0\n".to_vec()),
        ("status", vec![b'U'; 1 << 20]),
    ] {
        let tree = Tree::new();
        tree.put(&Task::new(7, 500));
        tree.write(&format!("7/{file}"), &text);
        let error = tree.proc().process(7).unwrap_err().to_string();
        assert!(error.contains(&format!("7/{file}: expected")), "{error}");
    }
}

#[test]
fn facts_belong_to_the_key() {
    let tree = Tree::new();
    tree.put(&Task::new(7, 500));
    symlink("/opt/a b (deleted)", tree.path().join("7/exe")).unwrap();
    let hierarchy = Hierarchy { version: cgroup::Version::V1Cpu, mount: "/nowhere".into() };
    let proc = tree.proc().with_hierarchy(Some(hierarchy));
    let key = ProcKey { pid: 7, start: 500 };
    let facts = proc.facts(key, ALL).unwrap().unwrap();
    assert_eq!(facts.exe.as_deref(), Some(&b"/opt/a b"[..]));
    assert_eq!(facts.cmdline.as_deref(), Some(&b"task --flag"[..]));
    assert_eq!(facts.cgroup_path.as_deref(), Some(&b"/group"[..]));
    assert_eq!(proc.facts(key, Wants::default()).unwrap(), Some(Facts::default()));
    assert_eq!(proc.facts(ProcKey { start: 501, ..key }, ALL).unwrap(), None, "another process's pid");
    assert_eq!(proc.facts(ProcKey { pid: 8, ..key }, ALL).unwrap(), None, "gone");
    tree.put(&Task { state: 'Z', ..Task::new(7, 500) });
    assert_eq!(proc.facts(key, ALL).unwrap(), None, "dead");
}

/// The kernel tells nothing of the program for a first thread that has ended.
#[test]
fn facts_of_a_process_whose_first_thread_has_ended_come_from_another() {
    let tree = Tree::new();
    let threads = tree.path().join("7/task");
    std::fs::create_dir_all(&threads).unwrap();
    for (tid, state) in [(7, 'Z'), (8, 'Z'), (9, 'S')] {
        tree.put(&Task { state, threads: 3, ..Task::new(tid, 500) });
        if state == 'Z' {
            tree.write(&format!("{tid}/cmdline"), b"");
        }
    }
    symlink("/opt/a", tree.path().join("9/exe")).unwrap();
    for tid in ["8", "9"] {
        std::fs::rename(tree.path().join(tid), threads.join(tid)).unwrap();
    }
    let key = ProcKey { pid: 7, start: 500 };
    let facts = tree.proc().facts(key, ALL).unwrap().unwrap();
    assert_eq!(facts.exe.as_deref(), Some(&b"/opt/a"[..]));
    assert_eq!(facts.cmdline.as_deref(), Some(&b"task --flag"[..]));
    std::fs::remove_dir_all(threads.join("9")).unwrap();
    let facts = tree.proc().facts(key, ALL).unwrap().unwrap();
    assert_eq!((facts.exe, facts.cmdline.as_deref()), (None, Some(&b""[..])), "no other is there");
}

#[test]
fn command_lines_are_cut_and_stay_bytes() {
    let tree = Tree::new();
    tree.put(&Task::new(7, 500));
    let proc = tree.proc();
    let cmdline = |text: &[u8]| {
        tree.write("7/cmdline", text);
        proc.facts(ProcKey { pid: 7, start: 500 }, ALL).unwrap().unwrap().cmdline.unwrap()
    };
    assert_eq!(cmdline(b""), b"");
    assert_eq!(cmdline(b"\0\0\0"), b"");
    assert_eq!(cmdline(b"a\0\0b\0"), b"a  b");
    assert_eq!(cmdline(b"\xff\n\x1b\0"), b"\xff\n\x1b");
    assert_eq!(cmdline(&[b'x'; 100_000]), [b'x'; CMDLINE_MAX]);
}

#[test]
fn a_huge_cgroup_file_is_an_error() {
    let tree = Tree::new();
    tree.put(&Task::new(7, 500));
    tree.write("7/cgroup", &vec![b'x'; CGROUP_MAX + 1]);
    let proc =
        tree.proc().with_hierarchy(Some(Hierarchy { version: cgroup::Version::V2, mount: "/x".into() }));
    let error = proc.process(7).unwrap_err().to_string();
    assert!(error.ends_with("longer than 65536 bytes"), "{error}");
    tree.write("7/cgroup", &vec![b'x'; CGROUP_MAX]);
    assert_eq!(proc.process(7).unwrap().unwrap().cgroup, 0);
}

#[test]
fn machine_facts_refuse_malformed_files() {
    let tree = Tree::new();
    let proc = tree.proc();
    assert!(proc.boot_id().unwrap_err().to_string().contains("boot_id: expected a UUID"));
    tree.write("meminfo", b"MemFree: 1 kB\nMemTotal:       8044812 kB\n");
    tree.write("sys/kernel/pid_max", b"4194304\n");
    tree.write("uptime", b"1234.56 2000.00\n");
    tree.write("sys/kernel/random/boot_id", b"f2f0a9cf-8bc8-4d3a-8a8e-1b1bd0bd26b4\n");
    assert_eq!(proc.memory_total().unwrap(), 8_044_812 * 1024);
    assert_eq!(proc.pid_max().unwrap(), 4_194_304);
    assert_eq!(proc.uptime().unwrap().as_millis(), 1_234_560);
    assert_eq!(proc.boot_id().unwrap().len(), 36);
    for bad in ["", "MemTotal: 1", "MemTotal: x kB\n", "MemTotal: 99999999999999999999 kB\n"] {
        tree.write("meminfo", bad.as_bytes());
        assert!(proc.memory_total().is_err(), "{bad:?}");
    }
    for bad in ["", "1\n", "1.5 \n", "x.00 1\n", "-1.00 \n"] {
        tree.write("uptime", bad.as_bytes());
        assert!(proc.uptime().is_err(), "{bad:?}");
    }
}

#[test]
fn rows_measure_over_the_life_or_the_sample() {
    let tree = Tree::new();
    tree.put(&Task::new(7, 500));
    let proc = tree.proc();
    // 50 ticks of CPU time in the 2 s since the start, none of them since the base.
    let row = proc.row(7, Timestamp::from_nanos(7_000_000_000), None).unwrap().unwrap();
    assert!((row.cpu_percent - 25.0).abs() < 1e-9, "{}", row.cpu_percent);
    let base = proc.cpu_times(Timestamp::from_nanos(6_000_000_000)).unwrap();
    let row = proc.row(7, Timestamp::from_nanos(7_000_000_000), Some(&base)).unwrap().unwrap();
    assert!(row.cpu_percent.abs() < 1e-9, "{}", row.cpu_percent);
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!(
        (&json["pid"], &json["cmdline"], &json["state"]),
        (&7.into(), &"task --flag".into(), &"S".into())
    );
}

#[test]
fn the_real_proc_agrees_with_itself() {
    let proc = Proc::host().unwrap();
    let me = proc.process(std::process::id()).unwrap().unwrap();
    assert_eq!(me.uid, rustix::process::getuid().as_raw());
    assert_eq!(Some(me.ppid), rustix::process::getppid().map(|pid| pid.as_raw_pid().unsigned_abs()));
    assert!(me.started <= clock::now() && !me.kthread);
    let facts = proc.facts(me.key, ALL).unwrap().unwrap();
    let exe = std::env::current_exe().unwrap();
    assert_eq!(facts.exe.as_deref(), Some(exe.as_os_str().as_encoded_bytes()));
    assert!(proc.hierarchy().is_none() || (me.cgroup != 0 && facts.cgroup_path.is_some()));
    assert!(proc.processes().unwrap().flatten().any(|process| process.key == me.key));
    assert!(proc.rows(clock::now(), None).unwrap().iter().any(|row| row.key == me.key && row.rss > 0));
    assert!(proc.memory_total().unwrap() > 1 << 20);
    assert!(proc.pid_max().unwrap() > std::process::id());
    assert!(proc.uptime().unwrap().as_nanos() > u128::from(me.started.as_nanos()));
    assert_eq!(proc.boot_id().unwrap(), Proc::host().unwrap().boot_id().unwrap());
    assert!(proc.pressure(pressure::Resource::Cpu).is_ok());
}
