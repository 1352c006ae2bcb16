//! Atomic operations on map values. `core::sync::atomic` has none of these for the BPF target, which lacks
//! some of the operations of the type; the instructions exist since Linux 5.12 (`--cpu=v3`).

use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};

/// Adds without ordering; the instruction returns nothing.
///
/// # Safety
/// `place` must be a valid, 8-byte aligned map value.
#[inline(always)]
pub unsafe fn add(place: *mut u64, value: u64) {
    // SAFETY: by the contract.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(place, value) };
}

/// Adds as a full barrier: the instruction that returns the old value is one in the kernel's memory model.
///
/// # Safety
/// `place` must be a valid, 8-byte aligned map value.
#[inline(always)]
pub unsafe fn add_ordered(place: *mut u64, value: u64) {
    // SAFETY: by the contract.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(place, value) };
}

/// Adds as a full barrier and returns what was there before.
///
/// # Safety
/// `place` must be a valid, 4-byte aligned map value.
#[inline(always)]
pub unsafe fn fetch_add(place: *mut u32, value: u32) -> u32 {
    // SAFETY: by the contract.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(place, value) }
}

/// Exchanges as a full barrier.
///
/// # Safety
/// `place` must be a valid map value, aligned to its size of 4 or 8 bytes.
#[inline(always)]
pub unsafe fn exchange<T: Copy>(place: *mut T, value: T) -> T {
    // SAFETY: by the contract.
    unsafe { atomic_xchg::<T, { AtomicOrdering::SeqCst }>(place, value) }
}
