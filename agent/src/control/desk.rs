//! Where a connection's requests are admitted, handed to the daemon and waited for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::access::{Refusal, denied, lacks};
use super::failure::{Failure, FailureKind};
use super::peer::Peer;
use super::proto::{Reply, Request};
use super::server::{Answer, Call, Doors, stopped};
use super::stream::Lines;
use crate::model::access::{Need, Permit, Reach, Subject};

/// Longest time the daemon may take for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection's way to the daemon.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) peer: Peer,
    /// Whose it is. What they may is asked anew for every request: a reload may have taken it away.
    pub(super) subject: Subject,
    pub(super) doors: Doors,
    pub(super) streams: Arc<Semaphore>,
    /// Turns true, or its sender goes, when the server stops.
    pub(super) stop: watch::Receiver<bool>,
}

/// What goes back over HTTP.
pub(super) enum Answered {
    Reply(Reply),
    /// A stream.
    Stream(Streaming),
}

/// A stream that ends with its server.
pub(super) struct Streaming {
    lines: Lines,
    stop: watch::Receiver<bool>,
    /// Its place among the streams, kept as long as it lives.
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    /// The next line; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            line = self.lines.next() => line,
            () = stopped(&mut self.stop) => None,
        }
    }
}

impl Desk {
    /// Keeps out whoever has no role at all, before anything of the request is read.
    pub(super) fn admit(&self) -> Result<(), Failure> {
        let access = self.doors.access.borrow().clone();
        if !access.authority(&self.subject).is_none() {
            return Ok(());
        }
        let why = format!("uid {} may not control process-throttler: it has no role", self.peer.uid);
        Err(self.refuse("any request", why, Need::View))
    }

    /// Whether this may be asked, and with which limits.
    fn judge(&self, request: &Request) -> Result<Option<Vec<Reach>>, Failure> {
        let authority = self.doors.access.borrow().authority(&self.subject);
        let need = request.need();
        match authority.permit(need) {
            Permit::Yes => Ok(None),
            Permit::Within(reaches) => Ok(Some(reaches)),
            Permit::No => {
                let why = lacks(request.words(), need, self.peer.uid, &authority);
                Err(self.refuse(request.words(), why, need))
            }
        }
    }

    fn refuse(&self, request: &'static str, why: String, need: Need) -> Failure {
        let failure = denied(&why, need, &self.doors.access.borrow());
        let refusal = Refusal { peer: self.peer, request, why };
        if let Err(error) = self.doors.refusals.try_send(refusal) {
            // Nobody gets in by knocking faster than it can be told: it is logged, at least.
            let (mpsc::error::TrySendError::Full(refusal) | mpsc::error::TrySendError::Closed(refusal)) =
                error;
            tracing::warn!(peer = %refusal.peer, why = refusal.why, "denied over the control socket, and not told");
        }
        failure
    }

    pub(super) async fn ask(self, request: Request) -> Result<Answered, Failure> {
        let within = self.judge(&request)?;
        let streams = matches!(request, Request::Follow(_) | Request::Record);
        let place = if streams { Some(self.take_stream_place()?) } else { None };
        let (reply, answer) = oneshot::channel();
        let call = Call { request, peer: self.peer, within, reply };
        self.doors.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Failure::new(FailureKind::Failed, "the daemon has too many requests before it")
                    .with_hint("try again in a moment")
            }
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        let answer = tokio::time::timeout(REPLY_TIMEOUT, answer).await.map_err(|_elapsed| {
            let message = format!("the daemon did not answer within {} s", REPLY_TIMEOUT.as_secs());
            Failure::new(FailureKind::Failed, message)
        })?;
        match (answer.map_err(|_closed| stopping())??, place) {
            (Answer::Reply(Reply::Failure(failure)), _) => Err(failure),
            (Answer::Reply(reply), _) => Ok(Answered::Reply(reply)),
            (Answer::Stream(lines), Some(place)) => {
                Ok(Answered::Stream(Streaming { lines, stop: self.stop, _place: place }))
            }
            (Answer::Stream(_), None) => {
                Err(Failure::new(FailureKind::Failed, "the daemon answered a plain request with a stream"))
            }
        }
    }

    fn take_stream_place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_full| {
            Failure::new(FailureKind::Conflict, "too many readers follow the daemon already")
                .with_hint("end another `events --follow` or `record` first")
        })
    }
}

fn stopping() -> Failure {
    Failure::new(FailureKind::Failed, "the daemon is stopping")
}
