//! Everything at once, bounded: each kind of load has a thread and a pace of its own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use integration_tests::clock::{SOON, Stopwatch, pause, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::scrape::Scrape;
use integration_tests::workload::Workload;
use serde_json::json;

/// Lives a second: a million in half an hour.
const RATE: u64 = 556;
/// So many lives at a time.
const BATCH: Duration = Duration::from_millis(100);
const SCRAPES: Duration = Duration::from_secs(5);
const GROUPS: Duration = Duration::from_secs(2);
/// A critical process lives this long.
const LIFE: Duration = Duration::from_secs(15);
const CRITICAL: &str = "pt-soak-vital";
const LIMITED: &str = "pt-soak-job";

/// The programs of the load.
pub(crate) struct Load {
    life: PathBuf,
    job: PathBuf,
    vital: PathBuf,
    /// Nothing of the profile is about it.
    idler: PathBuf,
}

/// What it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) lives: u64,
    pub(crate) groups: u64,
    pub(crate) deaths: u64,
}

impl Load {
    /// Writes the programs.
    pub(crate) fn new(places: &Places) -> Result<Self> {
        Ok(Self {
            life: Program::Exit(0).write(&places.bin(), "pt-soak-life")?,
            job: Program::Wait.write(&places.bin(), LIMITED)?,
            vital: Program::Wait.write(&places.bin(), CRITICAL)?,
            idler: Program::Wait.write(&places.bin(), "pt-soak-idler")?,
        })
    }

    /// Limits every job by itself, and watches the critical process.
    pub(crate) fn profile(&self) -> ProfileText {
        let limits = json!({ "cpu": "30%", "nice": 5 });
        ProfileText::new("soak")
            .rule_matching("jobs", &json!({ "comm": LIMITED }), &limits, "process")
            .critical(CRITICAL, &self.vital)
    }

    /// Runs all of it for this long.
    ///
    /// # Errors
    /// The first of any part, when all have ended.
    pub(crate) fn run(&self, daemon: &Daemon<'_>, length: Duration) -> Result<Done> {
        let watch = Stopwatch::start();
        let goes_on = || watch.elapsed() < length;
        let (lives, groups, deaths) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let parts = [
                scope.spawn(|| self.lives(&goes_on, &lives, watch)),
                scope.spawn(|| self.groups(&goes_on, &groups, daemon)),
                scope.spawn(|| self.deaths(&goes_on, &deaths, daemon)),
                scope.spawn(|| scrapes(&goes_on, daemon)),
            ];
            let ended =
                parts.map(|part| part.join().unwrap_or_else(|_| bail!("a part of the load panicked")));
            ended.into_iter().collect::<Result<()>>()
        })?;
        let [lives, groups, deaths] = [lives, groups, deaths].map(AtomicU64::into_inner);
        Ok(Done { lives, groups, deaths })
    }

    /// Short lives, as many as there should be by now.
    fn lives(&self, goes_on: &dyn Fn() -> bool, lives: &AtomicU64, watch: Stopwatch) -> Result<()> {
        while goes_on() {
            let due = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX) * RATE / 1_000;
            while lives.load(Ordering::Relaxed) < due {
                let status = Command::new(&self.life).status().context("start a short life")?;
                ensure!(status.success(), "a short life ended with {status}");
                lives.fetch_add(1, Ordering::Relaxed);
            }
            pause(BATCH);
        }
        Ok(())
    }

    /// Jobs that a rule limits, one more each time, of which the oldest goes; and one that is limited by hand for a while.
    fn groups(&self, goes_on: &dyn Fn() -> bool, groups: &AtomicU64, daemon: &Daemon<'_>) -> Result<()> {
        const LIVING: usize = 4;
        let by_hand = Workload::spawn(&self.idler)?;
        let mut living = Vec::new();
        while goes_on() {
            living.push(Workload::spawn(&self.job)?);
            if living.len() > LIVING {
                drop(living.remove(0));
            }
            daemon.ask(&[
                "throttle",
                "--pid",
                &by_hand.pid_text(),
                "--cpu",
                "40%",
                "--group",
                "by-hand",
                "--for",
                "1s",
            ])?;
            groups.fetch_add(2, Ordering::Relaxed);
            pause(GROUPS);
        }
        Ok(())
    }

    /// A critical process that dies and is started again, each time when it is known.
    fn deaths(&self, goes_on: &dyn Fn() -> bool, deaths: &AtomicU64, daemon: &Daemon<'_>) -> Result<()> {
        while goes_on() {
            let mut vital = Workload::spawn(&self.vital)?;
            wait_until("the critical process is up", SOON, || {
                Ok(daemon.data(&["critical", "list"])?[0]["state"] == "up")
            })?;
            pause(LIFE);
            vital.kill()?;
            deaths.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn scrapes(goes_on: &dyn Fn() -> bool, daemon: &Daemon<'_>) -> Result<()> {
    let address = integration_tests::scrape::address(daemon)?;
    while goes_on() {
        Scrape::over_tcp(&address)?;
        pause(SCRAPES);
    }
    Ok(())
}
