//! Shipping to receivers of the tests' own.

use std::io::{BufReader, Read as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;

use super::*;
use crate::audit::{Actor, Entry, Log};
use crate::clock::patience;
use crate::model::audit::{Rotation, Transport};

mod rsyslog;

struct Bed {
    dir: TempDir,
    place: Place,
    log: Log,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path().join("log"));
        let log = Log::new(place.clone(), Rotation { size: 1_500, ..Rotation::DEFAULT });
        Self { dir, place, log }
    }

    fn write(&mut self, records: u64) {
        for _ in 0..records {
            self.log.append(&[Entry::new(1, "request.release", Actor::uid(3), "group a")]).unwrap();
        }
    }

    fn ship(&self, port: u16, transport: Transport) -> Shipping {
        let to = Receiver::Syslog { host: "127.0.0.1".to_owned(), port, transport };
        Shipping::start(&self.place, &[Destination { name: "d".parse().unwrap(), to }], &origin()).unwrap()
    }

    fn shipped(&self) -> u64 {
        Cursor::read(&self.place, "d").unwrap().seq
    }
}

fn origin() -> Origin {
    Origin { host: "host-1".to_owned(), instance: "i".to_owned(), since_ns: 1 }
}

fn grace() -> Duration {
    patience(Duration::from_secs(10))
}

/// Reads frames as RFC 6587 has them, and returns the numbers of the records in them.
fn frames(stream: TcpStream, count: usize) -> Vec<u64> {
    stream.set_read_timeout(Some(grace())).unwrap();
    read_frames(&mut BufReader::new(stream), count)
}

fn read_frames(reader: &mut impl std::io::BufRead, count: usize) -> Vec<u64> {
    (0..count)
        .map(|_| {
            let mut length = Vec::new();
            reader.read_until(b' ', &mut length).unwrap();
            let length: usize = std::str::from_utf8(&length).unwrap().trim().parse().unwrap();
            let mut message = vec![0; length];
            reader.read_exact(&mut message).unwrap();
            number(&message)
        })
        .collect()
}

/// The record of a message, whose hash must be its own.
fn number(message: &[u8]) -> u64 {
    let text = std::str::from_utf8(message).unwrap();
    let line = &text[text.find("] {").unwrap() + 2..];
    crate::audit::chain::open(line.as_bytes()).unwrap().body.seq
}

#[test]
fn all_records_arrive_in_order_over_tcp_and_the_cursor_survives() {
    let mut bed = Bed::new();
    bed.write(20);
    assert!(bed.place.list_closed().unwrap().len() > 2, "over several files");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shipping = bed.ship(port, Transport::Tcp);
    let (stream, _) = listener.accept().unwrap();
    let keep = stream.try_clone().unwrap();
    assert_eq!(frames(stream, 20), (1..=20).collect::<Vec<_>>());
    shipping.stop(grace());
    drop(keep);
    assert_eq!(bed.shipped(), 20);
    bed.write(3);
    let shipping = bed.ship(port, Transport::Tcp);
    let (stream, _) = listener.accept().unwrap();
    let keep = stream.try_clone().unwrap();
    assert_eq!(frames(stream, 3), [21, 22, 23]);
    shipping.stop(grace());
    drop(keep);
    assert_eq!(bed.shipped(), 23);
}

#[test]
fn what_a_receiver_hung_up_on_is_sent_again() {
    let mut bed = Bed::new();
    bed.write(2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shipping = bed.ship(listener.local_addr().unwrap().port(), Transport::Tcp);
    let (stream, _) = listener.accept().unwrap();
    drop(stream);
    let (stream, _) = listener.accept().unwrap();
    let keep = stream.try_clone().unwrap();
    assert_eq!(frames(stream, 2), [1, 2]);
    shipping.stop(grace());
    drop(keep);
    assert_eq!(bed.shipped(), 2);
}

#[test]
fn a_receiver_that_is_not_there_is_a_problem_and_nothing_is_forgotten() {
    let mut bed = Bed::new();
    bed.write(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let shipping = bed.ship(port, Transport::Tcp);
    let report = shipping.report();
    shipping.stop(grace());
    let problems = report.problems();
    assert!(problems.len() == 1 && problems[0].contains("refused"), "{problems:?}");
    assert_eq!(bed.shipped(), 0);
}

#[test]
fn a_datagram_is_a_record() {
    let mut bed = Bed::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(grace())).unwrap();
    let shipping = bed.ship(socket.local_addr().unwrap().port(), Transport::Udp);
    bed.write(1);
    shipping.bell().ring();
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(number(&buffer[..length]), 1);
    shipping.stop(grace());
}

#[test]
fn over_tls_the_receiver_must_be_who_it_should_be() {
    let mut bed = Bed::new();
    bed.write(3);
    let (config, ca_file) = certificate(&bed.dir);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shipping = bed.ship(port, Transport::Tls { ca_file });
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(grace())).unwrap();
    let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
    let mut reader = BufReader::new(rustls::StreamOwned::new(session, stream));
    assert_eq!(read_frames(&mut reader, 3), [1, 2, 3]);
    shipping.stop(grace());
    assert_eq!(bed.shipped(), 3);

    let (_, other) = certificate(&tempfile::tempdir_in(bed.dir.path()).unwrap());
    std::fs::create_dir_all(other.parent().unwrap()).unwrap();
    let wrong = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&other, wrong.cert.pem()).unwrap();
    bed.write(1);
    let shipping = bed.ship(port, Transport::Tls { ca_file: other });
    let report = shipping.report();
    let (stream, _) = listener.accept().unwrap();
    let mut session = rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), stream);
    assert!(session.read(&mut [0; 16]).is_err(), "the certificate is not trusted");
    shipping.stop(grace());
    assert_eq!(report.problems().len(), 1);
    assert_eq!(bed.shipped(), 3);
}

/// A receiver's certificate for 127.0.0.1, and the file that says to trust it.
fn certificate(dir: &TempDir) -> (Arc<rustls::ServerConfig>, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    (Arc::new(config), file)
}

#[test]
fn the_journal_gets_fields_that_no_value_can_forge() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(grace())).unwrap();
    let entry = Entry::new(1, "request.release", Actor::uid(3), "x\nMESSAGE=forged");
    let (line, _) = crate::audit::chain::seal(&entry.placed(1, crate::audit::chain::GENESIS)).unwrap();
    let parcel = Parcel { record: crate::audit::chain::open(&line).unwrap(), line: line.clone() };
    journald::Journald::at(&path).send(&[parcel]).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).unwrap();
    let mut rest = &buffer[..length];
    let mut fields = std::collections::BTreeMap::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap());
        let (length, after) = after[1..].split_at(8);
        let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
        assert_eq!(after[length], b'\n');
        assert!(fields.insert(String::from_utf8(name.to_vec()).unwrap(), after[..length].to_vec()).is_none());
        rest = &after[length + 1..];
    }
    assert_eq!(fields["PROCESS_THROTTLER_AUDIT_SUBJECT"], b"x\nMESSAGE=forged");
    assert_eq!(fields["PROCESS_THROTTLER_AUDIT"], line);
    assert_eq!(fields["SYSLOG_IDENTIFIER"], b"process-throttler");
}

#[test]
fn an_end_that_was_cut_off_after_it_was_shipped_is_found() {
    let mut bed = Bed::new();
    bed.log = Log::new(bed.place.clone(), Rotation::DEFAULT);
    bed.write(3);
    Cursor { seq: 3, hash: crate::audit::verify::verify(&bed.place).unwrap().head.unwrap() }
        .write(&bed.place, "d")
        .unwrap();
    assert!(crate::audit::verify::verify(&bed.place).unwrap().intact);
    let text = std::fs::read_to_string(bed.place.current()).unwrap();
    let cut: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(bed.place.current(), cut).unwrap();
    let bad = crate::audit::verify::verify(&bed.place).unwrap().bad.unwrap();
    assert!(bad.why.contains("d was sent records up to number 3"), "{}", bad.why);
}
