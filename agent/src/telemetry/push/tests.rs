//! Pushes to receivers that take, refuse, are slow, are rude, or are not there.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message as _;
use reqwest::StatusCode;

use super::super::catalogue::PROCESSES;
use super::super::sheet::Sheet;
use super::*;
use crate::model::signal::Hundredths;
use crate::model::telemetry::{Access, Header, HeaderValue as Written, Urls};

/// A receiver that answers one request with these bytes; the request, and whether all of the answer was taken.
fn receive(answer: Vec<u8>) -> (String, std::thread::JoinHandle<(String, Vec<u8>, bool)>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut bytes = [0; 4_096];
        loop {
            let read = stream.read(&mut bytes).unwrap();
            assert!(read > 0, "it hung up in the middle");
            request.extend(&bytes[..read]);
            let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(request[..end].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if request.len() >= end + 4 + length.parse::<usize>().unwrap() {
                let taken = stream.write_all(&answer).is_ok();
                return (head, request.split_off(end + 4), taken);
            }
        }
    });
    (url, thread)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn settings(url: &str) -> Otlp {
    Otlp {
        urls: Urls { metrics: Some(url.to_owned()), ..Urls::default() },
        trace_ratio: Hundredths(0),
        interval: Duration::from_secs(60),
        access: Access { timeout: Duration::from_secs(5), headers: Vec::new(), ca_file: None },
    }
}

async fn push_once(otlp: &Otlp) -> Result<(u64, String), PushError> {
    let (questions, mut inbox) = mpsc::channel::<Question>(1);
    let origin = Origin { host: "h".to_owned(), instance: "i".to_owned(), since_ns: 1 };
    let answered = async {
        if let Some(question) = inbox.recv().await {
            let mut sheet = Sheet::default();
            sheet.add(&PROCESSES, &[], 7_u64);
            drop(question.answer.send(Ok(Arc::new(sheet.finish()))));
        }
    };
    let (body, ()) = tokio::join!(figures(otlp.access.timeout, &origin, &questions), answered);
    push(&mut Poster::new(otlp.access.clone()), otlp.urls.metrics.as_ref().unwrap(), body.unwrap()).await
}

#[tokio::test]
async fn a_receiver_gets_figures_and_headers_and_no_secret_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "Bearer abc\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "old".to_owned() };
    let response = ExportMetricsServiceResponse { partial_success: Some(partial) };
    let (url, thread) = receive(answer("200 OK", "", &response.encode_to_vec()));
    let header = |name: &str, value| Header { name: name.to_owned(), value };
    let mut otlp = settings(&url);
    otlp.access.headers = vec![
        header("x-scope-orgid", Written::Plain("tenant".to_owned())),
        header("authorization", Written::File(token.clone())),
    ];
    assert_eq!(push_once(&otlp).await.unwrap(), (2, "old".to_owned()));
    let (head, body, _) = thread.join().unwrap();
    for line in [
        "post /v1/metrics http/1.1",
        "content-type: application/x-protobuf",
        "x-scope-orgid: tenant",
        "authorization: bearer abc",
    ] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
    assert_eq!(request.resource_metrics[0].scope_metrics[0].metrics[0].name, "process_throttler.processes");

    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = chain(&push_once(&otlp).await.unwrap_err());
    assert!(error.contains("header authorization") && error.contains("0644"), "{error}");
    assert!(!error.contains("abc"), "{error}");
}

#[tokio::test]
async fn what_goes_wrong_is_said() {
    let (url, thread) = receive(answer("503 Service Unavailable", "Retry-After: 7\r\n", b"later"));
    let error = push_once(&settings(&url)).await.unwrap_err();
    assert!(
        matches!(error, PushError::Post(PostError::Refused(StatusCode::SERVICE_UNAVAILABLE, Some(asked))) if asked.as_secs() == 7)
    );
    thread.join().unwrap();
    // Redirects are not followed: figures and headers stay with whom they are for.
    let (url, thread) = receive(answer("307 Temporary Redirect", "Location: http://127.0.0.1:1/\r\n", b""));
    let error = push_once(&settings(&url)).await.unwrap_err();
    assert!(
        matches!(error, PushError::Post(PostError::Refused(StatusCode::TEMPORARY_REDIRECT, None))),
        "{error:?}"
    );
    thread.join().unwrap();
    // Nobody listens on what has just been closed.
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let error = chain(&push_once(&settings(&format!("http://{free}/"))).await.unwrap_err());
    assert!(error.starts_with("post: ") && error.contains("refused"), "{error}");
    // One that accepts and says nothing.
    let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/", mute.local_addr().unwrap());
    let mut otlp = settings(&url);
    otlp.access.timeout = Duration::from_millis(200);
    let error = chain(&push_once(&otlp).await.unwrap_err());
    assert_eq!(error, "no answer within 200ms");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; 16 << 20]].concat();
    let (url, thread) = receive(endless);
    assert_eq!(push_once(&settings(&url)).await.unwrap(), (0, String::new()));
    // Not by blocking the runtime, which is what hangs up.
    let (_, _, taken) = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert!(!taken, "it hung up");
}

#[test]
fn failures_are_counted_and_over_with_a_success() {
    let mut pushes = Pushes::default();
    let failed = || Err(PushError::Post(PostError::Timeout(Duration::from_secs(10))));
    note(&mut pushes, failed(), "http://h/");
    note(&mut pushes, failed(), "http://h/");
    assert_eq!((pushes.failed, pushes.in_a_row, pushes.last_ok), (2, 2, None));
    assert_eq!(pushes.trouble.as_deref(), Some("no answer within 10s"));
    note(&mut pushes, Ok((0, String::new())), "http://h/");
    assert_eq!((pushes.ok, pushes.failed, pushes.in_a_row, pushes.trouble.clone()), (1, 2, 0, None));
    note(&mut pushes, Ok((3, "old".to_owned())), "http://h/");
    assert_eq!((pushes.rejected, pushes.trouble.as_deref()), (3, Some("3 points were rejected: old")));
}
