//! Limits that move, and rules that hold under conditions, on real hogs.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::cpu_quota_of;
use integration_tests::clock::{SOON, Stopwatch, pause, wait_for, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::{Value, json};

/// What a group of hogs uses is measured over this.
const SAMPLE: Duration = Duration::from_secs(3);
/// Within this an adaptive policy has to be at its target.
const SETTLED: Duration = Duration::from_secs(15);

fn profile(name: &str, rule: &Value, more: &Value) -> String {
    let mut profile = json!({ "name": name, "version": "1.0", "throttling_rules": [rule] });
    if let (Some(profile), Some(more)) = (profile.as_object_mut(), more.as_object()) {
        profile.extend(more.clone());
    }
    format!("{profile:#}\n")
}

fn activate(daemon: &Daemon<'_>, name: &str, rule: &Value) -> Result<()> {
    daemon.places().write_profile(name, profile(name, rule, &json!({})).as_bytes())?;
    daemon.ask(&["profile", "activate", name]).map(drop)
}

/// Has a hog go before whatever else the machine is busy with: what is measured is the quota.
fn prefer(hog: &Workload) -> Result<()> {
    let pid = i32::try_from(hog.pid()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::setpriority_process(pid, -20).context("prefer a hog").map(drop)
}

fn use_of(hogs: &[Workload]) -> Result<f64> {
    let before = hogs.iter().map(|hog| used(hog.pid())).sum::<Result<f64>>()?;
    let watch = Stopwatch::start();
    pause(SAMPLE);
    let after = hogs.iter().map(|hog| used(hog.pid())).sum::<Result<f64>>()?;
    Ok((after - before) / watch.elapsed().as_secs_f64() * 100.0)
}

/// CPU time in seconds.
fn used(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let nanos: f64 = text.split(' ').next().context("a number")?.parse()?;
    Ok(nanos / 1e9)
}

/// Two hogs on a quota far above the target, and on one far below it, come to use what the target says.
#[test]
fn adaptive_holds_a_target_from_above_and_from_below() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let program = Program::Spin.write(&places.bin(), "pt-adapt")?;
    let hogs = [Workload::spawn(&program)?, Workload::spawn(&program)?];
    hogs.iter().try_for_each(prefer)?;
    let daemon = Daemon::start(&places)?;
    for (name, start) in [("from-above", "150%"), ("from-below", "10%")] {
        let policy = json!({ "type": "adaptive", "target": { "cpu": "40%" }, "min": "5%", "max": "200%" });
        let rule = json!({
            "name": name, "match": { "comm": "pt-adapt" }, "limits": { "cpu": start }, "policy": policy,
        });
        activate(&daemon, name, &rule)?;
        let watch = Stopwatch::start();

        wait_until("the use of CPU is at the target", SETTLED, || Ok((use_of(&hogs)? - 40.0).abs() <= 5.0))?;
        ensure!(watch.elapsed() <= SETTLED + SAMPLE, "it took {:?}", watch.elapsed());

        // And stays there.
        let shares = (0..3).map(|_| use_of(&hogs)).collect::<Result<Vec<_>>>()?;
        let mean = shares.iter().sum::<f64>() / 3.0;
        ensure!((mean - 40.0).abs() <= 5.0, "{name}: {shares:.1?} % instead of 40 %");
        let group = daemon.group(name)?.context("the group is shown")?;
        ensure!(group["policy"]["policy"]["type"] == "adaptive", "{group}");
        let reading = group["policy"]["readings"][0].clone();
        ensure!(reading["what"] == "group cpu", "{group}");
        let adjusted = daemon.wait_event("throttle_adjusted", |event| event["group"] == name)?;
        ensure!(adjusted["reason"]["policy"] == "adaptive", "{adjusted}");
        ensure!(adjusted["reason"]["rule"] == name, "{adjusted}");
        ensure!(adjusted["from"]["cpu"] != adjusted["to"]["cpu"], "{adjusted}");
    }
    daemon.stop()
}

#[test]
fn a_ramp_goes_down_step_by_step_and_stays_at_its_end() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let hog = Workload::spawn(&Program::Spin.write(&places.bin(), "pt-ramp")?)?;
    let home = format!("/proc/{}/cgroup", hog.pid());
    let before = fs::read_to_string(&home)?;
    let daemon = Daemon::start(&places)?;
    let policy = json!({ "type": "gradual", "from": "100%", "over": "8s", "interval": "1s" });
    let rule = json!({
        "name": "ramp", "match": { "comm": "pt-ramp" }, "limits": { "cpu": "20%" }, "policy": policy,
    });
    activate(&daemon, "ramp", &rule)?;

    let (mut seen, watch) = (Vec::new(), Stopwatch::start());
    wait_until("the end of the ramp", Duration::from_secs(12), || {
        let quota = cpu_quota_of(hog.pid())?.context("a quota")?;
        if seen.last() != Some(&quota) {
            seen.push(quota);
        }
        Ok(quota <= 20.0)
    })?;

    ensure!(watch.elapsed() >= Duration::from_secs(7), "after {:?} already: {seen:?}", watch.elapsed());
    ensure!(seen.is_sorted_by(|a, b| a > b), "not one way: {seen:?}");
    ensure!(seen.first() == Some(&100.0) && seen.last() == Some(&20.0), "{seen:?}");
    // On a busy machine not every step is seen; each is told.
    ensure!((4..=9).contains(&seen.len()), "steps of a second: {seen:?}");
    wait_until("every step is told", SOON, || Ok(daemon.events("throttle_adjusted")?.len() == 8))?;
    // A process that comes late meets the limit of now, and the ramp does not begin anew.
    let late = Workload::spawn(&places.bin().join("pt-ramp"))?;
    wait_until("the late one is a member", SOON, || {
        let group = daemon.group("ramp")?.context("the group is shown")?;
        Ok(group["members"].as_array().is_some_and(|members| members.len() == 2))
    })?;
    wait_until("it is limited as the other is", SOON, || Ok(cpu_quota_of(late.pid())? == Some(20.0)))?;
    ensure!(cpu_quota_of(hog.pid())? == Some(20.0), "{:?}", cpu_quota_of(hog.pid())?);
    daemon.stop()?;
    ensure!(fs::read_to_string(&home)? == before, "it is elsewhere: {}", fs::read_to_string(&home)?);
    Ok(())
}

/// The window that holds now ends with the minute: the limits change then, and not before.
#[test]
fn a_window_gives_way_to_the_next() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let hog = Workload::spawn(&Program::Wait.write(&places.bin(), "pt-window")?)?;
    let daemon = Daemon::start(&places)?;
    // A minute that has some seconds left, so that both windows are seen.
    let now = wait_for("a minute that is not about to end", SOON, || {
        let now = integration_tests::clock::unix_seconds();
        Ok((now % 60 < 55).then_some(now))
    })?;
    let clock = |seconds: u64| format!("{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60);
    let (this, next, end) = (clock(now), clock(now + 60), clock(now + 180));
    let policy = json!({ "type": "schedule", "timezone": "UTC", "windows": [
        { "hours": format!("{this}-{next}"), "limits": { "cpu": "30%" } },
        { "hours": format!("{next}-{end}"), "limits": { "cpu": "60%", "pids": 50 } },
    ]});
    let rule = json!({ "name": "window", "match": { "comm": "pt-window" }, "policy": policy });
    activate(&daemon, "window", &rule)?;
    ensure!(cpu_quota_of(hog.pid())? == Some(30.0), "{:?}", cpu_quota_of(hog.pid())?);

    wait_until("the next window", Duration::from_secs(65), || Ok(cpu_quota_of(hog.pid())? == Some(60.0)))?;

    let late = integration_tests::clock::unix_seconds() - (now / 60 + 1) * 60;
    ensure!(late <= 2, "{late} s late");
    let adjusted = daemon.wait_event("throttle_adjusted", |event| event["group"] == "window")?;
    ensure!(adjusted["to"]["pids"] == 50, "{adjusted}");
    ensure!(adjusted["reason"]["readings"][0]["what"] == "clock", "{adjusted}");
    daemon.stop()
}

/// A quota makes the kernel report pressure on an idle machine: a rule that holds under pressure must let go of its
/// processes all the same when the others are gone.
#[test]
fn a_rule_under_pressure_does_not_keep_itself_in_force() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let batch = Workload::spawn(&Program::Spin.write(&places.bin(), "pt-batch")?)?;
    let daemon = Daemon::start(&places)?;
    let when = json!({ "pressure_cpu_some_avg10": { "above": 92, "until": 75 }, "cooldown": "2s" });
    let rule = json!({
        "name": "batch", "match": { "comm": "pt-batch" }, "when": when, "limits": { "cpu": "10%" },
    });
    activate(&daemon, "batch", &rule)?;
    let crowd = Program::Spin.write(&places.bin(), "pt-crowd")?;
    let crowd = (0..6).map(|_| Workload::spawn(&crowd)).collect::<Result<Vec<_>>>()?;

    wait_until("the rule holds", Duration::from_secs(30), || Ok(cpu_quota_of(batch.pid())? == Some(10.0)))?;
    let explained = daemon.data(&["explain", &batch.pid_text()])?;
    let why = explained["rules"][0]["why"].as_str().context("a reason")?.to_owned();
    ensure!(why.contains("pressure_cpu_some_avg10 is"), "{why}");
    drop(crowd);

    wait_until("the rule lets go", Duration::from_secs(300), || Ok(cpu_quota_of(batch.pid())?.is_none()))?;
    let removed = daemon.wait_event("throttle_removed", |event| event["group"] == "batch")?;
    ensure!(removed["reason"]["cause"] == "condition", "{removed}");
    let dynamics = daemon.data(&["dynamic", "list"])?;
    ensure!(dynamics[0]["what"] == "conditions" && dynamics[0]["active"] == false, "{dynamics}");
    daemon.stop()
}

#[test]
fn policies_by_hand_are_applied_listed_and_removed() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let hog = Workload::spawn(&Program::Wait.write(&places.bin(), "pt-policy")?)?;
    let quota = |expected: Option<f64>| -> Result<()> {
        wait_until(&format!("the quota is {expected:?}"), SOON, || Ok(cpu_quota_of(hog.pid())? == expected))
    };
    let daemon = Daemon::start(&places)?;
    let rule = json!({ "name": "by-rule", "match": { "comm": "pt-policy" }, "limits": { "cpu": "50%" } });
    activate(&daemon, "by-hand", &rule)?;
    quota(Some(50.0))?;

    // Over a rule: first only told, then done, then taken away.
    let ramp = [
        "dynamic",
        "apply",
        "by-rule",
        "--policy",
        "gradual",
        "--from",
        "90%",
        "--over",
        "2s",
        "--interval",
        "1s",
        "--cpu",
        "20%",
    ];
    daemon.ask(&[&ramp[..], &["--dry-run"]].concat())?;
    ensure!(cpu_quota_of(hog.pid())? == Some(50.0), "a dry run changed something");
    daemon.ask(&ramp)?;
    quota(Some(20.0))?;
    let listed = daemon.data(&["dynamic", "list"])?;
    ensure!(listed[0]["name"] == "by-rule" && listed[0]["overridden"] == true, "{listed}");
    daemon.ask(&["dynamic", "remove", "by-rule"])?;
    quota(Some(50.0))?;
    run(&places, &["dynamic", "remove", "by-rule"])?.expect(7)?;
    run(&places, &["dynamic", "apply", "nobody", "--policy", "gradual", "--cpu", "20%"])?.expect(4)?;
    run(&places, &["dynamic", "apply", "by-rule", "--policy", "latency", "--weight", "101"])?.expect(2)?;

    // Over processes.
    daemon.ask(&["release", "--pid", &hog.pid_text()])?;
    quota(None)?;
    let windows = "00:00-24:00 cpu=35%";
    daemon.ask(&[
        "dynamic",
        "apply",
        "--pid",
        &hog.pid_text(),
        "--group",
        "hand",
        "--policy",
        "schedule",
        "--windows",
        windows,
    ])?;
    quota(Some(35.0))?;
    daemon.ask(&["dynamic", "remove", "hand"])?;
    quota(None)?;
    daemon.stop()
}

/// The calendar names another profile every minute; a wait of a minute at most.
#[test]
fn profiles_take_turns_by_the_calendar() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let rule = json!({ "name": "r", "match": { "comm": "pt-nobody" }, "limits": { "cpu": "30%" } });
    let schedule = json!({ "schedule": [{ "cron": "* * * * *", "profile": "night" }] });
    places.write_profile("day", profile("day", &rule, &schedule).as_bytes())?;
    let daemon = Daemon::start(&places)?;
    let refused = run(&places, &["profile", "activate", "day"])?.expect(6)?;
    ensure!(refused.stderr.contains("unknown profile \"night\""), "{}", refused.stderr);
    places.write_profile("night", profile("night", &rule, &json!({})).as_bytes())?;
    daemon.ask(&["profile", "activate", "day"])?;

    wait_until("the turn is taken", Duration::from_secs(65), || {
        Ok(daemon.data(&["daemon", "status"])?["profile"] == "night")
    })?;

    let features = daemon.data(&["daemon", "status"])?["features"].clone();
    let scheduled = features.as_array().into_iter().flatten().find(|one| one["name"] == "scheduled-profiles");
    ensure!(scheduled.is_some_and(|one| one["state"] == "working"), "{features}");
    daemon.stop()
}
