//! `cargo xtask ci`: everything that must hold before a change is merged, in the order in which a failure is
//! cheapest to find.

use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::binary;
use integration_tests::clock::Stopwatch;

use crate::cargo::{cargo, workspace_root};
use crate::{chaos, docs, ebpf, setup, test, tidy, vm};

/// Where the step before has put the eBPF object that it built.
const FRESH_OBJECT: &str = "agent-ebpf/target/process-throttler.bpf.o";

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 11] = [
    ("set-up", setup::run),
    ("format", format),
    ("tidy", tidy::run),
    ("eBPF object is built from these sources", || ebpf::run(true)),
    ("clippy, host side", clippy_host),
    ("clippy, kernel side", ebpf::clippy),
    ("generated references", || docs::run(true)),
    ("tests, as root on this kernel", || test::run(&[], Some(&workspace_root()?.join(FRESH_OBJECT)))),
    ("faults, each once", || chaos::run(&chaos::Options::short())),
    // One after the other: two emulated machines on two CPUs slow each other down by more than what they share.
    ("tests on another kernel, on cgroup v2 and under systemd", || vm::run(&vm::Options::whole())),
    ("what a newer kernel may do otherwise", || vm::run(&vm::Options::newer())),
];

/// Runs every step; stops at the first that fails.
///
/// # Errors
/// The failed step's, with its name.
pub(crate) fn run() -> Result<()> {
    binary::require_root()?;
    let whole = Stopwatch::start();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let watch = Stopwatch::start();
        step().with_context(|| format!("CI step failed after {}: {name}", seconds(watch.elapsed())))?;
        times.push((name, watch.elapsed()));
    }
    println!("== passed in {}", seconds(whole.elapsed()));
    for (name, time) in times {
        println!("{:>9}  {name}", seconds(time));
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn format() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["fmt", "--manifest-path", "agent-ebpf/Cargo.toml", "--check"])
}

fn clippy_host() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    // Not among all targets, because no `cargo test` may run it.
    cargo(&[
        "clippy",
        "--package",
        "integration-tests",
        "--test",
        "systemd",
        "--locked",
        "--",
        "-D",
        "warnings",
    ])
}
