//! The listener against clients that are curious, slow, rude or many.

use std::io::{Read as _, Write as _};
use std::net::TcpStream as Client;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::Family;
use super::super::catalogue::PROCESSES;
use super::super::sheet::Sheet;
use super::*;

/// A listener on a thread of its own, with somebody who answers every question; how many there were.
struct Served {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    // Ends the thread when it goes.
    _stop: oneshot::Sender<()>,
}

fn serve(answer: fn() -> Result<Arc<Vec<Family>>, String>) -> Served {
    let (bound, address) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            bound.send(listener.address()).unwrap();
            let (questions, mut inbox) = mpsc::channel::<Question>(4);
            let answers = async {
                while let Some(question) = inbox.recv().await {
                    counter.fetch_add(1, Ordering::Relaxed);
                    drop(question.answer.send(answer()));
                }
            };
            tokio::select! {
                () = listener.serve(questions) => {}
                () = answers => {}
                _ = stopped => {}
            }
        });
    });
    Served { address: address.recv().unwrap(), asked, _stop: stop }
}

fn figures() -> Result<Arc<Vec<Family>>, String> {
    let mut sheet = Sheet::default();
    sheet.add(&PROCESSES, &[], 7_u64);
    Ok(Arc::new(sheet.finish()))
}

impl Served {
    fn connect(&self) -> Client {
        let client = Client::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    /// Everything that comes back for these bytes, until the listener hangs up.
    fn say(&self, request: &[u8]) -> String {
        let mut client = self.connect();
        // It may have hung up already.
        drop(client.write_all(request));
        let mut answer = Vec::new();
        drop(client.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self) -> String {
        self.say(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    }
}

#[test]
fn only_what_is_there_can_be_had() {
    let served = serve(figures);
    let answer = served.get();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.ends_with("process_throttler_processes 7\n# HELP process_throttler_metrics_overflowed Series that were added up in one with the labels \"other\", because a metric had too many.\n# TYPE process_throttler_metrics_overflowed gauge\nprocess_throttler_metrics_overflowed 0\n"), "{answer}");
    let head = served.say(b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let asked = served.asked.load(Ordering::Relaxed);
    let long = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(2 * HEAD_MAX));
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "404"),
        (b"GET /metrics/../v1/status HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "405"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", "413"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "413"),
        (b"nonsense\r\n\r\n", "400"),
        (long.as_bytes(), "431"),
    ] {
        let answer = served.say(request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(80)]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
    }
    assert_eq!(served.asked.load(Ordering::Relaxed), asked, "none of these costs figures");
}

#[test]
fn figures_that_cannot_be_had_are_told() {
    let served = serve(|| Err("the engine thread did not answer within 5 s".to_owned()));
    let answer = served.get();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("did not answer within 5 s\n"),
        "{answer}"
    );
}

#[test]
fn those_who_say_nothing_hold_nobody_up_for_long() {
    let served = serve(figures);
    // More than there are places: the rest waits until the first ones have been given up.
    let silent: Vec<Client> = (0..2 * CONNECTIONS_MAX).map(|_| served.connect()).collect();
    let mut half = served.connect();
    half.write_all(b"GET /metr").unwrap();
    let began = clock();
    assert!(served.get().starts_with("HTTP/1.1 200"));
    let took = clock() - began;
    // Two rounds of those who say nothing, and a margin for a busy machine.
    assert!(took < 4 * HEAD_TIMEOUT, "{took:?}");
    drop(silent);
}

#[test]
fn many_at_once_are_all_answered() {
    let served = serve(figures);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..64).map(|_| scope.spawn(|| served.get())).collect();
        for client in clients {
            assert!(client.join().unwrap().starts_with("HTTP/1.1 200"));
        }
    });
}

fn clock() -> Duration {
    crate::clock::monotonic()
}
