//! Decisions, and nothing else: what happened goes in, what to do comes out.
//!
//! No I/O, clock, randomness, logging, async or hash-map iteration: the same rules and the same inputs give
//! the same actions, byte for byte, so that a recording replays.

pub mod action;
pub mod input;
