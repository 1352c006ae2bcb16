//! `cargo xtask demo`: the agent at work on real processes, in private directories, every step verified.
//!
//! What it prints is measured while it runs. It touches only processes and cgroups that it started itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary;
use integration_tests::cgroup::{TestCgroup, cpu_quota_of};
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::workload::Workload;
use serde_json::{Value, json};

use crate::cargo::{cargo, target_dir};

/// One line of the live view.
const SAMPLE: Duration = Duration::from_millis(500);
/// Lines before and after.
const SAMPLES: usize = 5;
/// The limit in the demo's profile, in percent of one CPU.
const LIMIT: f64 = 20.0;
/// Over the limit by this much is within the error of a half-second sample in ticks of 10 ms.
const TOLERANCE: f64 = 6.0;

/// Builds the agent and shows it.
///
/// # Errors
/// When a step cannot be done, or what it did cannot be verified.
pub(crate) fn run() -> Result<()> {
    binary::require_root()?;
    println!("Building the agent (release) ...");
    cargo(&["build", "--release", "--package", "process-throttler"])?;
    let watch = Stopwatch::start();
    let agent = target_dir()?.join("release/process-throttler");
    let _turn = Turn::take()?;
    let places = Places::for_agent(agent)?;
    Stage::set(&places)?.play()?;
    println!("\nEvery step was verified. {:.0} s, nothing is left behind.", watch.elapsed().as_secs_f64());
    Ok(())
}

/// What the demo plays with. The fields are dropped in this order.
struct Stage<'a> {
    hog: Workload,
    critical: Workload,
    receiver: Receiver,
    cgroups: [TestCgroup; 2],
    places: &'a Places,
}

impl<'a> Stage<'a> {
    fn set(places: &'a Places) -> Result<Self> {
        let receiver = Receiver::start()?;
        places.write_webhook(&receiver.url(), SECRET)?;
        let cgroups = [TestCgroup::new("demo-hog")?, TestCgroup::new("demo-late")?];
        let hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "demo-hog")?, &cgroups[0])?;
        let critical = Workload::spawn(&Program::Wait.write(&places.bin(), "demo-critical")?)?;
        Ok(Self { hog, critical, receiver, cgroups, places })
    }

    fn play(&mut self) -> Result<()> {
        let before = [self.cgroups[0].limits()?, self.cgroups[1].limits()?];
        heading("1. A CPU hog and a critical process run; no agent yet");
        println!("   hog: pid {}    critical: pid {}", self.hog.pid(), self.critical.pid());
        let free = self.show_share()?;

        heading("2. The agent starts, in private directories");
        let daemon = Daemon::start(self.places)?;
        let status = daemon.data(&["daemon", "status"])?;
        println!(
            "   pid {}, event source: {}, cgroups: {}",
            daemon.pid(),
            source(&status["source"]),
            text(&status["cgroups"])
        );
        println!("   {} processes known from the first snapshot", status["processes"]);

        heading("3. A profile is activated: hogs get 20 % of a CPU, one process is critical");
        daemon.activate(&self.profile())?;
        wait_until("the hog's quota is in force", SOON, || Ok(cpu_quota_of(self.hog.pid())? == Some(LIMIT)))?;
        let limited = self.show_share()?;
        ensure!(limited < LIMIT + TOLERANCE, "the hog still uses {limited:.1} % of a CPU");
        ensure!(limited < free, "the hog used {free:.1} % before and uses {limited:.1} % now");
        println!("   verified: {free:.0} % before, {limited:.0} % after");

        heading("4. Another hog starts in its own cgroup: from its exec to the limit in force");
        self.show_latency(&daemon)?;

        heading("5. The critical process is killed (signal 9); the alert arrives at an HTTP receiver");
        self.show_alert(&daemon)?;

        heading("6. The agent stops; every limit is what it was before");
        daemon.stop()?;
        let after = [self.cgroups[0].limits()?, self.cgroups[1].limits()?];
        ensure!(after == before, "limits after: {after:?}, before: {before:?}");
        println!(
            "   verified: {} values of both cgroups are the same as before",
            before[0].len() + before[1].len()
        );
        Ok(())
    }

    fn profile(&self) -> ProfileText {
        let limits = json!({ "cpu": format!("{LIMIT}%") });
        ProfileText::new("demo")
            .rule("hogs", "demo-hog", &limits)
            .rule("late-hogs", "demo-late", &limits)
            .critical("demo-critical", &self.places.bin().join("demo-critical"))
    }

    /// Prints the hog's CPU share live; returns the mean after the first sample, in which a quota that has just
    /// been set may still let a period pass.
    fn show_share(&self) -> Result<f64> {
        let mut shares = Vec::new();
        for _ in 0..SAMPLES {
            let share = self.hog.cpu_share(SAMPLE)?;
            println!("   hog uses {share:>5.1} % of a CPU  {}", bar(share));
            shares.push(share);
        }
        let counted = shares.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&shares);
        let count = u32::try_from(counted.len()).context("a few samples")?;
        Ok(counted.iter().sum::<f64>() / f64::from(count))
    }

    fn show_latency(&self, daemon: &Daemon<'_>) -> Result<()> {
        let program = Program::Spin.write(&self.places.bin(), "demo-late")?;
        let late = Workload::spawn_in(&program, &self.cgroups[1])?;
        let applied = daemon.wait_event("throttle_applied", |event| event["group"] == "late-hogs")?;
        ensure!(applied["processes"][0][0]["pid"] == late.pid(), "another process was limited: {applied}");
        ensure!(self.cgroups[1].cpu_quota()? == Some(LIMIT), "the kernel does not have the limit");
        let nanos = applied["latency_ns"].as_u64().context("the agent measured the latency")?;
        println!(
            "   pid {} limited {}, {} µs after its exec",
            late.pid(),
            text(&applied["how"]),
            nanos / 1_000
        );
        println!("   because of {}", text(&applied["reason"]["matched"]));
        Ok(())
    }

    fn show_alert(&mut self, daemon: &Daemon<'_>) -> Result<()> {
        let pid = self.critical.pid();
        wait_until("the process counts as critical", SOON, || {
            let explained = daemon.data(&["explain", &pid.to_string()])?;
            Ok(!explained["protected"].is_null())
        })?;
        let watch = Stopwatch::start();
        self.critical.kill()?;
        let is_alert = |body: &Value| body["type"] == "critical_process_down";
        let request = self.receiver.wait_for("the alert", SOON, is_alert)?;
        let took = watch.elapsed();
        request.verify(SECRET)?;
        let body = request.json()?;
        ensure!(body["data"]["details"]["exit"]["status"]["signal"]["number"] == 9, "no cause: {body}");
        ensure!(body["data"]["details"]["exit"]["process"]["key"]["pid"] == pid, "another process: {body}");
        println!("   {}", text(&body["data"]["message"]));
        println!("   webhook-id: {}", request.header("webhook-id")?);
        println!("   webhook-signature: {}  (valid)", request.header("webhook-signature")?);
        println!("   {:.1} ms from the kill to the receiver", took.as_secs_f64() * 1_000.0);
        Ok(())
    }
}

fn heading(title: &str) {
    println!("\n{title}");
}

fn source(source: &Value) -> String {
    let why = source["degraded"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join("; ");
    if why.is_empty() {
        text(&source["name"])
    } else {
        format!("{} (degraded: {why})", text(&source["name"]))
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn bar(share: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=40")]
    let width = (share / 2.5).round().clamp(0.0, 40.0) as usize;
    "#".repeat(width)
}
