//! `cargo xtask docs`: references that are generated from the program itself.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::cargo::{output_of, workspace_root};

const FILE: &str = "docs/cli.md";

/// Writes the references; with `check`, only compares them.
///
/// # Errors
/// When the agent does not build, a file cannot be written, or, with `check`, one is stale.
pub(crate) fn run(check: bool) -> Result<()> {
    let example = ["run", "--quiet", "--package", "process-throttler", "--example", "reference"];
    let fresh = output_of("cargo", &example)?;
    let path = workspace_root()?.join(FILE);
    if check {
        let committed = fs::read_to_string(&path).with_context(|| format!("read {FILE}"))?;
        ensure!(committed == fresh, "{FILE} is stale: run `cargo xtask docs`");
        println!("{FILE} is what the program says");
        return Ok(());
    }
    fs::write(&path, fresh).with_context(|| format!("write {FILE}"))?;
    println!("{FILE} is written");
    Ok(())
}
