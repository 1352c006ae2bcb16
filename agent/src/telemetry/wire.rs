//! Protocol Buffers' wire format, as far as OTLP needs it: writing messages, and reading the few fields of an
//! answer (protobuf.dev, "Encoding").

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u64, wire: u64) {
        self.number(field << 3 | wire);
    }

    /// An enumeration or a boolean.
    pub(super) fn varint(&mut self, field: u64, value: u64) {
        self.tag(field, VARINT);
        self.number(value);
    }

    pub(super) fn fixed64(&mut self, field: u64, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn double(&mut self, field: u64, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    pub(super) fn fixed32(&mut self, field: u64, value: u32) {
        self.tag(field, FIXED32);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, LENGTH);
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    pub(super) fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// A list of numbers of eight bytes each.
    pub(super) fn packed(&mut self, field: u64, values: impl IntoIterator<Item = u64>) {
        let packed: Vec<u8> = values.into_iter().flat_map(u64::to_le_bytes).collect();
        self.bytes(field, &packed);
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, as far as it is one.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Content<'_>)> {
    std::iter::from_fn(move || {
        let tag = take_number(&mut bytes)?;
        let content = match tag & 7 {
            VARINT => Content::Number(take_number(&mut bytes)?),
            FIXED64 => Content::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            FIXED32 => Content::Number(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?).into()),
            LENGTH => {
                let length = usize::try_from(take_number(&mut bytes)?).ok()?;
                Content::Bytes(take(&mut bytes, length)?)
            }
            _groups_and_nonsense => return None,
        };
        Some((tag >> 3, content))
    })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut message = Message::default();
        message.varint(1, 300);
        message.text(2, "testing");
        message.fixed64(15, 1);
        message.message(16, |inner| inner.varint(1, u64::MAX));
        message.fixed32(17, 257);
        let bytes = message.into_bytes();
        // The examples of the format's own documentation.
        assert!(bytes.starts_with(&[0x08, 0xac, 0x02, 0x12, 0x07, b't', b'e']), "{bytes:x?}");
        let found: Vec<_> = fields(&bytes).collect();
        assert_eq!(found[..2], [(1, Content::Number(300)), (2, Content::Bytes(b"testing"))]);
        assert_eq!(found[2], (15, Content::Number(1)));
        let (16, Content::Bytes(inner)) = found[3] else { panic!("{found:?}") };
        assert_eq!(fields(inner).collect::<Vec<_>>(), [(1, Content::Number(u64::MAX))]);
        assert_eq!(found[4], (17, Content::Number(257)));
    }

    proptest! {
        #[test]
        fn nonsense_is_read_to_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
