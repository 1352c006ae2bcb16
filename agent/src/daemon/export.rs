//! Events and traces for a receiver of OTLP: which tasks send them, and how that goes. Decides nothing about what is told;
//! that is `telemetry`'s affair.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::clock;
use crate::control::proto::FeatureState;
use crate::model::plural::counted;
use crate::model::telemetry::{Otlp, Signal};
use crate::telemetry::catalogue::{OTLP_LOST, OTLP_QUEUE, OTLP_SENT};
use crate::telemetry::lane::{Fate, Lane};
use crate::telemetry::otlp::Origin;
use crate::telemetry::outlet::Outlet;
use crate::telemetry::sheet::Sheet;

/// See the module.
pub struct Export {
    outlet: Arc<Outlet>,
    origin: Origin,
    sending: Mutex<Sending>,
}

#[derive(Default)]
struct Sending {
    otlp: Option<Otlp>,
    tasks: Vec<JoinHandle<()>>,
}

impl Export {
    /// Of what is put into `outlet`, which nobody receives yet.
    #[must_use]
    pub fn new(outlet: Arc<Outlet>, origin: Origin) -> Self {
        Self { outlet, origin, sending: Mutex::default() }
    }

    /// Sends to this receiver from now on, or to nobody. What waits goes to the next one, if there is one. Must be called
    /// within a runtime.
    pub fn apply(&self, otlp: Option<&Otlp>) {
        let mut sending = self.lock();
        if sending.otlp.as_ref() == otlp {
            return;
        }
        sending.tasks.drain(..).for_each(|task| task.abort());
        self.outlet.open(otlp);
        sending.otlp = otlp.cloned();
        let Some(otlp) = otlp else { return };
        for signal in [Signal::Logs, Signal::Traces] {
            let Some(url) = otlp.urls.of(signal).map(str::to_owned) else { continue };
            let (outlet, access, origin) =
                (Arc::clone(&self.outlet), otlp.access.clone(), self.origin.clone());
            sending.tasks.push(tokio::spawn(async move {
                let lane = if signal == Signal::Logs { &outlet.logs } else { &outlet.traces };
                lane.run(url, access, origin).await;
            }));
        }
    }

    /// Sends what waits, for so long, and ends. What is left is lost.
    pub async fn stop(&self, grace: Duration) {
        let tasks = std::mem::take(&mut self.lock().tasks);
        self.lanes().iter().for_each(|lane| lane.end());
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let all = async {
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a task that sends by OTLP broke off");
                }
            }
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
        let left: u64 = self.lanes().iter().map(|lane| lane.waiting()).sum();
        if left > 0 {
            tracing::warn!(records = left, "stopping with log records and spans that could not be sent");
        }
    }

    /// Whether and where events and traces go, and why not.
    pub(super) fn state(&self) -> (FeatureState, String) {
        let sending = self.lock();
        let urls = sending.otlp.as_ref().map(|otlp| &otlp.urls);
        let told = self.lanes().into_iter().filter_map(|lane| Some((lane, urls?.of(lane.signal())?)));
        let told: Vec<_> = told.map(|(lane, url)| told_of(lane.signal(), url, &lane.fate())).collect();
        if told.is_empty() {
            return (FeatureState::Disabled, "metrics.otlp names no receiver of logs or traces".to_owned());
        }
        let fine = told.iter().all(|(fine, _)| *fine);
        let words: Vec<String> = told.into_iter().map(|(_, words)| words).collect();
        (if fine { FeatureState::Working } else { FeatureState::Degraded }, words.join("; "))
    }

    /// What became of records.
    pub(super) fn put(&self, sheet: &mut Sheet) {
        for lane in self.lanes() {
            let (signal, fate) = (lane.signal().as_str(), lane.fate());
            sheet.add(&OTLP_SENT, &[signal], fate.sent);
            for (stage, lost) in fate.lost() {
                sheet.add(&OTLP_LOST, &[signal, stage], lost);
            }
            sheet.add(&OTLP_QUEUE, &[signal], lane.waiting());
        }
    }

    fn lanes(&self) -> [&Lane; 2] {
        [&self.outlet.logs, &self.outlet.traces]
    }

    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether all is well with a signal, and how it goes.
fn told_of(signal: Signal, url: &str, fate: &Fate) -> (bool, String) {
    let signal = signal.as_str();
    let lost: u64 = fate.lost().iter().map(|(_, lost)| lost).sum();
    let lost =
        if lost > 0 { format!(", {} lost", counted(lost, "record", "records")) } else { String::new() };
    match (&fate.trouble, fate.last_ok) {
        (Some(why), _) => {
            let times = fate.failed_in_a_row;
            let what = if times > 0 { "fail" } else { "succeed in part" };
            let times = if times > 1 { format!(", {times} times in a row") } else { String::new() };
            (false, format!("{signal} to {url} {what}{times}: {why}{lost}"))
        }
        (None, Some(at)) => {
            let (sent, ago) = (counted(fate.sent, "record", "records"), clock::now().since(at).as_secs());
            (true, format!("{signal} to {url}, {sent} so far, the last {ago} s ago{lost}"))
        }
        (None, None) => (true, format!("{signal} to {url}, none so far{lost}")),
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::webhook::fake::{Fake, status};
    use crate::telemetry::testing::receiver;

    fn export() -> Export {
        let origin = Origin { host: "h".to_owned(), instance: "i".to_owned(), since_ns: 1 };
        Export::new(Arc::default(), origin)
    }

    #[tokio::test]
    async fn what_runs_is_what_is_told_and_counted() {
        let fake = Fake::start(|number| status(if number == 0 { 200 } else { 400 })).await;
        let export = export();
        assert_eq!(export.state().0, FeatureState::Disabled);
        let otlp = receiver(&format!("http://{}", fake.address), 0);
        export.apply(Some(&otlp));
        let (state, why) = export.state();
        assert!(state == FeatureState::Working && why.matches("none so far").count() == 2, "{why}");
        export.outlet.logs.add(|| vec![0; 10]);
        export.stop(Duration::from_secs(5)).await;
        let (state, why) = export.state();
        assert!(state == FeatureState::Working && why.contains("/v1/logs, 1 record so far"), "{why}");
        assert!(fake.seen()[0].head.starts_with("POST /v1/logs HTTP/1.1"), "{}", fake.seen()[0].head);

        export.apply(None);
        assert_eq!(export.state().0, FeatureState::Disabled);
        export.apply(Some(&otlp));
        export.outlet.traces.add(|| vec![0; 10]);
        export.stop(Duration::from_secs(5)).await;
        let (state, why) = export.state();
        let expected = "fail: the receiver answered 400 Bad Request, 1 record lost";
        assert!(
            state == FeatureState::Degraded && why.contains("traces to") && why.contains(expected),
            "{why}"
        );
        let mut sheet = Sheet::default();
        export.put(&mut sheet);
        let text = crate::telemetry::prometheus::text(&sheet.finish());
        for line in [
            "process_throttler_otlp_sent_total{signal=\"logs\"} 1",
            "process_throttler_otlp_lost_total{signal=\"traces\",stage=\"refused\"} 1",
            "process_throttler_otlp_queue_size{signal=\"traces\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }

    #[tokio::test]
    async fn a_change_of_the_receiver_takes_along_what_waits() {
        let (old, new) = (Fake::start(|_| status(503)).await, Fake::start(|_| status(200)).await);
        let export = export();
        export.apply(Some(&receiver(&format!("http://{}", old.address), 0)));
        export.outlet.logs.add(|| vec![0; 10]);
        export.apply(Some(&receiver(&format!("http://{}", new.address), 0)));
        export.stop(Duration::from_secs(5)).await;
        assert_eq!((new.seen().len(), export.outlet.logs.fate().sent), (1, 1));
    }
}
