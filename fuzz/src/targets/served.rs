//! What clients send: to the control socket, and to the listener for metrics.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use process_throttler::control::failure::{Failure, FailureKind};
use process_throttler::control::server::{Call, Doors, Server};
use process_throttler::model::access::Access;
use process_throttler::telemetry::listener::Listener;
use process_throttler::telemetry::sheet::Sheet;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::{Run, scratch};

/// A request is answered, or refused, within this; both servers wait longer for one that does not end, and clients here
/// end theirs at once.
const PATIENCE: Duration = Duration::from_secs(2);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends everything, says that there is no more, and reads what comes back.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let talk = async {
        // The server may have hung up before it has read everything.
        drop(stream.write_all(bytes).await);
        drop(stream.shutdown().await);
        drop(stream.read_to_end(&mut answer).await);
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("a client that has hung up is done with at once");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
    answer
}

/// Requests to the control socket, from somebody who may ask anything; the daemon has nothing to answer.
pub(super) fn control() -> Run {
    let (dir, runtime) = (scratch(), runtime());
    let path = dir.path().join("control.sock");
    let (calls, mut asked) = mpsc::channel::<Call>(64);
    let (refusals, _refused) = mpsc::channel(1);
    let (access, allowed) = watch::channel(Arc::new(Access::default()));
    let (stop, stopped) = watch::channel(false);
    runtime.block_on(async {
        let server = Server::bind(&path, nix::unistd::getegid()).unwrap();
        tokio::spawn(server.serve(Doors { calls, refusals, access: allowed }, stopped));
        tokio::spawn(async move {
            while let Some(call) = asked.recv().await {
                assert!(!call.request.words().is_empty());
                let nothing = Failure::new(FailureKind::Failed, "nothing is here");
                drop(call.reply.send(Err(nothing)));
            }
        });
    });
    Box::new(move |bytes| {
        let _kept = (&dir, &access, &stop);
        runtime.block_on(async {
            let stream = StdUnixStream::connect(&path).unwrap();
            stream.set_nonblocking(true).unwrap();
            exchange(UnixStream::from_std(stream).unwrap(), bytes).await;
        });
    })
}

/// Requests for metrics.
pub(super) fn metrics() -> Run {
    let runtime = runtime();
    let (questions, mut asked) = mpsc::channel(4);
    let address: SocketAddr = runtime.block_on(async {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.address();
        tokio::spawn(listener.serve(questions));
        tokio::spawn(async move {
            while let Some(process_throttler::telemetry::Question { answer, .. }) = asked.recv().await {
                drop(answer.send(Ok(Arc::new(Sheet::default().finish()))));
            }
        });
        address
    });
    Box::new(move |bytes| {
        runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            // Reset when it is dropped: thousands of connections a second must not wait in TIME_WAIT.
            stream.set_zero_linger().unwrap();
            exchange(stream, bytes).await;
        });
    })
}
