//! Messages of the proc connector: include/uapi/linux/{netlink,connector,cn_proc}.h.
//!
//! Decoding is total: whatever the datagram holds, it ends in messages or in one [`Malformed`].

/// `CN_IDX_PROC` and `CN_VAL_PROC`.
pub(super) const CN_PROC: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
pub(super) const LISTEN: u32 = 1;
/// `PROC_CN_MCAST_IGNORE`.
pub(super) const IGNORE: u32 = 2;

/// `sizeof(struct nlmsghdr)`.
const NL_HEADER: usize = 16;
/// `sizeof(struct cn_msg)`.
const CN_HEADER: usize = 20;
/// Offset of the union in `struct proc_event`.
const EVENT_DATA: usize = 16;

/// `NLMSG_NOOP`.
const NLMSG_NOOP: u16 = 1;
/// `NLMSG_DONE`: the type that the connector gives to every message.
const NLMSG_DONE: u16 = 3;

/// A message that does not have the shape the kernel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Where it was sent from; each CPU numbers its own messages. `None` for an acknowledgement that has no
    /// number (before Linux 6.6).
    pub(super) cpu: Option<u32>,
    /// The CPU's number for it.
    pub(super) seq: u32,
    /// `CLOCK_MONOTONIC` in ns.
    pub(super) at_ns: u64,
    /// What it says.
    pub(super) body: Body,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The answer to the request that was made with this number. Sent to every listener.
    Ack {
        /// The number.
        request: u32,
        /// 0, or a positive errno.
        error: u32,
    },
    /// A change among the processes.
    Change(Change),
}

/// What happened, at process level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A process was born. Births of threads are [`Self::Other`].
    Fork {
        /// The parent's tgid.
        parent: u32,
        /// The child's tgid.
        child: u32,
    },
    /// A process replaced its program.
    Exec {
        /// Its tgid.
        tgid: u32,
    },
    /// A thread ended, which may have been the last of its process.
    Exit {
        /// The thread.
        tid: u32,
        /// Its process.
        tgid: u32,
        /// The thread's `exit_code`, in the form of a wait status.
        status: u32,
    },
    /// Something else: a thread's birth, ids, comm, session, ptrace, core dump.
    Other,
}

/// The messages of one datagram; nothing follows a malformed one.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let Some((kind, body, tail)) = split(rest) else {
                rest = &[];
                return Some(Err(Malformed));
            };
            rest = tail;
            if kind == NLMSG_NOOP {
                continue;
            }
            let message = if kind == NLMSG_DONE { connector(body) } else { None };
            return Some(message.ok_or(Malformed));
        }
    })
}

/// The request to begin or end listening. Its answer carries the number: in the `ack` field, because
/// the kernel overwrites the sequence number of the answer.
pub(super) fn request(operation: u32, number: u32, port: u32) -> Vec<u8> {
    let len = NL_HEADER + CN_HEADER + size_of::<u32>();
    let mut bytes = Vec::with_capacity(len);
    // struct nlmsghdr
    bytes.extend((len as u32).to_ne_bytes());
    bytes.extend(NLMSG_DONE.to_ne_bytes());
    bytes.extend(0_u16.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(port.to_ne_bytes());
    // struct cn_msg
    bytes.extend(CN_PROC.to_ne_bytes());
    bytes.extend(CN_PROC.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend((size_of::<u32>() as u16).to_ne_bytes());
    bytes.extend(0_u16.to_ne_bytes());
    // enum proc_cn_mcast_op: the four-byte form, which every kernel understands.
    bytes.extend(operation.to_ne_bytes());
    bytes
}

/// Type and body of the first netlink message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(NL_HEADER..len)?;
    // Messages are aligned to four bytes; the last one may lack the padding.
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// `struct cn_msg` with `struct proc_event`.
fn connector(bytes: &[u8]) -> Option<Message> {
    if (u32_at(bytes, 0)?, u32_at(bytes, 4)?) != (CN_PROC, CN_PROC) {
        return None;
    }
    let (seq, ack) = (u32_at(bytes, 8)?, u32_at(bytes, 12)?);
    let len = usize::from(u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?));
    let event = bytes.get(CN_HEADER..CN_HEADER.checked_add(len)?)?;

    let what = u32_at(event, 0)?;
    let cpu = Some(u32_at(event, 4)?).filter(|cpu| *cpu != u32::MAX);
    let at_ns = u64::from_ne_bytes(event.get(8..EVENT_DATA)?.try_into().ok()?);
    let data = event.get(EVENT_DATA..)?;
    let change = match what {
        // PROC_EVENT_NONE
        0 => {
            // The kernel answers with the request's number plus one.
            let body = Body::Ack { request: ack.wrapping_sub(1), error: u32_at(data, 0)? };
            return Some(Message { cpu, seq, at_ns, body });
        }
        // PROC_EVENT_FORK: parent_pid, parent_tgid, child_pid, child_tgid
        0x1 => {
            let (parent, tid, child) = (u32_at(data, 4)?, u32_at(data, 8)?, u32_at(data, 12)?);
            if tid == child { Change::Fork { parent, child } } else { Change::Other }
        }
        // PROC_EVENT_EXEC: process_pid, process_tgid
        0x2 => Change::Exec { tgid: u32_at(data, 4)? },
        // PROC_EVENT_EXIT: process_pid, process_tgid, exit_code, exit_signal, …
        0x8000_0000 => {
            Change::Exit { tid: u32_at(data, 0)?, tgid: u32_at(data, 4)?, status: u32_at(data, 8)? }
        }
        _ => Change::Other,
    };
    Some(Message { cpu, seq, at_ns, body: Body::Change(change) })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(what: u32, data: &[u32]) -> Vec<u8> {
        let mut event = Vec::new();
        event.extend(what.to_ne_bytes());
        event.extend(3_u32.to_ne_bytes());
        event.extend(77_u64.to_ne_bytes());
        event.extend(data.iter().flat_map(|field| field.to_ne_bytes()));
        let mut bytes = request(0, 6, 0);
        bytes.truncate(NL_HEADER + CN_HEADER);
        bytes[NL_HEADER + 8..NL_HEADER + 12].copy_from_slice(&9_u32.to_ne_bytes());
        bytes[NL_HEADER + 16..NL_HEADER + 18].copy_from_slice(&(event.len() as u16).to_ne_bytes());
        bytes.extend(event);
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    fn decoded(bytes: &[u8]) -> Vec<Result<Message, Malformed>> {
        messages(bytes).collect()
    }

    fn change(change: Change) -> Vec<Result<Message, Malformed>> {
        vec![Ok(Message { cpu: Some(3), seq: 9, at_ns: 77, body: Body::Change(change) })]
    }

    #[test]
    fn processes_are_told_from_threads() {
        let fork = datagram(1, &[10, 11, 20, 20]);
        assert_eq!(decoded(&fork), change(Change::Fork { parent: 11, child: 20 }));
        let thread = datagram(1, &[10, 11, 21, 20]);
        assert_eq!(decoded(&thread), change(Change::Other));
        let exec = datagram(2, &[20, 20]);
        assert_eq!(decoded(&exec), change(Change::Exec { tgid: 20 }));
        let exit = datagram(0x8000_0000, &[21, 20, 0x8b, 17, 1, 1]);
        assert_eq!(decoded(&exit), change(Change::Exit { tid: 21, tgid: 20, status: 0x8b }));
        assert_eq!(decoded(&datagram(0x200, &[1, 1, 0, 0, 0, 0])), change(Change::Other));
        let ack = Message { cpu: Some(3), seq: 9, at_ns: 77, body: Body::Ack { request: 5, error: 1 } };
        assert_eq!(decoded(&datagram(0, &[1])), [Ok(ack)]);
        let mut unnumbered = datagram(0, &[1]);
        unnumbered[NL_HEADER + CN_HEADER + 4..][..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(decoded(&unnumbered), [Ok(Message { cpu: None, ..ack })]);
    }

    #[test]
    fn several_messages_come_in_order() {
        let mut noop = request(LISTEN, 1, 2);
        noop[4..6].copy_from_slice(&NLMSG_NOOP.to_ne_bytes());
        let both = [datagram(2, &[1, 1]), noop, datagram(2, &[2, 2])].concat();
        let found = [change(Change::Exec { tgid: 1 }), change(Change::Exec { tgid: 2 })].concat();
        assert_eq!(decoded(&both), found);
    }

    #[test]
    fn cut_off_anywhere_is_malformed() {
        for whole in [datagram(1, &[1, 1, 2, 2]), datagram(2, &[1, 1]), datagram(0x8000_0000, &[1, 1, 0])] {
            assert!(decoded(&whole)[0].is_ok());
            for end in 1..whole.len() {
                assert_eq!(decoded(&whole[..end]), [Err(Malformed)], "cut at {end}");
            }
        }
        // Cut off inside the connector message, the outer lengths being right.
        assert_eq!(decoded(&datagram(0x8000_0000, &[1, 1])), [Err(Malformed)]);
        assert_eq!(decoded(&datagram(1, &[1, 1, 2])), [Err(Malformed)]);
    }

    #[test]
    fn lying_lengths_and_foreign_messages_are_malformed() {
        let good = datagram(2, &[1, 1]);
        for (at, value) in [(0, 0_u32), (0, 15), (0, u32::MAX), (NL_HEADER, 2), (NL_HEADER + 4, 9)] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            assert_eq!(decoded(&bad), [Err(Malformed)], "{value} at {at}");
        }
        let mut long = good.clone();
        long[NL_HEADER + 16..NL_HEADER + 18].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(decoded(&long), [Err(Malformed)]);
        let mut error = good;
        error[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(decoded(&error), [Err(Malformed)]);
        assert_eq!(decoded(&[0xff; 4096]), [Err(Malformed)]);
        assert_eq!(decoded(&[]), []);
    }
}
