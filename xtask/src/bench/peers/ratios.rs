//! Ratios of one run, which are steadier than its times, and those that were committed.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail};

use super::acting::Reaction;
use super::scraped::Scraped;
use super::storming::{Storming, Subject};
use super::tools::Peer;
use crate::bench::stats::Samples;
use crate::cargo::workspace_root;

const FILE: &str = "docs/peers.json";
/// By how much a ratio may be worse than the committed one.
const TOLERANCE: f64 = 0.1;

/// What is compared. Of all but the first, less is better.
const THROUGHPUT: &str = "storm throughput with the agent, of that without";
const CPU: &str = "CPU time per life, of that of a poll of /proc every 20 ms";
const SCRAPE: &str = "CPU time per scrape, of prometheus-process-exporter's";
const REACTION: &str = "mean time from a matched exec to its limit by moving it, of cgrulesengd's";

/// Ratios by what they tell, each over the rounds of a run.
pub(super) struct Ratios(Vec<(&'static str, Samples)>);

impl Ratios {
    /// Those of a run.
    ///
    /// # Errors
    /// When something was not measured.
    pub(super) fn of(storming: &[Storming], reactions: &[Reaction], scraped: &[Scraped; 2]) -> Result<Self> {
        let of = |subject| storming.iter().find(|one| one.subject == subject).context("a storm beside each");
        // Both wake every 20 ms and mostly wait for memory that others have used meanwhile, which becomes dearer and
        // cheaper from hour to hour; the time of who works for each event, as forkstat does, hardly changes with it.
        let (agent, poll) = (of(Subject::Agent)?, of(Subject::Peer(Peer::Poll))?);
        let [_, moved, theirs] = reactions else { bail!("three who limit") };
        let (moved, theirs) =
            (moved.quiet.means().context("limited")?, theirs.quiet.means().context("classified")?);
        let [ours, exporter] = scraped;
        Ok(Self(vec![
            (THROUGHPUT, agent.ratio.clone()),
            (CPU, agent.micros.over(&poll.micros).context("a round")?),
            (REACTION, moved.over(&theirs).context("a round")?),
            (SCRAPE, ours.cpu.over(&exporter.cpu).context("a round")?),
        ]))
    }

    /// Writes their medians down, for later runs to be compared with.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self) -> Result<()> {
        let rounded: Committed = self
            .0
            .iter()
            .map(|(what, rounds)| ((*what).to_owned(), (rounds.median() * 1e4).round() / 1e4))
            .collect();
        let text = serde_json::to_string_pretty(&rounded).context("write JSON")?;
        fs::write(workspace_root()?.join(FILE), text + "\n").with_context(|| format!("write {FILE}"))
    }

    /// Compares with what [`Self::write`] has written.
    ///
    /// # Errors
    /// When one is more than a tenth worse in every round, or was not known before.
    pub(super) fn compare(&self, before: &Committed) -> Result<()> {
        let mut worse = Vec::new();
        for (what, rounds) in &self.0 {
            let then = *before.get(*what).with_context(|| format!("{FILE} has no {what:?}"))?;
            let is_worse = is_worse(what, rounds, then);
            println!("{}: {what}: {rounds:.4}, was {then:.4}", if is_worse { "WORSE" } else { "ok" });
            if is_worse {
                worse.push(*what);
            }
        }
        if !worse.is_empty() {
            bail!("more than a tenth worse than what is committed: {}", worse.join("; "));
        }
        Ok(())
    }
}

/// Medians of a run, by what they tell.
pub(super) type Committed = BTreeMap<String, f64>;

/// Those of the last run that was written down.
///
/// # Errors
/// When the file is not there or not what [`Ratios::write`] writes.
pub(super) fn committed() -> Result<Committed> {
    let text = fs::read_to_string(workspace_root()?.join(FILE)).with_context(|| format!("read {FILE}"))?;
    serde_json::from_str(&text).with_context(|| format!("parse {FILE}"))
}

/// Whether even the best round is more than a tenth worse than the median was: what the rounds differ by is the machine's.
fn is_worse(what: &str, rounds: &Samples, then: f64) -> bool {
    if what == THROUGHPUT {
        rounds.max() < then * (1.0 - TOLERANCE)
    } else {
        rounds.min() > then * (1.0 + TOLERANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(throughput: [f64; 3], cpu: [f64; 3]) -> Result<()> {
        let before = [(THROUGHPUT, 0.98), (CPU, 0.04)].map(|(what, value)| (what.to_owned(), value));
        let now = [(THROUGHPUT, throughput), (CPU, cpu)];
        Ratios(now.map(|(what, rounds)| (what, Samples::new(rounds.to_vec()).unwrap())).into())
            .compare(&before.into())
    }

    #[test]
    fn a_tenth_worse_is_told_whichever_way_worse_is() {
        assert!(check([0.90; 3], [0.043; 3]).is_ok());
        assert!(check([1.2; 3], [0.001; 3]).is_ok(), "better is not worse");
        assert!(check([0.87; 3], [0.04; 3]).is_err());
        assert!(check([0.98; 3], [0.045; 3]).is_err());
        let unknown = Ratios(vec![(SCRAPE, Samples::new(vec![1.0]).unwrap())]);
        assert!(unknown.compare(&Committed::new()).is_err());
    }

    #[test]
    fn what_rounds_differ_by_is_no_regression() {
        assert!(check([0.70, 0.80, 0.89], [0.06, 0.05, 0.043]).is_ok());
        assert!(check([0.70, 0.80, 0.87], [0.04; 3]).is_err());
        assert!(check([0.98; 3], [0.06, 0.05, 0.045]).is_err());
    }
}
