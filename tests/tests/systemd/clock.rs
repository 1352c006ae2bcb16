//! The wall clock is set while the agent runs: alerts arrive, waits do not grow, limits keep their time. It is the whole
//! machine's clock, so that only a virtual machine of the tests' own will do.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::complain;
use integration_tests::clock::{SOON, unix_nanos, wait_for, wait_until};
use integration_tests::command::{run, run_command};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::systemd::{cgroup_of, require_systemd};
use integration_tests::workload::Workload;
use serde_json::{Value, json};

/// Where the virtual machine has its programs.
const PAYLOAD: &str = "/payload";
const HOUR: i64 = 3_600;
/// The first retries come within seconds.
const RETRIED: Duration = Duration::from_secs(60);

/// A clock that is put right in the end.
struct Clock {
    off: i64,
}

impl Clock {
    fn step(&mut self, seconds: i64) -> Result<()> {
        let now = i128::try_from(unix_nanos()).context("a time")? + i128::from(seconds) * 1_000_000_000;
        let mut date = Command::new("date");
        date.args(["-s", &format!("@{}.{:09}", now / 1_000_000_000, now % 1_000_000_000)]);
        run_command(date)?.expect(0)?;
        self.off += seconds;
        Ok(())
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Err(error) = self.step(-self.off) {
            complain(&format!("the clock stays wrong: {error:#}"));
        }
    }
}

fn is_death(body: &Value, name: &str) -> bool {
    body["type"] == "critical_process_down" && body["data"]["details"]["name"] == name
}

#[test]
fn steps_of_the_wall_clock_lose_and_delay_nothing() -> Result<()> {
    require_systemd()?;
    ensure!(Path::new(PAYLOAD).is_dir(), "the clock of this machine is not the tests' own");
    let (_turn, places, receiver) = (Turn::take()?, Places::new()?, Receiver::start()?);
    places.write_webhook(&receiver.url(), SECRET)?;
    let names = ["first", "second", "third"];
    let programs = names.map(|name| Program::Wait.write(&places.bin(), &format!("pt-{name}")));
    let [first, second, third] = programs;
    let (first, second, third) = (first?, second?, third?);
    let held = Workload::spawn(&Program::Wait.write(&places.bin(), "pt-held")?)?;
    let hog = Program::Wait.write(&places.bin(), "pt-clock-hog")?;
    let vital = [&first, &second, &third].map(|program| Workload::spawn(program));
    let daemon = Daemon::start(&places)?;
    let profile = ProfileText::new("p").critical("first", &first).critical("second", &second);
    let profile = profile.critical("third", &third).rule_value(json!({
        "name": "hogs", "match": { "comm": "pt-clock-hog" }, "limits": { "cpu": "40%" }, "allow_move": true,
    }));
    daemon.activate(&profile)?;
    wait_until("they are known", SOON, || {
        let known = daemon.data(&["critical", "list"])?;
        Ok(known.as_array().is_some_and(|all| all.iter().all(|one| one["state"] == "up")))
    })?;
    let home = cgroup_of(held.pid());
    let by_hand = ["throttle", "--pid", &held.pid_text(), "--cpu", "30%", "--group", "held", "--allow-move"];
    daemon.ask(&[&by_hand[..], &["--for", "30m"]].concat())?;
    let [dies_first, dies_second, dies_third] = vital;
    // Those that came after the first `seen` requests: a signature is of its moment.
    let alert = |name: &str, seen: usize| {
        let request = wait_for(name, RETRIED, || {
            let later = receiver.requests().into_iter().skip(seen);
            Ok(later.into_iter().find(|request| request.json().is_ok_and(|body| is_death(&body, name))))
        })?;
        request.verify(SECRET)
    };
    let group_of = |process: &Workload| -> Result<Value> {
        Ok(daemon.data(&["explain", &process.pid_text()])?["group"]["group"].clone())
    };
    let limits_stand = || -> Result<()> {
        let hog = Workload::spawn(&hog)?;
        wait_until("a new hog is limited", SOON, || Ok(group_of(&hog)? == "hogs"))?;
        let held = (group_of(&held)?, cgroup_of(held.pid()));
        ensure!(held.0 == "held" && held.1 != home, "what was limited for a time is not any more: {held:?}");
        Ok(())
    };
    let mut clock = Clock { off: 0 };

    // Back, while a retry waits: it does not wait an hour longer, and nobody behind it does.
    receiver.answer_with(503);
    dies_first?.kill()?;
    wait_until("an attempt", SOON, || Ok(!receiver.requests().is_empty()))?;
    clock.step(-HOUR)?;
    let seen = receiver.requests().len();
    receiver.answer_with(200);
    dies_second?.kill()?;
    alert("first", seen).with_context(|| daemon.printed())?;
    alert("second", seen).with_context(|| daemon.printed())?;
    limits_stand()?;

    // Forward, by more than the time of a limit that was set for a time.
    clock.step(48 * HOUR)?;
    let seen = receiver.requests().len();
    dies_third?.kill()?;
    alert("third", seen).with_context(|| daemon.printed())?;
    limits_stand()?;

    daemon.stop()?;
    ensure!(cgroup_of(held.pid()) == home, "its limit was left behind");
    run(&places, &["audit", "verify"])?.expect(0)?;
    run(&places, &["state", "check"])?.expect(0).map(drop)
}
