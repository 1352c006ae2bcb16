//! Metrics of a running daemon: who may fetch them, where they are pushed to, and how that goes. Collects nothing unless
//! somebody asks; [`collect`] says what. While nobody does, and no receiver is configured, nothing here wakes up.

mod cgroups;
mod collect;
mod own;
mod waits;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock;
use crate::control::proto::FeatureState;
use crate::daemon::metrics::collect::Reading;
use crate::model::chain::chain;
use crate::model::plural::counted;
use crate::model::telemetry::{MetricsSettings, Otlp};
use crate::model::time::Timestamp;
use crate::procfs::{Proc, ProcError};
use crate::source::SourceError;
use crate::source::run_time::RunTime;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::listener::Listener;
use crate::telemetry::otlp::Origin;
use crate::telemetry::push::{self, Pushes};
use crate::telemetry::{Family, Question, Reader};

/// Questions that wait; more wait with their connections.
pub const QUESTIONS: usize = 16;

/// Where metrics go, and what is kept between two collections.
pub struct Exporter {
    questions: mpsc::Sender<Question>,
    origin: Origin,
    started: Timestamp,
    outlets: Mutex<Outlets>,
    pushes: push::Shared,
    reads: [AtomicU64; 3],
    times: Mutex<Histogram>,
    /// Has the kernel count what BPF programs take, or why it does not; nothing where nobody asks for it.
    run_time: Option<Result<RunTime, String>>,
    /// Held while figures are collected; the last ones, and when they were.
    last: tokio::sync::Mutex<Option<(Timestamp, Arc<Vec<Family>>)>>,
    reading: Arc<Mutex<Reading>>,
}

/// The tasks.
#[derive(Default)]
struct Outlets {
    settings: Option<MetricsSettings>,
    listener: Option<(JoinHandle<()>, SocketAddr)>,
    /// Why there is no listener, although there should be one.
    trouble: Option<String>,
    pusher: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exporter {
    /// One that has no outlet yet; `questions` are answered by [`crate::daemon::requests::Office::answer_question`].
    ///
    /// # Errors
    /// When `/proc` cannot be opened.
    pub fn new(
        questions: mpsc::Sender<Question>,
        origin: Origin,
        started: Timestamp,
        proc: &Path,
    ) -> Result<Self, ProcError> {
        Ok(Self {
            questions,
            origin,
            started,
            outlets: Mutex::default(),
            pushes: push::Shared::default(),
            reads: Default::default(),
            times: Mutex::default(),
            run_time: None,
            last: tokio::sync::Mutex::default(),
            reading: Arc::new(Mutex::new(Reading::new(Proc::of_host(proc)?))),
        })
    }

    /// Who tells.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Has the kernel count the run time of BPF programs from now on if the settings say so. Needs a capability that only
    /// a start has; without it that is told, and the others are figures as ever.
    #[must_use]
    pub fn with_run_time(self, asked: Option<Result<RunTime, SourceError>>) -> Self {
        let told = |error: SourceError| {
            let why = chain(&error);
            tracing::warn!("the run time of BPF programs is not counted: {why}");
            why
        };
        let run_time = asked.map(|asked| asked.map_err(told));
        lock(&self.reading).counts_run_time = matches!(run_time, Some(Ok(_)));
        Self { run_time, ..self }
    }

    /// Listens and pushes as the settings say from now on. An address that cannot be had is told, and does not keep the
    /// daemon from its work. Must be called within a runtime.
    pub async fn apply(&self, settings: &MetricsSettings) {
        let (listen, before) = {
            let mut outlets = lock(&self.outlets);
            let known = outlets.settings.replace(settings.clone());
            let listen = known.as_ref().is_none_or(|known| known.listen != settings.listen);
            if known.is_none_or(|known| known.otlp != settings.otlp) {
                self.push(&mut outlets, settings.otlp.as_ref());
            }
            let listen = listen || outlets.trouble.is_some();
            (listen, if listen { outlets.listener.take() } else { None })
        };
        if let Some((task, _)) = before {
            task.abort();
            // The next one may want the same port. That it was aborted is all that this tells.
            drop(task.await);
        }
        if listen {
            self.listen(&mut lock(&self.outlets), settings.listen);
        }
    }

    fn listen(&self, outlets: &mut Outlets, address: Option<SocketAddr>) {
        outlets.trouble = None;
        let Some(address) = address else { return };
        match Listener::bind(address) {
            Ok(listener) => {
                let bound = listener.address();
                tracing::info!("metrics at http://{bound}/metrics");
                outlets.listener = Some((tokio::spawn(listener.serve(self.questions.clone())), bound));
            }
            Err(error) => {
                tracing::warn!(%error, "metrics cannot be fetched at {address}");
                outlets.trouble = Some(format!("cannot listen on {address}: {error}"));
            }
        }
    }

    fn push(&self, outlets: &mut Outlets, otlp: Option<&Otlp>) {
        if let Some(task) = outlets.pusher.take() {
            task.abort();
        }
        {
            let mut pushes = push::lock(&self.pushes);
            // What another receiver did counts; how it fared says nothing of this one.
            *pushes = Pushes { in_a_row: 0, last_ok: None, trouble: None, ..pushes.clone() };
        }
        if let Some((otlp, url)) = otlp.and_then(|otlp| Some((otlp.clone(), otlp.urls.metrics.clone()?))) {
            let (origin, questions) = (self.origin.clone(), self.questions.clone());
            let pushes = Arc::clone(&self.pushes);
            outlets.pusher = Some(tokio::spawn(push::run(url, otlp, origin, questions, pushes)));
        }
    }

    /// Whether and where metrics can be had, and why not.
    pub(super) fn state(&self) -> (FeatureState, String) {
        let outlets = lock(&self.outlets);
        let pushes = push::lock(&self.pushes).clone();
        let otlp = outlets.settings.as_ref().and_then(|settings| settings.otlp.as_ref());
        let (state, words) =
            told(&outlets, otlp.and_then(|otlp| Some((otlp.urls.metrics.as_deref()?, &pushes))));
        match &self.run_time {
            Some(Err(why)) => (
                FeatureState::Degraded,
                format!("{words}; the run time of BPF programs is not counted: {why}"),
            ),
            Some(Ok(_)) | None => (state, words),
        }
    }

    fn count(&self, reader: Reader) {
        let [prometheus, otlp, socket] = &self.reads;
        let count = match reader {
            Reader::Prometheus => prometheus,
            Reader::Otlp => otlp,
            Reader::Socket => socket,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn told(outlets: &Outlets, push: Option<(&str, &Pushes)>) -> (FeatureState, String) {
    let mut words = Vec::new();
    let mut degraded = false;
    if let Some((_, address)) = &outlets.listener {
        words.push(format!("http://{address}/metrics"));
    }
    if let Some(trouble) = &outlets.trouble {
        words.push(trouble.clone());
        degraded = true;
    }
    match push {
        None => {}
        Some((url, Pushes { trouble: Some(why), in_a_row, .. })) => {
            let times = if *in_a_row > 1 { format!(", {in_a_row} times in a row") } else { String::new() };
            let what = if *in_a_row > 0 { "fails" } else { "succeeds in part" };
            words.push(format!("the push to {url} {what}{times}: {why}"));
            degraded = true;
        }
        Some((url, Pushes { last_ok: Some(at), ok, .. })) => {
            let ago = clock::now().since(*at).as_secs();
            words.push(format!(
                "pushed to {url}, {} so far, the last {ago} s ago",
                counted(*ok, "time", "times")
            ));
        }
        Some((url, _)) => words.push(format!("to be pushed to {url} for the first time")),
    }
    if words.is_empty() {
        (FeatureState::Disabled, "neither fetched nor pushed; the control socket has them".to_owned())
    } else {
        (if degraded { FeatureState::Degraded } else { FeatureState::Working }, words.join("; "))
    }
}

impl Drop for Outlets {
    fn drop(&mut self) {
        for task in self.listener.take().map(|(task, _)| task).into_iter().chain(self.pusher.take()) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_what_is_told() {
        let mut outlets = Outlets::default();
        assert_eq!(told(&outlets, None).0, FeatureState::Disabled);
        outlets.trouble = Some("cannot listen on 127.0.0.1:9464: address in use".to_owned());
        let (state, why) = told(&outlets, None);
        assert!(state == FeatureState::Degraded && why.contains("address in use"), "{why}");
        outlets.trouble = None;
        let mut pushes = Pushes::default();
        let (state, why) = told(&outlets, Some(("http://h/", &pushes)));
        assert!(state == FeatureState::Working && why.contains("for the first time"), "{why}");
        pushes = Pushes { ok: 1, last_ok: Some(clock::now()), ..pushes };
        let (state, why) = told(&outlets, Some(("http://h/", &pushes)));
        assert!(state == FeatureState::Working && why.contains("1 time so far, the last 0 s ago"), "{why}");
        pushes = Pushes { failed: 3, in_a_row: 3, trouble: Some("post: refused".to_owned()), ..pushes };
        let (state, why) = told(&outlets, Some(("http://h/", &pushes)));
        assert!(state == FeatureState::Degraded, "{why}");
        assert_eq!(why, "the push to http://h/ fails, 3 times in a row: post: refused");
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told_and_had_once_it_is_free() {
        let (questions, _inbox) = mpsc::channel(1);
        let origin = Origin { host: "h".to_owned(), instance: "i".to_owned(), since_ns: 1 };
        let exporter = Exporter::new(questions, origin, clock::now(), Path::new("/proc")).unwrap();
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let settings = MetricsSettings { listen: Some(address), ..MetricsSettings::default() };
        exporter.apply(&settings).await;
        assert_eq!(exporter.state().0, FeatureState::Degraded);
        drop(taken);
        exporter.apply(&settings).await;
        assert_eq!(exporter.state(), (FeatureState::Working, format!("http://{address}/metrics")));
        // What it leaves is free at once.
        exporter.apply(&MetricsSettings { listen: None, ..settings }).await;
        assert_eq!(exporter.state().0, FeatureState::Disabled);
        std::net::TcpListener::bind(address).unwrap();
    }
}
