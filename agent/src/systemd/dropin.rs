//! The drop-in files in which systemd keeps properties that were set until the next boot. It has no call that
//! removes a single one, so ours are removed here once their property is as before: one that stays would shadow
//! later changes of the unit's own file.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::cgroup::shown;
use crate::systemd::error::SystemdError;
use crate::systemd::property::Property;
use crate::systemd::unit::Unit;

/// Longest drop-in that is kept to be written back. systemd's own have a few lines.
const MOST: u64 = 64 * 1024;

/// Where systemd writes a property of a unit that is set until the next boot (`unit_drop_in_dir` of
/// src/core/unit.c).
#[must_use]
pub fn path(run: &Path, unit: &Unit, property: Property) -> PathBuf {
    let place = if unit.transient { "systemd/transient" } else { "systemd/system.control" };
    run.join(place).join(format!("{}.d", unit.id)).join(format!("50-{}.conf", property.setting()))
}

/// What is in it; `None` when it is not there.
///
/// # Errors
/// When it cannot be read, or is longer than 64 KiB.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, SystemdError> {
    let failed = |source| error("read", path, source);
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(failed(io::Error::other(format!("longer than {MOST} bytes"))));
    }
    Ok(Some(bytes))
}

/// Makes it as it was: with these contents, or absent. Its directory goes with it when it is empty then.
///
/// # Errors
/// When it can be neither written nor removed.
pub fn restore(path: &Path, before: Option<&[u8]>) -> Result<(), SystemdError> {
    if read(path)?.as_deref() == before {
        return Ok(());
    }
    let Some(before) = before else {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(error("remove", path, source));
            }
            Ok(()) | Err(_) => {}
        }
        let Some(dir) = path.parent() else { return Ok(()) };
        return match std::fs::remove_dir(dir) {
            // Other properties of the unit are kept there, or systemd was faster.
            Ok(()) => Ok(()),
            Err(source)
                if matches!(source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) =>
            {
                Ok(())
            }
            Err(source) => Err(error("remove", dir, source)),
        };
    };
    // Beside it first: a half-written drop-in would be read at the next daemon-reload.
    let beside = path.with_extension("conf.process-throttler");
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&beside)
        .and_then(|mut file| file.write_all(before))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| error("write", path, source))
}

fn error(operation: &'static str, path: &Path, source: io::Error) -> SystemdError {
    SystemdError::DropIn { operation, path: shown(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_is_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.service.d/50-CPUQuota.conf");
        restore(&path, None).unwrap();
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "ours").unwrap();
        restore(&path, Some(b"theirs")).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"theirs");
        std::fs::write(path.with_file_name("other.conf"), "").unwrap();
        restore(&path, None).unwrap();
        assert!(!path.exists() && path.parent().unwrap().exists());
        std::fs::write(&path, "ours").unwrap();
        std::fs::remove_file(path.with_file_name("other.conf")).unwrap();
        restore(&path, None).unwrap();
        assert!(!path.parent().unwrap().exists());
    }
}
