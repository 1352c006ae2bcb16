//! Every input survives, and no file makes the reader do more than refuse it.

use std::error::Error as _;
use std::time::Duration;

use super::*;
use crate::engine::action::ActionId;
use crate::engine::input::{
    ClockSample, CpuSample, GroupSample, Holder, ManualThrottle, Outcome, Override, PressureSample,
    ReleaseTarget, Sample, Waited, WaitedOf,
};
use crate::model::death::Cause;
use crate::model::event::{Event, Exit, Status};
use crate::model::id::ProcKey;
use crate::model::latency::Waits;
use crate::model::limits::{Limits, Scope};
use crate::model::notice::Clash;
use crate::model::policy::{Adaptive, Gradual, Policy, Schedule, Side, Span, Target, Threshold, When, Zone};
use crate::model::process::{Comm, Facts, Process};
use crate::model::reason::Reason;
use crate::model::rule::{Critical, Match, OnConflict, Pattern, Profile, Rule, Turn};
use crate::model::signal::Hundredths;

fn header() -> Header {
    Header::new("boot".to_owned(), 1_700_000_000_000, Timestamp::from_nanos(5), "poll")
}

fn process() -> Process {
    Process {
        key: ProcKey { pid: u32::MAX, start: u64::MAX },
        started: Timestamp::from_nanos(u64::MAX),
        execed: Some(Timestamp::from_nanos(1)),
        ppid: 1,
        uid: u32::MAX,
        gid: 0,
        cgroup: u64::MAX,
        comm: Comm::from_bytes(b"a\n\xff\\\"\x1b"),
        kthread: true,
    }
}

fn profile() -> Profile {
    let comm = Match::Comm(Pattern::Exact("rsync".to_owned()));
    let not = Match::Not(Box::new(Match::User { name: "postgres".to_owned(), uid: 70 }));
    let limits = Limits {
        cpu: Some("12.5%".parse().unwrap()),
        cpu_weight: Some("20".parse().unwrap()),
        memory_high: Some("1G".parse().unwrap()),
        nice: Some("-3".parse().unwrap()),
        pids: Some(50),
        ..Limits::default()
    };
    let rule = Rule {
        name: "backups".parse().unwrap(),
        description: String::new(),
        matches: Match::All(vec![comm.clone(), not, Match::Parent(Box::new(Match::Pid(7)))]),
        when: Some(When {
            thresholds: vec![Threshold {
                signal: "pressure_cpu_some_avg10".parse().unwrap(),
                side: Side::Above,
                on: Hundredths(2_000),
                off: Hundredths(1_500),
            }],
            hours: Some("Mon..Fri 22:00-06:00".parse().unwrap()),
            timezone: Zone::named("Europe/Berlin".to_owned()),
            cooldown_ms: 30_000,
        }),
        limits: limits.clone(),
        policy: Policy::Schedule(Schedule {
            windows: vec![Span { hours: "Sat".parse().unwrap(), limits }],
            timezone: Zone::default(),
        }),
        scope: Scope::Process,
        allow_move: true,
        on_conflict: OnConflict::Reassert,
        whole_unit: false,
        priority: -1,
        enabled: true,
    };
    let critical = Critical::new("db".parse().unwrap(), Match::Any(vec![comm]));
    Profile {
        name: "web".parse().unwrap(),
        version: "1.0".to_owned(),
        description: "new\nline".to_owned(),
        critical: vec![critical],
        rules: vec![rule],
        schedule: vec![Turn { cron: "0 9 * * 1-5".to_owned(), profile: "office".parse().unwrap() }],
    }
}

fn adaptive() -> Policy {
    Policy::Adaptive(Adaptive {
        target: Target::PressureCpuSome(Hundredths(1_000)),
        min: "5%".parse().unwrap(),
        max: "200%".parse().unwrap(),
        interval_ms: 1_000,
        cooldown_ms: 5_000,
        deadband_permille: 50,
    })
}

fn inputs() -> Vec<Input> {
    let key = process().key;
    let exit = Exit {
        process: process(),
        at: Timestamp::from_nanos(9),
        status: Some(Status::Signal { number: 11, core: true }),
        cpu: Some(Duration::from_nanos(123_456_789)),
        peak_rss: Some(u64::MAX),
        cause: Cause::UNKNOWN,
    };
    let bare = Exit { status: None, cpu: None, peak_rss: None, ..exit };
    let code = Exit { status: Some(Status::Code(3)), ..exit };
    let facts = Facts { exe: Some(b"/bin/\xfe".to_vec()), cmdline: Some(Vec::new()), cgroup_path: None };
    let reason = Reason::Operator { uid: 0, request: "throttle".to_owned() };
    let events = [
        Event::Exec(process()),
        Event::Fork(process()),
        Event::Alive(Process { execed: None, kthread: false, ..process() }),
        Event::Exit(exit),
        Event::Exit(bare),
        Event::Exit(code),
    ];
    let mut inputs: Vec<_> = events.map(|event| Input::Event { event }).into();
    inputs.extend([
        Input::SnapshotEnd { began: Timestamp::from_nanos(3) },
        Input::Lost { dropped: u64::MAX },
        Input::Inspected { key, facts: None },
        Input::Inspected { key, facts: Some(facts) },
        Input::Profile { profile: None },
        Input::Profile { profile: Some(Box::new(profile())) },
        Input::Throttle(ManualThrottle {
            group: "manual".parse().unwrap(),
            limits: Limits::default(),
            scope: Scope::Group,
            allow_move: true,
            whole_unit: false,
            processes: vec![key],
            policy: Policy::Gradual(Gradual {
                from: "100%".parse().unwrap(),
                over_ms: 300_000,
                interval_ms: 10_000,
            }),
            until: Some(Timestamp::from_nanos(4)),
            reason: reason.clone(),
        }),
        Input::Clashes {
            group: "manual".parse().unwrap(),
            clashes: vec![Clash { at: "f".into(), ours: "1".into(), found: "2".into() }],
        },
        Input::Override(Override { target: "backups".parse().unwrap(), terms: None, reason: reason.clone() }),
        Input::Override(Override {
            target: "backups".parse().unwrap(),
            terms: Some((Limits::default(), adaptive())),
            reason: reason.clone(),
        }),
        Input::Sample(Box::default()),
        Input::Waited(Box::default()),
        Input::Waited(Box::new(Waited {
            interval_ms: 100,
            of: vec![WaitedOf {
                critical: "web".parse().unwrap(),
                waits: Waits { longest_ns: u64::MAX, ..Waits::default() },
                holders: vec![Holder {
                    cgroup: u64::MAX,
                    group: Some("manual".parse().unwrap()),
                    share: 10_000,
                    used_millis: 7,
                }],
            }],
        })),
        Input::Sample(Box::new(Sample {
            pressure: Some([PressureSample { some_us: u64::MAX, ..PressureSample::default() }; 3]),
            cpu: Some(CpuSample { cpus: 2, busy_us: 3, throttled_us: 4 }),
            load: Some([Hundredths(1), Hundredths(2), Hundredths(3)]),
            groups: vec![GroupSample {
                group: "manual".parse().unwrap(),
                used_ns: u64::MAX,
                periods: 1,
                throttled: 0,
            }],
            clock: Some(ClockSample { unix_ms: -1, offsets: vec![(Zone::default(), -3_600)] }),
        })),
        Input::Outcome { id: ActionId(1), outcome: Outcome::Released },
        Input::Outcome { id: ActionId(2), outcome: Outcome::Busy },
        Input::Outcome { id: ActionId(3), outcome: Outcome::Failed { error: "no space".to_owned() } },
        Input::Outcome {
            id: ActionId(4),
            outcome: Outcome::Applied {
                borrowed: true,
                how: "in place".to_owned(),
                members: vec![key],
                refused: vec![(key, "gone".to_owned())],
                at: Timestamp::from_nanos(6),
            },
        },
    ]);
    let targets = [
        ReleaseTarget::All,
        ReleaseTarget::Group("g".parse().unwrap()),
        ReleaseTarget::Rule("r".parse().unwrap()),
        ReleaseTarget::Process(key),
    ];
    inputs.extend(targets.map(|target| Input::Release { target, reason: reason.clone() }));
    inputs
}

fn recording(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for entry in entries {
        writer.write(entry).unwrap();
    }
    writer.finish().unwrap()
}

fn lost(at: u64) -> Entry {
    Entry { at: Timestamp::from_nanos(at), input: Input::Lost { dropped: at } }
}

/// The error with its cause, and the number of entries before it.
fn refusal(text: &[u8]) -> (usize, String) {
    let show = |error: RecordError| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let reader = match Reader::new(text) {
        Ok(reader) => reader,
        Err(error) => return (0, show(error)),
    };
    let mut good = 0;
    for entry in reader {
        match entry {
            Ok(_) => good += 1,
            Err(error) => return (good, show(error)),
        }
    }
    panic!("accepted");
}

#[test]
fn every_input_survives() {
    let entries: Vec<_> = inputs()
        .into_iter()
        .zip(1..)
        .map(|(input, at)| Entry { at: Timestamp::from_nanos(at), input })
        .collect();
    let text = recording(&entries);
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), entries.len() + 1);
    let reader = Reader::new(&text[..]).unwrap();
    assert_eq!(reader.header(), &header());
    assert_eq!(reader.map(Result::unwrap).collect::<Vec<_>>(), entries);
}

#[test]
fn an_empty_recording_is_one() {
    assert_eq!(Reader::new(&recording(&[])[..]).unwrap().count(), 0);
}

#[test]
fn other_files_are_refused_by_their_first_line() {
    let head = String::from_utf8(recording(&[])).unwrap();
    assert_eq!(refusal(b""), (0, "line 1: the recording is empty".to_owned()));
    assert!(refusal(b"\n").1.starts_with("line 1: malformed: "));
    assert!(refusal(b"{}\n").1.starts_with("line 1: malformed: missing field `format`"));
    assert!(refusal(b"\x7fELF\x02\x01\x01\n").1.starts_with("line 1: malformed: "));
    let other = head.replace(FORMAT, "tar");
    assert_eq!(
        refusal(other.as_bytes()).1,
        "line 1: format is \"tar\", expected \"process-throttler-record\""
    );
    let newer = head.replace("\"version\":1", "\"version\":2").replace("\"boot_id\":\"boot\",", "");
    assert_eq!(refusal(newer.as_bytes()).1, "line 1: version 2 of the format is not supported, expected 1");
}

#[test]
fn cut_off_anywhere_is_told() {
    let whole = recording(&[lost(1), lost(2)]);
    for end in 0..whole.len() {
        if whole[..end].ends_with(b"\n") {
            continue;
        }
        let (good, error) = refusal(&whole[..end]);
        let lines = whole[..end].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(good, lines.saturating_sub(1), "cut at {end}");
        let expected = if end == 0 { "the recording is empty" } else { "cut off" };
        assert_eq!(error, format!("line {}: {expected}", lines + 1), "cut at {end}");
    }
}

#[test]
fn the_first_bad_line_ends_the_reading() {
    let good = String::from_utf8(recording(&[lost(1)])).unwrap();
    for bad in [
        "",
        "null",
        "[]",
        "{\"at\":1}",
        "{\"at\":-1,\"input\":{\"input\":\"lost\",\"dropped\":1}}",
        "{\"at\":1,\"input\":{\"input\":\"unheard_of\"}}",
        "{\"at\":1,\"input\":{\"input\":\"lost\",\"dropped\":1},\"more\":2}",
        "{\"at\":1,\"input\":{\"input\":\"lost\",\"dropped\":1}} trailing",
    ] {
        let text = format!("{good}{bad}\n{bad}\n");
        let (entries, error) = refusal(text.as_bytes());
        assert!(entries == 1 && error.starts_with("line 3: malformed: "), "{bad:?}: {error}");
        assert_eq!(Reader::new(text.as_bytes()).unwrap().count(), 2, "ends after the error");
    }
    let deep = format!("{good}{}\n", "[".repeat(100_000));
    assert!(refusal(deep.as_bytes()).1.starts_with("line 3: malformed: "));
    let not_text = [good.as_bytes(), b"{\"at\":\xff}\n"].concat();
    assert!(refusal(&not_text).1.starts_with("line 3: malformed: "));
}

#[test]
fn endless_lines_are_not_read_to_their_end() {
    let recorded = recording(&[lost(1)]);
    let endless = recorded.chain(io::BufReader::new(io::repeat(0)));
    let mut reader = Reader::new(endless).unwrap();
    assert!(reader.next().unwrap().is_ok());
    assert_eq!(reader.next().unwrap().unwrap_err().to_string(), "line 3: longer than 4194304 bytes");
    assert!(reader.next().is_none());
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let huge = Outcome::Failed { error: "x".repeat(LINE_MAX) };
    let input = Input::Outcome { id: ActionId(1), outcome: huge };
    let error = writer.write(&Entry { at: Timestamp::ZERO, input }).unwrap_err();
    assert_eq!(error.to_string(), "line 2: longer than 4194304 bytes");
    writer.write(&lost(1)).unwrap();
    let text = writer.finish().unwrap();
    assert_eq!(Reader::new(&text[..]).unwrap().map(Result::unwrap).collect::<Vec<_>>(), [lost(1)]);
}

#[test]
fn files_are_private_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    Writer::create(&path, &header()).unwrap().finish().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(Writer::create(&path, &header()), Err(RecordError::Write(_))));
    Reader::new(io::BufReader::new(File::open(&path).unwrap())).unwrap();
}

#[test]
fn a_full_disk_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let writer = Writer::new(full, &header()).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(error.source().unwrap().to_string().contains("No space left"), "{error:?}");
}
