//! One program for all targets: `cargo xtask fuzz` says by a variable which one libFuzzer is to drive.
#![no_main]

use std::cell::RefCell;

mod targets;

use targets::{Run, TARGETS};

thread_local! {
    // libFuzzer calls from one thread, and keeps nothing for us between calls.
    static RUN: RefCell<Run> = RefCell::new(chosen());
}

fn chosen() -> Run {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == name);
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let target = target.unwrap_or_else(|| panic!("FUZZ_TARGET is one of {}", names.join(" ")));
    (target.begin)()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| RUN.with_borrow_mut(|run| run(bytes)));
