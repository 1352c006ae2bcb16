//! The agent dies by SIGKILL: at every point between two effects, at any moment, and with somebody else dying meanwhile.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{Stopwatch, pause};
use integration_tests::command::run;
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;
use integration_tests::restored::{DIE_AT, POINTS};
use integration_tests::storm::Storm;

use crate::chaos::dice::Dice;
use crate::chaos::stage::{DELIVERED, Setting, Stage};

const DELIVERY_POINTS: [&str; 4] =
    ["delivery-taken", "delivery-answered", "delivery-settling", "delivery-settled"];
/// Of each list in the short form; the kernel tests go through all of them.
const SHORT: usize = 2;

fn chosen(points: &[&'static str], setting: &Setting, dice: &mut Dice) -> Vec<&'static str> {
    let mut points = points.to_vec();
    dice.shuffle(&mut points);
    points.truncate(if setting.short { SHORT } else { usize::MAX });
    points
}

/// Starts an agent that dies at a point.
fn doomed<'a>(stage: &Stage<'a>, point: &str) -> Result<Daemon<'a>> {
    Daemon::start_under(stage.places, &["env", &format!("{DIE_AT}={point}")])
}

/// At the points of the executor.
pub(crate) fn at_points(setting: &Setting, dice: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let stage = Stage::set(&places, "points", "")?;
    for (number, point) in chosen(&POINTS, setting, dice).into_iter().enumerate() {
        let daemon = doomed(&stage, point)?;
        stage.write_profile()?;
        // It dies before it can answer, or not yet.
        if run(&places, &["profile", "activate", "chaos"])?.code == 0 {
            let released = run(&places, &["release", "--all", "--yes"])?;
            ensure!(released.code != 0, "it answered the release, too, instead of dying at {point}");
        }
        daemon.died().with_context(|| format!("at {point}"))?;
        // One that was in force would be at the next start, before it is ready.
        fs::remove_file(places.profiles().join("chaos.yaml")).context("take the profile away")?;
        if number % 2 == 0 {
            run(&places, &["release", "--all", "--yes"])?.expect(0)?;
        } else {
            Daemon::start(&places)?.stop()?;
        }
        stage.restored().with_context(|| format!("killed at {point}"))?;
    }
    let watch = Stopwatch::start();
    let daemon = stage.start()?;
    let recovery = watch.elapsed();
    stage.end(daemon)?;
    Ok(recovery)
}

/// At the points of a delivery.
pub(crate) fn at_deliveries(setting: &Setting, dice: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "delivery", "")?;
    let mut slowest = Duration::ZERO;
    let points = chosen(&DELIVERY_POINTS, setting, dice);
    let (last, points) = points.split_last().context("a point")?;
    for point in points.iter().chain([last]) {
        let daemon = stage.begin(doomed(&stage, point)?)?;
        let victim = stage.kill_one()?;
        daemon.died().with_context(|| format!("at {point}"))?;
        let watch = Stopwatch::start();
        let daemon = Daemon::start(&places)?;
        stage.alerted(&victim).with_context(|| format!("after {point}"))?;
        stage.right(&daemon)?;
        slowest = slowest.max(watch.elapsed());
        stage.each_once(&daemon, [victim.as_str()]).with_context(|| format!("after {point}"))?;
        if point == last {
            stage.end(daemon)?;
            return Ok(slowest);
        }
        daemon.stop()?;
        stage.restored()?;
    }
    Ok(slowest)
}

/// At a moment that nobody chose, with an alert that is owed and perhaps sent.
pub(crate) fn at_any_moment(setting: &Setting, dice: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "sigkill", "")?;
    let daemon = stage.start()?;
    let storm = Storm::for_time(&stage.life, dice.time(Duration::from_secs(1)))?;
    pause(Duration::from_millis(dice.below(300) as u64));
    let victim = stage.kill_one()?;
    daemon.wait_event("critical_process_down", |event| event["name"] == victim.as_str())?;
    daemon.kill()?;
    storm.finish()?;
    let watch = Stopwatch::start();
    let daemon = Daemon::start(&places)?;
    stage.right(&daemon)?;
    let recovery = watch.elapsed();
    stage.alerted(&victim)?;
    stage.end(daemon)?;
    Ok(recovery)
}

/// Nobody saw how it died: that it is not there is told.
pub(crate) fn while_it_is_dead(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "meanwhile", "")?;
    stage.start()?.kill()?;
    let victim = stage.kill_unseen()?;
    let watch = Stopwatch::start();
    let daemon = Daemon::start(&places)?;
    stage.receiver.wait_for("that it is missing", DELIVERED, |body| {
        body["type"] == "critical_process_missing" && body["data"]["details"]["name"] == victim.as_str()
    })?;
    let recovery = watch.elapsed();
    stage.end(daemon)?;
    Ok(recovery)
}
