//! How long processes wait for a CPU is measured on demand: with who had it, at no cost otherwise, and not at all where
//! it is off.

use std::sync::mpsc::sync_channel;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel::waited_nanos;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::Value;

fn probes(daemon: &Daemon<'_>) -> Result<(String, String)> {
    let status = daemon.data(&["daemon", "status"])?;
    let features = status["features"].as_array().context("features")?;
    let found = features.iter().find(|feature| feature["name"] == "scheduler-probes");
    let found = found.with_context(|| format!("{status}"))?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("why")))
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is a number"))
}

#[test]
fn a_look_tells_how_long_a_critical_process_waits_and_for_whom() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    // Far above what this machine does, so that only looks arm the probes, and nothing sheds them.
    places.write_config("scheduler_probes: { mode: auto, budget: 100%, threshold: 1ms, window: 2s }\n")?;
    let (vital, hog) =
        (Program::Spin.write(&places.bin(), "pt-vital")?, Program::Spin.write(&places.bin(), "pt-hog")?);
    let cgroup = TestCgroup::new("latency-hog")?;
    let daemon = Daemon::start(&places)?;
    let hog = Workload::spawn_in(&hog, &cgroup)?;
    hog.pin()?;
    let victim = Workload::spawn(&vital)?;
    victim.pin()?;
    daemon.activate(&ProfileText::new("vital").critical("vital", &vital))?;
    crate::critical_alert::wait_known_critical(&daemon, &victim)?;

    let before = waited_nanos(victim.pid())?;
    let look = daemon.data(&["latency", "vital", "--for", "2s"])?;
    let waited = waited_nanos(victim.pid())? - before;

    let processes = look["processes"].as_array().context("processes")?;
    let [process] = processes.as_slice() else { anyhow::bail!("{look}") };
    ensure!(process["process"]["pid"] == victim.pid() && process["name"] == "vital", "{look}");
    // The kernel's figure is of a little longer than the look.
    let ours = number(&process["waits"]["wait_ns"])?;
    ensure!(ours <= waited && ours >= waited / 2, "{ours} of {waited} ns: {look}");
    ensure!(number(&process["p99_ns"])? >= 1_000_000 && number(&process["count"])? >= 20, "{look}");
    let path = format!("/{}", cgroup.name());
    let holders = look["holders"].as_array().context("holders")?;
    // The other is the victim's own. How they share the CPU is the kernel's affair (autogroups, weights).
    let hogs = holders.iter().find(|one| one["cgroup"] == path).with_context(|| format!("no hog: {look}"))?;
    ensure!(number(&hogs["share"])? >= 500, "{look}");
    let delays = look["delays"].as_array().context("delays")?;
    ensure!(delays.iter().any(|delay| delay["holder"]["tgid"] == hog.pid()), "{look}");

    let shown = daemon.ask(&["latency", "vital", "--for", "200ms"])?.stdout;
    ensure!(shown.contains("HAD THE CPUS") && shown.contains('█') && shown.contains(&path), "{shown}");
    let hogs = daemon.data(&["latency", &path, "--for", "500ms"])?;
    ensure!(
        hogs["cgroups"][0]["name"] == path && number(&hogs["cgroups"][0]["waits"]["on_cpu_ns"])? > 0,
        "{hogs}"
    );
    let all = daemon.data(&["latency", "--for", "500ms"])?;
    ensure!(number(&all["totals"]["switches"])? > 0 && all["totals"]["overflows"] == 0, "{all}");
    run(&places, &["latency", "no-such-name"])?.expect(4)?;
    run(&places, &["latency", "/no/such/cgroup"])?.expect(4)?;

    // Without anybody who waits or looks they go by themselves.
    drop((victim, hog));
    wait_until("the probes are disarmed", SOON, || Ok(probes(&daemon)?.1 == "auto: not armed"))?;
    daemon.stop()
}

#[test]
fn pressure_arms_the_probes_for_a_window() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config("scheduler_probes: { mode: auto, budget: 100%, window: 1h }\n")?;
    let spin = Program::Spin.write(&places.bin(), "pt-spin")?;
    let daemon = Daemon::start(&places)?;
    let _spinners = (0..2)
        .map(|_| {
            let spinner = Workload::spawn(&spin)?;
            spinner.pin()?;
            Ok(spinner)
        })
        .collect::<Result<Vec<_>>>()?;
    wait_until("pressure has armed the probes", SOON, || {
        let (state, why) = probes(&daemon)?;
        Ok(state == "working" && why.starts_with("auto: armed by pressure for "))
    })?;
    daemon.stop()
}

#[test]
fn what_costs_too_much_is_shed_and_says_so() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config("scheduler_probes: { mode: on, budget: 0.01% }\n")?;
    let daemon = Daemon::start(&places)?;
    let (give, take) = sync_channel(0);
    let taker = std::thread::spawn(move || take.into_iter().count());
    wait_until("the probes are shed", SOON, || {
        // Two switches each.
        for _ in 0..2_000 {
            give.send(()).context("there is a taker")?;
        }
        let (state, why) = probes(&daemon)?;
        Ok(state == "degraded" && why.starts_with("on: shed: they cost ") && why.contains("may cost 0.01 %"))
    })?;
    drop(give);
    ensure!(taker.join().is_ok(), "the taker panicked");
    daemon.stop()
}

#[test]
fn where_they_are_off_nobody_may_look() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    ensure!(probes(&daemon)?.0 == "disabled");
    let refused = run(&places, &["latency", "--for", "1s"])?.expect(7)?;
    ensure!(refused.stderr.contains("the scheduler's probes are off"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("scheduler_probes: { mode: auto }"), "{}", refused.stderr);
    daemon.stop()
}
