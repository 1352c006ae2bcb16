//! Finds the programs under test.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// Environment variable that names another agent binary than the one beside the running program.
pub const AGENT_VARIABLE: &str = "PROCESS_THROTTLER_BIN";

/// The agent's binary: `$PROCESS_THROTTLER_BIN`, else the one in the target directory of the running program.
///
/// # Errors
/// When it has not been built.
pub fn agent() -> Result<PathBuf> {
    match env::var_os(AGENT_VARIABLE) {
        Some(path) => Ok(PathBuf::from(path)),
        None => sibling("process-throttler"),
    }
}

/// The fork storm.
///
/// # Errors
/// When it has not been built.
pub fn storm() -> Result<PathBuf> {
    sibling("storm")
}

/// The watcher that polls.
///
/// # Errors
/// When it has not been built.
pub fn poll() -> Result<PathBuf> {
    sibling("poll")
}

/// A Python with the packages that `cargo xtask setup` installs for tests.
///
/// # Errors
/// When it is not there.
pub fn python() -> Result<PathBuf> {
    let own = env::current_exe().context("path of the running program")?;
    let found = own.ancestors().map(|dir| dir.join("venv/bin/python")).find(|path| path.is_file());
    found.with_context(|| format!("no venv above {}: run `cargo xtask setup`", own.display()))
}

/// A file of a Debian package that `cargo xtask setup` unpacks for tests, such as `usr/bin/x`.
///
/// # Errors
/// When it is not there.
pub fn unpacked(package: &str, file: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("path of the running program")?;
    let inside = PathBuf::from("tools").join(package).join(file);
    let found = own.ancestors().map(|dir| dir.join(&inside)).find(|path| path.is_file());
    found.with_context(|| format!("no {file} of {package} above {}: run `cargo xtask setup`", own.display()))
}

/// A file of a Python package that `cargo xtask setup` installs for tests, such as `package/file`.
///
/// # Errors
/// When it is not there.
pub fn python_package(file: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("path of the running program")?;
    let libraries =
        own.ancestors().filter_map(|dir| dir.join("venv/lib").read_dir().ok()).flatten().flatten();
    let mut found = libraries.map(|python| python.path().join("site-packages").join(file));
    let found = found.find(|path| path.is_file());
    found.with_context(|| format!("no {file} above {}: run `cargo xtask setup`", own.display()))
}

/// A package that `cargo xtask vm` makes for tests.
///
/// # Errors
/// When it is not there.
pub fn package(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("path of the running program")?;
    let inside = PathBuf::from("package").join(name);
    let found = own.ancestors().map(|dir| dir.join(&inside)).find(|path| path.is_file());
    found.with_context(|| format!("no {name} above {}: run `cargo xtask vm`", own.display()))
}

fn sibling(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("path of the running program")?;
    let mut dirs = own.ancestors().skip(1).take(2);
    let path = dirs.find_map(|dir| Some(dir.join(name)).filter(|path| path.is_file()));
    let built = format!("{name} is not built beside {}: run `cargo xtask test`", own.display());
    let path = path.context(built)?;
    ensure!(path.is_absolute(), "{} is not absolute", path.display());
    Ok(path)
}

/// Whether this process may do what the kernel tests need.
///
/// # Errors
/// When it is not root, with what to do.
pub fn require_root() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the kernel tests load BPF programs and write cgroups: run as root, such as `sudo -E cargo xtask test`"
    );
    Ok(())
}
