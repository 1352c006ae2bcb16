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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_cut_and_padded() {
        assert_eq!(comm_key(b"nginx"), *b"nginx\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(comm_key(b"a\0dirt"), *b"a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(comm_key(b"a-name-longer-than-fifteen"), *b"a-name-longer-t\0");
        assert_eq!(until_nul(b"no-nul"), b"no-nul");
    }
}
