//! `cargo xtask test`: every test of the workspace, on the real kernel.

use std::path::Path;

use anyhow::Result;
use integration_tests::binary;

use crate::cargo::{cargo, cargo_command, run as run_command};
use crate::setup;

/// Environment variable by which a debug build of the agent takes another eBPF object than the built-in one.
const OBJECT_VARIABLE: &str = "PROCESS_THROTTLER_BPF_OBJECT";

/// Builds what the tests start, then runs `cargo test`, whose closing lines are the last output. With `object`, the
/// agent loads that one.
///
/// # Errors
/// When not root, or a build or a test fails.
pub(crate) fn run(arguments: &[String], object: Option<&Path>) -> Result<()> {
    binary::require_root()?;
    setup::for_tests()?;
    // Cargo does not know that the kernel tests start the binaries of other packages.
    cargo(&["build", "--package", "process-throttler", "--package", "integration-tests", "--bins"])?;
    let mut command = cargo_command(&["test", "--workspace"])?;
    command.args(arguments);
    if let Some(object) = object {
        command.env(OBJECT_VARIABLE, object);
    }
    run_command(&mut command)
}
