//! The journal against a real store: what is owed is written down once, wherever the agent dies and whatever the
//! disk refuses.

use std::path::{Path, PathBuf};

use super::*;
use crate::alert::rig::endpoint;
use crate::model::alert::AlertState;
use crate::model::notice::Severity;
use crate::model::notice::testing::{applied, down, stopped};
use crate::store::Durability;
use crate::store::events::EventFilter;
use crate::store::outbox::{Delivery, DeliveryFilter, DeliveryState};
use crate::store::owed::{MOST_PENDING, NewDelivery, RESERVED};

struct Rig {
    _dir: tempfile::TempDir,
    path: PathBuf,
    endpoints: Vec<Endpoint>,
    shared: Arc<Shared>,
}

fn open(path: &Path) -> Store {
    Store::open(path, Durability::Power).unwrap().store
}

fn test(detail: &str) -> Notice {
    Notice::Test { detail: detail.to_owned() }
}

/// Worth a delivery of its own, and not critical.
fn refused() -> Notice {
    Notice::ConfigurationChanged { detail: "x".to_owned(), accepted: false }
}

impl Rig {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        Self { path, _dir: dir, endpoints, shared: Arc::default() }
    }

    fn parts(&self) -> Parts {
        Parts {
            store: open(&self.path),
            followers: Publisher::new(8),
            due: Arc::new(Notify::new()),
            endpoints: self.endpoints.clone(),
            host: "host-1".to_owned(),
            audit: None,
            outlet: Arc::default(),
        }
    }

    /// The thread's work without the thread, so that a test can stop it anywhere.
    fn writer(&self) -> Writer {
        writer(self.parts(), Arc::clone(&self.shared))
    }

    fn owed(&self) -> Vec<Delivery> {
        // Lists are without bodies.
        let whole = open(&self.path).read(|tables| {
            let listed = tables.deliveries(&DeliveryFilter::default(), u32::MAX)?;
            listed.iter().rev().map(|row| tables.delivery(row.id)).collect::<Result<Vec<_>, _>>()
        });
        whole.unwrap().into_iter().flatten().collect()
    }

    /// What is owed, as `endpoint type state events`.
    fn told(&self) -> Vec<String> {
        let line = |row: Delivery| {
            let body: serde_json::Value = serde_json::from_slice(&row.body).unwrap();
            let (kind, alert) = (&body["type"], &body["data"]["alert"]);
            format!("{} {kind} {} {}", row.endpoint, alert["state"], alert["events"])
        };
        self.owed().into_iter().map(line).collect()
    }
}

fn tell(writer: &mut Writer, notice: Notice) {
    writer.keep(Message::Notice(Box::new(Entry::new(clock::now(), notice))));
}

#[test]
fn what_is_told_is_kept_and_what_is_wanted_is_owed() {
    let rig = Rig::new(vec![endpoint("a", Severity::Warning)]);
    let (journal, thread) = start(rig.parts()).unwrap();
    journal.tell(clock::now(), Notice::ProfileActivated { profile: None });
    journal.tell(clock::now(), test("x"));
    journal.route(vec![endpoint("b", Severity::Info)]).unwrap();
    journal.tell(clock::now(), Notice::ProfileActivated { profile: None });
    let shared = Arc::clone(&journal.shared);
    drop(journal);
    thread.join().unwrap();
    let told: Vec<_> = shared.told.lock().unwrap().clone().into_iter().collect();
    assert_eq!(told, [("profile_activated", 2), ("test", 1)]);
    assert_eq!(shared.queued.load(Ordering::Relaxed), 0);

    let store = open(&rig.path);
    let events = store.read(|tables| tables.events(&EventFilter::default(), 10)).unwrap();
    let kinds: Vec<&str> = events.iter().map(|row| row.notice.kind()).collect();
    assert_eq!(kinds, ["profile_activated", "test", "profile_activated"]);
    let owed: Vec<(String, String)> = rig.owed().into_iter().map(|row| (row.endpoint, row.event)).collect();
    let own = |endpoint: &str, index: usize| (endpoint.to_owned(), events[index].id.clone());
    assert_eq!(owed, [own("a", 1), own("b", 2)], "under the event's own id");
}

/// How the agent dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    /// Before anything is decided.
    Unheard,
    /// Decided, and not written.
    Unwritten,
    /// Written.
    Written,
}

fn story() -> Vec<Notice> {
    vec![
        down("nginx", 1),
        down("nginx", 1),
        applied("hogs"),
        stopped(),
        refused(),
        down("nginx", 0),
        stopped(),
        Notice::EmergencyResumed { uid: 0 },
        stopped(),
    ]
}

#[test]
fn a_death_anywhere_tells_nothing_twice_and_loses_nothing() {
    let run = |death: Option<(usize, Death)>| {
        let rig = Rig::new(vec![endpoint("ops", Severity::Warning), endpoint("all", Severity::Info)]);
        let mut writer = rig.writer();
        for (index, notice) in story().into_iter().enumerate() {
            match death.filter(|(when, _)| *when == index).map(|(_, how)| how) {
                None => {}
                Some(Death::Unheard) => {
                    tell(&mut writer, notice.clone());
                    writer = rig.writer();
                }
                Some(Death::Unwritten) => {
                    tell(&mut writer, notice.clone());
                    writer.store.refuse_writes();
                    writer.write();
                    assert!(writer.failing);
                    writer = rig.writer();
                }
                Some(Death::Written) => {
                    tell(&mut writer, notice);
                    writer.write();
                    writer = rig.writer();
                    continue;
                }
            }
            // What was not written down happens again, as it does when the cause is still there.
            tell(&mut writer, notice);
            writer.write();
        }
        rig.told()
    };
    let whole = run(None);
    assert_eq!(whole.iter().filter(|line| line.starts_with("ops ")).count(), 6, "{whole:?}");
    for when in 0..story().len() {
        for how in [Death::Unheard, Death::Unwritten, Death::Written] {
            assert_eq!(run(Some((when, how))), whole, "killed at {when}, {how:?}");
        }
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_waited_for() {
    let rig = Rig::new(vec![endpoint("ops", Severity::Warning)]);
    let mut writer = rig.writer();
    tell(&mut writer, down("nginx", 0));
    writer.write();
    writer.store.fill_disk();
    for index in 0..600 {
        tell(&mut writer, if index == 300 { stopped() } else { refused() });
    }
    for _ in 0..3 {
        writer.write();
        assert!(writer.failing);
    }
    let (answer, answered) = oneshot::channel();
    let by = Acknowledgement { uid: 0, at: 0, until: None, comment: None };
    let name = "nginx".parse().unwrap();
    writer.keep(Message::Acknowledge(Acknowledge { name, by, time: None, answer }));
    assert_eq!(answered.await.unwrap().unwrap_err().kind, FailureKind::Failed, "nobody waits for it");
    assert_eq!(rig.owed().len(), 1);

    writer.store.empty_disk();
    writer.write();

    assert!(!writer.failing);
    assert_eq!((rig.owed().len(), rig.shared.lost.load(Ordering::Relaxed)), (601, 0));
    let events = open(&rig.path).read(|tables| tables.events(&EventFilter::default(), 1_000)).unwrap();
    assert_eq!(events.len(), 601);
}

#[test]
fn memory_is_bounded_while_the_disk_refuses() {
    let rig = Rig::new(Vec::new());
    let mut writer = rig.writer();
    writer.store.fill_disk();
    for _ in 0..writer::BACKLOG + 500 {
        tell(&mut writer, refused());
    }
    assert_eq!(writer.backlog.len(), writer::BACKLOG);
    assert_eq!(rig.shared.lost.load(Ordering::Relaxed), 500, "counted exactly");
}

#[test]
fn a_flood_for_a_dead_endpoint_is_bounded_and_counted() {
    const FLOOD: usize = 2_000;
    const LEFT: i64 = 500;
    let rig = Rig::new(vec![endpoint("dead", Severity::Info), endpoint("picky", Severity::Critical)]);
    let mut writer = rig.writer();
    tell(&mut writer, down("nginx", 0));
    writer.write();
    // What it was owed before, but for a little of its room.
    let room = MOST_PENDING - RESERVED;
    let before = writer.store.write(|tables| {
        (0..room - LEFT).try_for_each(|number| {
            let event = format!("old-{number}");
            tables.owe(NewDelivery {
                event: &event,
                endpoint: "dead",
                body: b"{}",
                at: 0,
                critical: false,
                trace: None,
            })
        })
    });
    before.unwrap();
    for index in 0..FLOOD {
        tell(&mut writer, refused());
        if index % 700 == 0 {
            writer.write();
        }
    }
    writer.write();
    let count = |endpoint: &str, state| {
        let endpoint = Some(endpoint.to_owned());
        let filter = DeliveryFilter { endpoint, state: Some(state), since: None };
        open(&rig.path).read(|tables| tables.count_deliveries(&filter)).unwrap()
    };
    let kept = u64::try_from(room + 1).unwrap();
    assert_eq!((count("dead", DeliveryState::Pending), count("picky", DeliveryState::Pending)), (kept, 1));
    let first = open(&rig.path).read(|tables| tables.pending("dead", 1)).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&first[0].body).unwrap();
    assert_eq!(body["type"], "critical_process_down", "it came first and stays");
    let dropped = u64::try_from(FLOOD).unwrap() - u64::try_from(LEFT).unwrap();
    assert_eq!(rig.shared.overflown.load(Ordering::Relaxed), dropped, "counted exactly");
    assert_eq!(count("dead", DeliveryState::Dead), dropped, "and kept as dead letters");
}

#[tokio::test]
async fn repetitions_come_by_themselves_until_somebody_looks_after_it() {
    let mut often = endpoint("often", Severity::Critical);
    often.noise.repeat_interval = Duration::from_millis(20);
    let rig = Rig::new(vec![often]);
    let (journal, thread) = start(rig.parts()).unwrap();
    journal.tell(clock::now(), down("nginx", 0));
    let deadline = clock::now().after(clock::patience(Duration::from_secs(20)));
    while rig.owed().len() < 4 {
        assert!(clock::now() < deadline, "{:?}", rig.told());
        tokio::task::yield_now().await;
    }
    let by = Acknowledgement { uid: 5, at: 1, until: None, comment: None };
    let name: Name = "nginx".parse().unwrap();
    let acknowledged = journal.acknowledge(name.clone(), by.clone(), None).await.unwrap();
    assert_eq!(acknowledged[0].acknowledged.as_ref(), Some(&by));
    assert_eq!(acknowledged[0].alert.state, AlertState::Acknowledged);
    let told = rig.told();
    assert!(told.last().unwrap().contains("acknowledged"), "on the disk when it is answered: {told:?}");
    let none = journal.acknowledge("other".parse().unwrap(), by, None).await.unwrap();
    assert_eq!(none, []);
    drop(journal);
    thread.join().unwrap();
    assert_eq!(rig.told(), told);
}

#[test]
fn what_is_no_longer_watched_is_told_to_be_over() {
    let rig = Rig::new(vec![endpoint("ops", Severity::Warning)]);
    let (journal, thread) = start(rig.parts()).unwrap();
    journal.tell(clock::now(), down("nginx", 0));
    journal.tell(clock::now(), stopped());
    journal.watch(None).unwrap();
    journal.over("emergency_stop", "").unwrap();
    drop(journal);
    thread.join().unwrap();
    let resolved = rig.told().iter().filter(|line| line.contains("resolved")).count();
    assert_eq!(resolved, 2, "{:?}", rig.told());
}
