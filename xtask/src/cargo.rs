//! Running cargo and other programs in the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The workspace's root directory.
///
/// # Errors
/// When this program was not built in it.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = xtask.parent().context("xtask lies in the workspace")?;
    ensure!(root.join("Cargo.toml").is_file(), "{} is no workspace any more", root.display());
    Ok(root.to_owned())
}

/// Runs cargo in the workspace, its output being ours.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(&mut cargo_command(arguments)?)
}

/// The cargo that runs this program, in the workspace.
///
/// It does not see that one started by us is: the build script of `ring` asks for these variables, and builds it and
/// all that uses it anew when they are not what they were for a cargo from a shell.
///
/// # Errors
/// When the workspace is gone.
pub(crate) fn cargo_command(arguments: &[&str]) -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    as_from_a_shell(&mut command);
    command.args(arguments).current_dir(workspace_root()?);
    Ok(command)
}

fn as_from_a_shell(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
}

/// Runs a program, its output being ours.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("start {line}"))?;
    ensure!(status.success(), "{line} ended with {status}");
    Ok(())
}

/// Runs a program in the workspace and returns what it printed.
///
/// # Errors
/// When it cannot be started, fails, or prints no UTF-8.
pub(crate) fn output_of(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    as_from_a_shell(&mut command);
    command.args(arguments).current_dir(workspace_root()?);
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).with_context(|| format!("output of {command:?}"))
}

/// Where cargo puts what it builds.
///
/// # Errors
/// When the path of this program is unknown.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("path of this program")?;
    own.ancestors().nth(2).map(Path::to_owned).context("this program lies in target/PROFILE/")
}
