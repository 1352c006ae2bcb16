//! A webhook receiver on the loopback interface that checks signatures as an independent implementation of
//! Standard Webhooks 1.0.0 (symmetric `v1`).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::cgroup::complain;
use crate::clock::{self, wait_for};

/// A signing secret for tests, in the form users write it: 32 bytes.
pub const SECRET: &str = "whsec_cHJvY2Vzcy10aHJvdHRsZXItdGVzdC1zZWNyZXQhIQ==";
/// Largest body that is read.
const LONGEST_BODY: usize = 1 << 20;
/// A peer that sends nothing is given up after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Standard Webhooks asks receivers to refuse timestamps farther off than five minutes.
const TOLERANCE: u64 = 300;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header.
    ///
    /// # Errors
    /// When it is missing.
    pub fn header(&self, name: &str) -> Result<&str> {
        self.headers.get(name).map(String::as_str).with_context(|| format!("no header {name}"))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("the body is no JSON")
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// When a header is missing, the timestamp is off by more than five minutes, or no signature is valid.
    pub fn verify(&self, secret: &str) -> Result<()> {
        let (id, timestamp) = (self.header("webhook-id")?, self.header("webhook-timestamp")?);
        let seconds: u64 = timestamp.parse().with_context(|| format!("webhook-timestamp {timestamp:?}"))?;
        let off = seconds.abs_diff(clock::unix_seconds());
        ensure!(off <= TOLERANCE, "webhook-timestamp is {off} s off");
        let key = secret.strip_prefix("whsec_").context("the secret begins with whsec_")?;
        let key = BASE64.decode(key).context("the secret is base64")?;
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &self.body].concat();
        let valid = self.header("webhook-signature")?.split(' ').any(|signature| {
            let Some(Ok(tag)) = signature.strip_prefix("v1,").map(|tag| BASE64.decode(tag)) else {
                return false;
            };
            let Ok(mac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
            mac.chain_update(&signed).verify_slice(&tag).is_ok()
        });
        ensure!(valid, "no signature of {id} is valid");
        Ok(())
    }
}

/// A receiver; its thread ends on drop.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    answer: AtomicU16,
    requests: Mutex<Vec<Request>>,
}

impl Receiver {
    /// Listens on a free port of the loopback interface and answers 200.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn start() -> Result<Self> {
        Self::start_at(0)
    }

    /// Listens on this port.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start_at(port: u16) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("listen on the loopback interface")?;
        let address = listener.local_addr().context("address of the receiver")?;
        let requests = Mutex::new(Vec::new());
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), answer: AtomicU16::new(200), requests });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared)
        });
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers with this status from now on.
    pub fn answer_with(&self, status: u16) {
        self.shared.answer.store(status, Ordering::SeqCst);
    }

    /// Everything received so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a request whose body satisfies `wanted`.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn wait_for(
        &self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Request> {
        wait_for(what, timeout, || {
            Ok(self.requests().into_iter().find(|request| request.json().is_ok_and(|body| wanted(&body))))
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // The accept call wakes up for a connection only.
        drop(TcpStream::connect(self.address));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            complain("the receiver's thread panicked");
        }
    }
}

fn serve(listener: &TcpListener, shared: &Shared) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let served = stream.context("accept").and_then(|stream| answer(stream, shared));
        if let Err(error) = served {
            complain(&format!("receiver: {error:#}"));
        }
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE)).context("set the read timeout")?;
    let mut reader = BufReader::new(stream.try_clone().context("share the connection")?);
    let mut line = String::new();
    reader.read_line(&mut line).context("read the request line")?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).context("read a header")?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize =
        headers.get("content-length").context("no content-length")?.parse().context("content-length")?;
    ensure!(length <= LONGEST_BODY, "body of {length} bytes");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).context("read the body")?;
    let request = Request { line: line.trim_end().to_owned(), headers, body };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let status = shared.answer.load(Ordering::SeqCst);
    write!(stream, "HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .context("answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str, timestamp: u64, body: &[u8], signature: &str) -> Request {
        let headers = [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature.to_owned()),
        ];
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Request { line: "POST / HTTP/1.1".to_owned(), headers, body: body.to_vec() }
    }

    fn sign(id: &str, timestamp: u64, body: &[u8]) -> String {
        let key = BASE64.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        format!("v1,{}", BASE64.encode(mac.chain_update(signed).finalize().into_bytes()))
    }

    #[test]
    fn only_the_right_signature_of_the_right_bytes_now_is_valid() {
        let now = clock::unix_seconds();
        let good = sign("msg_1", now, b"{}");
        request("msg_1", now, b"{}", &good).verify(SECRET).unwrap();
        request("msg_1", now, b"{}", &format!("v1,AAAA {good}")).verify(SECRET).unwrap();
        assert!(request("msg_2", now, b"{}", &good).verify(SECRET).is_err());
        assert!(request("msg_1", now, b"{ }", &good).verify(SECRET).is_err());
        assert!(request("msg_1", now, b"{}", "v1,").verify(SECRET).is_err());
        let old = now - 301;
        assert!(request("msg_1", old, b"{}", &sign("msg_1", old, b"{}")).verify(SECRET).is_err());
    }

    #[test]
    fn a_published_test_vector_is_valid() {
        // From the Standard Webhooks specification; its timestamp is old, so only the MAC is compared.
        let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(signed);
        let tag = BASE64.decode("g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=").unwrap();
        assert!(mac.verify_slice(&tag).is_ok());
    }

    #[test]
    fn a_post_is_recorded_and_answered() {
        let receiver = Receiver::start().unwrap();
        receiver.answer_with(503);
        let mut stream = TcpStream::connect(receiver.address).unwrap();
        stream.write_all(b"POST /hook HTTP/1.1\r\nContent-Length: 8\r\n\r\n{\"a\": 1}").unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let request = receiver.wait_for("the post", clock::SOON, |body| body["a"] == 1).unwrap();
        assert_eq!(request.line, "POST /hook HTTP/1.1");
    }
}
