//! Long waits for a CPU, from the ring of the scheduler's programs.

use agent_common::event::delay::DelayRecord;
use agent_common::header::{Header, kind};
use agent_common::text::CommBytes;

use super::{Malformed, Reader, header};
use crate::model::latency::{Delay, Party};
use crate::model::process::Comm;
use crate::model::time::Timestamp;

/// The wait of one record.
///
/// # Errors
/// When the bytes are not such a record, whole and by itself.
pub fn delay(record: &[u8]) -> Result<Delay, Malformed> {
    let header = header(record)?;
    if usize::try_from(header.len).ok() != Some(record.len()) {
        return Err(Malformed::Length { said: header.len, got: record.len() });
    }
    if header.kind != kind::DELAY {
        return Err(Malformed::Kind(header.kind));
    }
    let expected = size_of::<DelayRecord>();
    let wrong = Malformed::Size { kind: header.kind, got: record.len(), expected };
    if record.len() != expected {
        return Err(wrong);
    }
    let mut body = Reader(record.get(size_of::<Header>()..).ok_or(wrong)?);
    let delay = read(header, &mut body).ok_or(wrong)?;
    if delay.waiter.pid == 0 { Err(Malformed::NoPid) } else { Ok(delay) }
}

/// In the order of [`DelayRecord`].
fn read(header: Header, body: &mut Reader<'_>) -> Option<Delay> {
    let (wait_ns, holder_cgroup, held_ns, suppressed) = (body.u64()?, body.u64()?, body.u64()?, body.u64()?);
    let (waiter, holder) = (party(body)?, party(body)?);
    let (cpu, _slot) = (body.u32()?, body.u32()?);
    let holder = (holder.pid != 0).then_some(holder);
    let at = Timestamp::from_nanos(header.time_ns);
    Some(Delay { at, wait_ns, waiter, holder, holder_cgroup, held_ns, cpu, suppressed })
}

fn party(body: &mut Reader<'_>) -> Option<Party> {
    let (pid, tgid) = (body.u32()?, body.u32()?);
    let comm = Comm::from_bytes(&body.take::<{ size_of::<CommBytes>() }>()?);
    Some(Party { pid, tgid, comm })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind::DELAY.to_ne_bytes());
        bytes.extend(u32::try_from(size_of::<DelayRecord>()).unwrap().to_ne_bytes());
        for word in [7u64, 5_000_000, 99, 4_000_000, 3] {
            bytes.extend(word.to_ne_bytes());
        }
        for (pid, tgid, comm) in [(11u32, 10u32, b"web"), (21, 20, b"hog")] {
            bytes.extend(pid.to_ne_bytes());
            bytes.extend(tgid.to_ne_bytes());
            bytes.extend(comm);
            bytes.extend([0; 13]);
        }
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend(256u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_record_is_read_whole() {
        let party = |pid, tgid, comm| Party { pid, tgid, comm: Comm::from_bytes(comm) };
        let expected = Delay {
            at: Timestamp::from_nanos(7),
            wait_ns: 5_000_000,
            waiter: party(11, 10, b"web"),
            holder: Some(party(21, 20, b"hog")),
            holder_cgroup: 99,
            held_ns: 4_000_000,
            cpu: 1,
            suppressed: 3,
        };
        assert_eq!(delay(&record()), Ok(expected.clone()));
        let mut idle = record();
        idle[72..76].fill(0);
        assert_eq!(delay(&idle), Ok(Delay { holder: None, ..expected }));
    }

    #[test]
    fn anything_else_is_refused() {
        let whole = record();
        for end in 0..whole.len() {
            assert!(delay(&whole[..end]).is_err(), "cut at {end}");
        }
        let mut other = whole.clone();
        other[0] = 9;
        assert_eq!(delay(&other), Err(Malformed::Kind(9)));
        let mut nobody = whole;
        nobody[48..52].fill(0);
        assert_eq!(delay(&nobody), Err(Malformed::NoPid));
    }
}
