//! Fixed-size byte strings. The bytes come from unprivileged processes: they are not UTF-8, and only the
//! agent turns them into text, lossily.

/// `TASK_COMM_LEN` (include/linux/sched.h): comm with its terminating NUL.
pub const COMM_LEN: usize = 16;

/// A process's comm as the kernel stores it: NUL-padded bytes.
pub type CommBytes = [u8; COMM_LEN];

/// The bytes before the first NUL.
#[must_use]
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or(bytes)
}

/// A comm with every byte after its first NUL cleared, so that it can be a map key.
#[must_use]
pub fn comm_key(text: &[u8]) -> CommBytes {
    let mut key = [0; COMM_LEN];
    for (slot, byte) in key.iter_mut().take(COMM_LEN - 1).zip(until_nul(text)) {
        *slot = *byte;
    }
    key
}

/// Clears every byte after the first NUL of a comm as the kernel has it, which pads names that were set, but
/// not what a longer name left behind. For the kernel side: no loop and no branch per byte, because the
/// verifier of Linux 6.1 walks each combination of them.
#[must_use]
pub const fn clear_after_nul(comm: CommBytes) -> CommBytes {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    /// The lowest set bit is bit 7 of the first byte that is NUL; none where there is no such byte.
    const fn nul(word: u64) -> u64 {
        word.wrapping_sub(LOW) & !word & HIGH
    }
    /// All bits below the lowest set bit; all bits where none is set.
    const fn below(nul: u64) -> u64 {
        (nul & nul.wrapping_neg()).wrapping_sub(1)
    }
    let whole = u128::from_le_bytes(comm);
    let (first, second) = (whole as u64, (whole >> 64) as u64);
    let kept = if nul(first) == 0 { second & below(nul(second)) } else { 0 };
    (((kept as u128) << 64) | (first & below(nul(first))) as u128).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_keeps_what_is_before_the_first_nul() {
        for end in 0..=COMM_LEN {
            for fill in [1, 0x7f, 0x80, 0xff] {
                let mut dirty = [fill; COMM_LEN];
                let mut clean = dirty;
                if let (Some(nul), Some(rest)) = (dirty.get_mut(end), clean.get_mut(end..)) {
                    *nul = 0;
                    rest.fill(0);
                }
                assert_eq!(clear_after_nul(dirty), clean, "NUL at {end}, others {fill:#x}");
            }
        }
        assert_eq!(clear_after_nul(*b"a\0\x01\0dirt\0after\0\0"), *b"a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn key_is_cut_and_padded() {
        assert_eq!(comm_key(b"nginx"), *b"nginx\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(comm_key(b"a\0dirt"), *b"a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(comm_key(b"a-name-longer-than-fifteen"), *b"a-name-longer-t\0");
        assert_eq!(until_nul(b"no-nul"), b"no-nul");
    }
}
