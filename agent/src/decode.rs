//! Bytes from the kernel to events: total, never panics, allocates nothing.
//!
//! The layout is `agent_common`'s. A record that is not exactly as long as its kind, or that lies about it,
//! is refused: the object and the agent are of one ABI version, so it is damage and not news.

mod delay;

use std::time::Duration;

use agent_common::event::death::{DeathRecord, limit, origin};
use agent_common::event::exec::ExecRecord;
use agent_common::event::exit::ExitRecord;
use agent_common::event::fork::ForkRecord;
use agent_common::event::{AliveRecord, TaskFacts, flag};
use agent_common::header::{Header, kind};
use agent_common::text::CommBytes;

use crate::model::death::{Cause, OomLimit, Sender, Sent};
use crate::model::event::{Event, Exit, Status};
use crate::model::id::ProcKey;
use crate::model::process::{Comm, Process};
use crate::model::time::Timestamp;
use crate::model::unit::Bytes;

pub use delay::delay;

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than a header has.
    #[error("record of {0} bytes is shorter than its header")]
    Short(usize),
    /// The header's length is not that of the record.
    #[error("record of {got} bytes says it has {said}")]
    Length {
        /// What the header says.
        said: u32,
        /// How many there are.
        got: usize,
    },
    /// A kind that this agent does not know.
    #[error("record of unknown kind {0}")]
    Kind(u32),
    /// Not as long as its kind.
    #[error("record of kind {kind} has {got} bytes instead of {expected}")]
    Size {
        /// The kind.
        kind: u32,
        /// How many there are.
        got: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Pid 0 is the idle task, which no hook reports.
    #[error("record of pid 0")]
    NoPid,
}

/// Turns records into events.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    page_bytes: u64,
}

impl Decoder {
    /// For a kernel with pages of so many bytes.
    #[must_use]
    pub const fn new(page_bytes: u64) -> Self {
        Self { page_bytes }
    }

    /// The event of one record.
    ///
    /// # Errors
    /// When the bytes are not a record of a known kind, whole and by itself.
    pub fn event(self, record: &[u8]) -> Result<Event, Malformed> {
        let header = header(record)?;
        if usize::try_from(header.len).ok() != Some(record.len()) {
            return Err(Malformed::Length { said: header.len, got: record.len() });
        }
        let expected = match header.kind {
            kind::EXEC => size_of::<ExecRecord>(),
            kind::FORK => size_of::<ForkRecord>(),
            kind::EXIT => size_of::<ExitRecord>(),
            kind::DEATH => size_of::<DeathRecord>(),
            kind::ALIVE => size_of::<AliveRecord>(),
            unknown => return Err(Malformed::Kind(unknown)),
        };
        let wrong = Malformed::Size { kind: header.kind, got: record.len(), expected };
        if record.len() != expected {
            return Err(wrong);
        }
        let mut body = Reader(record.get(size_of::<Header>()..).ok_or(wrong)?);
        let facts = body.facts().ok_or(wrong)?;
        if facts.tgid == 0 {
            return Err(Malformed::NoPid);
        }
        let process = process(&facts);
        Ok(match header.kind {
            kind::EXEC => Event::Exec(process),
            kind::FORK => Event::Fork(process),
            kind::ALIVE => Event::Alive(process),
            kind => {
                let mut exit = self.exit(process, header.time_ns, &mut body).ok_or(wrong)?;
                if kind == kind::DEATH {
                    exit.cause = self.cause(exit.status, &mut body).ok_or(wrong)?;
                }
                Event::Exit(exit)
            }
        })
    }

    fn exit(self, process: Process, time_ns: u64, body: &mut Reader<'_>) -> Option<Exit> {
        let (cpu_ns, maxrss_pages, status) = (body.u64()?, body.u64()?, body.u32()?);
        let _reserved = body.u32()?;
        Some(Exit {
            process,
            at: Timestamp::from_nanos(time_ns),
            status: Some(Status::from_wait(status)),
            cpu: Some(Duration::from_nanos(cpu_ns)),
            // A kernel thread has no memory of its own.
            peak_rss: (!process.kthread).then(|| self.bytes(maxrss_pages)),
            cause: Cause::UNKNOWN,
        })
    }

    /// In the order of [`DeathRecord`] from behind its exit on.
    fn cause(self, status: Option<Status>, body: &mut Reader<'_>) -> Option<Cause> {
        let (signal, _reserved) = (body.u32()?, body.u32()?);
        let (_start, sent_ns, origin) = (body.u64()?, body.u64()?, body.u32()?);
        let (pid, uid, _code) = (body.u32()?, body.u32()?, body.u32()?);
        let comm = Comm::from_bytes(&body.take::<{ size_of::<CommBytes>() }>()?);
        let (_start, _time) = (body.u64()?, body.u64()?);
        let (cgroup, limit_pages, limited, _reserved) = (body.u64()?, body.u64()?, body.u32()?, body.u32()?);

        let by = match origin {
            origin::PROCESS => Some(Sender::Process { pid, uid, comm }),
            origin::KERNEL => Some(Sender::Kernel),
            origin::UNKNOWN => Some(Sender::Unknown),
            _ => None,
        };
        let signal = u8::try_from(signal).ok().filter(|signal| *signal != 0);
        let at = Timestamp::from_nanos(sent_ns);
        let sent = by.zip(signal).map(|(by, signal)| Sent { signal, by, at });
        let oom = match limited {
            limit::CGROUP => Some(match Bytes::new(self.bytes(limit_pages)) {
                Some(limit) => OomLimit::Cgroup { id: cgroup, limit },
                None => OomLimit::Unknown,
            }),
            limit::MACHINE => Some(OomLimit::Machine),
            limit::UNKNOWN => Some(OomLimit::Unknown),
            _ => None,
        };
        // The OOM killer also marks what dies anyway: by another's SIGKILL, or by itself.
        let killed = matches!(status, Some(Status::Signal { number: SIGKILL, .. }));
        let by_process = matches!(by, Some(Sender::Process { .. }));
        Some(Cause { sent, oom: oom.filter(|_| killed && !by_process) })
    }

    const fn bytes(self, pages: u64) -> u64 {
        pages.saturating_mul(self.page_bytes)
    }
}

/// Number of SIGKILL.
const SIGKILL: u8 = 9;

/// A record, and the stream behind it.
pub type Cut<'a> = (&'a [u8], &'a [u8]);

/// Cuts the first whole record off a stream. `None` when more bytes are needed.
///
/// # Errors
/// When the record's length cannot be: the stream is lost from here on.
pub fn cut(stream: &[u8]) -> Result<Option<Cut<'_>>, Malformed> {
    if stream.len() < size_of::<Header>() {
        return Ok(None);
    }
    let header = header(stream)?;
    let lies = Malformed::Length { said: header.len, got: stream.len() };
    let len = usize::try_from(header.len).map_err(|_overflow| lies)?;
    if !(size_of::<Header>()..=RECORD_MAX).contains(&len) {
        return Err(lies);
    }
    Ok(stream.split_at_checked(len))
}

/// Longest record a stream may announce, generously.
const RECORD_MAX: usize = 4096;

fn header(bytes: &[u8]) -> Result<Header, Malformed> {
    let mut reader = Reader(bytes);
    match (reader.u32(), reader.u32(), reader.u64()) {
        (Some(kind), Some(len), Some(time_ns)) => Ok(Header { kind, len, time_ns }),
        _ => Err(Malformed::Short(bytes.len())),
    }
}

fn process(facts: &TaskFacts) -> Process {
    Process {
        key: ProcKey::from_start_ns(facts.tgid, facts.start_ns),
        started: Timestamp::from_nanos(facts.start_ns),
        execed: (facts.flags & flag::EXECED != 0).then(|| Timestamp::from_nanos(facts.exec_ns)),
        ppid: facts.ppid,
        uid: facts.uid,
        gid: facts.gid,
        cgroup: facts.cgroup_id,
        comm: Comm::from_bytes(&facts.comm),
        kthread: facts.flags & flag::KTHREAD != 0,
    }
}

/// Takes integers off the front, at any alignment.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// In the order of the structure, which has no padding (asserted in `agent_common::layout`).
    fn facts(&mut self) -> Option<TaskFacts> {
        Some(TaskFacts {
            start_ns: self.u64()?,
            exec_ns: self.u64()?,
            cgroup_id: self.u64()?,
            tgid: self.u32()?,
            ppid: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            flags: self.u32()?,
            reserved: self.u32()?,
            comm: self.take::<{ size_of::<CommBytes>() }>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DECODER: Decoder = Decoder::new(4096);
    const KINDS: [u32; 5] = [kind::EXEC, kind::FORK, kind::EXIT, kind::ALIVE, kind::DEATH];

    fn record(kind: u32) -> Vec<u8> {
        let len: u32 = match kind {
            kind::EXIT => 104,
            kind::DEATH => 200,
            _ => 80,
        };
        let mut bytes = Vec::new();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(len.to_ne_bytes());
        bytes.extend(9_000_000_000_u64.to_ne_bytes());
        for word in [5_000_000_001_u64, 6_000_000_000, 77] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [42_u32, 41, 1000, 1001, flag::EXECED, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(b"b\xffckup\0dirt\0\0\0\0\0");
        if kind == kind::EXIT || kind == kind::DEATH {
            bytes.extend(123_u64.to_ne_bytes());
            bytes.extend(10_u64.to_ne_bytes());
            bytes.extend((3_u32 << 8).to_ne_bytes());
            bytes.extend(0_u32.to_ne_bytes());
        }
        if kind == kind::DEATH {
            death(&mut bytes);
        }
        bytes
    }

    /// SIGTERM at 8 s from pid 4242, and chosen by the OOM killer for a limit of 1,000 pages.
    fn death(bytes: &mut Vec<u8>) {
        bytes.extend([15_u32, 0].map(u32::to_ne_bytes).concat());
        bytes.extend([500_u64, 8_000_000_000].map(u64::to_ne_bytes).concat());
        bytes.extend([origin::PROCESS, 4242, 1000, 0].map(u32::to_ne_bytes).concat());
        bytes.extend(b"ba\xffsh\0dirt\0\0\0\0\0\0");
        bytes.extend([500_u64, 8_500_000_000, 77, 1000].map(u64::to_ne_bytes).concat());
        bytes.extend([limit::CGROUP, 0].map(u32::to_ne_bytes).concat());
    }

    const STATUS_AT: usize = 96;
    const SIGNAL_AT: usize = 104;
    const ORIGIN_AT: usize = 128;
    const LIMIT_AT: usize = 192;

    fn cause(changes: &[(usize, u32)]) -> Cause {
        let bytes =
            changes.iter().fold(record(kind::DEATH), |bytes, (at, value)| with_u32(bytes, *at, *value));
        let Event::Exit(exit) = DECODER.event(&bytes).unwrap() else { panic!("no exit") };
        exit.cause
    }

    #[test]
    fn a_death_tells_who_asked_for_it() {
        let sent = cause(&[]).sent.unwrap();
        assert_eq!((sent.signal, sent.at), (15, Timestamp::from_nanos(8_000_000_000)));
        let comm = Comm::from_bytes(b"ba\xffsh");
        assert_eq!(sent.by, Sender::Process { pid: 4242, uid: 1000, comm });
        assert_eq!(cause(&[(ORIGIN_AT, origin::KERNEL)]).sent.unwrap().by, Sender::Kernel);
        assert_eq!(cause(&[(ORIGIN_AT, origin::UNKNOWN)]).sent.unwrap().by, Sender::Unknown);
        assert_eq!(cause(&[(ORIGIN_AT, origin::NONE)]).sent, None);
        assert_eq!(cause(&[(ORIGIN_AT, 99)]).sent, None);
        assert_eq!(cause(&[(SIGNAL_AT, 0)]).sent, None);
        assert_eq!(cause(&[(SIGNAL_AT, 256)]).sent, None, "no signal has this number");
    }

    #[test]
    fn a_victim_of_the_oom_killer_is_one_that_it_killed() {
        assert_eq!(cause(&[]).oom, None, "it ended by itself");
        assert_eq!(cause(&[(STATUS_AT, 9)]).oom, None, "somebody else was first");
        let killed = [(STATUS_AT, 9), (ORIGIN_AT, origin::KERNEL)];
        let limit = Bytes::new(4_096_000).unwrap();
        assert_eq!(cause(&killed).oom, Some(OomLimit::Cgroup { id: 77, limit }));
        for (value, oom) in [
            (limit::NONE, None),
            (limit::MACHINE, Some(OomLimit::Machine)),
            (limit::UNKNOWN, Some(OomLimit::Unknown)),
            (99, None),
        ] {
            assert_eq!(cause(&[killed[0], killed[1], (LIMIT_AT, value)]).oom, oom);
        }
        let unmarked = [(STATUS_AT, 9), (ORIGIN_AT, origin::NONE)];
        assert!(cause(&unmarked).oom.is_some(), "its signal was not seen, but the choice was");
    }

    fn with_u32(mut bytes: Vec<u8>, at: usize, value: u32) -> Vec<u8> {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    #[test]
    fn truncated_at_every_offset() {
        for kind in KINDS {
            let whole = record(kind);
            for length in 0..whole.len() {
                let error = DECODER.event(&whole[..length]).unwrap_err();
                if length < 16 {
                    assert_eq!(error, Malformed::Short(length));
                } else {
                    assert!(matches!(error, Malformed::Length { got, .. } if got == length));
                    // And with a header that goes along with it.
                    let said = u32::try_from(length).unwrap();
                    let error = DECODER.event(&with_u32(whole[..length].to_vec(), 4, said)).unwrap_err();
                    assert!(matches!(error, Malformed::Size { got, .. } if got == length));
                }
            }
        }
    }

    #[test]
    fn lengths_that_lie() {
        for kind in KINDS {
            for said in [0, 1, 15, 16, 79, 81, 103, 105, 199, 201, u32::MAX] {
                let error = DECODER.event(&with_u32(record(kind), 4, said)).unwrap_err();
                assert!(matches!(error, Malformed::Length { said: found, .. } if found == said));
            }
            let mut long = record(kind);
            long.extend([0; 8]);
            assert!(matches!(DECODER.event(&long), Err(Malformed::Length { .. })));
            let said = u32::try_from(long.len()).unwrap();
            assert!(matches!(DECODER.event(&with_u32(long, 4, said)), Err(Malformed::Size { .. })));
        }
    }

    #[test]
    fn kinds_that_are_none() {
        for kind in [0, 6, u32::MAX] {
            assert_eq!(DECODER.event(&with_u32(record(kind::ALIVE), 0, kind)), Err(Malformed::Kind(kind)));
        }
        assert_eq!(DECODER.event(&with_u32(record(kind::EXEC), 40, 0)), Err(Malformed::NoPid));
    }

    #[test]
    fn any_alignment() {
        for kind in KINDS {
            for shift in 0..8 {
                let mut buffer = vec![0xaa; shift];
                buffer.extend(record(kind));
                assert_eq!(DECODER.event(&buffer[shift..]), DECODER.event(&record(kind)));
                assert!(DECODER.event(&buffer[shift..]).is_ok());
            }
        }
    }

    #[test]
    fn every_field_arrives() {
        let Event::Exit(exit) = DECODER.event(&record(kind::EXIT)).unwrap() else { panic!("no exit") };
        assert_eq!(exit.process.key, ProcKey { pid: 42, start: 500 });
        assert_eq!(exit.process.started.as_nanos(), 5_000_000_001);
        assert_eq!(exit.process.execed.map(Timestamp::as_nanos), Some(6_000_000_000));
        assert_eq!((exit.process.ppid, exit.process.uid, exit.process.gid), (41, 1000, 1001));
        assert_eq!((exit.process.cgroup, exit.process.kthread), (77, false));
        assert_eq!(exit.process.comm.bytes(), b"b\xffckup");
        assert_eq!(exit.process.comm, Comm::from_bytes(b"b\xffckup"), "nothing behind the NUL");
        assert_eq!(exit.at.as_nanos(), 9_000_000_000);
        assert_eq!(exit.lifetime().as_nanos(), 3_999_999_999);
        assert_eq!(exit.status, Some(Status::Code(3)));
        assert_eq!(exit.cpu, Some(Duration::from_nanos(123)));
        assert_eq!(exit.peak_rss, Some(40_960));
        assert!(matches!(DECODER.event(&record(kind::EXEC)), Ok(Event::Exec(_))));
        assert!(matches!(DECODER.event(&record(kind::FORK)), Ok(Event::Fork(_))));
        assert!(matches!(DECODER.event(&record(kind::ALIVE)), Ok(Event::Alive(_))));
        let kthread = with_u32(record(kind::EXIT), 56, flag::KTHREAD);
        let Event::Exit(exit) = DECODER.event(&kthread).unwrap() else { panic!("no exit") };
        assert_eq!((exit.process.kthread, exit.process.execed, exit.peak_rss), (true, None, None));
    }

    #[test]
    fn streams_are_cut_at_records() {
        let mut stream = record(kind::ALIVE);
        stream.extend(record(kind::EXIT));
        let (first, rest) = cut(&stream).unwrap().unwrap();
        assert_eq!(first, record(kind::ALIVE));
        let (second, rest) = cut(rest).unwrap().unwrap();
        assert_eq!(second, record(kind::EXIT));
        assert_eq!(cut(rest), Ok(None));
        for length in 0..first.len() {
            assert_eq!(cut(&first[..length]), Ok(None), "{length}");
        }
        for said in [0, 15, 4097, u32::MAX] {
            assert!(cut(&with_u32(stream.clone(), 4, said)).is_err(), "{said} would never end");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..256), kind in 0_u32..7) {
            let _result = DECODER.event(&bytes);
            let _result = cut(&bytes);
            if bytes.len() >= 16 {
                let honest = with_u32(with_u32(bytes.clone(), 0, kind), 4, u32::try_from(bytes.len()).unwrap());
                let _result = DECODER.event(&honest);
            }
        }

        #[test]
        fn any_death(body in proptest::collection::vec(any::<u8>(), 184)) {
            let head = [kind::DEATH.to_ne_bytes(), 200_u32.to_ne_bytes()].concat();
            let bytes = [head, vec![0; 8], body].concat();
            match DECODER.event(&bytes) {
                Ok(Event::Exit(exit)) => {
                    let json = serde_json::to_string(&exit).unwrap();
                    prop_assert_eq!(serde_json::from_str::<Exit>(&json).unwrap(), exit);
                    let _told = crate::model::death::Obituary { exit: &exit, oom_cgroup: None }.to_string();
                }
                Ok(_) => prop_assert!(false, "a death is an exit"),
                Err(error) => prop_assert_eq!(error, Malformed::NoPid),
            }
        }
    }
}
