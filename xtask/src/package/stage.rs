//! The tree of files that a package installs, as it shall be: stripped, compressed, with the modes of the target.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Kind, notice};
use crate::cargo::{run, workspace_root};

/// Where the tree lies in the scratch directory.
const TREE: &str = "tree";
const DOC: &str = "usr/share/doc/process-throttler";
const MAN: &str = "usr/share/man/man1";
/// Files of the workspace, and where they go.
const FILES: [(&str, &str); 10] = [
    ("packaging/config.yaml", "etc/process-throttler/config.yaml"),
    ("packaging/systemd/process-throttler.service", "usr/lib/systemd/system/process-throttler.service"),
    ("packaging/systemd/process-throttler.socket", "usr/lib/systemd/system/process-throttler.socket"),
    ("packaging/sysusers.d/process-throttler.conf", "usr/lib/sysusers.d/process-throttler.conf"),
    ("packaging/tmpfiles.d/process-throttler.conf", "usr/lib/tmpfiles.d/process-throttler.conf"),
    (
        "packaging/prometheus/process-throttler.rules.yaml",
        "usr/share/process-throttler/prometheus/process-throttler.rules.yaml",
    ),
    (
        "packaging/prometheus/process-throttler.rules.test.yaml",
        "usr/share/process-throttler/prometheus/process-throttler.rules.test.yaml",
    ),
    (
        "packaging/grafana/process-throttler.json",
        "usr/share/process-throttler/grafana/process-throttler.json",
    ),
    ("README.md", "usr/share/doc/process-throttler/README.md"),
    ("SECURITY.md", "usr/share/doc/process-throttler/SECURITY.md"),
];
/// Licences, for distributions that have no copies of their own.
const LICENCES: [&str; 3] = ["LICENSE-MIT", "LICENSE-APACHE", "agent-ebpf/LICENSE-GPL2"];
/// Directories for what the administrator adds.
const EMPTY: [&str; 2] = ["etc/process-throttler/config.d", "etc/process-throttler/profiles"];

/// The tree in a scratch directory.
pub(super) fn tree(scratch: &Path) -> PathBuf {
    scratch.join(TREE)
}

/// Lays the tree out in a scratch directory.
///
/// # Errors
/// When something cannot be read, made or written.
pub(super) fn stage(scratch: &Path, kind: Kind, binary: &Path) -> Result<()> {
    let (workspace, tree) = (workspace_root()?, tree(scratch));
    for dir in EMPTY.iter().chain(&[MAN, "usr/bin"]) {
        fs::create_dir_all(tree.join(dir)).with_context(|| format!("create {dir}"))?;
    }
    let installed = tree.join("usr/bin/process-throttler");
    run(Command::new("strip")
        .args(["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note", "-o"])
        .arg(&installed)
        .arg(binary))?;
    for (from, to) in FILES {
        copy(&workspace.join(from), &tree.join(to))?;
    }
    copy_dir(&workspace.join("docs"), &tree.join(DOC).join("docs"))?;
    copy_dir(&workspace.join("packaging/profiles"), &tree.join(DOC).join("examples/profiles"))?;
    if kind == Kind::Rpm {
        for licence in LICENCES {
            let name = Path::new(licence).file_name().context("a licence has a name")?;
            copy(&workspace.join(licence), &tree.join("usr/share/licenses/process-throttler").join(name))?;
        }
    }
    let notice = tree.join(DOC).join("THIRD-PARTY");
    write(&notice, notice::notice()?.as_bytes())?;
    compress(&[notice])?;
    completions(&tree, kind, &installed)?;
    manual(&tree, &installed)
}

/// Gives everything below the tree its mode, whatever the umask: everybody may read, and run the programs.
///
/// # Errors
/// When a mode cannot be set.
pub(super) fn set_modes(tree: &Path, scripts: &[PathBuf]) -> Result<()> {
    let is_program = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("usr/bin"));
    for path in entries(tree)?.iter().map(PathBuf::as_path).chain([tree]) {
        let executable = path.is_dir() || is_program(path) || scripts.iter().any(|script| script == path);
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("set the mode of {}", path.display()))?;
    }
    Ok(())
}

/// Compresses files, without the names and times that gzip would keep.
///
/// # Errors
/// When gzip fails.
pub(super) fn compress(paths: &[PathBuf]) -> Result<()> {
    run(Command::new("gzip").args(["-9", "--no-name", "--"]).args(paths))
}

/// The regular files below a directory, relative to it, in order.
///
/// # Errors
/// When it cannot be listed.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = entries(dir)?;
    all.retain(|path| path.is_file());
    let relative = |path: PathBuf| Ok(path.strip_prefix(dir)?.to_owned());
    all.into_iter().map(relative).collect()
}

fn completions(tree: &Path, kind: Kind, program: &Path) -> Result<()> {
    let zsh = match kind {
        Kind::Deb => "usr/share/zsh/vendor-completions/_process-throttler",
        Kind::Rpm => "usr/share/zsh/site-functions/_process-throttler",
    };
    let shells = [
        ("bash", "usr/share/bash-completion/completions/process-throttler"),
        ("zsh", zsh),
        ("fish", "usr/share/fish/vendor_completions.d/process-throttler.fish"),
    ];
    for (shell, path) in shells {
        let output =
            Command::new(program).args(["completions", shell]).output().context("start the program")?;
        ensure!(output.status.success(), "completions {shell} ended with {}", output.status);
        write(&tree.join(path), &output.stdout)?;
    }
    Ok(())
}

fn manual(tree: &Path, program: &Path) -> Result<()> {
    let dir = tree.join(MAN);
    run(Command::new(program).args(["--quiet", "man", "--dir"]).arg(&dir))?;
    let pages: Vec<PathBuf> = files(&dir)?.iter().map(|page| dir.join(page)).collect();
    ensure!(!pages.is_empty(), "the program has written no manual");
    compress(&pages)
}

/// Writes a file, making its directory.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

/// Copies the content of a file, making the directory.
///
/// # Errors
/// When it cannot be read or written.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    write(to, &fs::read(from).with_context(|| format!("read {}", from.display()))?)
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    files(from)?.iter().try_for_each(|path| copy(&from.join(path), &to.join(path)))
}

/// Everything below a directory, in order.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.context("list a directory")?.path();
        if path.is_dir() {
            all.extend(entries(&path)?);
        }
        all.push(path);
    }
    all.sort();
    Ok(all)
}
