//! The ids in `/proc/PID/status`, proc_pid_status(5).

use crate::procfs::read::number;

/// Real ids of a process, as the reader's user namespace maps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Real uid.
    pub uid: u32,
    /// Real gid.
    pub gid: u32,
}

/// Finds the real ids. The text may be cut off after the `Gid` line. `None` when either line is missing or
/// malformed. The `Name` line cannot fake them: the kernel escapes newlines in it.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Ids> {
    Some(Ids { uid: first_number(text, b"Uid:\t")?, gid: first_number(text, b"Gid:\t")? })
}

/// The first of the four numbers of a line; all four must be there, so that none is cut off.
fn first_number(text: &[u8], label: &[u8]) -> Option<u32> {
    let line = text.split_inclusive(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(label))?;
    let mut numbers = line.strip_suffix(b"\n")?.split(|byte| *byte == b'\t').map(number::<u32>);
    let real = numbers.next()??;
    if numbers.by_ref().take(3).flatten().count() == 3 && numbers.next().is_none() {
        Some(real)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"Name:\tUid:\\n7\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t9\nUid:\t1000\t0\t0\t0\n\
        Gid:\t100\t5\t5\t5\nFDSize:\t64\nGroups:\t1 2 3";

    #[test]
    fn the_real_ids() {
        assert_eq!(parse(TEXT), Some(Ids { uid: 1000, gid: 100 }));
    }

    #[test]
    fn cut_off_before_the_end_of_the_gids_is_an_error() {
        let end = TEXT.windows(7).position(|window| window == b"FDSize:").unwrap();
        for cut in 0..end {
            assert_eq!(parse(&TEXT[..cut]), None, "cut at {cut}");
        }
        assert!(parse(&TEXT[..end]).is_some());
    }

    #[test]
    fn nonsense_is_an_error() {
        let bad: [&[u8]; 7] = [
            b"",
            b"\n\n",
            b"Uid:\t\nGid:\t\n",
            b"Uid:\t1\nGid:\t1\n",
            b"Uid:\t-1\t0\t0\t0\nGid:\t1\t1\t1\t1\n",
            b"Uid:\t4294967296\t0\t0\t0\nGid:\t1\t1\t1\t1\n",
            b"xUid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\n",
        ];
        for text in bad {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
