//! The chain of hashes: how a record is sealed into a line, and how a line is checked. Pure.
//!
//! A line is the record's JSON with its hash as the last member. What is hashed is the former record's hash in
//! hexadecimal, followed by the bytes of the line without that last member: nothing has to be serialised again to
//! check it.

use sha2::{Digest as _, Sha256};

use super::record::{Body, Record};

/// What stands for the hash before the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Longest line, in bytes without its end.
pub const LINE_MAX: usize = 256 * 1024;

const BEFORE_HASH: &[u8] = b",\"hash\":\"";
const AFTER_HASH: &[u8] = b"\"}";

/// Why a line is no record of the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is longer than any record.
    #[error("the line is longer than {LINE_MAX} bytes")]
    Long,
    /// The line has no end.
    #[error("the line has no end: whoever wrote it was interrupted, or its end was cut off")]
    Torn,
    /// It does not end with a hash.
    #[error("the line does not end with a hash")]
    NoHash,
    /// It is not the JSON of a record.
    #[error("the line is no record: {0}")]
    Malformed(String),
    /// The hash is another.
    #[error("its hash is {found} and should be {expected}: the record was altered")]
    Altered {
        /// In the line.
        found: String,
        /// Of what the line says.
        expected: String,
    },
    /// It does not follow the one before.
    #[error("it follows a record with the hash {found}, and the one before it has {expected}")]
    Unlinked {
        /// In the line.
        found: String,
        /// Of the record before.
        expected: String,
    },
    /// Records are missing or out of order.
    #[error("it is number {found} and should be number {expected}")]
    OutOfOrder {
        /// In the line.
        found: u64,
        /// The next number.
        expected: u64,
    },
}

/// A record's line, without its end, and its hash.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn seal(body: &Body) -> Result<(Vec<u8>, String), serde_json::Error> {
    let mut line = serde_json::to_vec(body)?;
    let hash = digest(&body.prev, &line);
    line.pop();
    line.extend_from_slice(BEFORE_HASH);
    line.extend_from_slice(hash.as_bytes());
    line.extend_from_slice(AFTER_HASH);
    Ok((line, hash))
}

/// Reads a line and checks that its hash is its own. Whether it follows the one before is for [`follows`].
///
/// # Errors
/// What is wrong with it.
pub fn open(line: &[u8]) -> Result<Record, Fault> {
    if line.len() > LINE_MAX {
        return Err(Fault::Long);
    }
    let tail = BEFORE_HASH.len() + GENESIS.len() + AFTER_HASH.len();
    let at = line.len().checked_sub(tail).ok_or(Fault::NoHash)?;
    let (covered, tail) = line.split_at(at);
    let hash = tail.strip_prefix(BEFORE_HASH).and_then(|tail| tail.strip_suffix(AFTER_HASH));
    let hash = hash.and_then(|hash| std::str::from_utf8(hash).ok()).ok_or(Fault::NoHash)?;
    let record: Record = serde_json::from_slice(line).map_err(|error| Fault::Malformed(error.to_string()))?;
    let expected = digest(&record.body.prev, &[covered, b"}"].concat());
    if hash != expected {
        return Err(Fault::Altered { found: hash.to_owned(), expected });
    }
    Ok(record)
}

/// Whether a record is the one after `seq` and `hash`.
///
/// # Errors
/// When it is not.
pub fn follows(record: &Record, seq: u64, hash: &str) -> Result<(), Fault> {
    let Body { seq: found, prev, .. } = &record.body;
    if *found != seq.saturating_add(1) {
        return Err(Fault::OutOfOrder { found: *found, expected: seq.saturating_add(1) });
    }
    if prev != hash {
        return Err(Fault::Unlinked { found: prev.clone(), expected: hash.to_owned() });
    }
    Ok(())
}

/// SHA-256 over a hash and a line, in hexadecimal.
#[must_use]
pub fn digest(prev: &str, line: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(prev.as_bytes());
    hash.update(line);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::{Actor, Entry, Outcome};

    fn line(detail: &str) -> Vec<u8> {
        let entry = Entry::new(1_700_000_000_123, "request.throttle", Actor::uid(1_000), "group a")
            .ended(Outcome::Denied, detail)
            .with("limits", "cpu 30%");
        seal(&entry.placed(7, GENESIS)).unwrap().0
    }

    #[test]
    fn a_sealed_line_opens_and_its_hash_can_be_computed_by_others() {
        let line = line("no");
        let record = open(&line).unwrap();
        assert_eq!((record.body.seq, record.body.detail.as_str()), (7, "no"));
        let text = String::from_utf8(line).unwrap();
        let (covered, _) = text.rsplit_once(",\"hash\"").unwrap();
        assert_eq!(record.hash, digest(GENESIS, format!("{covered}}}").as_bytes()));
        assert_eq!(digest("abc", b""), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn every_altered_byte_is_found() {
        let line = line("quotes \" and \u{1b}[31m and \u{00e9}");
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut altered = line.clone();
                altered[at] ^= 1 << bit;
                assert!(
                    open(&altered).is_err(),
                    "bit {bit} of byte {at} of {:?}",
                    String::from_utf8_lossy(&line)
                );
            }
            assert!(open(&line[..at]).is_err(), "cut at {at}");
            let mut without = line.clone();
            without.remove(at);
            assert!(open(&without).is_err(), "without byte {at}");
        }
    }

    #[test]
    fn links_are_checked() {
        let record = open(&line("x")).unwrap();
        assert_eq!(follows(&record, 6, GENESIS), Ok(()));
        assert_eq!(follows(&record, 5, GENESIS), Err(Fault::OutOfOrder { found: 7, expected: 6 }));
        assert!(matches!(follows(&record, 6, "f00"), Err(Fault::Unlinked { .. })));
    }

    proptest! {
        #[test]
        fn whatever_the_texts_the_line_is_one_line_and_opens(
            subject in any::<String>(), detail in any::<String>(), fact in any::<String>(), seq in any::<u64>()
        ) {
            let entry = Entry::new(0, "a.b", Actor::Daemon, subject).ended(Outcome::Partial, detail).with("f", fact);
            let (line, hash) = seal(&entry.placed(seq, GENESIS)).unwrap();
            prop_assert!(!line.contains(&b'\n') && line.len() <= LINE_MAX);
            let record = open(&line).unwrap();
            prop_assert_eq!(record.hash, hash);
            prop_assert_eq!(record.body, entry.placed(seq, GENESIS));
        }

        #[test]
        fn garbage_is_refused_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(&bytes).is_err());
        }
    }
}
