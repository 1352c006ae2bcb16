//! Receivers that take, refuse, are slow, or are not there: what waits is bounded, and each record is counted once.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;

use super::*;
use crate::clock::patience;
use crate::telemetry::testing::receiver;

const SWIFT: Pace = Pace {
    gather: Duration::from_millis(20),
    pause: Duration::from_millis(2),
    pause_max: Duration::from_millis(8),
};

fn origin() -> Origin {
    Origin { host: "h".to_owned(), instance: "i".to_owned(), since_ns: 1 }
}

fn record(name: &str) -> Vec<u8> {
    LogRecord { event_name: name.to_owned(), ..LogRecord::default() }.encode_to_vec()
}

fn names(body: &[u8]) -> Vec<String> {
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    scopes.flat_map(|scope| scope.log_records).map(|record| record.event_name).collect()
}

/// The body of a request; nothing when the other side hung up before its end.
fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut request, mut bytes) = (Vec::new(), [0; 65_536]);
    loop {
        let read = stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
        request.extend(&bytes[..read]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        if request.len() >= end + 4 + length.parse::<usize>().ok()? {
            return Some(request.split_off(end + 4));
        }
    }
}

/// Answers the n-th request, from 0, with a status, headers and a body; the bodies of the requests.
fn serve(answers: Vec<(&'static str, &'static str, Vec<u8>)>) -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (seen, bodies) = channel();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (status, headers, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            if let Some(request) = read(&mut stream) {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
                );
                stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
                seen.send(request).unwrap();
            }
        }
    });
    (base, bodies)
}

/// Sends what is in the lane until the end, and says what became of it.
async fn run(lane: &Lane, base: &str) -> Fate {
    let otlp = receiver(base, 0);
    let access = Access { timeout: Duration::from_millis(200), ..otlp.access };
    let run = lane.run(format!("{base}/v1/logs"), access, origin());
    tokio::time::timeout(patience(Duration::from_secs(20)), run).await.expect("it ends");
    lane.fate()
}

fn open() -> Lane {
    let lane = Lane::with(Signal::Logs, SWIFT);
    lane.open(true);
    lane
}

/// Until all that waits is gone.
async fn gone(lane: &Lane) {
    let began = clock::now();
    while lane.waiting() > 0 {
        assert!(clock::now().since(began) < patience(Duration::from_secs(20)), "{:?}", lane.fate());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    lane.end();
}

#[tokio::test]
async fn records_arrive_together_and_what_waits_at_the_end_too() {
    let (base, bodies) = serve(vec![("200 OK", "", Vec::new()), ("200 OK", "", Vec::new())]);
    let lane = open();
    let later = async {
        lane.add(|| record("a"));
        lane.add(|| record("b"));
        gone(&lane).await;
        lane.add(|| record("c"));
    };
    let (fate, ()) = tokio::join!(run(&lane, &base), later);
    assert_eq!(names(&bodies.recv().unwrap()), ["a", "b"]);
    assert_eq!(names(&bodies.recv().unwrap()), ["c"]);
    assert_eq!((fate.sent, fate.lost().map(|(_, lost)| lost), fate.trouble), (3, [0; 4], None));
}

#[tokio::test]
async fn a_request_is_repeated_as_it_was_while_that_may_help_and_no_longer() {
    let later = ("503 Service Unavailable", "Retry-After: 0\r\n", Vec::new());
    let busy = ("429 Too Many Requests", "", Vec::new());
    let refused = ("400 Bad Request", "", b"what is this".to_vec());
    let (base, bodies) = serve(vec![later, busy, ("200 OK", "", Vec::new()), refused]);
    let lane = open();
    lane.add(|| record("a"));
    let more = async {
        gone(&lane).await;
        lane.open(true);
        lane.add(|| record("b"));
        gone(&lane).await;
    };
    let (fate, ()) = tokio::join!(run(&lane, &base), more);
    let seen: Vec<_> = bodies.iter().map(|body| names(&body)).collect();
    assert_eq!(seen, [["a"], ["a"], ["a"], ["b"]]);
    assert_eq!((fate.sent, fate.refused, fate.given_up, fate.failed_in_a_row), (1, 1, 0, 1));
    assert!(fate.trouble.unwrap().contains("400"));
}

#[tokio::test]
async fn a_receiver_that_is_asked_to_be_left_alone_is() {
    let (base, bodies) =
        serve(vec![("503 Later", "Retry-After: 1\r\n", Vec::new()), ("200 OK", "", Vec::new())]);
    let lane = open();
    lane.add(|| record("a"));
    let began = clock::now();
    tokio::join!(run(&lane, &base), gone(&lane));
    assert!(clock::now().since(began) >= Duration::from_secs(1), "{:?}", clock::now().since(began));
    assert_eq!(bodies.iter().count(), 2);
}

#[tokio::test]
async fn what_a_receiver_rejects_of_a_request_is_counted() {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 2, error_message: "old".to_owned() };
    let answer = ExportLogsServiceResponse { partial_success: Some(partial) };
    let (base, _bodies) = serve(vec![("200 OK", "", answer.encode_to_vec())]);
    let lane = open();
    (0..5).for_each(|_| lane.add(|| record("a")));
    let (fate, ()) = tokio::join!(run(&lane, &base), gone(&lane));
    assert_eq!((fate.sent, fate.rejected, fate.failed_in_a_row), (3, 2, 0));
    assert_eq!(fate.trouble.as_deref(), Some("2 records were rejected: old"));
}

#[tokio::test]
async fn nobody_and_one_that_says_nothing_cost_no_more_than_the_queue() {
    let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    for base in [format!("http://{}", mute.local_addr().unwrap()), format!("http://{closed}")] {
        let lane = open();
        let large = record(&"x".repeat(1_000));
        let added = 5_000_u64;
        (0..added).for_each(|_| lane.add(|| large.clone()));
        {
            let state = lane.lock();
            assert!(state.bytes <= QUEUE_BYTES && state.queue.len() <= QUEUE, "{}", state.bytes);
            assert_eq!(state.queue.len() as u64 + state.fate.no_room, added);
        }
        lane.end();
        // One attempt when it has been told to end.
        let fate = run(&lane, &base).await;
        assert_eq!((fate.sent, fate.failed_in_a_row), (0, 1));
        assert_eq!(lane.waiting() + fate.no_room, added, "nothing is lost that is not counted");
        lane.open(false);
        assert_eq!((lane.waiting(), lane.fate().given_up + fate.no_room), (0, added));
    }
}

#[tokio::test]
async fn a_request_that_nobody_takes_is_given_up_and_makes_room() {
    let answers = vec![("503 Later", "", Vec::new()); ATTEMPTS as usize + 1];
    let (base, bodies) = serve([answers, vec![("200 OK", "", Vec::new())]].concat());
    let lane = open();
    (0..BATCH + 7).for_each(|_| lane.add(|| record("a")));
    let (fate, ()) = tokio::join!(run(&lane, &base), gone(&lane));
    let sizes: Vec<usize> = bodies.iter().map(|body| names(&body).len()).collect();
    assert_eq!(sizes[..ATTEMPTS as usize], [BATCH; ATTEMPTS as usize]);
    assert_eq!((sizes.len(), sizes.last()), (ATTEMPTS as usize + 2, Some(&7)));
    assert_eq!((fate.given_up, fate.sent), (BATCH as u64, 7));
}

#[tokio::test]
async fn another_task_goes_on_with_the_same_request() {
    let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let lane = Arc::new(open());
    lane.add(|| record("a"));
    let hung = tokio::spawn({
        let (lane, base) = (Arc::clone(&lane), format!("http://{}", mute.local_addr().unwrap()));
        async move { lane.run(format!("{base}/v1/logs"), receiver(&base, 0).access, origin()).await }
    });
    let (stream, _) = tokio::task::spawn_blocking(move || mute.accept().unwrap()).await.unwrap();
    hung.abort();
    assert!(hung.await.unwrap_err().is_cancelled());
    drop(stream);
    let (base, bodies) = serve(vec![("200 OK", "", Vec::new())]);
    let (fate, ()) = tokio::join!(run(&lane, &base), gone(&lane));
    assert_eq!((names(&bodies.recv().unwrap()), fate.sent), (vec!["a".to_owned()], 1));
}

#[test]
fn pauses_grow_to_a_bound() {
    let lane = Lane::new(Signal::Traces);
    for (attempts, whole) in [(1, 1), (2, 2), (4, 8), (7, 60), (40, 60)] {
        let (pause, whole) = (lane.pause(attempts), Duration::from_secs(whole));
        assert!(pause >= whole / 2 && pause <= whole, "{attempts}: {pause:?}");
    }
}
