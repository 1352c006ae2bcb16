//! systemd that cannot be reached or says no, and units that must not be touched.

use anyhow::{Result, ensure};
use integration_tests::command::run;
use integration_tests::daemon::Turn;
use integration_tests::places::Places;
use integration_tests::systemd::{TestUnit, agent_units, require_systemd, run_without_systemd, systemctl};

#[test]
fn without_a_connection_nothing_is_done_and_the_error_says_so() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("unreachable", "exec sleep 1000", &[])?;
    let before = unit.capture()?;
    let pid = unit.pids("sleep", 1)?[0].to_string();
    let throttle = ["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%"];
    let error = run_without_systemd(&places, &throttle)?.expect(1)?.stderr;
    ensure!(
        error.contains("systemd cannot be reached over D-Bus") && error.contains("system_bus_socket"),
        "{error}"
    );
    ensure!(unit.capture()? == before, "something was changed");

    // What stands is kept on record until systemd answers again.
    run(&places, &throttle)?.expect(0)?;
    let error = run_without_systemd(&places, &["release", "--all", "--yes"])?;
    ensure!(error.code != 0 && error.stderr.contains("cannot be reached"), "{error:?}");
    ensure!(unit.capture()?["cpu.max"] == "20000 100000\n", "{:?}", unit.capture()?);
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
    Ok(())
}

#[test]
fn a_slice_of_our_name_that_is_not_ours_is_left_alone() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("name", "sleep 1001 & exec sleep 1002", &[])?;
    let pid = unit.pids("sleep 1001", 1)?[0].to_string();
    systemctl(&["start", "process-throttler-g.slice"])?;
    let before = agent_units()?;
    let arguments = ["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%", "--allow-move"];
    let error = run(&places, &arguments)?.expect(1)?.stderr;
    ensure!(error.contains("unit process-throttler-g.slice exists and is not ours"), "{error}");
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    ensure!(agent_units()? == before, "{:?}", agent_units()?);
    systemctl(&["stop", "process-throttler-g.slice", "process-throttler.slice", "process.slice"])?;
    Ok(())
}

#[test]
fn essential_units_are_never_limited() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let pid = integration_tests::systemd::property("systemd-journald.service", "MainPID")?;
    for option in ["--whole-unit", "--allow-move"] {
        let arguments = ["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%", option];
        let refused = run(&places, &arguments)?.expect(5)?.stderr;
        ensure!(refused.contains("never touched"), "{refused}");
    }
    Ok(())
}

#[test]
fn a_frozen_process_is_not_moved() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("frozen", "sleep 1001 & exec sleep 1002", &[])?;
    let pid = unit.pids("sleep 1001", 1)?[0].to_string();
    systemctl(&["freeze", unit.id()])?;
    let move_it = ["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%", "--allow-move"];
    let refused = run(&places, &move_it)?.expect(5)?.stderr;
    ensure!(refused.contains("is frozen: moving it would let it run"), "{refused}");
    // A limit on the unit is another matter.
    run(&places, &["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%", "--whole-unit"])?.expect(0)?;
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    systemctl(&["thaw", unit.id()])?;
    Ok(())
}
