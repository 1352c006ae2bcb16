//! The Debian package: installed, upgraded, removed and purged.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::Turn;
use integration_tests::installed::{Installed, SOCKET, UNIT};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::systemd::{property, systemctl};
use nix::unistd::Group;

use crate::installed::{exposure, limited, wait_for_nice};

/// Both have the program under test.
const OLDER: &str = "0.0.1";
const THIS: &str = env!("CARGO_PKG_VERSION");

const CONFIG: &str = "/etc/process-throttler/config.yaml";
const CONTROL: &str = "/run/process-throttler/control.sock";
/// What the agent or its administrator has made.
const MADE: [&str; 3] =
    ["/etc/process-throttler", "/var/lib/process-throttler", "/var/log/process-throttler"];

fn state(unit: &str) -> Result<(String, String)> {
    Ok((property(unit, "ActiveState")?, property(unit, "UnitFileState")?))
}

fn present(paths: &[&str]) -> Vec<String> {
    let present = paths.iter().filter(|path| Path::new(path).symlink_metadata().is_ok());
    present.map(|path| (*path).to_owned()).collect()
}

#[test]
fn it_runs_once_installed_and_an_upgrade_keeps_what_was_made_of_it() -> Result<()> {
    let (_turn, installed, places) = (Turn::take()?, Installed::by_package(OLDER)?, Places::new()?);
    let started = ("active".to_owned(), "enabled".to_owned());
    for unit in [UNIT, SOCKET] {
        ensure!(state(unit)? == started, "{unit}: {:?}\n{}", state(unit)?, installed.log());
    }
    let status = installed.data(&["daemon", "status"])?;
    ensure!(status["state"] == "running" && status["profile"].is_null(), "{status}");
    let group = Group::from_name("process-throttler")?.context("the socket's group")?;
    let socket = fs::metadata(CONTROL).with_context(|| format!("look at {CONTROL}"))?;
    ensure!(socket.gid() == group.gid.as_raw() && socket.mode() & 0o777 == 0o660, "{socket:?}");
    exposure()?;

    let edited = fs::read_to_string(CONFIG)? + "\non_stop: release\n";
    installed.configure(&edited)?;
    let process = limited(&installed, &places)?;
    let before = installed.pid()?.context("the daemon runs")?;
    installed.upgrade(THIS)?;
    let after = installed.pid()?.with_context(|| installed.log())?;
    ensure!(after != before, "an upgrade leaves the old daemon at work");
    wait_for_nice(&process, 6).with_context(|| installed.log())?;
    ensure!(fs::read_to_string(CONFIG)? == edited, "an upgrade has undone what was configured");
    let kept = installed.data(&["daemon", "status"])?;
    ensure!(kept["profile"] == "p", "{kept}");

    // What the administrator has switched off stays off.
    systemctl(&["disable", "--now", UNIT, SOCKET])?;
    ensure!(kernel::stat(process.pid())?.nice == 0, "a stop leaves a limit\n{}", installed.log());
    installed.upgrade(THIS)?;
    let off = ("inactive".to_owned(), "disabled".to_owned());
    for unit in [UNIT, SOCKET] {
        ensure!(state(unit)? == off, "{unit}: {:?}\n{}", state(unit)?, installed.log());
    }
    Ok(())
}

#[test]
fn removed_it_lifts_every_limit_and_purged_it_leaves_nothing() -> Result<()> {
    let (_turn, installed, places) = (Turn::take()?, Installed::by_package(THIS)?, Places::new()?);
    // Not the agent's, and not to be purged with it.
    let foreign = places.state().join("kept");
    fs::write(&foreign, "")?;
    symlink(places.state(), "/var/lib/process-throttler/link")?;
    installed.configure("on_stop: keep\n")?;
    systemctl(&["restart", UNIT])?;
    let process = limited(&installed, &places)?;

    installed.remove()?;
    let nice = kernel::stat(process.pid())?.nice;
    ensure!(nice == 0, "a removal leaves a nice value of {nice}");
    let running =
        ["/usr/bin/process-throttler", "/usr/lib/systemd/system/process-throttler.service", CONTROL];
    ensure!(present(&running).is_empty(), "{:?} after a removal", present(&running));
    wait_until("the unit is gone", SOON, || Ok(property(UNIT, "LoadState")? == "not-found"))?;
    let profile = "/etc/process-throttler/profiles/p.yaml";
    let made = [&MADE[..], &[CONFIG, profile, "/var/lib/process-throttler/state.db"]].concat();
    ensure!(present(&made).len() == made.len(), "only {:?} are left after a removal", present(&made));

    installed.purge()?;
    let gone = [&MADE[..], &["/run/process-throttler", "/usr/share/doc/process-throttler"]].concat();
    ensure!(present(&gone).is_empty(), "{:?} after a purge", present(&gone));
    let wants = [
        "multi-user.target.wants/process-throttler.service",
        "sockets.target.wants/process-throttler.socket",
    ];
    for link in wants {
        let link = Path::new("/etc/systemd/system").join(link);
        ensure!(link.symlink_metadata().is_err(), "{} after a purge", link.display());
    }
    ensure!(foreign.exists(), "a purge has removed what is not the agent's");
    Ok(())
}
