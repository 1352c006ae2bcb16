//! Tells what was denied over the control socket: the first time at once, and then, for as long as the same user goes
//! on, a summary every ten seconds. Whoever knocks all day fills no journal and crowds out no alert.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;
use crate::control::access::Refusal;
use crate::daemon::journal::Journal;
use crate::model::notice::Notice;
use crate::model::time::Timestamp;

/// Refusals on their way here.
pub const QUEUE: usize = 64;
/// For so long after it told of a user the next refusals of that user are summed up.
const INTERVAL: Duration = Duration::from_secs(10);
/// Users that are remembered at a time. There are no more connections than that, so more take many users in turn.
const USERS_MAX: usize = 256;

/// Tells refusals.
pub struct Violations {
    refusals: mpsc::Receiver<Refusal>,
    journal: Journal,
    held: Held,
}

impl Violations {
    /// Of the refusals that arrive here.
    pub fn new(refusals: mpsc::Receiver<Refusal>, journal: Journal) -> Self {
        Self { refusals, journal, held: Held::default() }
    }

    /// Tells what is to be told next. Dropped half-way and asked again it loses nothing.
    pub async fn turn(&mut self) {
        let due = self.held.next_due().map(|at| at.since(clock::now()));
        let notices = tokio::select! {
            Some(refusal) = self.refusals.recv() => {
                tracing::warn!(peer = %refusal.peer, why = refusal.why, "denied over the control socket");
                self.held.note(refusal, clock::now())
            }
            () = sleep(due) => self.held.due(clock::now()),
        };
        self.tell(notices);
    }

    /// Tells all that is held back, at a stop.
    pub fn finish(&mut self) {
        while let Ok(refusal) = self.refusals.try_recv() {
            let notices = self.held.note(refusal, clock::now());
            self.tell(notices);
        }
        let rest = std::mem::take(&mut self.held).into_rest();
        self.tell(rest);
    }

    fn tell(&self, notices: Vec<Notice>) {
        for notice in notices {
            self.journal.tell(clock::now(), notice);
        }
    }
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// What is held back, by uid.
#[derive(Debug, Default)]
struct Held(BTreeMap<u32, Knocks>);

#[derive(Debug)]
struct Knocks {
    /// When the summary is due, or the user is forgotten.
    due: Timestamp,
    times: u64,
    last: Option<Refusal>,
}

impl Knocks {
    fn summary(self) -> Option<Notice> {
        self.last.map(|last| violation(last, self.times))
    }
}

impl Held {
    /// Somebody was refused: what is to be told now.
    fn note(&mut self, refusal: Refusal, now: Timestamp) -> Vec<Notice> {
        let mut told = self.due(now);
        if let Some(knocks) = self.0.get_mut(&refusal.peer.uid) {
            knocks.times += 1;
            knocks.last = Some(refusal);
            return told;
        }
        if self.0.len() >= USERS_MAX
            && let Some(earliest) = self.0.iter().min_by_key(|(_, knocks)| knocks.due).map(|(uid, _)| *uid)
        {
            told.extend(self.0.remove(&earliest).and_then(Knocks::summary));
        }
        self.0.insert(refusal.peer.uid, Knocks { due: now.after(INTERVAL), times: 0, last: None });
        told.push(violation(refusal, 1));
        told
    }

    /// Summaries that are due. A user without one is forgotten.
    fn due(&mut self, now: Timestamp) -> Vec<Notice> {
        let mut told = Vec::new();
        self.0.retain(|_, knocks| {
            if knocks.due > now {
                return true;
            }
            let Some(last) = knocks.last.take() else { return false };
            told.push(violation(last, std::mem::take(&mut knocks.times)));
            knocks.due = now.after(INTERVAL);
            true
        });
        told
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.0.values().map(|knocks| knocks.due).min()
    }

    fn into_rest(self) -> Vec<Notice> {
        self.0.into_values().filter_map(Knocks::summary).collect()
    }
}

fn violation(refusal: Refusal, times: u64) -> Notice {
    let Refusal { peer, request, why } = refusal;
    Notice::SecurityViolation {
        uid: peer.uid,
        gid: peer.gid,
        pid: peer.pid,
        request: request.to_owned(),
        why,
        times,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::peer::Peer;

    fn refusal(uid: u32) -> Refusal {
        Refusal { peer: Peer { uid, gid: 1, pid: None }, request: "throttle", why: "no".to_owned() }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn times(notices: &[Notice]) -> Vec<(u32, u64)> {
        let times = notices.iter().map(|notice| {
            let Notice::SecurityViolation { uid, times, .. } = notice else { panic!("{notice}") };
            (*uid, *times)
        });
        times.collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_their_number() {
        let mut held = Held::default();
        assert_eq!(times(&held.note(refusal(7), at(1))), [(7, 1)]);
        for _ in 0..1_000 {
            assert_eq!(held.note(refusal(7), at(2)), []);
        }
        assert_eq!(times(&held.note(refusal(8), at(3))), [(8, 1)], "nobody waits for another");
        assert_eq!(held.next_due(), Some(at(11)));
        assert_eq!(times(&held.due(at(11))), [(7, 1_000)]);
        assert_eq!(held.due(at(20)), [], "8 was quiet and is forgotten");
        held.note(refusal(7), at(20));
        assert_eq!(times(&held.due(at(21))), [(7, 1)]);
        assert_eq!(held.due(at(31)), []);
        assert_eq!(held.next_due(), None, "nobody is waited for for ever");
    }

    #[test]
    fn users_without_number_are_not_remembered_without_bound_and_none_is_lost() {
        let mut held = Held::default();
        held.note(refusal(0), at(1));
        held.note(refusal(0), at(1));
        let mut told = Vec::new();
        for uid in 1..=u32::try_from(USERS_MAX).unwrap() * 2 {
            told.extend(held.note(refusal(uid), at(2)));
        }
        assert_eq!(held.0.len(), USERS_MAX);
        assert_eq!(told.len(), USERS_MAX * 2 + 1, "the one held back of uid 0 as well");
        assert_eq!(held.into_rest(), []);
    }
}
