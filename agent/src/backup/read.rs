//! Reading an archive that anybody may have made.
//!
//! The manifest comes first and bounds everything after it: which files, in which order, of which size and digest.
//! Nothing is written outside of what the caller chose for each path.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::GzDecoder;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::error::{BackupError, io};
use super::inside::Inside;
use super::manifest::{self, Manifest, hex};
use super::{Progress, crypt, tar};

/// Bytes that may be unpacked from any archive, and how many for each packed byte above that. Databases of empty pages
/// reach a few hundred.
const UNPACKED_FREE: u64 = 64 << 20;
const RATIO_MAX: u64 = 400;
/// Read at a time.
const CHUNK: usize = 64 << 10;

/// An archive whose manifest has been read.
pub struct Archive {
    path: PathBuf,
    manifest: Manifest,
    input: Input,
}

type Unzip = GzDecoder<BufReader<Box<dyn Read>>>;

struct Input {
    unzip: Unzip,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
}

impl Archive {
    /// Opens an archive and reads its manifest.
    ///
    /// # Errors
    /// When it cannot be read or decrypted, or is refused.
    pub fn open(path: &Path, identity: Option<&Path>) -> Result<Self, BackupError> {
        // NONBLOCK: opening a FIFO must not wait for a writer.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io("open", path))?;
        if !file.metadata().map_err(io("look at", path))?.is_file() {
            return Err(refused(path, "it is no regular file"));
        }
        let packed = Rc::new(Cell::new(0));
        let mut input = BufReader::new(Counted { inner: file, count: Rc::clone(&packed) });
        let encrypted = crypt::is_encrypted(input.fill_buf().map_err(io("read", path))?);
        let plain: Box<dyn Read> =
            if encrypted { crypt::decrypt(input, path, identity)? } else { Box::new(input) };
        let mut input = Input { unzip: GzDecoder::new(BufReader::new(plain)), packed, unpacked: 0 };
        let manifest = read_manifest(&mut input).map_err(|why| refused(path, why))?;
        if manifest.encrypted && !encrypted {
            return Err(refused(path, "it holds secrets and is not encrypted"));
        }
        Ok(Self { path: path.to_owned(), manifest, input })
    }

    /// What it says that it holds.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads all of it, and compares every file with the manifest. Nothing is written.
    ///
    /// # Errors
    /// When it is refused.
    pub fn verify(self, progress: Progress<'_>) -> Result<Manifest, BackupError> {
        self.unpack(&|_| None, progress)
    }

    /// Reads all of it, and writes each file, mode 0600, to where `target` says; it must not exist. What was written
    /// before an error is the caller's to remove.
    ///
    /// # Errors
    /// When a file cannot be written, or the archive is refused.
    pub fn unpack(
        self,
        target: &dyn Fn(&Inside) -> Option<PathBuf>,
        progress: Progress<'_>,
    ) -> Result<Manifest, BackupError> {
        let Self { path, manifest, mut input } = self;
        for file in &manifest.files {
            let why = |why: String| refused(&path, why);
            let header = input.header().map_err(why)?;
            let Some(header) = header else {
                return Err(refused(&path, format!("it ends before {}", file.path)));
            };
            // In the manifest's order, and so nothing twice and nothing else.
            if header.path != file.path.to_string() || header.size != file.size {
                let found = format!("it has {:?} of {} bytes", header.path, header.size);
                return Err(refused(
                    &path,
                    format!("{found} where its manifest has {} of {}", file.path, file.size),
                ));
            }
            let target = target(&file.path);
            let mut out = target.as_deref().map(create).transpose()?;
            let digest = input.file(file.size, &path, target.as_deref(), out.as_mut(), progress)?;
            if digest != file.sha256 {
                return Err(refused(
                    &path,
                    format!("{} does not have the digest of the manifest", file.path),
                ));
            }
            if let (Some(out), Some(target)) = (out, target) {
                out.sync_all().map_err(io("sync", &target))?;
            }
        }
        input.end().map_err(|why| refused(&path, why))?;
        Ok(manifest)
    }
}

fn refused(path: &Path, why: impl Into<String>) -> BackupError {
    BackupError::Refused { path: path.to_owned(), why: why.into() }
}

fn create(target: &Path) -> Result<File, BackupError> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(target).map_err(io("create", target))
}

fn read_manifest(input: &mut Input) -> Result<Manifest, String> {
    let header = input.header()?.filter(|header| header.path == manifest::FILE_NAME);
    let header = header.ok_or("it does not begin with a manifest")?;
    if header.size > manifest::BYTES_MAX {
        return Err(format!("its manifest of {} bytes is too large", header.size));
    }
    let mut bytes = vec![0; usize::try_from(header.size).map_err(|error| error.to_string())?];
    input.exactly(&mut bytes)?;
    input.skip_padding(header.size)?;
    Manifest::parse(&bytes)
}

impl Input {
    fn header(&mut self) -> Result<Option<tar::Header>, String> {
        let mut block = [0; tar::BLOCK];
        self.exactly(&mut block)?;
        tar::decode(&block)
    }

    /// Copies a file and returns its digest.
    fn file(
        &mut self,
        size: u64,
        path: &Path,
        target: Option<&Path>,
        mut out: Option<&mut File>,
        progress: Progress<'_>,
    ) -> Result<String, BackupError> {
        let mut digest = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut left = size;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let bytes = &mut chunk[..length];
            self.exactly(bytes).map_err(|why| refused(path, why))?;
            digest.update(&*bytes);
            if let (Some(out), Some(target)) = (out.as_mut(), target) {
                out.write_all(bytes).map_err(io("write", target))?;
            }
            left -= length as u64;
            progress(length as u64);
        }
        self.skip_padding(size).map_err(|why| refused(path, why))?;
        Ok(hex(&digest.finalize()))
    }

    fn skip_padding(&mut self, size: u64) -> Result<(), String> {
        let mut rest = [0; tar::BLOCK];
        self.exactly(&mut rest[..tar::padding(size)])?;
        if rest.iter().all(|&byte| byte == 0) {
            Ok(())
        } else {
            Err("a file has bytes after its end".to_owned())
        }
    }

    /// The two blocks of zeroes, the checksum of gzip, and nothing behind either.
    fn end(mut self) -> Result<(), String> {
        for _ in 0..2 {
            if let Some(header) = self.header()? {
                return Err(format!("it has {:?}, which its manifest does not have", header.path));
            }
        }
        let broken = |error: io::Error| format!("it is damaged: {error}");
        if self.unzip.read(&mut [0]).map_err(broken)? != 0 {
            return Err("it has bytes after its end".to_owned());
        }
        let mut rest = self.unzip.into_inner();
        if rest.fill_buf().map_err(broken)?.is_empty() {
            Ok(())
        } else {
            Err("it has bytes after its end".to_owned())
        }
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.unzip.read_exact(bytes).map_err(|error| {
            let cut = error.kind() == io::ErrorKind::UnexpectedEof;
            if cut { "it is cut off".to_owned() } else { format!("it is damaged: {error}") }
        })?;
        self.unpacked += bytes.len() as u64;
        let most = UNPACKED_FREE.max(self.packed.get().saturating_mul(RATIO_MAX));
        if self.unpacked > most { Err("it unpacks to far more than it should".to_owned()) } else { Ok(()) }
    }
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}
