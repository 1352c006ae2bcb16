//! What every fault happens to: an agent that limits one process in place and one by moving it and watches critical
//! ones, with a webhook receiver; and what must hold whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{TestCgroup, cpu_quota_of};
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::restored::capture;
use integration_tests::scrape::Scrape;
use integration_tests::workload::Workload;
use serde_json::{Value, json};

/// What every fault gets.
pub(crate) struct Setting {
    pub(crate) agent: PathBuf,
    pub(crate) short: bool,
}

/// Retries of deliveries take seconds.
pub(crate) const DELIVERED: Duration = Duration::from_secs(30);
const DOWN: &str = "critical_process_down";
/// Processes that the host may start or end while the table is compared with the kernel's.
const OTHERS: u64 = 2;
/// Critical processes: each dies once.
const VITALS: usize = 6;
const NICE: i32 = 6;
/// Comm and quota in percent of a CPU of the one limited in place and the one moved.
const LIMITED: [(&str, f64); 2] = [("pt-chaos-a", 30.0), ("pt-chaos-b", 35.0)];

/// See the module. The fields are dropped in this order.
pub(crate) struct Stage<'a> {
    vitals: Vec<Workload>,
    limited: Vec<Workload>,
    pub(crate) receiver: Receiver,
    before: BTreeMap<String, String>,
    cgroup: TestCgroup,
    pub(crate) places: &'a Places,
    /// A program that ends at once.
    pub(crate) life: PathBuf,
    profile: ProfileText,
    /// Those that were killed, by name.
    killed: BTreeMap<String, u32>,
    /// Those that were killed when no agent ran.
    unseen: BTreeSet<String>,
}

impl<'a> Stage<'a> {
    /// Sets it for a fault, with further settings of the agent.
    pub(crate) fn set(places: &'a Places, name: &str, config: &str) -> Result<Self> {
        let receiver = Receiver::start()?;
        let key = places.write_secret("key", SECRET)?;
        let events = [DOWN, "critical_process_missing", "events_lost"];
        places.write_webhooks(&[json!({
            "name": "chaos", "url": receiver.url(), "secret_file": key, "events": events, "group_wait": "0s",
        })])?;
        places.write_config(&format!("metrics: {{ listen: '127.0.0.1:0' }}\n{config}"))?;
        let cgroup = TestCgroup::new(&format!("chaos-{name}"))?;
        let [a, b] = LIMITED.map(|(comm, _)| Program::Wait.write(&places.bin(), comm));
        let limited = vec![Workload::spawn_in(&a?, &cgroup)?, Workload::spawn(&b?)?];
        let mut profile = ProfileText::new("chaos");
        for (comm, cpu) in LIMITED {
            let limits = json!({ "cpu": format!("{cpu}%"), "cpu_weight": 50, "pids": 30, "nice": NICE,
                "sched": "batch", "io_priority": 6, "cpu_affinity": "0", "oom_score_adj": 77 });
            profile = profile.rule(comm, comm, &limits);
        }
        let mut vitals = Vec::new();
        for number in 0..VITALS {
            let name = vital(number);
            let program = Program::Wait.write(&places.bin(), &name)?;
            vitals.push(Workload::spawn(&program)?);
            let expect = json!({ "expect": { "min_instances": 1, "start_within": "4s" } });
            profile = profile.critical_with(&name, &program, &expect);
        }
        let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
        let before = capture(&cgroup, &limited)?;
        let (killed, unseen) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { vitals, limited, receiver, before, cgroup, places, life, profile, killed, unseen })
    }

    /// Changes the profile before it comes into force.
    pub(crate) fn with(mut self, change: impl FnOnce(ProfileText) -> ProfileText) -> Self {
        self.profile = change(self.profile);
        self
    }

    /// Starts the agent and has everything limited and watched.
    pub(crate) fn start(&self) -> Result<Daemon<'a>> {
        self.begin(Daemon::start(self.places)?)
    }

    /// The same with an agent that runs already.
    pub(crate) fn begin(&self, daemon: Daemon<'a>) -> Result<Daemon<'a>> {
        daemon.activate(&self.profile)?;
        self.right(&daemon)?;
        Ok(daemon)
    }

    /// Writes the profile without bringing it into force.
    pub(crate) fn write_profile(&self) -> Result<()> {
        self.places.write_profile(self.profile.name(), self.profile.text().as_bytes()).map(drop)
    }

    /// Waits until the agent is right: what should be limited is, in the kernel as in what it says; who should be
    /// critical is; and it knows as many processes as there are.
    pub(crate) fn right(&self, daemon: &Daemon<'_>) -> Result<()> {
        for (process, (comm, quota)) in self.limited.iter().zip(LIMITED) {
            wait_until(&format!("{comm} is limited, in the kernel and by what is said"), SOON, || {
                let group = daemon.group(comm)?.with_context(|| format!("no group {comm}"))?;
                ensure!(group["members"][0]["key"]["pid"] == process.pid(), "{group}");
                ensure!(cpu_quota_of(process.pid())? == Some(quota), "{:?}", cpu_quota_of(process.pid())?);
                Ok(kernel::stat(process.pid())?.nice == NICE)
            })?;
        }
        wait_until("the critical processes are known", SOON, || {
            let critical = daemon.data(&["critical", "list"])?;
            Ok(critical.as_array().context("a list")?.iter().all(|one| {
                let dead = one["name"]
                    .as_str()
                    .is_some_and(|name| self.killed.contains_key(name) || self.unseen.contains(name));
                !is_vital(one) || (one["state"] == "up") != dead
            }))
        })?;
        wait_until("it knows as many processes as there are", SOON, || {
            let known = daemon.data(&["daemon", "status"])?["processes"].as_u64().context("processes")?;
            let there = kernel::processes()?.len() as u64;
            ensure!(known.abs_diff(there) <= OTHERS, "{known} known, {there} there");
            Ok(true)
        })
    }

    /// Kills the next critical process.
    pub(crate) fn kill_one(&mut self) -> Result<String> {
        let number = self.killed.len() + self.unseen.len();
        let victim = self.vitals.get_mut(number).context("a critical process that lives")?;
        victim.kill()?;
        let name = vital(number);
        self.killed.insert(name.clone(), victim.pid());
        Ok(name)
    }

    /// The same while no agent can see it.
    pub(crate) fn kill_unseen(&mut self) -> Result<String> {
        let name = self.kill_one()?;
        self.killed.remove(&name);
        self.unseen.insert(name.clone());
        Ok(name)
    }

    /// Waits until the alert of the death of a critical process arrives, signed.
    pub(crate) fn alerted(&self, name: &str) -> Result<()> {
        let pid = self.killed.get(name).with_context(|| format!("{name} was not killed"))?;
        let request = self.receiver.wait_for(&format!("the alert of {name}"), DELIVERED, |body| {
            let details = &body["data"]["details"];
            body["type"] == DOWN
                && details["name"] == name
                && details["exit"]["process"]["key"]["pid"] == *pid
        })?;
        request.verify(SECRET)
    }

    /// That every death was told once: one event of each, and one id of what arrived.
    pub(crate) fn each_once<'n>(
        &self,
        daemon: &Daemon<'_>,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<()> {
        let events = daemon.events(DOWN)?;
        for name in names {
            let told = events.iter().filter(|event| event["name"] == name).count();
            ensure!(told == 1, "the death of {name} was told {told} times");
            let mut ids = BTreeSet::new();
            for request in self.receiver.requests() {
                let body = request.json()?;
                if body["type"] == DOWN && body["data"]["details"]["name"] == name {
                    ids.insert(request.header("webhook-id")?.to_owned());
                }
            }
            ensure!(ids.len() == 1, "the alert of {name} came under {} ids", ids.len());
        }
        Ok(())
    }

    /// After a storm of these lives in which a critical process was killed: waits until the agent is right, the alert
    /// arrives, and every record is accounted for. Returns for how long the agent was not right since `watch` runs, and
    /// how many records were dropped.
    pub(crate) fn recovered(
        &self,
        daemon: &Daemon<'_>,
        watch: &Stopwatch,
        victim: &str,
        lives: u64,
    ) -> Result<(Duration, u64)> {
        self.right(daemon)?;
        let recovery = watch.elapsed();
        self.alerted(victim)?;
        Ok((recovery, self.exact(daemon, lives)?))
    }

    /// That every record of the kernel side is accounted for: produced = sent + dropped, sent = received, what was
    /// dropped is what was told, and there is one for each of these lives. Returns how many were dropped.
    pub(crate) fn exact(&self, daemon: &Daemon<'_>, lives: u64) -> Result<u64> {
        let mut lost = 0;
        wait_until("every record is accounted for", SOON, || {
            let source = daemon.data(&["daemon", "status"])?["source"].clone();
            ensure!(source["name"] == "ebpf" && source["exact"] == true, "{source}");
            let number = |field: &str| source[field].as_u64().with_context(|| format!("{field} in {source}"));
            let (produced, sent, dropped) = (number("produced")?, number("sent")?, number("dropped")?);
            ensure!(produced == sent + dropped, "{produced} produced, {sent} sent, {dropped} dropped");
            ensure!(produced >= lives, "{produced} produced, {lives} lives");
            ensure!(number("malformed")? == 0, "{source}");
            let received = received(&Scrape::over_socket(&self.places.socket())?)?;
            ensure!(received == sent, "{sent} sent, {received} received");
            let told = daemon.events("events_lost")?;
            let told: u64 = told.iter().filter_map(|event| event["dropped"].as_u64()).sum();
            ensure!(told == dropped, "{dropped} dropped, {told} told as lost");
            lost = dropped;
            Ok(true)
        })?;
        Ok(lost)
    }

    /// The end of every fault: another critical process dies and is alerted, each that died was told once, the agent stops
    /// in order, everything is what it was before, and its records are whole.
    pub(crate) fn end(mut self, daemon: Daemon<'a>) -> Result<()> {
        let last = self.kill_one()?;
        self.alerted(&last)?;
        self.each_once(&daemon, self.killed.keys().map(String::as_str))?;
        // Before the stop: the state may be on a disk that only the agent has.
        daemon.ask(&["state", "check"])?;
        daemon.stop()?;
        self.restored()?;
        run(self.places, &["audit", "verify"])?.expect(0).map(drop)
    }

    /// Events of before are not on record any more.
    pub(crate) fn forget(&mut self) {
        self.unseen.extend(std::mem::take(&mut self.killed).into_keys());
    }

    /// That every value, attribute and membership is what it was before.
    pub(crate) fn restored(&self) -> Result<()> {
        let after = capture(&self.cgroup, &self.limited)?;
        let changed: Vec<String> = self
            .before
            .iter()
            .filter(|(what, value)| after.get(*what) != Some(value))
            .map(|(what, value)| format!("{what}: {value:?} before, {:?} after", after.get(what)))
            .collect();
        ensure!(
            changed.is_empty() && after.len() == self.before.len(),
            "not restored: {}",
            changed.join("; ")
        );
        Ok(())
    }
}

fn vital(number: usize) -> String {
    format!("pt-vital-{number}")
}

fn is_vital(critical: &Value) -> bool {
    critical["name"].as_str().is_some_and(|name| name.starts_with("pt-vital-"))
}

/// Events that came from records of the kernel side.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts far below 2^52")]
fn received(scrape: &Scrape) -> Result<u64> {
    let mut sum = 0;
    for kind in ["exec", "fork", "exit"] {
        sum += scrape.figure(&format!("process_throttler_events_received_total{{kind=\"{kind}\"}}"))? as u64;
    }
    Ok(sum)
}
