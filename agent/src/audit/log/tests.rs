//! The writer against interruptions, other writers and itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::audit::query::{Filter, search};
use crate::audit::verify::{Verified, verify};

const SMALL: Rotation = Rotation { size: 2_000, after: Duration::from_secs(3_600), keep: 3 };

struct Bed {
    _dir: TempDir,
    place: Place,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { place: Place::new(dir.path().join("log")), _dir: dir }
    }

    fn log(&self, rotation: Rotation) -> Log {
        Log::new(self.place.clone(), rotation)
    }

    fn verify(&self) -> Verified {
        verify(&self.place).unwrap()
    }

    fn why(&self) -> String {
        let bad = self.verify().bad.unwrap();
        format!("{}: {}", bad.line, bad.why)
    }

    fn kinds(&self) -> Vec<String> {
        let found = search(&self.place, &Filter::default(), 1_000).unwrap();
        assert_eq!(found.unreadable, 0);
        found.records.into_iter().map(|record| record.body.kind).collect()
    }
}

fn entry(unix_ms: i64) -> Entry {
    Entry::new(unix_ms, "request.release", Actor::uid(1), "group a").ended(Outcome::Success, "x".repeat(100))
}

#[test]
fn records_are_numbered_and_linked_and_for_few_eyes() {
    let bed = Bed::new();
    let mut log = bed.log(Rotation::DEFAULT);
    assert_eq!(log.append(&[entry(1), entry(2)]).unwrap(), 2);
    assert_eq!(log.append(&[entry(3)]).unwrap(), 3);
    let verified = bed.verify();
    assert!(verified.intact);
    assert_eq!((verified.records, verified.first, verified.last), (3, Some(1), Some(3)));
    let mode = fs::metadata(bed.place.current()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
}

#[test]
fn two_writers_take_turns() {
    let bed = Bed::new();
    let (mut one, mut other) = (bed.log(SMALL), bed.log(SMALL));
    for n in 0..40 {
        let log = if n % 3 == 0 { &mut one } else { &mut other };
        log.append(&[entry(n)]).unwrap();
    }
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut log = bed.log(Rotation::DEFAULT);
            std::thread::spawn(move || (0..20).for_each(|n| assert!(log.append(&[entry(n)]).is_ok())))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let verified = bed.verify();
    assert!(verified.intact, "{:?}", verified.bad);
    assert!(verified.last.unwrap() >= 120);
}

#[test]
fn a_torn_tail_at_every_byte_is_set_aside_and_told() {
    let bed = Bed::new();
    bed.log(Rotation::DEFAULT).append(&[entry(1), entry(2)]).unwrap();
    let whole = fs::read(bed.place.current()).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in second + 1..whole.len() {
        fs::write(bed.place.current(), &whole[..cut]).unwrap();
        assert!(bed.why().starts_with("2: "), "cut at {cut}");
        bed.log(Rotation::DEFAULT).append(&[entry(3)]).unwrap();
        assert!(bed.verify().intact, "cut at {cut}: {:?}", bed.verify().bad);
        assert_eq!(bed.kinds(), ["request.release", REPAIRED, "request.release"]);
        let aside = bed.place.torn(2, 3);
        assert_eq!(fs::read(&aside).unwrap(), whole[second..cut], "nothing is lost");
        fs::remove_file(aside).unwrap();
    }
}

#[test]
fn a_long_torn_tail_is_no_line() {
    let bed = Bed::new();
    bed.log(Rotation::DEFAULT).append(&[entry(1)]).unwrap();
    let mut bytes = fs::read(bed.place.current()).unwrap();
    bytes.resize(bytes.len() + 3 * chain::LINE_MAX, 0);
    fs::write(bed.place.current(), bytes).unwrap();
    bed.log(Rotation::DEFAULT).append(&[entry(2)]).unwrap();
    assert!(bed.verify().intact);
    assert_eq!(bed.kinds(), ["request.release", REPAIRED, "request.release"]);
}

#[test]
fn what_is_altered_or_taken_out_is_found_where_it_is() {
    let bed = Bed::new();
    bed.log(Rotation::DEFAULT).append(&[entry(1), entry(2), entry(3), entry(4)]).unwrap();
    let text = fs::read_to_string(bed.place.current()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let put = |lines: &[&str]| fs::write(bed.place.current(), format!("{}\n", lines.join("\n"))).unwrap();
    put(&[lines[0], lines[2], lines[3]]);
    assert_eq!(bed.why(), "2: it is number 3 and should be number 2");
    put(&[lines[0], lines[2], lines[1], lines[3]]);
    assert!(bed.why().starts_with("2: "));
    put(&[lines[1], lines[2], lines[3]]);
    assert!(bed.why().starts_with("0: records up to number 1 are missing"), "{}", bed.why());
    put(&[lines[0], &lines[1].replace("uid\":1", "uid\":0"), lines[2], lines[3]]);
    assert!(bed.why().starts_with("2: its hash is "), "{}", bed.why());
    // One who can compute hashes breaks the link to the next record.
    let mut forged = chain::open(lines[1].as_bytes()).unwrap().body;
    forged.actor = Actor::uid(0);
    let forged = String::from_utf8(chain::seal(&forged).unwrap().0).unwrap();
    put(&[lines[0], &forged, lines[2], lines[3]]);
    assert!(bed.why().starts_with("3: it follows a record with the hash "), "{}", bed.why());
    // Writing goes on after it, and does not hide it.
    bed.log(Rotation::DEFAULT).append(&[entry(5)]).unwrap();
    assert!(bed.why().starts_with("3: "));
    put(&lines);
    assert!(bed.verify().intact);
}

#[test]
fn rotation_keeps_the_chain_and_removes_the_oldest_in_order() {
    let bed = Bed::new();
    let mut log = bed.log(SMALL);
    for n in 0..60 {
        log.append(&[entry(n)]).unwrap();
        let verified = bed.verify();
        assert!(verified.intact, "{n}: {:?}", verified.bad);
    }
    let closed = bed.place.list_closed().unwrap();
    assert_eq!(closed.len(), 3);
    assert!(closed.iter().all(|(_, path)| fs::metadata(path).unwrap().len() <= SMALL.size));
    assert!(bed.verify().first.unwrap() > 1);
    assert!(bed.kinds().iter().any(|kind| kind == PRUNED));
    fs::remove_file(&closed[0].1).unwrap();
    assert!(!bed.verify().intact, "it was not removed in order");
}

#[test]
fn an_old_file_is_closed() {
    let bed = Bed::new();
    let mut log = bed.log(SMALL);
    let hour = 3_600_000;
    log.append(&[entry(0)]).unwrap();
    log.append(&[entry(hour - 1)]).unwrap();
    assert_eq!(bed.place.list_closed().unwrap().len(), 0);
    // Also by a process that has not written it.
    bed.log(SMALL).append(&[entry(hour)]).unwrap();
    assert_eq!(bed.place.list_closed().unwrap().len(), 1);
    assert!(bed.verify().intact);
}

#[test]
fn a_crash_between_closing_and_the_next_record_harms_nothing() {
    let bed = Bed::new();
    bed.log(SMALL).append(&[entry(1), entry(2)]).unwrap();
    fs::rename(bed.place.current(), bed.place.closed(2)).unwrap();
    assert!(bed.verify().intact);
    assert_eq!(bed.log(SMALL).append(&[entry(3)]).unwrap(), 3);
    assert!(bed.verify().intact);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_altered_byte_of_the_log_is_found(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let bed = Bed::new();
        bed.log(Rotation::DEFAULT).append(&[entry(1), entry(2), entry(3)]).unwrap();
        let mut bytes = fs::read(bed.place.current()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(bed.place.current(), bytes).unwrap();
        prop_assert!(!bed.verify().intact, "bit {} of byte {}", bit, at);
    }
}
