//! The agent beside other programs that watch, count, limit or alert, in the same minutes on the same machine: what
//! they cost a storm of short lives, and how soon they act.
//!
//! Writes docs/PEERS.md, its plot, and the ratios that `cargo xtask bench --check` compares later runs with.

mod acting;
mod plot;
mod ratios;
mod scraped;
mod storming;
mod tools;

use std::fs;

use anyhow::{Context as _, Result};

use crate::bench::{Setting, machine};
use crate::cargo::workspace_root;
use crate::marked;

use acting::{Deaths, Reaction};
use ratios::Ratios;
use scraped::Scraped;
use storming::Storming;

const DOCUMENT: &str = "docs/PEERS.md";
const PLOT: &str = "docs/peers.svg";
const MARK: &str = "results of cargo xtask bench peers";

/// Runs all of it. With `check`, nothing is written, and ratios that became worse are an error.
///
/// # Errors
/// When a peer cannot be had or started, the agent fails, or a ratio is more than a tenth worse than the committed one.
pub(crate) fn run(setting: &Setting, check: bool) -> Result<()> {
    let storming = storming::run(setting)?;
    let reactions = acting::reactions(setting)?;
    let deaths = acting::deaths(setting)?;
    let scraped = scraped::run(setting)?;
    let tables = tables(&storming, &reactions, &deaths, &scraped);
    println!("{tables}");
    let ratios = Ratios::of(&storming, &reactions, &scraped)?;
    if check {
        return ratios.compare(&ratios::committed()?);
    }
    marked::replace(
        DOCUMENT,
        MARK,
        &format!("{}\n\n{tables}", machine::describe("cargo xtask bench peers", "release")?),
    )?;
    fs::write(workspace_root()?.join(PLOT), plot::svg(&storming)?)
        .with_context(|| format!("write {PLOT}"))?;
    ratios.write()?;
    println!("results are in {DOCUMENT} and {PLOT}");
    Ok(())
}

fn tables(storming: &[Storming], reactions: &[Reaction], deaths: &Deaths, scraped: &[Scraped]) -> String {
    let mut text = String::from(
        "| in a storm of short lives | throughput, relative to without | CPU time per life | of all lives, told | \
         resident memory | CPU with nothing to do |\n|---|---|---|---|---|---|\n",
    );
    for one in storming {
        let told = one.told.as_ref().map_or("–".to_owned(), |told| format!("{told:.1} %"));
        text.push_str(&format!(
            "| {} | {:.3} | {:.2} µs | {told} | {:.1} MiB | {:.2} % |\n",
            one.subject.name(),
            one.ratio,
            one.micros,
            one.rss.median(),
            one.idle.median()
        ));
    }
    text.push_str(
        "\n| from a matched exec to its limit | quiet: p50 | p99 | missed | in a storm: p50 | p99 | missed |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for Reaction { who, quiet, storm } in reactions {
        text.push_str(&format!("| {who} | {} | {} |\n", quiet.cells(), storm.cells()));
    }
    text.push_str(&format!(
        "\n| from the death of a process that matters to | median (range) |\n|---|---|\n\
         | process-throttler's webhook at its receiver | {:.1} ms |\n\
         | monit's action, at its shortest cycle of 1 s | {:.0} ms |\n",
        deaths.agent, deaths.monit
    ));
    text.push_str(
        "\n| a scrape, with 1,000 processes and 50 groups beside the machine's | wall time | CPU time |\n\
         |---|---|---|\n",
    );
    for Scraped { who, wall, cpu } in scraped {
        text.push_str(&format!("| {who} | {wall:.2} ms | {cpu:.2} ms |\n"));
    }
    text
}
