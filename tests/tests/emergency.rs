//! An emergency stop lifts everything of ours and nothing else, whatever state the agent is in, and keeps it
//! lifted until somebody resumes.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration_tests::cgroup::{TestCgroup, agent_groups, agent_roots, cpu_quota_of};
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::foreign::Foreign;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The contract for a thousand groups.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What the stop has to lift: a rule's group in place, one by moving, and one by hand.
struct Limited {
    // Dropped in this order: a cgroup is removed when it is empty.
    hogs: [Workload; 3],
    cgroup: TestCgroup,
    before: String,
}

impl Limited {
    fn start(places: &Places, daemon: &Daemon<'_>, name: &str) -> Result<Self> {
        let cgroup = TestCgroup::new(name)?;
        let program = |name: &str| Program::Spin.write(&places.bin(), name);
        let hogs = [
            Workload::spawn_in(&program("pt-em-place")?, &cgroup)?,
            Workload::spawn(&program("pt-em-moved")?)?,
            Workload::spawn(&program("pt-em-hand")?)?,
        ];
        let limited = Self { before: capture(&cgroup, &hogs)?, cgroup, hogs };
        let profile = ProfileText::new("busy")
            .rule("in-place", "pt-em-place", &json!({ "cpu": "30%", "nice": 5 }))
            .rule("moved", "pt-em-moved", &json!({ "cpu": "35%" }));
        daemon.activate(&profile)?;
        daemon.ask(&[
            "throttle",
            "--pid",
            &limited.hogs[2].pid_text(),
            "--cpu",
            "40%",
            "--group",
            "by-hand",
        ])?;
        limited.wait_quotas([Some(30.0), Some(35.0), Some(40.0)])?;
        Ok(limited)
    }

    fn wait_quotas(&self, wanted: [Option<f64>; 3]) -> Result<()> {
        wait_until(&format!("the quotas are {wanted:?}"), SOON, || Ok(self.quotas()? == wanted))
    }

    fn quotas(&self) -> Result<[Option<f64>; 3]> {
        let [a, b, c] = &self.hogs;
        Ok([cpu_quota_of(a.pid())?, cpu_quota_of(b.pid())?, cpu_quota_of(c.pid())?])
    }

    fn ensure_lifted(&self) -> Result<()> {
        let now = capture(&self.cgroup, &self.hogs)?;
        ensure!(now == self.before, "before:\n{}\nafter:\n{now}", self.before);
        ensure!(agent_groups()?.is_empty(), "left: {:?}", agent_groups()?);
        Ok(())
    }
}

/// All that was changed and has to be as before.
fn capture(cgroup: &TestCgroup, hogs: &[Workload]) -> Result<String> {
    let mut text = format!("{:#?}\n", cgroup.limits()?);
    for hog in hogs {
        let pid = hog.pid();
        text += &format!(
            "nice {}\n{}",
            kernel::stat(pid)?.nice,
            fs::read_to_string(format!("/proc/{pid}/cgroup"))?
        );
    }
    Ok(text)
}

fn status(places: &Places) -> Result<Value> {
    Ok(run(places, &["emergency", "status", "-o", "json"])?.expect(0)?.json()?["data"].clone())
}

/// A throttle by hand that must be refused because of the stop.
fn ensure_refused(places: &Places, hog: &Workload) -> Result<()> {
    let refused = run(places, &["throttle", "--pid", &hog.pid_text(), "--cpu", "50%"])?.expect(7)?;
    ensure!(
        refused.stderr.contains("process-throttler emergency resume"),
        "no way out is named: {refused:?}"
    );
    ensure!(refused.stderr.contains("an emergency stop is in force"), "no reason is named: {refused:?}");
    ensure!(cpu_quota_of(hog.pid())?.is_none(), "it is limited all the same");
    Ok(())
}

#[test]
fn a_stop_lifts_all_and_lasts_until_it_is_resumed() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let limited = Limited::start(&places, &daemon, "em-all")?;
    ensure!(status(&places)?["active"] == false, "{}", status(&places)?);

    let stopped = run(&places, &["emergency", "stop", "rules", "run", "wild", "-o", "json"])?.expect(0)?;

    limited.ensure_lifted()?;
    let stopped = stopped.json()?;
    ensure!(stopped["data"]["released"] == 3, "{stopped}");
    let told = status(&places)?;
    ensure!(told["active"] == true && told["reason"] == "rules run wild", "{told}");
    ensure!(told["uid"] == 0 && told["user"] == "root" && told["since"].is_string(), "{told}");
    ensure_refused(&places, &limited.hogs[2])?;
    let event = daemon.wait_event("emergency_stop", |_| true)?;
    ensure!(event["reason"] == "rules run wild" && event["groups"] == 3, "{event}");
    ensure!(daemon.data(&["daemon", "status"])?["emergency"].is_string(), "daemon status hides it");
    let groups = run(&places, &["status"])?.expect(0)?;
    ensure!(groups.stderr.contains("emergency stop"), "status hides it: {groups:?}");

    // Across a restart, with a profile that would limit two of them.
    daemon.stop()?;
    let daemon = Daemon::start(&places)?;
    let late = Workload::spawn(&places.bin().join("pt-em-moved"))?;
    ensure!(daemon.data(&["daemon", "status"])?["profile"] == "busy", "the profile is not active");
    daemon.ask(&["profile", "activate", "busy"])?;
    ensure_refused(&places, &limited.hogs[0])?;
    limited.ensure_lifted()?;
    ensure!(cpu_quota_of(late.pid())?.is_none(), "a new process is limited");

    let resumed = daemon.ask(&["emergency", "resume"])?;

    ensure!(resumed.stderr.contains("by hand"), "{resumed:?}");
    limited.wait_quotas([Some(30.0), Some(35.0), None])?;
    wait_until("the late one, too", SOON, || Ok(cpu_quota_of(late.pid())? == Some(35.0)))?;
    let event = daemon.wait_event("emergency_resumed", |_| true)?;
    ensure!(event["uid"] == 0, "{event}");
    ensure!(daemon.events("emergency_stop")?.len() == 1, "told again after the restart");
    ensure!(status(&places)?["active"] == false, "{}", status(&places)?);
    drop(late);
    daemon.stop()?;
    limited.ensure_lifted()
}

#[test]
fn a_stop_works_without_the_daemon_and_binds_the_next_one() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let limited = Limited::start(&places, &daemon, "em-alone")?;
    daemon.kill()?;

    run(&places, &["emergency", "stop"])?.expect(0)?;

    limited.ensure_lifted()?;
    ensure!(status(&places)?["released"] == 3, "{}", status(&places)?);
    ensure_refused(&places, &limited.hogs[2])?;
    let daemon = Daemon::start(&places)?;
    ensure_refused(&places, &limited.hogs[2])?;
    ensure!(daemon.events("emergency_stop")?.len() == 1, "{:?}", daemon.events("emergency_stop")?);
    daemon.stop()?;
    run(&places, &["emergency", "resume"])?.expect(0)?;
    run(&places, &["throttle", "--pid", &limited.hogs[2].pid_text(), "--cpu", "50%"])?.expect(0)?;
    ensure!(cpu_quota_of(limited.hogs[2].pid())? == Some(50.0), "still blocked");
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    limited.ensure_lifted()
}

#[test]
fn a_daemon_that_hangs_is_told_of_and_can_be_done_without() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let limited = Limited::start(&places, &daemon, "em-hung")?;
    daemon.signal(Signal::SIGSTOP)?;

    let stopped = run(&places, &["emergency", "stop", "it hangs"])?.expect(1)?;

    ensure!(stopped.stderr.contains("did not answer") && stopped.stderr.contains("kill -9"), "{stopped:?}");
    ensure!(status(&places)?["reason"] == "it hangs", "nothing new may be limited");
    daemon.kill()?;
    run(&places, &["emergency", "stop", "it hung"])?.expect(0)?;
    limited.ensure_lifted()
}

#[test]
fn a_damaged_database_keeps_no_process_from_going_home() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, home) = (Places::new()?, TestCgroup::new("em-home")?);
    let programs =
        [Program::Spin.write(&places.bin(), "pt-em-a")?, Program::Spin.write(&places.bin(), "pt-em-b")?];
    let hogs = [Workload::spawn_in(&programs[0], &home)?, Workload::spawn(&programs[1])?];
    let before = capture(&home, &hogs)?;
    let pids = format!("{},{}", hogs[0].pid(), hogs[1].pid());
    run(&places, &["throttle", "--pid", &pids, "--cpu", "30%", "--pids", "50"])?.expect(0)?;
    ensure!(cpu_quota_of(hogs[0].pid())? == Some(30.0) && capture(&home, &hogs)? != before, "not limited");
    for file in ["state.db", "state.db-wal"] {
        fs::write(places.state().join(file), "no database, but long enough to be looked at ".repeat(200))?;
    }

    run(&places, &["emergency", "stop"])?.expect(0)?;

    let after = capture(&home, &hogs)?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    ensure!(agent_groups()?.is_empty(), "left: {:?}", agent_groups()?);
    Ok(())
}

#[test]
fn signals_stop_and_resume() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let limited = Limited::start(&places, &daemon, "em-signal")?;

    daemon.signal(Signal::SIGUSR1)?;

    wait_until("all is lifted", SOON, || limited.ensure_lifted().map(|()| true))?;
    let event = daemon.wait_event("emergency_stop", |_| true)?;
    ensure!(event["reason"] == "signal SIGUSR1", "{event}");
    ensure_refused(&places, &limited.hogs[2])?;
    daemon.signal(Signal::SIGUSR2)?;
    limited.wait_quotas([Some(30.0), Some(35.0), None])?;
    daemon.stop()
}

#[test]
fn a_record_that_cannot_be_read_is_a_stop() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    fs::write(places.state().join("emergency.json"), "{\"reason\": ")?;
    let hog = Workload::spawn(&Program::Spin.write(&places.bin(), "pt-em-odd")?)?;

    ensure_refused(&places, &hog)?;
    let told = status(&places)?;
    ensure!(
        told["active"] == true && told["reason"].as_str().is_some_and(|why| why.contains("emergency.json")),
        "{told}"
    );
    let daemon = Daemon::start(&places)?;
    ensure_refused(&places, &hog)?;
    daemon.ask(&["emergency", "resume"])?;
    daemon.ask(&["throttle", "--pid", &hog.pid_text(), "--cpu", "50%"])?;
    daemon.stop()
}

#[test]
fn a_dry_run_of_a_stop_and_of_a_resume_changes_nothing() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let limited = Limited::start(&places, &daemon, "em-dry")?;

    let would = daemon.ask_json(&["emergency", "stop", "--dry-run"])?;

    ensure!(would["data"]["dry_run"] == true, "{would}");
    ensure!(limited.quotas()? == [Some(30.0), Some(35.0), Some(40.0)], "{:?}", limited.quotas()?);
    daemon.ask(&["emergency", "stop"])?;
    daemon.ask(&["emergency", "resume", "--dry-run"])?;
    ensure!(status(&places)?["active"] == true, "{}", status(&places)?);
    daemon.stop()?;
    run(&places, &["emergency", "stop", "--dry-run"])?.expect(0)?;
    run(&places, &["emergency", "resume", "--dry-run"])?.expect(0)?;
    ensure!(status(&places)?["active"] == true, "{}", status(&places)?);
    Ok(())
}

#[test]
fn what_only_looks_like_ours_is_not_touched() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let roots_before = agent_roots()?;
    let daemon = Daemon::start(&places)?;
    let limited = Limited::start(&places, &daemon, "em-alike")?;
    let program = Program::Wait.write(&places.bin(), "pt-em-foreign")?;
    let nest = TestCgroup::new("em-nest")?;
    let mut foreign = Vec::new();
    for name in [
        "docker",
        "kubepods",
        "containerd",
        "podman",
        "lxc",
        "machine.slice",
        "system.slice",
        "user.slice",
        "init.scope",
        "process-throttler-x",
        "not-process-throttler",
        "process-throttler.slice",
    ] {
        // At the top, where nobody has it; and in a cgroup of the tests in any case.
        foreign.extend(Foreign::new(name, &program)?);
        foreign.extend(Foreign::new(&format!("{}/{name}", nest.name()), &program)?);
    }
    foreign.extend(Foreign::new("process-throttler/foreign", &program)?);
    foreign.extend(Foreign::new("process-throttler/moved/inside", &program)?);
    let before = foreign.iter().map(Foreign::capture).collect::<Result<Vec<_>>>()?;
    ensure!(before.len() >= 14, "only {} cgroups could be made", before.len());

    let unchanged = |when: &str| -> Result<()> {
        for (one, before) in foreign.iter().zip(&before) {
            let now = one.capture()?;
            ensure!(now == *before, "{when}: before:\n{before}\nafter:\n{now}");
        }
        Ok(())
    };
    daemon.ask(&["emergency", "stop"])?;
    unchanged("with the daemon")?;
    ensure!(limited.quotas()? == [None, None, None], "{:?}", limited.quotas()?);
    daemon.ask(&["emergency", "resume"])?;
    limited.wait_quotas([Some(30.0), Some(35.0), None])?;
    daemon.kill()?;
    run(&places, &["emergency", "stop"])?.expect(0)?;
    unchanged("without the daemon")?;
    for file in ["state.db", "state.db-wal"] {
        fs::write(places.state().join(file), "garbage ".repeat(1_000))?;
    }
    run(&places, &["emergency", "stop"])?.expect(0)?;
    unchanged("with a damaged database")?;
    ensure!(limited.quotas()? == [None, None, None], "{:?}", limited.quotas()?);
    // A cgroup of ours stays as long as somebody else's is in it.
    drop(foreign);
    run(&places, &["emergency", "stop"])?.expect(0)?;
    ensure!(agent_groups()?.is_empty(), "left: {:?}", agent_groups()?);
    ensure!(agent_roots()? == roots_before, "left: {:?}", agent_roots()?);
    Ok(())
}

/// A thousand groups, each with a process of its own.
fn thousand(places: &Places) -> Result<Vec<Workload>> {
    let program = Program::Wait.write(&places.bin(), "pt-em-many")?;
    let hogs = (0..1_000).map(|_| Workload::spawn(&program)).collect::<Result<Vec<_>>>()?;
    let pids: Vec<String> = hogs.iter().map(Workload::pid_text).collect();
    let limit = ["--cpu", "90%", "--scope", "process", "--group", "many"];
    run(places, &[&["throttle", "--pid", &pids.join(",")], &limit[..]].concat())?.expect(0)?;
    ensure!(!agent_groups()?.is_empty(), "no groups");
    for hog in &hogs {
        ensure!(cpu_quota_of(hog.pid())? == Some(90.0), "{} is not limited", hog.pid());
    }
    Ok(hogs)
}

/// Prints the numbers.
#[test]
fn a_thousand_groups_are_lifted_at_once() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let hogs = thousand(&places)?;

    let watch = Stopwatch::start();
    let stopped = daemon.ask_json(&["emergency", "stop"])?;
    let with_daemon = watch.elapsed();

    ensure!(stopped["data"]["released"] == 1_000, "{stopped}");
    ensure!(agent_groups()?.is_empty(), "{} groups are left", agent_groups()?.len());
    for hog in &hogs {
        ensure!(cpu_quota_of(hog.pid())?.is_none(), "{} is still limited", hog.pid());
    }
    drop(hogs);
    daemon.ask(&["emergency", "resume"])?;
    let hogs = thousand(&places)?;
    daemon.kill()?;
    let watch = Stopwatch::start();
    run(&places, &["emergency", "stop"])?.expect(0)?;
    let alone = watch.elapsed();

    ensure!(agent_groups()?.is_empty(), "{} groups are left", agent_groups()?.len());
    for hog in &hogs {
        ensure!(cpu_quota_of(hog.pid())?.is_none(), "{} is still limited", hog.pid());
    }
    println!("1000 groups lifted in {with_daemon:?} with the daemon, in {alone:?} without");
    ensure!(with_daemon < AT_ONCE && alone < AT_ONCE, "{with_daemon:?} with the daemon, {alone:?} without");
    Ok(())
}
