//! A ledger whose time a test moves, and whose state it loses and takes up again as an agent that dies.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::{BundleKey, Changes, Ledger, Moment, Owed, Saved};
use crate::model::alert::{Acknowledgement, Bundle, Standing};
use crate::model::endpoint::{Endpoint, Format, Noise};
use crate::model::notice::{Notice, Severity};
use crate::model::time::Timestamp;

/// An endpoint that receives all that is at least this severe.
pub(crate) fn endpoint(name: &str, min_severity: Severity) -> Endpoint {
    Endpoint {
        name: name.parse().unwrap(),
        url: "http://127.0.0.1:9/".to_owned(),
        enabled: true,
        events: Vec::new(),
        min_severity,
        format: Format::Standard,
        secrets: Vec::new(),
        hub_signature: false,
        routing_key: None,
        timeout: Duration::from_secs(15),
        rate: None,
        allow_http: false,
        allow_networks: Vec::new(),
        proxy: None,
        ca_file: None,
        noise: Noise::DEFAULT,
    }
}

/// What is on the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) alerts: BTreeMap<String, Standing>,
    pub(crate) bundles: BTreeMap<BundleKey, Bundle>,
    pub(crate) owed: Vec<Owed>,
}

impl Disk {
    fn write(&mut self, changes: Changes) {
        let Changes { owed, alerts, bundles } = changes;
        for (key, standing) in alerts {
            match standing {
                Some(standing) => drop(self.alerts.insert(key, standing)),
                None => drop(self.alerts.remove(&key)),
            }
        }
        for (key, bundle) in bundles {
            match bundle {
                Some(bundle) => drop(self.bundles.insert(key, bundle)),
                None => drop(self.bundles.remove(&key)),
            }
        }
        for one in owed {
            let known = self.owed.iter().any(|old| old.id == one.id && old.endpoint == one.endpoint);
            assert!(!known, "owed twice: {one:?}");
            self.owed.push(one);
        }
    }
}

pub(crate) struct Rig {
    pub(crate) ledger: Ledger,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) disk: Disk,
    pub(crate) now: u64,
    /// Of the wall clock, in ms.
    pub(crate) wall: i64,
    events: u64,
    seen: usize,
}

impl Rig {
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Self {
        let at = Moment { now: Timestamp::ZERO, unix_ms: 0 };
        let ledger = Ledger::new("h".to_owned(), endpoints.clone(), Saved::default(), at);
        // Long after boot and the epoch, so that clocks can be set back.
        let (now, wall) = (1_000_000_000, 1_700_000_000_000);
        Self { ledger, endpoints, disk: Disk::default(), now, wall, events: 0, seen: 0 }
    }

    pub(crate) fn at(&self) -> Moment {
        Moment { now: Timestamp::from_nanos(self.now * 1_000_000), unix_ms: self.wall }
    }

    /// An event that is not written down yet. Returns its id.
    pub(crate) fn hear(&mut self, notice: &Notice) -> String {
        self.events += 1;
        let id = format!("e{}", self.events);
        self.ledger.note(&id, notice, self.wall, self.at());
        id
    }

    /// Commits.
    pub(crate) fn commit(&mut self) {
        let changes = self.ledger.take();
        self.disk.write(changes);
    }

    /// An event, written down.
    pub(crate) fn tell(&mut self, notice: &Notice) {
        self.hear(notice);
        self.commit();
    }

    pub(crate) fn acknowledge(&mut self, name: &str, seconds: Option<u64>) -> usize {
        let by = Acknowledgement { uid: 7, at: self.wall, until: None, comment: None };
        let until = seconds.map(|seconds| self.wall + i64::try_from(seconds).unwrap() * 1_000);
        let by = Acknowledgement { until, ..by };
        let time = seconds.map(Duration::from_secs);
        let count = self.ledger.acknowledge(&name.parse().unwrap(), &by, time, self.at()).len();
        self.commit();
        count
    }

    /// Watches critical processes; each with what it needs.
    pub(crate) fn watch(&mut self, needs: &[(&str, &[&str])]) {
        let name = |text: &str| text.parse().unwrap();
        let needs =
            needs.iter().map(|(one, needs)| (name(one), needs.iter().map(|text| name(text)).collect()));
        self.ledger.watch(needs.collect(), self.at());
        self.commit();
    }

    /// Lets time pass, as the journal thread does: it sleeps until something is due.
    pub(crate) fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds * 1_000;
        while let Some(due) = self.ledger.due().map(|due| due.as_nanos().div_ceil(1_000_000))
            && due <= end
        {
            self.wall += i64::try_from(due.saturating_sub(self.now)).unwrap();
            self.now = self.now.max(due);
            self.ledger.wake(self.at());
            self.commit();
            let next = self.ledger.due().map(Timestamp::as_nanos);
            assert!(next.is_none_or(|next| next > self.at().now.as_nanos()), "it would never sleep");
        }
        self.wall += i64::try_from(end - self.now).unwrap();
        self.now = end;
    }

    /// The agent dies at once; what was not committed is gone. Another one starts after `seconds`.
    pub(crate) fn die(&mut self, seconds: u64) {
        self.now += seconds * 1_000;
        self.wall += i64::try_from(seconds).unwrap() * 1_000;
        let alerts = self.disk.alerts.values().cloned().collect();
        let bundles = self.disk.bundles.iter().map(|(key, bundle)| (key.clone(), bundle.clone())).collect();
        let saved = Saved { alerts, bundles };
        self.ledger = Ledger::new("h".to_owned(), self.endpoints.clone(), saved, self.at());
    }

    /// What has become owed since the last call, as text.
    pub(crate) fn owed(&mut self) -> Vec<String> {
        let new = self.disk.owed.iter().skip(self.seen).map(|one| {
            let Owed { id, endpoint, notice, alert, alike, .. } = one;
            let what = match alert {
                Some(alert) => format!("{} {} of {}", alert.key, alert.state.as_str(), alert.events),
                None => format!("{} x{alike}", notice.kind()),
            };
            format!("{endpoint} {id}: {what}")
        });
        let new = new.collect();
        self.seen = self.disk.owed.len();
        new
    }
}
