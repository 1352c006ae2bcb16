//! systemd's own socket, as a transport for zbus.
//!
//! systemd signs what it sends there with its well-known name (`bus_set_sender` of src/core/dbus.c), where the
//! specification has unique names only, and zbus takes no other. In transit one letter of it is replaced, which
//! makes a unique name of the same length: `:rg.freedesktop.systemd1`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// Longest message that is taken; systemd's answers have a few hundred bytes.
const MOST: usize = 1 << 20;
/// The fixed part of a message: byte order, type, flags, version, length of the body, serial, length of the fields.
const FIXED: usize = 16;
/// Field 7 (the sender) of type string, and its value as systemd sends it.
const SENDER: &[u8] = b"\x07\x01s\0";
const NAME: &[u8] = b"org.freedesktop.systemd1\0";

/// A connection to systemd's own socket.
#[derive(Debug)]
pub(crate) struct Private(pub(crate) UnixStream);

impl Socket for Private {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.0.into_split();
        Split::new(Reader { stream: read, pending: Vec::new(), ready: 0 }, Writer(write))
    }
}

#[derive(Debug)]
pub(crate) struct Reader {
    stream: OwnedReadHalf,
    pending: Vec<u8>,
    /// How much of it may be handed on.
    ready: usize,
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        while self.ready == 0 {
            if let Some(length) = next(&self.pending)?
                && let Some(message) = self.pending.get_mut(..length)
            {
                mend(message);
                self.ready = length;
                break;
            }
            if self.stream.read_buf(&mut self.pending).await? == 0 {
                return Ok((0, Vec::new()));
            }
        }
        let length = buffer.len().min(self.ready);
        for (to, from) in buffer.iter_mut().zip(self.pending.drain(..length)) {
            *to = from;
        }
        self.ready -= length;
        Ok((length, Vec::new()))
    }
}

#[derive(Debug)]
pub(crate) struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// Length of the message, or of the line of the handshake, at the beginning; `None` while it is not complete.
fn next(bytes: &[u8]) -> io::Result<Option<usize>> {
    let little = match bytes.first() {
        None => return Ok(None),
        Some(b'l') => true,
        Some(b'B') => false,
        Some(_) => return Ok(bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1)),
    };
    let Some(fixed) = bytes.get(..FIXED) else { return Ok(None) };
    let body = number(fixed.get(4..8), little);
    let fields = number(fixed.get(12..16), little);
    let total = fields.div_ceil(8).saturating_mul(8).saturating_add(FIXED).saturating_add(body);
    if total > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {total} bytes")));
    }
    Ok(Some(total).filter(|total| bytes.len() >= *total))
}

fn number(bytes: Option<&[u8]>, little: bool) -> usize {
    let word: [u8; 4] = bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or([u8::MAX; 4]);
    let number = if little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) };
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Makes systemd's signature a unique name. Fields begin at multiples of 8 (D-Bus specification, "Message
/// Format"), and no other field can hold these bytes: they are no part of a name, path or signature.
fn mend(message: &mut [u8]) {
    let little = message.first() == Some(&b'l');
    let Some(fields) = message.get(12..16).map(|word| number(Some(word), little)) else { return };
    let name_at = SENDER.len() + size_of::<u32>();
    for at in (FIXED..FIXED.saturating_add(fields).min(message.len())).step_by(8) {
        let Some(field) = message.get_mut(at..at + name_at + NAME.len()) else { return };
        if field.starts_with(SENDER)
            && field.ends_with(NAME)
            && let Some(first) = field.get_mut(name_at)
        {
            *first = b':';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(sender: &str) -> Vec<u8> {
        let mut fields = b"\x05\x01u\0\x02\0\0\0\x07\x01s\0".to_vec();
        fields.extend(u32::try_from(sender.len()).unwrap().to_le_bytes());
        fields.extend(sender.as_bytes());
        fields.push(0);
        let mut message = b"l\x02\x01\x01\x04\0\0\0\x01\0\0\0".to_vec();
        message.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
        message.extend(&fields);
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend(b"body");
        message
    }

    #[test]
    fn messages_and_lines_are_told_apart() {
        let message = reply("org.freedesktop.systemd1");
        assert_eq!(next(b"").unwrap(), None);
        assert_eq!(next(b"OK 0123").unwrap(), None);
        assert_eq!(next(b"OK 0123\r\nl").unwrap(), Some(9));
        assert_eq!(next(&message).unwrap(), Some(message.len()));
        assert_eq!(next(&message[..message.len() - 1]).unwrap(), None);
        assert!(next(b"l\x02\x01\x01\xff\xff\xff\x7f\x01\0\0\0\0\0\0\0").is_err());
    }

    #[test]
    fn only_the_name_of_systemd_is_mended() {
        let mut message = reply("org.freedesktop.systemd1");
        let mended = reply(":rg.freedesktop.systemd1");
        mend(&mut message);
        assert_eq!(message, mended);
        let (mut other, before) = (reply(":1.1"), reply(":1.1"));
        mend(&mut other);
        assert_eq!(other, before);
        mend(&mut b"l\x02\x01\x01\0\0\0\0\x01\0\0\0\xff\0\0\0".to_vec());
    }
}
