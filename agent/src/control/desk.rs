//! Where a connection's requests are admitted, handed to the daemon and waited for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::failure::{Failure, FailureKind};
use super::peer::Peer;
use super::proto::{Reply, Request};
use super::server::{Answer, Call, stopped};
use super::stream::Lines;

/// Longest time the daemon may take for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection's way to the daemon.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) peer: Peer,
    pub(super) admitted: bool,
    pub(super) calls: mpsc::Sender<Call>,
    /// Told of peers that are refused.
    pub(super) refused: mpsc::Sender<Peer>,
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
    pub(super) fn admit(&self) -> Result<(), Failure> {
        if self.admitted {
            return Ok(());
        }
        tracing::warn!(peer = %self.peer, "request over the control socket denied");
        if self.refused.try_send(self.peer).is_err() {
            tracing::debug!(peer = %self.peer, "others that were denied are waiting to be told already");
        }
        let message = format!("uid {} may not control process-throttler", self.peer.uid);
        Err(Failure::new(FailureKind::Denied, message)
            .with_hint("become root, or have yourself added to the group of the control socket"))
    }

    pub(super) async fn ask(self, request: Request) -> Result<Answered, Failure> {
        let streams = matches!(request, Request::Follow(_) | Request::Record);
        let place = if streams { Some(self.take_stream_place()?) } else { None };
        let (reply, answer) = oneshot::channel();
        let call = Call { request, peer: self.peer, reply };
        self.calls.try_send(call).map_err(|error| match error {
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
