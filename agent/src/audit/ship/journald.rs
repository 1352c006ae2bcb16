//! The journal of this machine, by its native protocol (systemd.journal-fields(7),
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): a datagram per record, one field after the other.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::rfc5424::severity;
use super::{Parcel, Wire};

const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal. A datagram on a local socket is taken or refused: nothing is lost on the way.
#[derive(Debug)]
pub(super) struct Journald {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Journald {
    pub(super) fn new() -> Self {
        Self::at(Path::new(SOCKET))
    }

    /// One that listens elsewhere.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    fn socket(&mut self) -> io::Result<&UnixDatagram> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(&self.path)?;
                socket
            }
        };
        Ok(self.socket.insert(socket))
    }
}

impl Wire for Journald {
    fn send(&mut self, parcels: &[Parcel]) -> io::Result<()> {
        for parcel in parcels {
            // A journal that was restarted has another socket under the same name.
            if let Err(error) = self.socket().and_then(|socket| socket.send(&datagram(parcel))) {
                self.socket = None;
                return Err(io::Error::new(
                    error.kind(),
                    format!("send to {}: {error}", self.path.display()),
                ));
            }
        }
        Ok(())
    }
}

fn datagram(parcel: &Parcel) -> Vec<u8> {
    let body = &parcel.record.body;
    let text = format!("{} {} by {}: {}", body.kind, body.outcome, body.actor, body.subject);
    let (severity, seq, actor) =
        (severity(body.outcome).to_string(), body.seq.to_string(), body.actor.to_string());
    let mut bytes = Vec::new();
    let fields: [(&str, &[u8]); 11] = [
        ("MESSAGE", text.as_bytes()),
        ("PRIORITY", severity.as_bytes()),
        ("SYSLOG_FACILITY", b"13"),
        ("SYSLOG_IDENTIFIER", b"process-throttler"),
        ("PROCESS_THROTTLER_AUDIT_SEQ", seq.as_bytes()),
        ("PROCESS_THROTTLER_AUDIT_TYPE", body.kind.as_bytes()),
        ("PROCESS_THROTTLER_AUDIT_ACTOR", actor.as_bytes()),
        ("PROCESS_THROTTLER_AUDIT_SUBJECT", body.subject.as_bytes()),
        ("PROCESS_THROTTLER_AUDIT_OUTCOME", body.outcome.as_str().as_bytes()),
        ("PROCESS_THROTTLER_AUDIT_HASH", parcel.record.hash.as_bytes()),
        ("PROCESS_THROTTLER_AUDIT", &parcel.line),
    ];
    for (name, value) in fields {
        field(&mut bytes, name, value);
    }
    bytes
}

/// With its length, so that no value can begin another field.
fn field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}
