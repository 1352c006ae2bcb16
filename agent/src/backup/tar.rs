//! Headers of ustar archives (POSIX.1-1988), as far as backups use them: regular files with plain names. Reads and
//! writes no file.
//!
//! Everything else that tar can say is refused when it is read: links, devices, directories, and the extensions that
//! carry long names or sizes, each of which readers interpret in their own way.

/// Size of a header, and what files are filled up to.
pub(super) const BLOCK: usize = 512;
/// Fields by offset and length.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MTIME: (usize, usize) = (136, 12);
const SUM: (usize, usize) = (148, 8);
const TYPE: usize = 156;
const LINK: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 8);
const PREFIX: (usize, usize) = (345, 155);

const USTAR: &[u8] = b"ustar\x0000";
const REGULAR: u8 = b'0';

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The path: prefix and name.
    pub(super) path: String,
    /// Size of the file in bytes.
    pub(super) size: u64,
}

/// Bytes between the end of a file and the next header.
pub(super) const fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

/// Writes a header. `prefix` may be empty; `None` when something does not fit.
pub(super) fn encode(prefix: &str, name: &str, size: u64, mode: u32, mtime: i64) -> Option<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut put = |(at, length): (usize, usize), bytes: &[u8]| {
        let field = block.get_mut(at..at + length)?.get_mut(..bytes.len())?;
        field.copy_from_slice(bytes);
        Some(())
    };
    put(NAME, name.as_bytes())?;
    put(MODE, format!("{:07o}", mode & 0o777).as_bytes())?;
    put(UID, b"0000000")?;
    put(GID, b"0000000")?;
    put(SIZE, format!("{size:011o}").as_bytes())?;
    put(MTIME, format!("{:011o}", mtime.max(0)).as_bytes())?;
    put(MAGIC, USTAR)?;
    put(PREFIX, prefix.as_bytes())?;
    block[TYPE] = REGULAR;
    let sum = format!("{:06o}\0 ", checksum(&block));
    block[SUM.0..SUM.0 + SUM.1].copy_from_slice(sum.as_bytes());
    Some(block)
}

/// Reads a header; `None` for the block of zeroes at the end.
pub(super) fn decode(block: &[u8; BLOCK]) -> Result<Option<Header>, String> {
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let field = |(at, length): (usize, usize)| &block[at..at + length];
    if octal(field(SUM)) != Some(u64::from(checksum(block))) {
        return Err("a header has a wrong checksum".to_owned());
    }
    if field(MAGIC) != USTAR {
        return Err("a header is not that of a POSIX archive".to_owned());
    }
    let name = text(field(NAME))?;
    let prefix = text(field(PREFIX))?;
    let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
    if block[TYPE] != REGULAR {
        return Err(format!("{path:?} is {}, not a regular file", kind(block[TYPE])));
    }
    if field(LINK).iter().any(|&byte| byte != 0) {
        return Err(format!("{path:?} names the target of a link"));
    }
    let size = octal(field(SIZE)).ok_or_else(|| format!("{path:?} has a malformed size"))?;
    Ok(Some(Header { path, size }))
}

/// The sum of all bytes, those of the field itself taken as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let own = SUM.0..SUM.0 + SUM.1;
    block.iter().enumerate().map(|(at, &byte)| if own.contains(&at) { 32 } else { u32::from(byte) }).sum()
}

/// Octal digits, ended by a zero byte or a space.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = field.split_at(digits);
    if digits == 0 || !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(number).ok()?, 8).ok()
}

fn text(field: &[u8]) -> Result<String, String> {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let (text, rest) = field.split_at(end);
    if rest.iter().any(|&byte| byte != 0) {
        return Err("a name has bytes after its end".to_owned());
    }
    String::from_utf8(text.to_vec()).map_err(|error| format!("the name {:?} is not UTF-8", error.as_bytes()))
}

const fn kind(byte: u8) -> &'static str {
    match byte {
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'5' => "a directory",
        b'6' => "a FIFO",
        b'x' | b'g' | b'L' | b'K' | b'S' => "an extension of tar",
        _ => "something unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        let block = encode("config/config.d", "10.yaml", 1_234, 0o100_640, 1_700_000_000).unwrap();
        let header = Header { path: "config/config.d/10.yaml".into(), size: 1_234 };
        assert_eq!(decode(&block).unwrap(), Some(header));
        assert_eq!(decode(&[0; BLOCK]).unwrap(), None);
        assert!(encode("", &"a".repeat(101), 0, 0, 0).is_none());
        assert!(encode("", "a", 1 << 36, 0, 0).is_none(), "larger than the field");
        assert_eq!((padding(0), padding(1), padding(512)), (0, 511, 0));
    }

    #[test]
    fn any_changed_byte_is_noticed_or_harmless() {
        let block = encode("config", "config.yaml", 10, 0o600, 0).unwrap();
        for at in 0..BLOCK {
            for byte in [0, 1, b' ', b'/', b'2', 0x80, 0xff] {
                let mut other = block;
                other[at] = byte;
                let same = Some(Header { path: "config/config.yaml".into(), size: 10 });
                match decode(&other) {
                    Ok(header) => assert_eq!(header, same, "byte {at} as {byte}"),
                    Err(why) => assert!(!why.is_empty()),
                }
            }
        }
    }

    #[test]
    fn everything_but_regular_files_is_refused() {
        for kind in [0, b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'x', b'g', b'L', b'K', b'S'] {
            let mut block = encode("config", "config.yaml", 10, 0o600, 0).unwrap();
            block[TYPE] = kind;
            let sum = format!("{:06o}\0 ", checksum(&block));
            block[SUM.0..SUM.0 + SUM.1].copy_from_slice(sum.as_bytes());
            assert!(decode(&block).unwrap_err().contains("not a regular file"), "{kind}");
        }
    }
}
