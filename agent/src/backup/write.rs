//! Writing an archive: to a temporary file that takes the archive's name when it is whole and on the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::RenameFlags;

use super::crypt::Sink;
use super::error::{BackupError, io};
use super::inside::Inside;
use super::manifest::{self, Manifest};
use super::{Progress, tar};

/// Writes an archive of files that lie where `source` says, mode 0600. Files that are larger than the manifest says are
/// cut off there.
///
/// # Errors
/// When a file cannot be read, or the archive cannot be written or exists.
pub(super) fn write(
    archive: &Path,
    temporary: &Path,
    manifest: &Manifest,
    recipients: &[age::x25519::Recipient],
    source: &dyn Fn(&Inside) -> std::path::PathBuf,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary);
    let out = out.map_err(io("create", temporary))?;
    let mut zip = GzEncoder::new(Sink::new(out, recipients)?, Compression::default());
    let written = io("write", temporary);
    let mtime = manifest.created.as_second();
    pack(&mut zip, manifest, mtime, source, progress)?;
    let finished = zip.write_all(&[0; 2 * tar::BLOCK]).and_then(|()| zip.finish()).and_then(Sink::finish);
    let out = finished.map_err(written)?;
    out.sync_all().map_err(io("sync", temporary))?;
    let place = rustix::fs::CWD;
    match rustix::fs::renameat_with(place, temporary, place, archive, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists(manifest.name.to_string())),
        Err(errno) => return Err(io("rename to", archive)(errno.into())),
    }
    match archive.parent() {
        Some(dir) => File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir)),
        None => Ok(()),
    }
}

fn pack(
    zip: &mut impl Write,
    manifest: &Manifest,
    mtime: i64,
    source: &dyn Fn(&Inside) -> std::path::PathBuf,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let name = Path::new(manifest::FILE_NAME);
    let text =
        serde_json::to_vec_pretty(manifest).map_err(|error| io("write", name)(io::Error::other(error)))?;
    entry(zip, "", manifest::FILE_NAME, &mut text.as_slice(), text.len() as u64, (0o600, mtime), &mut |_| {})
        .map_err(io("pack", name))?;
    for file in &manifest.files {
        let from = source(&file.path);
        let mut input = File::open(&from).map_err(io("open", &from))?;
        let (prefix, name) = file.path.split();
        entry(zip, &prefix, name, &mut input, file.size, (file.mode, mtime), progress)
            .map_err(io("pack", &from))?;
    }
    Ok(())
}

fn entry(
    zip: &mut impl Write,
    prefix: &str,
    name: &str,
    input: &mut dyn io::Read,
    size: u64,
    (mode, mtime): (u32, i64),
    progress: Progress<'_>,
) -> io::Result<()> {
    let header = tar::encode(prefix, name, size, mode, mtime);
    zip.write_all(&header.ok_or_else(|| io::Error::other("its name or size does not fit into an archive"))?)?;
    let mut chunk = vec![0; 64 << 10];
    let mut input = input.take(size);
    let mut done = 0;
    loop {
        let read = input.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        zip.write_all(&chunk[..read])?;
        done += read as u64;
        progress(read as u64);
    }
    if done != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    zip.write_all(&[0; tar::BLOCK][..tar::padding(size)])
}
