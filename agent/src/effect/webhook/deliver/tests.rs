//! The client against receivers that behave badly, proxies, names and certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::client::{ANSWER_MAX, Attempt, Poster};
use super::judge::Verdict;
use super::testing::endpoint;
use crate::clock::patience;
use crate::effect::webhook::fake::{Fake, Play, status};
use crate::model::endpoint::{Endpoint, Format, SecretSource};

const LATER: Verdict = Verdict::Later { retry_after: None };

async fn post(endpoint: Endpoint) -> Attempt {
    Poster::new(endpoint).post("evt_1", b"{}".to_vec(), None).await
}

fn error(attempt: &Attempt) -> &str {
    attempt.error.as_deref().unwrap_or("none")
}

#[tokio::test]
async fn what_is_sent_is_whole_and_the_connection_is_kept() {
    let fake = Fake::start(|_| Play::Answer(202, "", b"thanks".to_vec())).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut poster = Poster::new(Endpoint {
        secrets: vec![SecretSource::File(file.clone())],
        hub_signature: true,
        format: Format::CloudEvents,
        ..endpoint(fake.url())
    });
    let trace = "00-0190a1b2c3d47e5f8091a2b3c4d5e6f7-00f067aa0ba902b7-01";
    for number in 0..3 {
        let trace = (number == 0).then(|| trace.parse().unwrap());
        let attempt = poster.post("evt_1", b"{\"a\":1}".to_vec(), trace).await;
        assert_eq!((attempt.verdict, attempt.status, attempt.error), (Verdict::Delivered, Some(202), None));
        assert_eq!(attempt.answer, b"thanks");
    }
    assert_eq!((fake.seen().len(), fake.connections()), (3, 1));
    assert_eq!(fake.seen()[1].header("traceparent"), None);
    let seen = fake.seen().remove(0);
    assert_eq!(seen.header("traceparent"), Some(trace));
    assert!(seen.head.starts_with("POST /hook HTTP/1.1\r\n") && seen.body == b"{\"a\":1}", "{}", seen.head);
    assert_eq!(seen.header("webhook-id"), Some("evt_1"));
    assert!(seen.header("webhook-signature").unwrap().starts_with("v1,"));
    assert!(seen.header("x-hub-signature-256").unwrap().starts_with("sha256="));
    assert_eq!(seen.header("content-type"), Some("application/cloudevents+json"));
    // Without its key nothing is sent at all.
    std::fs::remove_file(&file).unwrap();
    let attempt = poster.post("evt_1", Vec::new(), None).await;
    assert!(error(&attempt).starts_with("sign: "), "{attempt:?}");
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn refusals_of_all_kinds() {
    let answers = [
        (301, "location: http://127.0.0.1:1/\r\n", LATER),
        (400, "", Verdict::Rejected),
        (410, "", Verdict::Gone),
        (429, "retry-after: 7\r\n", Verdict::Later { retry_after: Some(Duration::from_secs(7)) }),
        (500, "retry-after: 7\r\n", LATER),
    ];
    let fake =
        Fake::start(move |number| Play::Answer(answers[number].0, answers[number].1, b"why".to_vec())).await;
    let mut poster = Poster::new(endpoint(fake.url()));
    for (status, _, verdict) in answers {
        let attempt = poster.post("evt_1", Vec::new(), None).await;
        assert_eq!((attempt.verdict, attempt.status), (verdict, Some(status)));
        assert!(error(&attempt).contains(&status.to_string()), "{attempt:?}");
        assert_eq!(attempt.answer, b"why");
    }
    assert_eq!(fake.seen().len(), 5, "no redirect was followed");
}

#[tokio::test]
async fn silence_and_dripping_end_with_the_timeout() {
    let drip = Duration::from_millis(20);
    for play in [Play::Hang, Play::Drip("HTTP/1.1 200 OK\r\nx-header: ", drip)] {
        let fake = Fake::start(move |_| play.clone()).await;
        let timeout = Duration::from_millis(300);
        let attempt = post(Endpoint { timeout, ..endpoint(fake.url()) }).await;
        assert_eq!((attempt.verdict, attempt.status), (LATER, None), "{attempt:?}");
        assert_eq!(error(&attempt), "no answer within 300ms");
        assert!(
            attempt.latency >= timeout && attempt.latency < patience(Duration::from_secs(3)),
            "{attempt:?}"
        );
    }
}

#[tokio::test]
async fn the_status_counts_however_the_body_comes() {
    let fake = Fake::start(|_| Play::Drip("HTTP/1.1 204 OK\r\n\r\n", Duration::from_millis(20))).await;
    assert_eq!(post(endpoint(fake.url())).await.verdict, Verdict::Delivered);
    let fake = Fake::start(|_| {
        Play::Drip("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n", Duration::from_millis(20))
    })
    .await;
    let attempt = post(endpoint(fake.url())).await;
    assert_eq!(attempt.verdict, Verdict::Delivered);
    assert!(!attempt.answer.is_empty() && attempt.answer.len() < 200, "{attempt:?}");
}

#[tokio::test]
async fn of_ten_megabytes_a_kilobyte_is_kept_and_little_is_read() {
    const LENGTH: usize = 10 << 20;
    let fake = Fake::start(|_| Play::Answer(200, "", vec![b'a'; LENGTH])).await;
    let attempt = post(endpoint(fake.url())).await;
    assert_eq!((attempt.verdict, attempt.answer.len()), (Verdict::Delivered, ANSWER_MAX));
    // The socket buffers of both sides hold a few megabytes at most.
    assert!(fake.taken() < LENGTH, "all of it was read");
}

#[tokio::test]
async fn broken_answers_are_failures() {
    for cut in
        ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-le", "nonsense\r\n\r\n", "HTTP/1.1 999999 X\r\n\r\n"]
    {
        let fake = Fake::start(move |_| Play::Cut(cut)).await;
        let attempt = post(endpoint(fake.url())).await;
        assert_eq!((attempt.verdict, attempt.status), (LATER, None), "{cut:?}");
        assert!(error(&attempt).starts_with("post: "), "{attempt:?}");
    }
    let fake = Fake::start(|_| Play::Reset).await;
    let attempt = post(endpoint(fake.url())).await;
    assert_eq!((attempt.verdict, attempt.status), (LATER, None));
    assert!(error(&attempt).to_lowercase().contains("reset"), "{attempt:?}");
}

#[tokio::test]
async fn addresses_are_checked_as_literals_and_as_what_names_resolve_to() {
    let fake = Fake::start(|_| status(200)).await;
    let port = fake.address.port();
    let bare = |url: String| Endpoint { allow_networks: Vec::new(), allow_http: true, ..endpoint(url) };
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"] {
        let attempt = post(bare(format!("http://{host}:{port}/"))).await;
        let refused = error(&attempt).contains("address") && attempt.verdict == LATER;
        assert!(refused, "{host}: {attempt:?}");
    }
    assert_eq!(fake.connections(), 0, "nothing was connected to");
    let allowed = Endpoint { allow_http: false, ..endpoint(format!("http://localhost:{port}/")) };
    assert_eq!(post(allowed).await.verdict, Verdict::Delivered);
}

#[tokio::test]
async fn a_proxy_is_used_when_named_and_never_from_the_environment() {
    let proxy = Fake::start(|_| status(200)).await;
    let through = Endpoint {
        allow_http: true,
        allow_networks: Vec::new(),
        proxy: Some(format!("http://{}", proxy.address)),
        ..endpoint("http://receiver.invalid/hook".to_owned())
    };
    assert_eq!(post(through.clone()).await.verdict, Verdict::Delivered);
    assert!(proxy.seen()[0].head.starts_with("POST http://receiver.invalid/hook HTTP/1.1"));
    // Through a proxy, https is a tunnel; this one has no idea of it.
    let tunnel = Endpoint { url: "https://receiver.invalid/hook".to_owned(), ..through.clone() };
    assert_eq!(post(tunnel).await.verdict, LATER);
    assert!(proxy.seen()[1].head.starts_with("CONNECT receiver.invalid:443 "));
    let clear = post(Endpoint { allow_http: false, ..through }).await;
    assert!(error(&clear).contains("allow_http"), "{clear:?}");
    assert_eq!(proxy.seen().len(), 2);
}

fn tls(dir: &TempDir) -> (TlsAcceptor, PathBuf) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, cert.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_until_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, file) = tls(&dir);
    let fake = Fake::with(|_| status(200), Some(acceptor)).await;
    let unknown = endpoint(format!("https://localhost:{}/", fake.address.port()));
    let attempt = post(unknown.clone()).await;
    assert!(attempt.verdict == LATER && error(&attempt).contains("ca_file names others"), "{attempt:?}");
    assert_eq!(fake.seen().len(), 0);

    let known = Endpoint { ca_file: Some(file.clone()), ..unknown };
    let mut poster = Poster::new(known.clone());
    let attempt = poster.post("evt_1", Vec::new(), None).await;
    assert_eq!(attempt.verdict, Verdict::Delivered, "{attempt:?}");
    let by_address = Endpoint { url: format!("https://127.0.0.1:{}/", fake.address.port()), ..known };
    let attempt = post(by_address).await;
    assert_eq!(attempt.verdict, LATER);
    assert!(error(&attempt).ends_with("it is for another name than the one in the URL"), "{attempt:?}");
    // The file is read again when it changes.
    std::fs::write(&file, "no certificate").unwrap();
    let attempt = poster.post("evt_1", Vec::new(), None).await;
    assert!(error(&attempt).contains("PEM"), "{attempt:?}");
}

#[tokio::test]
async fn nothing_secret_is_in_errors() {
    let secret = "http://127.0.0.1:1/services/T000/token";
    let attempt = post(endpoint(secret.to_owned())).await;
    assert!(!error(&attempt).contains("token"), "{attempt:?}");
    let url = "https://user:password@[::1]:1/token".to_owned();
    let attempt = post(endpoint(url)).await;
    assert!(!error(&attempt).contains("password"), "{attempt:?}");
}
