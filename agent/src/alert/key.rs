//! Keys of alerts: what makes two conditions the same.

/// Longest key in bytes: that of PagerDuty's `dedup_key`.
pub(crate) const LONGEST: usize = 255;

/// The key of the alert of this type about this subject on this host, at most [`LONGEST`] bytes. One that would
/// be longer is cut and told apart by a checksum of the whole.
pub(super) fn of(kind: &str, subject: &str, host: &str) -> String {
    let mut key =
        if subject.is_empty() { format!("{kind}@{host}") } else { format!("{kind}:{subject}@{host}") };
    if key.len() > LONGEST {
        let sum = format!("#{:016x}", fnv1a(key.as_bytes()));
        let cut = key.floor_char_boundary(LONGEST - sum.len());
        key.truncate(cut);
        key.push_str(&sum);
    }
    key
}

/// FNV-1a, 64 bits: the same in every version, unlike the hashes of the standard library.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_apart_and_fit() {
        assert_eq!(of("critical_process_down", "nginx", "web-1"), "critical_process_down:nginx@web-1");
        assert_eq!(of("emergency_stop", "", "web-1"), "emergency_stop@web-1");
        let (a, b) = (of("t", "s", &"ä".repeat(200)), of("t", "r", &"ä".repeat(200)));
        assert!(a.len() <= LONGEST && b.len() <= LONGEST && a != b, "{a} {b}");
        // The published test vector of FNV-1a for "a".
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
