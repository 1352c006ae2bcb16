//! `cargo xtask docs`: what is generated from the program itself. Unit tests of the program compare it, and write it
//! anew when they are told to.

use anyhow::Result;

use crate::cargo::{cargo_command, run as run_command};
use crate::dependencies;

/// Environment variable by which these tests write what they would compare.
const UPDATE: &str = "UPDATE_REFERENCE";
/// The name that all of them have.
const TESTS: &str = "reference_is_current";

/// Writes the references, JSON Schemas and snapshots; with `check`, only compares them.
///
/// # Errors
/// When the agent does not build, a file cannot be written, or, with `check`, one is stale.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut command = cargo_command(&[
        "test",
        "--quiet",
        "--package",
        "process-throttler",
        "--lib",
        "--test",
        "errors",
        TESTS,
    ])?;
    if !check {
        command.env(UPDATE, "1");
    }
    run_command(&mut command)?;
    dependencies::reference(check)
}
