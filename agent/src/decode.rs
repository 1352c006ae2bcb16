//! Bytes from the kernel to events: total, never panics.
