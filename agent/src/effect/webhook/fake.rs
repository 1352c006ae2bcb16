//! A receiver on the loopback interface that behaves as badly as a test wants.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    /// With a status, further headers each ended by CRLF, and a body.
    Answer(u16, &'static str, Vec<u8>),
    /// Not at all.
    Hang,
    /// With these bytes, after which the connection is closed.
    Cut(&'static str),
    /// With a reset of the connection (RST).
    Reset,
    /// With this head, then a byte every so often, for ever.
    Drip(&'static str, Duration),
}

/// With a status alone.
pub(crate) fn status(status: u16) -> Play {
    Play::Answer(status, "", Vec::new())
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    connections: usize,
    /// Bytes of answers that the client took.
    taken: usize,
}

/// The receiver; it ends when it is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Log>>,
    _task: JoinSet<()>,
}

impl Fake {
    /// Answers the n-th request, from 0, as `play` says.
    pub(crate) async fn start(play: impl Fn(usize) -> Play + Send + Sync + 'static) -> Self {
        Self::with(play, None).await
    }

    /// The same over TLS.
    pub(crate) async fn with(
        play: impl Fn(usize) -> Play + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let (play, kept) = (Arc::new(play), Arc::clone(&log));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                kept.lock().unwrap().connections += 1;
                let (play, log, tls) = (Arc::clone(&play), Arc::clone(&kept), tls.clone());
                connections.spawn(async move {
                    // Whatever goes wrong is what the test is about, and shows on the other side.
                    match tls {
                        None => {
                            let mut stream = stream;
                            let served = serve(&mut stream, &*play, &log).await;
                            if served.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset) {
                                // Closed like this, a connection ends with RST.
                                stream.set_zero_linger().unwrap();
                            }
                        }
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(serve(stream, &*play, &log).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, log, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().seen.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }

    pub(crate) fn taken(&self) -> usize {
        self.log.lock().unwrap().taken
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    play: &(dyn Fn(usize) -> Play + Send + Sync),
    log: &Mutex<Log>,
) -> std::io::Result<()> {
    loop {
        let Some(seen) = request(&mut stream).await? else { return Ok(()) };
        let number = {
            let mut log = log.lock().unwrap();
            log.seen.push(seen);
            log.seen.len() - 1
        };
        match play(number) {
            Play::Answer(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await?;
                for chunk in body.chunks(16 * 1024) {
                    stream.write_all(chunk).await?;
                    log.lock().unwrap().taken += chunk.len();
                }
            }
            Play::Reset => return Err(ErrorKind::ConnectionReset.into()),
            Play::Hang => return std::future::pending().await,
            Play::Cut(bytes) => {
                stream.write_all(bytes.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Play::Drip(head, every) => {
                stream.write_all(head.as_bytes()).await?;
                let mut tick = tokio::time::interval(every);
                loop {
                    tick.tick().await;
                    stream.write_all(b"x").await?;
                }
            }
        }
    }
}

async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<Option<Seen>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4_096]);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    };
    let mut body = bytes.split_off(end);
    let mut seen = Seen { head: String::from_utf8(bytes).unwrap(), body: Vec::new() };
    let length = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
    while body.len() < length {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        body.extend_from_slice(&buffer[..read]);
    }
    seen.body = body;
    Ok(Some(seen))
}
