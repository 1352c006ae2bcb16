//! How long processes wait for a CPU is measured on demand: with who had it, at no cost otherwise, and not at all where
//! it is off.

use std::sync::mpsc::sync_channel;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{TestCgroup, cpu_quota_of};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel::waited_nanos;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::{Value, json};

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
fn throttled_and_waiting_are_told_side_by_side() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config("scheduler_probes: { mode: on, budget: 100% }\n")?;
    let program = |name: &str| Program::Spin.write(&places.bin(), name);
    let (vital, hog, held) = (program("pt-vital")?, program("pt-hog")?, program("pt-held")?);
    let cgroup = TestCgroup::new("waits-hog")?;
    let daemon = Daemon::start(&places)?;
    // All on one CPU: who is critical waits for a stranger and for a group that its quota holds back.
    let hog = Workload::spawn_in(&hog, &cgroup)?;
    let (victim, held) = (Workload::spawn(&vital)?, Workload::spawn(&held)?);
    for one in [&hog, &victim, &held] {
        one.pin()?;
    }
    let profile = ProfileText::new("vital").critical("vital", &vital);
    daemon.activate(&profile.rule("held", "pt-held", &json!({ "cpu": "10%" })))?;
    crate::critical_alert::wait_known_critical(&daemon, &victim)?;
    wait_until("the quota is in force", SOON, || Ok(cpu_quota_of(held.pid())? == Some(10.0)))?;

    let share = |value: &Value| value["share"].as_u64().unwrap_or(0);
    wait_until("the group is told to be held back and to wait", SOON, || {
        let group = daemon.group("held")?.context("the group is shown")?;
        let late = &group["cpu_delay"];
        let over = late["held"]["over_ms"].as_u64().unwrap_or(0);
        Ok((100..=61_000).contains(&over) && share(&late["held"]) >= 1_000 && share(&late["waited"]) >= 500)
    })?;
    let path = format!("/{}", cgroup.name());
    wait_until("the critical process is told to wait for both", SOON, || {
        let late = daemon.data(&["critical", "show", "vital"])?["cpu_delay"].clone();
        let holders = late["waited"]["holders"].as_array().cloned().unwrap_or_default();
        let stranger = holders.iter().any(|one| one["cgroup"] == path && one["group"].is_null());
        let group = holders.iter().any(|one| one["group"] == "held");
        Ok(share(&late["waited"]) >= 500 && late["waited"]["p99_us"].is_u64() && stranger && group)
    })?;
    let late = |pid: u32| daemon.data(&["explain", &pid.to_string()]);
    let explained = late(victim.pid())?;
    ensure!(share(&explained["cpu_delay"]["waited"]) > 0 && explained["group"].is_null(), "{explained}");
    let explained = late(held.pid())?;
    ensure!(share(&explained["group"]["cpu_delay"]["held"]) > 0, "{explained}");
    ensure!(explained["cpu_delay"].is_null(), "it is not critical: {explained}");
    let shown = daemon.ask(&["status"])?.stdout;
    for part in ["WAITED", "CPUS HAD BY", "HELD and WAITED are of the last "] {
        ensure!(shown.contains(part), "no {part:?} in {shown}");
    }
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
    // Once each time, with the figures that the state has, which rests for a minute.
    let told = daemon.wait_event("probes_shed", |_| true)?;
    let cost = number(&told["cost"])?;
    ensure!(told["budget"] == 1 && cost > 1, "{told}");
    let (_, why) = probes(&daemon)?;
    ensure!(why.contains(&format!("they cost {}.{:02} %", cost / 100, cost % 100)), "{why}: {told}");
    ensure!(daemon.events("probes_shed")?.len() == 1, "{:?}", daemon.events("probes_shed")?);
    drop(give);
    ensure!(taker.join().is_ok(), "the taker panicked");
    daemon.stop()
}

#[test]
fn where_they_are_off_nobody_may_look() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let vital = Program::Spin.write(&places.bin(), "pt-vital")?;
    let daemon = Daemon::start(&places)?;
    ensure!(probes(&daemon)?.0 == "disabled");
    let victim = Workload::spawn(&vital)?;
    daemon.activate(&ProfileText::new("vital").critical("vital", &vital))?;
    crate::critical_alert::wait_known_critical(&daemon, &victim)?;
    // That it has no objective is no reason to say nothing.
    let late = daemon.data(&["critical", "show", "vital"])?["cpu_delay"].clone();
    let why = late["not_measured"].as_str().with_context(|| format!("{late}"))?;
    ensure!(late["waited"].is_null() && why.contains("scheduler_probes: { mode: auto }"), "{late}");
    let shown = daemon.ask(&["critical", "show", "vital"])?.stdout;
    ensure!(shown.contains("Waited:       not measured: the scheduler's probes are off; set "), "{shown}");
    let refused = run(&places, &["latency", "--for", "1s"])?.expect(7)?;
    ensure!(refused.stderr.contains("the scheduler's probes are off"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("scheduler_probes: { mode: auto }"), "{}", refused.stderr);
    daemon.stop()
}
