//! What kept groups and critical processes from the CPUs of late, in words and in cells.

use std::collections::BTreeSet;

use super::page::{Page, or_dash};
use crate::control::proto::{CpuDelay, Holder, WaitedTime};
use crate::model::signal::Hundredths;

/// Most of those who had the CPUs that a cell names.
const NAMED: usize = 2;

/// The fields of a page.
pub(super) fn fields(page: &mut Page, delay: &CpuDelay) {
    let CpuDelay { held, waited, not_measured } = delay;
    match held {
        Some(held) => page.field("Throttled", held),
        None => page.field("Throttled", "no CPU quota"),
    }
    match (waited, not_measured) {
        (Some(waited), _) => page.field("Waited", waited),
        (None, Some(why)) => page.field("Waited", format!("not measured: {why}")),
        (None, None) => page.field("Waited", "not measured"),
    }
    if let Some(holders) = waited.as_ref().map(|waited| &waited.holders).filter(|holders| !holders.is_empty())
    {
        page.field("CPUs had by", words(holders, holders.len()));
    }
}

/// For how much of the time a quota held back.
pub(super) fn held(delay: Option<&CpuDelay>) -> String {
    or_dash(delay.and_then(|delay| delay.held.as_ref()).map(|held| percent(held.share)))
}

/// For how much of the time was waited.
pub(super) fn waited(delay: Option<&CpuDelay>) -> String {
    or_dash(measured(delay).map(|waited| percent(waited.share)))
}

/// The wait that one in a hundred exceeds.
pub(super) fn p99(delay: Option<&CpuDelay>) -> String {
    let micros = measured(delay).and_then(|waited| waited.p99_us);
    or_dash(micros.map(|micros| super::latency::nanos(micros.saturating_mul(1_000))))
}

/// Who had the CPUs meanwhile.
pub(super) fn holders(delay: Option<&CpuDelay>) -> String {
    let holders = measured(delay).map(|waited| words(&waited.holders, NAMED));
    or_dash(holders.filter(|words| !words.is_empty()))
}

/// Of what time the cells tell, and why some do not, a line each; nothing where nothing is known of anybody.
pub(super) fn notes<'a>(delays: impl Iterator<Item = &'a CpuDelay>) -> Vec<String> {
    let mut over = None;
    let mut reasons = BTreeSet::new();
    for delay in delays {
        let CpuDelay { held, waited, not_measured } = delay;
        let of_held = held.as_ref().map(|held| held.over_ms);
        over = over.max(of_held).max(waited.as_ref().map(|waited| waited.over_ms));
        reasons.extend(not_measured);
    }
    let over = over.map(|over| format!("HELD and WAITED are of the last {:.1} s.", over as f64 / 1e3));
    over.into_iter().chain(reasons.into_iter().map(|why| format!("WAITED is not measured: {why}."))).collect()
}

fn measured(delay: Option<&CpuDelay>) -> Option<&WaitedTime> {
    delay.and_then(|delay| delay.waited.as_ref())
}

fn words(holders: &[Holder], most: usize) -> String {
    let word = |holder: &Holder| {
        let Holder { cgroup, group, share } = holder;
        match group {
            Some(group) => format!("group {group} {}", percent(Hundredths(*share))),
            None => format!("{cgroup} {}", percent(Hundredths(*share))),
        }
    };
    holders.iter().take(most).map(word).collect::<Vec<_>>().join(", ")
}

/// Rounded to whole percents, but for what is less than one.
fn percent(share: Hundredths) -> String {
    match share.0.saturating_add(50) / 100 {
        0 if share.0 > 0 => "<1%".to_owned(),
        whole => format!("{whole}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::proto::HeldTime;

    fn held_for(share: u32, over_ms: u64) -> HeldTime {
        HeldTime { over_ms, held_us: 1, share: Hundredths(share), cgroup: None, group: None }
    }

    #[test]
    fn what_is_not_measured_is_neither_nothing_nor_an_error() {
        assert_eq!((held(None), waited(None), p99(None), holders(None)), four("-"));
        let why = Some("the probes are off; set x".to_owned());
        let delay = CpuDelay { held: Some(held_for(1_249, 2_000)), waited: None, not_measured: why };
        assert_eq!((held(Some(&delay)).as_str(), waited(Some(&delay)).as_str()), ("12%", "-"));
        let mut page = Page::new(false, true);
        fields(&mut page, &delay);
        assert_eq!(
            page.into_text(),
            "Throttled:    12.49 % of the last 2.0 s\nWaited:       not measured: the probes are off; set x\n"
        );
        let both = [CpuDelay::default(), delay.clone(), delay];
        assert_eq!(
            notes(both.iter()),
            ["HELD and WAITED are of the last 2.0 s.", "WAITED is not measured: the probes are off; set x."]
        );
        assert!(notes([CpuDelay::default()].iter()).is_empty());
    }

    fn four(text: &str) -> (String, String, String, String) {
        (text.to_owned(), text.to_owned(), text.to_owned(), text.to_owned())
    }

    #[test]
    fn little_is_not_nothing() {
        assert_eq!(
            [0, 49, 50, 150, 25_000].map(|share| percent(Hundredths(share))),
            ["0%", "<1%", "1%", "2%", "250%"]
        );
    }
}
