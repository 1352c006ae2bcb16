//! Ratios of one run, which are steadier than its times, and those that were committed.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail};

use super::acting::Reaction;
use super::scraped::Scraped;
use super::storming::{Storming, Subject};
use super::tools::Peer;
use crate::cargo::workspace_root;

const FILE: &str = "docs/peers.json";
/// By how much a ratio may be worse than the committed one.
const TOLERANCE: f64 = 0.1;

/// What is compared. Of all but the first, less is better.
const THROUGHPUT: &str = "storm throughput with the agent, of that without";
const CPU: &str = "CPU time per life, of forkstat's";
const SCRAPE: &str = "CPU time per scrape, of prometheus-process-exporter's";
const REACTION: &str = "matched exec to its limit by moving it, of cgrulesengd's";

/// Ratios by what they tell.
#[derive(Debug, PartialEq)]
pub(super) struct Ratios(BTreeMap<String, f64>);

impl Ratios {
    /// Those of a run.
    ///
    /// # Errors
    /// When something was not measured.
    pub(super) fn of(storming: &[Storming], reactions: &[Reaction], scraped: &[Scraped; 2]) -> Result<Self> {
        let of = |subject| storming.iter().find(|one| one.subject == subject).context("a storm beside each");
        let (agent, forkstat) = (of(Subject::Agent)?, of(Subject::Peer(Peer::Forkstat))?);
        let [_, moved, theirs] = reactions else { bail!("three who limit") };
        let reaction = moved.quiet.p50().context("limited")? / theirs.quiet.p50().context("classified")?;
        let [ours, exporter] = scraped;
        let ratios = [
            (THROUGHPUT, agent.ratio.median()),
            (CPU, agent.micros.median() / forkstat.micros.median()),
            (REACTION, reaction),
            (SCRAPE, ours.cpu.median() / exporter.cpu.median()),
        ];
        Ok(Self(ratios.into_iter().map(|(what, value)| (what.to_owned(), value)).collect()))
    }

    /// Those of the last run that was written down.
    ///
    /// # Errors
    /// When the file is not there or not what [`Self::write`] writes.
    pub(super) fn committed() -> Result<Self> {
        let text =
            fs::read_to_string(workspace_root()?.join(FILE)).with_context(|| format!("read {FILE}"))?;
        Ok(Self(serde_json::from_str(&text).with_context(|| format!("parse {FILE}"))?))
    }

    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self) -> Result<()> {
        let rounded: BTreeMap<&String, f64> =
            self.0.iter().map(|(what, ratio)| (what, (ratio * 1e4).round() / 1e4)).collect();
        let text = serde_json::to_string_pretty(&rounded).context("write JSON")?;
        fs::write(workspace_root()?.join(FILE), text + "\n").with_context(|| format!("write {FILE}"))
    }

    /// # Errors
    /// When one is more than a tenth worse than before, or was not known before.
    pub(super) fn compare(&self, before: &Self) -> Result<()> {
        let mut worse = Vec::new();
        for (what, now) in &self.0 {
            let then = before.0.get(what).with_context(|| format!("{FILE} has no {what:?}"))?;
            let is_worse = if what == THROUGHPUT {
                *now < then * (1.0 - TOLERANCE)
            } else {
                *now > then * (1.0 + TOLERANCE)
            };
            println!("{}: {what}: {now:.4}, was {then:.4}", if is_worse { "WORSE" } else { "ok" });
            if is_worse {
                worse.push(what.as_str());
            }
        }
        if !worse.is_empty() {
            bail!("more than a tenth worse than what is committed: {}", worse.join("; "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratios(throughput: f64, cpu: f64) -> Ratios {
        Ratios(BTreeMap::from([(THROUGHPUT.to_owned(), throughput), (CPU.to_owned(), cpu)]))
    }

    #[test]
    fn a_tenth_worse_is_told_whichever_way_worse_is() {
        let before = ratios(0.98, 0.04);
        assert!(ratios(0.90, 0.043).compare(&before).is_ok());
        assert!(ratios(1.2, 0.001).compare(&before).is_ok(), "better is not worse");
        for worse in [ratios(0.87, 0.04), ratios(0.98, 0.045)] {
            assert!(worse.compare(&before).is_err());
        }
        assert!(before.compare(&Ratios(BTreeMap::new())).is_err(), "unknown");
    }
}
