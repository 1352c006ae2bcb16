//! Peers that the control socket refuses: each is an event, but never so many that they drown the others.

use std::time::Duration;

use crate::control::peer::Peer;
use crate::model::notice::Notice;
use crate::model::time::Timestamp;

/// Refused peers are told at most so often; those in between are counted.
const APART: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Intruders {
    last: Option<Timestamp>,
    untold: u64,
}

impl Intruders {
    /// A peer was refused at `now`. Returns what there is to tell.
    pub(super) fn refused(&mut self, peer: Peer, now: Timestamp) -> Option<Notice> {
        if self.last.is_some_and(|last| now.since(last) < APART) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        let what = "a request over the control socket".to_owned();
        let others = std::mem::take(&mut self.untold);
        Some(Notice::SecurityViolation { uid: peer.uid, gid: peer.gid, pid: peer.pid, what, others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_as_a_number() {
        let peer = Peer { uid: 7, gid: 8, pid: Some(9) };
        let mut intruders = Intruders::default();
        let at = |ms: u64| Timestamp::from_nanos(5_000_000_000 + ms * 1_000_000);
        let others = |notice: Option<Notice>| match notice {
            Some(Notice::SecurityViolation { uid: 7, others, .. }) => Some(others),
            Some(_) | None => None,
        };
        assert_eq!(others(intruders.refused(peer, at(0))), Some(0));
        assert_eq!((1..900).filter_map(|ms| others(intruders.refused(peer, at(ms)))).count(), 0);
        assert_eq!(others(intruders.refused(peer, at(1_000))), Some(899));
        assert_eq!(others(intruders.refused(peer, at(3_000))), Some(0));
    }
}
