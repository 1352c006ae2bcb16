//! The connector's socket: subscribed while it lives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::clock;
use crate::source::SourceError;
use crate::source::netlink::wire::{self, Body, Message};

/// Room for about ten thousand messages: the kernel charges some 800 bytes for each.
const RECEIVE_BUFFER: usize = 8 << 20;
/// How long the kernel may take to acknowledge. It answers within the request, or never: outside the initial
/// pid and user namespaces the request is ignored.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Larger than any message of the connector.
const DATAGRAM_MAX: usize = 2048;

/// A subscribed socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    port: u32,
}

/// What one read brought.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// A datagram of the kernel.
    Datagram(&'a [u8]),
    /// A datagram of somebody else, to be ignored.
    Foreign,
    /// The socket's buffer overflowed since the last read.
    Overrun,
    /// Nothing more for now.
    Dry,
}

/// Buffer for [`Socket::receive`].
pub(super) type Buffer = [u8; DATAGRAM_MAX];

impl Socket {
    /// Subscribes, and waits for the kernel to confirm it.
    ///
    /// # Errors
    /// When a system call fails, the kernel refuses (`CAP_NET_ADMIN` is needed before Linux 6.6), or it does
    /// not answer (not in the initial namespaces, or built without `CONFIG_PROC_EVENTS`).
    pub(super) fn open() -> Result<Self, SourceError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))
            .map_err(failed("proc connector: creating the socket"))?;
        // Forcing the size past `rmem_max` needs CAP_NET_ADMIN; a smaller buffer only overruns earlier.
        set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER)
            .or_else(|_| set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER))
            .map_err(failed("proc connector: sizing the receive buffer"))?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 1 << (wire::CN_PROC - 1)))
            .map_err(failed("proc connector: binding to its group"))?;
        let port = rustix::net::getsockname(&fd)
            .and_then(SocketAddrNetlink::try_from)
            .map_err(failed("proc connector: reading the socket's port"))?
            .pid();
        let socket = Self { fd, port };
        socket.send(wire::LISTEN).map_err(failed("proc connector: subscribing"))?;
        socket.await_ack()?;
        Ok(socket)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// One read, without blocking.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(super) fn receive<'b>(&self, buffer: &'b mut Buffer) -> Result<Received<'b>, SourceError> {
        loop {
            return match rustix::net::recvfrom(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((len, _, from)) => {
                    // The kernel is port 0; anything else is a process that pretends.
                    let from_kernel = from
                        .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                        .is_some_and(|a| a.pid() == 0);
                    let datagram = buffer.get(..len).filter(|_| from_kernel);
                    Ok(datagram.map_or(Received::Foreign, Received::Datagram))
                }
                Err(Errno::AGAIN) => Ok(Received::Dry),
                Err(Errno::NOBUFS) => Ok(Received::Overrun),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(failed("proc connector: receiving")(errno)),
            };
        }
    }

    fn send(&self, operation: u32) -> Result<(), Errno> {
        let request = wire::request(operation, self.port, self.port);
        rustix::net::sendto(&self.fd, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).map(|_| ())
    }

    /// Events that arrive before the acknowledgement are skipped: nobody has taken a snapshot yet.
    fn await_ack(&self) -> Result<(), SourceError> {
        const OPERATION: &str = "proc connector: waiting for the kernel's acknowledgement";
        let end = clock::now().after(ACK_TIMEOUT);
        let mut buffer = [0; DATAGRAM_MAX];
        loop {
            match self.receive(&mut buffer)? {
                Received::Datagram(datagram) => {
                    for message in wire::messages(datagram) {
                        match message {
                            Ok(Message { body: Body::Ack { request, error }, .. })
                                if request == self.port =>
                            {
                                return acknowledged(error);
                            }
                            Ok(_) | Err(wire::Malformed) => {}
                        }
                    }
                }
                Received::Foreign | Received::Overrun => {}
                Received::Dry => {
                    let left = end.since(clock::now());
                    if left.is_zero() {
                        let silent = io::Error::new(
                            io::ErrorKind::TimedOut,
                            "no answer: not in the initial pid and user namespaces, or no CONFIG_PROC_EVENTS",
                        );
                        return Err(SourceError::Io { operation: OPERATION.to_owned(), source: silent });
                    }
                    let timeout = Timespec::try_from(left).ok();
                    match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(errno) => return Err(failed(OPERATION)(errno)),
                    }
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Before Linux 6.6 closing the socket leaves the kernel's count of listeners raised, and with it
        // the cost of every fork.
        if let Err(errno) = self.send(wire::IGNORE) {
            tracing::warn!(error = %errno, "proc connector: unsubscribing failed");
        }
    }
}

/// The kernel answers with a positive errno.
fn acknowledged(error: u32) -> Result<(), SourceError> {
    match i32::try_from(error) {
        Ok(0) => Ok(()),
        code => Err(SourceError::Io {
            operation: "proc connector: subscribing".to_owned(),
            source: code.map_or_else(io::Error::other, io::Error::from_raw_os_error),
        }),
    }
}

fn failed(operation: &'static str) -> impl Fn(Errno) -> SourceError {
    move |errno| SourceError::Io { operation: operation.to_owned(), source: errno.into() }
}
