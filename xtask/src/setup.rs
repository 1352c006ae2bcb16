//! Installs what building the eBPF object and running the tests need, from the package registries alone.
//! Does nothing, and takes no time, where all of it is there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cargo::target_dir;

/// Debian packages: the toolchain of the eBPF object, and what the build runs.
const PACKAGES: [&str; 11] = [
    "llvm-22",
    "llvm-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-clippy",
    "gcc",
    "libc6-dev",
];

/// Debian packages that tests use.
const TEST_PACKAGES: [&str; 7] =
    ["python3", "python3-jsonschema", "util-linux", "binutils", "dpkg-dev", "lintian", "rpm"];

/// Debian packages whose programs tests start. They are unpacked only: installing them would start a service.
const UNPACKED: [&str; 7] =
    ["prometheus", "prometheus-alertmanager", "webhook", "nginx", "rsyslog", "libestr0", "libfastjson4"];

/// The linker is built with an LLVM at least as new as the compiler's; later ones want another LLVM.
const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Independent implementations that tests compare ours with, in a Python environment of their own.
const PYTHON_PACKAGES: [&str; 2] = ["standardwebhooks==1.1.0", "rotel==0.0.1a15"];

/// Brings the machine to the state that the other tasks need.
///
/// # Errors
/// When a package cannot be installed; apt needs root.
pub(crate) fn run() -> Result<()> {
    install(&PACKAGES)?;
    if !has_linker() {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", LINKER, "--version", LINKER_VERSION, "--force", "--locked"]);
        cargo.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", LLVM_PREFIX);
        execute(&mut cargo)?;
    }
    for_tests()
}

/// Only what the tests need.
///
/// # Errors
/// As [`run`].
pub(crate) fn for_tests() -> Result<()> {
    install(&TEST_PACKAGES)?;
    UNPACKED.iter().try_for_each(|package| unpacked(package).map(drop))?;
    python()
}

/// Where a Debian package is unpacked, which it is if it was not.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn unpacked(package: &str) -> Result<PathBuf> {
    let tools = target_dir()?.join("tools");
    let dir = tools.join(package);
    if dir.is_dir() {
        return Ok(dir);
    }
    fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
    let scratch = tempfile::tempdir_in(&tools).context("create a directory for a package")?;
    execute(apt().arg("update"))?;
    execute(apt().args(["download", package]).current_dir(scratch.path()))?;
    let mut files = fs::read_dir(scratch.path()).context("read what was downloaded")?;
    let file = files.next().with_context(|| format!("apt-get downloaded no {package}"))??;
    let root = scratch.path().join("root");
    execute(Command::new("dpkg-deb").arg("--extract").arg(file.path()).arg(&root))?;
    fs::rename(&root, &dir).with_context(|| format!("rename {} to {}", root.display(), dir.display()))?;
    Ok(dir)
}

/// Makes the Python environment below the target directory.
fn python() -> Result<()> {
    let venv = target_dir()?.join("venv");
    // The list of what is installed, so that a change of it is seen.
    let (list, wanted) = (venv.join("installed"), PYTHON_PACKAGES.join("\n"));
    if fs::read_to_string(&list).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let has_venv = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    if !has_venv.is_ok_and(|output| output.status.success()) {
        install(&["python3", "python3-venv"])?;
    }
    execute(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    execute(Command::new(venv.join("bin/pip")).args(["install", "--quiet"]).args(PYTHON_PACKAGES))?;
    fs::write(&list, wanted).with_context(|| format!("write {}", list.display()))
}

/// Installs the packages of these that are missing.
///
/// # Errors
/// When one cannot be installed; apt needs root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    execute(apt().arg("update"))?;
    execute(apt().args(["install", "-y", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("install {} (apt-get needs root)", missing.join(" ")))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    command
}

/// Whether dpkg has it installed and configured. A machine without dpkg has nothing.
fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}", package]).output();
    query.is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"ii"))
}

fn has_linker() -> bool {
    let version = Command::new(LINKER).arg("--version").output();
    version.is_ok_and(|output| says_version(&String::from_utf8_lossy(&output.stdout)))
}

fn says_version(output: &str) -> bool {
    output.split_whitespace().nth(1) == Some(LINKER_VERSION)
}

fn execute(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proven_linker_will_do() {
        assert!(says_version("bpf-linker 0.13.0\n"));
        for other in ["bpf-linker 0.13.1", "bpf-linker 0.9.0", "bpf-linker", ""] {
            assert!(!says_version(other), "{other:?}");
        }
    }

    #[test]
    fn packages_are_looked_up() {
        assert!(is_installed("dpkg"));
        assert!(!is_installed("process-throttler-no-such-package"));
    }
}
