//! A syslog receiver: RFC 5424 in datagrams, over TCP, or over TLS.
//!
//! The protocol has no acknowledgements. Over a stream, records count as taken when they have been written and the
//! receiver has not hung up shortly after; a receiver that dies later with records unread loses them.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::rfc5424::message;
use super::{Parcel, Wire};
use crate::model::audit::Transport;

const CONNECT: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(10);
/// How long a receiver has to hang up on what it does not take.
const OBJECTION: Duration = Duration::from_millis(200);
/// Longest datagram, below what IPv4 carries.
const DATAGRAM_MAX: usize = 60_000;

/// The receiver.
pub(super) struct Syslog {
    receiver: String,
    port: u16,
    transport: Transport,
    /// This machine's name, for the messages.
    host: String,
    link: Option<Link>,
}

enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Syslog {
    pub(super) fn new(receiver: &str, port: u16, transport: Transport, host: &str) -> Self {
        Self { receiver: receiver.to_owned(), port, transport, host: host.to_owned(), link: None }
    }

    fn connect(&self) -> io::Result<Link> {
        let addresses: Vec<SocketAddr> = (self.receiver.as_str(), self.port).to_socket_addrs()?.collect();
        match &self.transport {
            Transport::Udp => {
                let address = addresses.first().copied().ok_or_else(|| no_address(&self.receiver))?;
                let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(local)?;
                socket.connect(address)?;
                Ok(Link::Udp(socket))
            }
            Transport::Tcp => Ok(Link::Tcp(stream(&addresses, &self.receiver, OBJECTION)?)),
            Transport::Tls { ca_file } => {
                let name = ServerName::try_from(self.receiver.clone()).map_err(io::Error::other)?;
                let session =
                    ClientConnection::new(Arc::new(config(ca_file)?), name).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(session, stream(&addresses, &self.receiver, CONNECT)?);
                stream.conn.complete_io(&mut stream.sock)?;
                stream.sock.set_read_timeout(Some(OBJECTION))?;
                Ok(Link::Tls(Box::new(stream)))
            }
        }
    }
}

impl Wire for Syslog {
    fn send(&mut self, parcels: &[Parcel]) -> io::Result<()> {
        let mut link = match self.link.take() {
            Some(link) => Ok(link),
            None => self.connect(),
        };
        if let Ok(link) = &mut link {
            let messages = parcels.iter().map(|parcel| message(parcel, &self.host, std::process::id()));
            if let Err(error) = link.send(messages) {
                return Err(told(&self.receiver, self.port, &error));
            }
        }
        self.link = Some(link.map_err(|error| told(&self.receiver, self.port, &error))?);
        Ok(())
    }
}

impl Link {
    fn send(&mut self, messages: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
        if let Self::Udp(socket) = self {
            for mut message in messages {
                message.truncate(DATAGRAM_MAX);
                socket.send(&message)?;
            }
            return Ok(());
        }
        // Each after its length (RFC 6587, section 3.4.1).
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(&message);
        }
        match self {
            Self::Udp(_) => Ok(()),
            Self::Tcp(stream) => {
                stream.write_all(&bytes)?;
                objection(stream.read(&mut [0; 64]))
            }
            Self::Tls(stream) => {
                stream.write_all(&bytes)?;
                stream.flush()?;
                objection(stream.read(&mut [0; 64]))
            }
        }
    }
}

/// Receivers say nothing; one that hangs up has not taken what it was sent.
fn objection(read: io::Result<usize>) -> io::Result<()> {
    match read {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the receiver hung up")),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Connects to the first address that answers; `patience` is for what is read.
fn stream(addresses: &[SocketAddr], receiver: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = no_address(receiver);
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(stream) => {
                stream.set_write_timeout(Some(WRITE))?;
                stream.set_read_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn config(ca_file: &Path) -> io::Result<ClientConfig> {
    let unusable = |error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", ca_file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate is in it"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn no_address(receiver: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{receiver} has no address"))
}

fn told(receiver: &str, port: u16, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("syslog {receiver} port {port}: {error}"))
}
