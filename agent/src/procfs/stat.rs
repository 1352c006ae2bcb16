//! `/proc/PID/stat`, proc_pid_stat(5).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::model::id::ProcKey;
use crate::model::process::Comm;
use crate::procfs::read::number;

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;

/// The fields in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Process id.
    pub pid: u32,
    /// comm; of some kernel threads a longer name that the kernel makes up, cut at 15 bytes.
    pub comm: Comm,
    /// State letter, such as `R`, `S`, `D`, `T`, `Z`.
    pub state: u8,
    /// Parent's pid.
    pub ppid: u32,
    /// `PF_*` flags of the task.
    pub flags: u32,
    /// CPU time in user mode, all threads, in ticks of 1/100 s.
    pub utime: u64,
    /// CPU time in kernel mode, all threads, in ticks of 1/100 s.
    pub stime: u64,
    /// Nice value of the leader, -20 to 19.
    pub nice: i32,
    /// Number of threads, a dead leader included.
    pub threads: u32,
    /// Start in ticks of 1/100 s since boot.
    pub start: u64,
    /// Virtual size in bytes.
    pub vsize: u64,
    /// Resident set in pages.
    pub rss_pages: u64,
    /// Start of the program text and of the stack: both change with an exec (address randomisation). Zero
    /// where the reader may not ptrace the process.
    pub image: (u64, u64),
}

impl Stat {
    /// Reads that of a process below `proc`, in one read.
    ///
    /// # Errors
    /// When there is no such process, or the file is malformed.
    pub fn read(proc: &Path, pid: u32) -> io::Result<Self> {
        Self::read_file(&proc.join(pid.to_string()).join("stat"))
    }

    /// Reads that of one thread, likewise.
    ///
    /// # Errors
    /// When there is no such thread, or the file is malformed.
    pub fn read_thread(proc: &Path, pid: u32, tid: u32) -> io::Result<Self> {
        Self::read_file(&proc.join(pid.to_string()).join("task").join(tid.to_string()).join("stat"))
    }

    fn read_file(path: &Path) -> io::Result<Self> {
        let mut buffer = [0u8; 1_024];
        let length = File::open(path)?.read(&mut buffer)?;
        buffer.get(..length).and_then(Self::parse).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: malformed", path.display()))
        })
    }

    /// Parses the whole file. `None` when it is cut off or malformed.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        // comm is chosen by the process and may hold spaces, parentheses and newlines: it ends at the last
        // closing parenthesis. Without the final newline the last number may be cut off.
        let line = text.strip_suffix(b"\n")?;
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let pid = number(line.get(..open)?.strip_suffix(b" ")?)?;
        let comm = Comm::from_bytes(line.get(open + 1..close)?);
        let mut fields = line.get(close + 1..)?.strip_prefix(b" ")?.split(|byte| *byte == b' ');

        let [state] = *fields.next()? else { return None };
        let ppid = number(fields.next()?)?;
        let flags = number(fields.nth(4)?)?;
        let utime = number(fields.nth(4)?)?;
        let stime = number(fields.next()?)?;
        let nice = number(fields.nth(3)?)?;
        let threads = number(fields.next()?)?;
        let start = number(fields.nth(1)?)?;
        let vsize = number(fields.next()?)?;
        let rss_pages = number(fields.next()?)?;
        let start_code = number(fields.nth(1)?)?;
        let start_stack = number(fields.nth(1)?)?;
        let image = (start_code, start_stack);
        Some(Self {
            pid,
            comm,
            state,
            ppid,
            flags,
            utime,
            stime,
            nice,
            threads,
            start,
            vsize,
            rss_pages,
            image,
        })
    }

    /// Identity of the process.
    #[must_use]
    pub const fn key(&self) -> ProcKey {
        ProcKey { pid: self.pid, start: self.start }
    }

    /// Whether it is a kernel thread.
    #[must_use]
    pub const fn is_kthread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether the leader has ended: a zombie, or about to vanish.
    #[must_use]
    pub const fn leader_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether the process has ended, its last thread with it, and only waits to be reaped. A process whose
    /// leader has ended lives on in its other threads.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        self.leader_ended() && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 1 42 42 0 -1 4194560 100 0 0 0 7 3 0 0 20 -5 4 0 1234 8192000 500 \
        18446744073709551615 111 112 222 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 2 3 4 5 6 7 0\n";

    fn line(comm: &[u8]) -> Vec<u8> {
        [b"42 (", comm, b") ", TAIL.as_bytes()].concat()
    }

    #[test]
    fn every_field_is_where_the_manual_says() {
        let expected = Stat {
            pid: 42,
            comm: Comm::from_bytes(b"cat"),
            state: b'S',
            ppid: 1,
            flags: 4_194_560,
            utime: 7,
            stime: 3,
            nice: -5,
            threads: 4,
            start: 1234,
            vsize: 8_192_000,
            rss_pages: 500,
            image: (111, 222),
        };
        assert_eq!(Stat::parse(&line(b"cat")), Some(expected));
    }

    #[test]
    fn hostile_comms_do_not_shift_the_fields() {
        let comms: [&[u8]; 10] = [
            b"",
            b" ",
            b")",
            b"a) S 0 0 (b",
            b"a) S 1 (\n",
            b"new\nline",
            b"\xff\xfe\x80",
            b"1 (init) S 0",
            b"((((((((((((((",
            b"\x1b[31mred",
        ];
        for comm in comms {
            let stat = Stat::parse(&line(comm)).unwrap();
            assert_eq!((stat.comm, stat.ppid, stat.start), (Comm::from_bytes(comm), 1, 1234), "{comm:?}");
        }
    }

    #[test]
    fn cut_off_anywhere_is_an_error() {
        let whole = line(b"a b)c");
        assert!(Stat::parse(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(Stat::parse(&whole[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let bad: [&[u8]; 9] = [
            b"\n",
            b"()\n",
            b")(\n",
            b"42 (a) \n",
            b"42 (a) S\n",
            b"-1 (a) S 1\n",
            b"42(a) S 1\n",
            b"99999999999 (a) S 1\n",
            &[b'9'; 4096],
        ];
        for text in bad {
            assert_eq!(Stat::parse(text), None, "{text:?}");
        }
        let swapped = String::from_utf8(line(b"a")).unwrap();
        for (from, to) in
            [("1234", "-1"), ("1234", "+1"), ("1234", "0x4"), ("S 1 ", "SS 1 "), (" 500 ", "  ")]
        {
            assert_eq!(Stat::parse(swapped.replacen(from, to, 1).as_bytes()), None, "{from} -> {to}");
        }
    }

    #[test]
    fn death_is_the_last_threads() {
        let mut stat = Stat::parse(&line(b"a")).unwrap();
        assert!(!stat.is_dead() && !stat.leader_ended());
        stat.state = b'Z';
        assert!(stat.leader_ended() && !stat.is_dead(), "three more threads live");
        stat.threads = 1;
        assert!(stat.is_dead());
        stat.flags |= PF_KTHREAD;
        assert!(stat.is_kthread());
    }
}
