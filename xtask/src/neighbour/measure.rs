//! What is measured in a run, and what the figures say.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bench::stats::Samples;
use crate::neighbour::FIRST_HOGS;

/// Requests of this time are looked at together.
pub(super) const WINDOW: Duration = Duration::from_millis(500);

/// A request and its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Since the run began.
    pub(super) at: Duration,
    /// From sending it to having the answer, ms.
    pub(super) took_ms: f64,
    /// How long the server waited for a CPU meanwhile, ms.
    pub(super) waited_ms: f64,
}

/// CPU time of the hogs up to a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hogs {
    /// Since the run began.
    pub(super) at: Duration,
    /// The share of one CPU that they had since the moment before, in percent.
    pub(super) percent: f64,
}

/// One run.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) requests: Vec<Request>,
    pub(super) hogs: Vec<Hogs>,
}

impl Run {
    /// The p99 of the waits in each window, with its end in seconds.
    pub(super) fn windows(&self) -> Vec<(f64, f64)> {
        let mut windows: Vec<Vec<f64>> = Vec::new();
        for request in &self.requests {
            let number = usize::try_from(request.at.as_millis() / WINDOW.as_millis()).unwrap_or(usize::MAX);
            if windows.len() <= number {
                windows.resize_with(number + 1, Vec::new);
            }
            windows[number].push(request.waited_ms);
        }
        let end = |number: usize| WINDOW.as_secs_f64() * (number + 1) as f64;
        // One without a request is one in which the server did not answer: the next tells how long.
        let p99 = |waits| Samples::new(waits).map(|samples| samples.percentile(99));
        windows
            .into_iter()
            .enumerate()
            .filter_map(|(number, waits)| Some((end(number), p99(waits)?)))
            .collect()
    }

    /// The p99 of the waits of all requests beside hogs, ms.
    pub(super) fn wait_p99(&self) -> Result<f64> {
        self.p99(|request| request.waited_ms)
    }

    /// The p99 of how long all requests beside hogs took, ms.
    pub(super) fn request_p99(&self) -> Result<f64> {
        self.p99(|request| request.took_ms)
    }

    fn p99(&self, of: impl Fn(&Request) -> f64) -> Result<f64> {
        let beside = self.requests.iter().filter(|request| request.at >= FIRST_HOGS).map(of).collect();
        Ok(Samples::new(beside).context("requests beside hogs")?.percentile(99))
    }

    /// The share of the windows beside hogs whose p99 is within the objective, in percent.
    pub(super) fn share_within(&self, objective_ms: f64) -> Result<f64> {
        let beside: Vec<bool> = self.beside_hogs().map(|(_, p99)| p99 <= objective_ms).collect();
        let within = beside.iter().filter(|within| **within).count();
        (!beside.is_empty())
            .then(|| within as f64 * 100.0 / beside.len() as f64)
            .context("windows beside hogs")
    }

    /// How long after the start of the first hogs the first two windows in a row are within the objective.
    pub(super) fn held_after(&self, objective_ms: f64) -> Option<Duration> {
        let beside: Vec<(f64, f64)> = self.beside_hogs().collect();
        let held = beside.windows(2).find(|pair| pair.iter().all(|(_, p99)| *p99 <= objective_ms))?;
        let begin = held.first()?.0 - WINDOW.as_secs_f64();
        Some(Duration::from_secs_f64((begin - FIRST_HOGS.as_secs_f64()).max(0.0)))
    }

    /// What the hogs had on average since they started, in percent of a CPU.
    pub(super) fn hogs_percent(&self) -> Result<f64> {
        let since: Vec<f64> =
            self.hogs.iter().filter(|hogs| hogs.at >= FIRST_HOGS).map(|hogs| hogs.percent).collect();
        (!since.is_empty())
            .then(|| since.iter().sum::<f64>() / since.len() as f64)
            .context("looks at the hogs")
    }

    fn beside_hogs(&self) -> impl Iterator<Item = (f64, f64)> {
        let begin = FIRST_HOGS.as_secs_f64();
        self.windows().into_iter().filter(move |(end, _)| *end > begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One request per window, from the start of the hogs on.
    fn run(waits: &[f64]) -> Run {
        let request = |(number, waited_ms): (usize, &f64)| Request {
            at: FIRST_HOGS + WINDOW * u32::try_from(number).unwrap(),
            took_ms: 1.0,
            waited_ms: *waited_ms,
        };
        Run { requests: waits.iter().enumerate().map(request).collect(), hogs: Vec::new() }
    }

    #[test]
    fn an_objective_is_held_from_two_windows_within_it_on() {
        let run = run(&[9.0, 1.0, 9.0, 1.0, 1.0, 9.0]);
        assert_eq!(run.held_after(2.0), Some(WINDOW * 3));
        assert_eq!(run.held_after(0.5), None);
        assert_eq!(run.share_within(2.0).unwrap(), 50.0);
        assert_eq!(run.wait_p99().unwrap(), 9.0);
    }
}
