//! The state of `top`, pressed key by key. No terminal.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::control::proto::Member;
use crate::model::limits::{Limits, Scope};
use crate::model::reason::Reason;
use crate::model::time::Timestamp;

/// Forty processes, two of them noisy and in a group, one with a hostile name.
pub(in crate::cli::top) fn data() -> Data {
    let key = |pid| ProcKey { pid, start: u64::from(pid) * 7 };
    let row = |pid: u32| Row {
        key: key(pid),
        ppid: 1,
        uid: 4_000_001,
        gid: 0,
        comm: Comm::from_bytes(match pid {
            100 | 101 => b"hog".as_slice(),
            102 => b"\x1b[2J\nbad",
            _ => b"quiet",
        }),
        cmdline: format!("/usr/bin/program-{pid} --now").into_bytes(),
        exe: None,
        state: 'S',
        cpu_percent: if pid < 102 { 90.0 - f64::from(pid) / 10.0 } else { 0.0 },
        rss: u64::from(pid) << 20,
        nice: 0,
        threads: 1,
        cgroup: None,
        started: Timestamp::from_nanos(1),
        kthread: false,
    };
    let group = GroupStatus {
        group: "backups".parse().unwrap(),
        rule: None,
        limits: Limits { cpu: Some("30%".parse().unwrap()), ..Limits::default() },
        scope: Scope::Group,
        how: String::new(),
        conflicts: Vec::new(),
        members: [100, 101].map(|pid| Member { key: key(pid), comm: Comm::from_bytes(b"hog") }).to_vec(),
        throttled_periods: None,
        throttled_us: None,
        cpu_delay: None,
        policy: None,
        reason: Reason::Operator { uid: 0, request: "throttle".to_owned() },
        since: None,
        until: None,
    };
    Data { rows: (100..140).map(row).collect(), groups: vec![group], ..Data::default() }
}

pub(in crate::cli::top) fn press(screen: &mut Screen, code: KeyCode) -> Step {
    screen.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn write(screen: &mut Screen, text: &str) {
    for c in text.chars() {
        assert_eq!(press(screen, KeyCode::Char(c)), Step::Stay);
    }
}

fn pids(screen: &Screen) -> Vec<u32> {
    screen.processes().map(|(row, _)| row.key.pid).collect()
}

#[test]
fn nothing_is_done_without_a_yes() {
    let mut screen = Screen::new(data());
    for (first, answer) in [('t', KeyCode::Char('n')), ('t', KeyCode::Enter), ('r', KeyCode::Esc)] {
        assert_eq!(press(&mut screen, KeyCode::Char(first)), Step::Stay);
        if first == 't' {
            assert_eq!(press(&mut screen, KeyCode::Enter), Step::Stay);
        }
        assert!(matches!(screen.mode(), Mode::Ask(_)));
        assert_eq!(press(&mut screen, answer), Step::Stay);
        assert_eq!(screen.mode(), &Mode::Browse);
    }
    press(&mut screen, KeyCode::Char('r'));
    let release = Order::Release { group: "backups".parse().unwrap() };
    assert_eq!(press(&mut screen, KeyCode::Char('y')), Step::Do(release));
}

#[test]
fn a_cap_is_typed_and_checked_before_it_is_asked_for() {
    let mut screen = Screen::new(data());
    press(&mut screen, KeyCode::Char('t'));
    write(&mut screen, "x");
    press(&mut screen, KeyCode::Enter);
    assert!(screen.said().is_some(), "30%x is no share");
    (0..4).for_each(|_| drop(press(&mut screen, KeyCode::Backspace)));
    write(&mut screen, "25%");
    press(&mut screen, KeyCode::Enter);
    let Step::Do(Order::Limit { process, cpu, .. }) = press(&mut screen, KeyCode::Char('y')) else {
        panic!("{screen:?}")
    };
    assert_eq!((process.pid, cpu.to_string()), (100, "25%".to_owned()));
}

#[test]
fn the_selection_stays_with_its_process() {
    let mut screen = Screen::new(data());
    press(&mut screen, KeyCode::Down);
    assert_eq!(screen.selected_row().map(|row| row.key.pid), Some(101));
    let mut next = data();
    next.rows.reverse();
    next.rows.iter_mut().for_each(|row| row.cpu_percent = 100.0 - row.cpu_percent);
    screen.update(next.clone());
    assert_eq!(screen.selected_row().map(|row| row.key.pid), Some(101));
    next.rows.retain(|row| row.key.pid != 101);
    screen.update(next);
    assert_eq!(screen.position(), Some(0), "it is gone");
    screen.update(Data::default());
    assert_eq!(press(&mut screen, KeyCode::Char('t')), Step::Stay);
    assert_eq!((screen.position(), screen.mode()), (None, &Mode::Browse));
}

#[test]
fn filters_and_orders() {
    let mut screen = Screen::new(data());
    assert_eq!(pids(&screen)[..3], [100, 101, 102], "by CPU");
    press(&mut screen, KeyCode::Char('s'));
    assert_eq!(pids(&screen)[0], 139, "by memory");
    press(&mut screen, KeyCode::Char('s'));
    assert_eq!(pids(&screen)[0], 100, "by pid");
    press(&mut screen, KeyCode::Char('/'));
    write(&mut screen, "BACKup");
    assert_eq!(pids(&screen), [100, 101], "by group");
    press(&mut screen, KeyCode::Enter);
    assert_eq!(press(&mut screen, KeyCode::Char('j')), Step::Stay);
    assert_eq!(screen.filter(), "BACKup");
    press(&mut screen, KeyCode::Char('/'));
    press(&mut screen, KeyCode::Esc);
    assert_eq!(pids(&screen).len(), 40);
    press(&mut screen, KeyCode::Char('/'));
    write(&mut screen, "program-117");
    assert_eq!(pids(&screen), [117], "by command line");
}

#[test]
fn control_c_ends_it_whatever_is_asked() {
    let mut screen = Screen::new(data());
    press(&mut screen, KeyCode::Char('t'));
    assert_eq!(screen.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Step::Quit);
}
