//! Room for the agent: memory, CPU, and the file systems of its directories.

use std::path::Path;

use rustix::fs::{Access, AtFlags, StatVfsMountFlags, accessat, statvfs};

use super::{Category, Check, Status, Told};
use crate::config::Dirs;
use crate::control::proto::DaemonStatus;
use crate::procfs::Proc;

const ABOUT: Category = Category::Resources;
/// Free space below which there is no writing any more soon, in bytes.
const SPACE_MIN: u64 = 16 << 20;

pub(super) fn check(dirs: &Dirs, daemon: &Told<Box<DaemonStatus>>) -> Vec<Check> {
    let (memory, cpu) = match Proc::of_host(&dirs.host.proc) {
        Ok(proc) => (memory(&proc, daemon), cpu(&proc)),
        Err(error) => {
            let why = crate::model::chain::chain(&error);
            (Check::not_made(ABOUT, "memory", &why), Check::not_made(ABOUT, "cpu", &why))
        }
    };
    vec![
        memory,
        cpu,
        directory("config directory", &dirs.config, false),
        directory("state directory", &dirs.state, true),
        directory("runtime directory", &dirs.runtime, true),
        directory("log directory", &dirs.log, true),
    ]
}

fn memory(proc: &Proc, daemon: &Told<Box<DaemonStatus>>) -> Check {
    let read = proc.memory_total().and_then(|total| Ok((total, proc.memory_available()?)));
    let (total, available) = match read {
        Ok(found) => found,
        Err(error) => return Check::not_made(ABOUT, "memory", crate::model::chain::chain(&error)),
    };
    let percent = available.saturating_mul(100) / total.max(1);
    let message = format!("{} MiB of {} MiB are available ({percent} %)", available >> 20, total >> 20);
    let check = match percent {
        0..=1 => Check::error(ABOUT, "memory", message),
        2..=9 => Check::warning(ABOUT, "memory", message),
        _ => Check::ok(ABOUT, "memory", message),
    };
    let check = if percent < 10 {
        check.run("see who has it", "process-throttler list --sort memory --limit 10")
    } else {
        check
    };
    let check = check.detail("total", total).detail("available", available);
    match daemon {
        Told::This(status) => check.detail("daemon_rss", status.rss),
        Told::NotRunning | Told::Nothing(_) => check,
    }
}

fn cpu(proc: &Proc) -> Check {
    let load = match proc.load() {
        Ok([minute, ..]) => minute,
        Err(error) => return Check::not_made(ABOUT, "cpu", crate::model::chain::chain(&error)),
    };
    let Some(cpus) = crate::config::host::Host::detect().cpus else {
        return Check::not_made(ABOUT, "cpu", "the number of CPUs is unknown");
    };
    let message = format!("load {}.{:02} on {cpus} CPUs", load / 100, load % 100);
    let check = if load > cpus.saturating_mul(400) {
        Check::warning(ABOUT, "cpu", message)
            .run("see who has them", "process-throttler list --sort cpu --limit 10")
    } else {
        Check::ok(ABOUT, "cpu", message)
    };
    check.detail("cpus", cpus).detail("load1", format!("{}.{:02}", load / 100, load % 100))
}

/// A directory: there, writable if it has to be, and with room. One that is missing is made at a start of the daemon if
/// its parent can be written.
fn directory(name: &str, path: &Path, written: bool) -> Check {
    let shown = path.display();
    let Some(there) = path.ancestors().find(|dir| dir.exists()) else {
        return Check::error(ABOUT, name, format!("{shown} does not exist, nor anything above it"));
    };
    let room = match statvfs(there) {
        Ok(room) => room,
        Err(error) => return Check::not_made(ABOUT, name, format!("statvfs {shown}: {error}")),
    };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let total = room.f_blocks.saturating_mul(room.f_frsize).max(1);
    let percent = free.saturating_mul(100) / total;
    let seen =
        |check: Check| check.detail("path", path.display()).detail("free", free).detail("total", total);
    let read_only = room.f_flag.contains(StatVfsMountFlags::RDONLY);
    if written && read_only {
        let error =
            Check::error(ABOUT, name, format!("{shown} is on a file system that is mounted read-only"));
        return seen(error).run("see what is mounted there", format!("findmnt --target {}", quoted(there)));
    }
    if written && accessat(rustix::fs::CWD, there, Access::WRITE_OK, AtFlags::EACCESS).is_err() {
        let message = format!("{} may not be written by this user", there.display());
        // Another user cannot tell what root could.
        let root = rustix::process::geteuid().is_root();
        let status = if root { Status::Error } else { Status::Warning };
        return seen(Check::new(ABOUT, name, status, message))
            .advise("run the daemon, and this command, as root");
    }
    if written && (free < SPACE_MIN || room.f_favail == 0 && room.f_files > 0) {
        let message = format!("{shown} has no room: {} MiB and {} files are left", free >> 20, room.f_favail);
        return seen(Check::error(ABOUT, name, message))
            .run("see what takes it", format!("df -h {}", quoted(there)));
    }
    if there != path {
        let message = format!("{shown} does not exist");
        return seen(if written {
            Check::ok(ABOUT, name, format!("{message} yet; the daemon makes it"))
        } else {
            Check::ok(ABOUT, name, format!("{message}: the defaults hold"))
        });
    }
    let message = format!("{shown} has {} MiB left ({percent} %)", free >> 20);
    if written && percent < 5 {
        return seen(Check::warning(ABOUT, name, message))
            .run("see what takes it", format!("df -h {}", quoted(there)));
    }
    seen(Check::ok(ABOUT, name, message))
}

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
