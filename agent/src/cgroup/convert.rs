//! From the model's units to the kernel's. Pure.

use crate::cgroup::error::CgroupError;
use crate::model::limits::Limits;
use crate::model::unit::{Bytes, Weight};

/// `cpu.shares` of a v2 weight: `DIV_ROUND_CLOSEST(weight * 1024, 100)`, as the kernel itself converts in
/// `cpu_weight_write_u64`, within its `MIN_SHARES` and `MAX_SHARES` (2 to 262144).
#[must_use]
pub fn shares(weight: Weight) -> u64 {
    ((u64::from(weight.get()) * 1_024 + 50) / 100).clamp(2, 262_144)
}

/// `bfq.weight` (1 to 1000, default 100) of a v2 weight (1 to 10000, default 100): equal up to the default,
/// then linear up to the maximum, so that default, minimum and maximum correspond; as systemd does.
#[must_use]
pub fn bfq_weight(weight: Weight) -> u64 {
    let weight = u64::from(weight.get());
    if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9_900 }
}

/// `blkio.weight` of CFQ (10 to 1000, default 500) of a v2 weight: scaled by the defaults, then clamped.
#[must_use]
pub fn cfq_weight(weight: Weight) -> u64 {
    (u64::from(weight.get()) * 5).clamp(10, 1_000)
}

/// A memory limit as the kernel keeps it: in whole pages, rounded down (`page_counter_memparse`).
///
/// # Errors
/// When nothing is left after rounding.
pub fn whole_pages(limit: &'static str, bytes: Bytes, page: u64) -> Result<u64, CgroupError> {
    match bytes.get() - bytes.get() % page {
        0 => Err(CgroupError::Value {
            limit,
            why: format!("{} bytes are less than a page of {page}", bytes.get()),
        }),
        rounded => Ok(rounded),
    }
}

/// The largest limit, in bytes, that the kernel can hold (`PAGE_COUNTER_MAX`); v2 shows it as `max`.
#[must_use]
pub const fn memory_unlimited(page: u64) -> u64 {
    let most = i64::MAX.unsigned_abs();
    most - most % page
}

/// `pids.max`: 1 to `PID_MAX_LIMIT` (4194304 on 64 bit); the kernel refuses more, and 0 would forbid the
/// members to start a thread without saying so.
///
/// # Errors
/// Outside of the range.
pub fn pids(limit: u32) -> Result<u32, CgroupError> {
    const MOST: u32 = 4_194_304;
    if (1..=MOST).contains(&limit) {
        Ok(limit)
    } else {
        Err(CgroupError::Value { limit: "pids", why: format!("{limit} is not within 1 to {MOST}") })
    }
}

/// The quota in µs for the default period; at least 1000 by the type of the limit.
#[must_use]
pub fn quota(limits: &Limits) -> Option<u64> {
    limits.cpu.map(crate::model::unit::CpuPercent::quota_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(value: u64) -> Weight {
        Weight::new(value).unwrap()
    }

    #[test]
    fn weights_at_the_edges() {
        for (given, shares_, bfq, cfq) in [
            (1, 10, 1, 10),
            (2, 20, 2, 10),
            (99, 1_014, 99, 495),
            (100, 1_024, 100, 500),
            (101, 1_034, 100, 505),
            (10_000, 102_400, 1_000, 1_000),
        ] {
            let given = weight(given);
            assert_eq!((shares(given), bfq_weight(given), cfq_weight(given)), (shares_, bfq, cfq), "{given}");
        }
    }

    #[test]
    fn memory_in_whole_pages() {
        let bytes = |value| Bytes::new(value).unwrap();
        assert_eq!(whole_pages("memory_max", bytes(4_096), 4_096).unwrap(), 4_096);
        assert_eq!(whole_pages("memory_max", bytes(8_191), 4_096).unwrap(), 4_096);
        assert!(whole_pages("memory_max", bytes(65_535), 65_536).is_err());
        let most = bytes(i64::MAX.unsigned_abs());
        assert_eq!(whole_pages("memory_max", most, 4_096).unwrap(), memory_unlimited(4_096));
        assert_eq!(memory_unlimited(4_096), 9_223_372_036_854_771_712);
    }

    #[test]
    fn pids_within_the_kernels_range() {
        assert!(pids(0).is_err() && pids(4_194_305).is_err() && pids(u32::MAX).is_err());
        assert_eq!((pids(1).unwrap(), pids(4_194_304).unwrap()), (1, 4_194_304));
    }
}
