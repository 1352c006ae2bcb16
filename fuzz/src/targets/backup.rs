//! Archives that anybody may have made.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use process_throttler::backup::{Archive, Inside};
use sha2::{Digest as _, Sha256};

use super::text::is_plain;
use super::{Run, scratch};

const BLOCK: usize = 512;

/// An archive. Bytes that begin as gzip or age do are one as they are; others are what is in it, with the checksums of
/// headers, and the digests of the manifest where it says `H` 64 times, set right, because no mutation finds those.
pub(super) fn backup() -> Run {
    let dir = scratch();
    let path = dir.path().join("a.tar.gz");
    let identity = dir.path().join("identity");
    fs::write(&identity, "no identity\n").unwrap();
    Box::new(move |bytes| {
        let whole = bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(b"age-");
        let archive = if whole { bytes.to_vec() } else { packed(bytes) };
        fs::write(&path, archive).unwrap();
        if let Err(error) = Archive::open(&path, None).and_then(|archive| archive.verify(&mut |_| {})) {
            is_plain(&error);
        }
        drop(Archive::open(&path, Some(&identity)));
        let Ok(archive) = Archive::open(&path, None) else { return };
        let out = dir.path().join("out");
        // As a restore does: each at its path, below one directory.
        let target = |inside: &Inside| Some(out.join(inside.to_string()));
        drop(archive.unpack(&target, &mut |_| {}));
        stays_inside(&out);
        drop(fs::remove_dir_all(&out));
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.tar.gz", "identity"], "nothing is written elsewhere");
    })
}

/// Regular files and directories only.
fn stays_inside(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        assert!(kind.is_file() || kind.is_dir(), "{}", entry.path().display());
        if kind.is_dir() {
            stays_inside(&entry.path());
        }
    }
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    let digests = digests(&tar);
    for digest in digests {
        if let Some(at) = tar.windows(64).position(|window| window == [b'H'; 64]) {
            tar[at..at + 64].copy_from_slice(digest.as_bytes());
        }
    }
    for block in tar.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(&tar).unwrap();
    gzip.finish().unwrap()
}

/// Of what follows each header but the first, as far as its size is to be believed.
fn digests(tar: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = tar.get(at..at + BLOCK) {
        let size = std::str::from_utf8(&header[124..135]).ok();
        let Some(size) = size.and_then(|text| usize::from_str_radix(text, 8).ok()) else { break };
        let Some(content) = at.checked_add(BLOCK + size).and_then(|end| tar.get(at + BLOCK..end)) else {
            break;
        };
        if at > 0 {
            found.push(Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect());
        }
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    found
}
