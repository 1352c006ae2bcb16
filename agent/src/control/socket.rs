//! The socket's file: made without a moment in which it is too open, never taken from a living server, and made again
//! when somebody deletes it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::Gid;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Who may connect: the owner and the group.
const MODE: u32 = 0o660;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another server answers on it.
    #[error("control socket {0} is in use by another process")]
    InUse(PathBuf),
    /// The path holds something that this program did not make.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The service manager listens elsewhere than the agent was told to.
    #[error("the service manager passed {passed} instead of the control socket {path}")]
    Elsewhere {
        /// Where it listens.
        passed: String,
        /// Where it should.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// A bound socket; its file goes when this is dropped, unless somebody else has put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// Binds `path` with mode 0660 and the given group.
///
/// The socket is born in a private directory and moved to its place when mode and group are right: a umask
/// is of the whole process, and a chmod after the bind would come late.
pub(super) fn bind(path: &Path, group: Gid) -> Result<(UnixListener, SocketFile), BindError> {
    refuse_if_taken(path)?;
    bear(path, |born| {
        std::os::unix::fs::chown(born, None, Some(group.as_raw())).map_err(|source| BindError::Io {
            operation: "change the group of",
            path: born.to_owned(),
            source,
        })
    })
}

/// Binds `path` again, whose file somebody has deleted. Where this process may not give it to the group any more, it
/// stays with its own: fewer users may ask then, not more.
pub(super) fn bind_again(path: &Path, group: Gid) -> Result<(UnixListener, SocketFile), BindError> {
    bear(path, |born| {
        if let Err(error) = std::os::unix::fs::chown(born, None, Some(group.as_raw())) {
            let (path, gid) = (path.display(), group.as_raw());
            tracing::warn!(%error, "{path} is not for group {gid} until the agent is started again");
        }
        Ok(())
    })
}

fn bear(
    path: &Path,
    give: impl FnOnce(&Path) -> Result<(), BindError>,
) -> Result<(UnixListener, SocketFile), BindError> {
    let io = |operation: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| BindError::Io { operation, path, source }
    };
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nursery = Nursery::create(parent).map_err(io("make a directory in", parent))?;
    let born = nursery.0.join("s");
    let listener = UnixListener::bind(&born).map_err(io("bind", &born))?;
    give(&born)?;
    let mode = std::fs::Permissions::from_mode(MODE);
    std::fs::set_permissions(&born, mode).map_err(io("change the mode of", &born))?;
    let meta = std::fs::symlink_metadata(&born).map_err(io("look at", &born))?;
    std::fs::rename(&born, path).map_err(io("move the socket to", path))?;
    listener.set_nonblocking(true).map_err(io("make non-blocking", path))?;
    Ok((listener, SocketFile { path: path.to_owned(), inode: (meta.dev(), meta.ino()) }))
}

/// Takes over a listening socket that the service manager has bound to `path`, with mode 0660, for the given
/// group. Its file is the manager's and stays. Where this process may not give it to the group, it stays with the
/// manager's: fewer users may ask then, not more.
pub(super) fn adopt(socket: OwnedFd, path: &Path, group: Gid) -> Result<UnixListener, BindError> {
    let io = |operation: &'static str| {
        let path = path.to_owned();
        move |source| BindError::Io { operation, path, source }
    };
    let listener = UnixListener::from(socket);
    let address = listener.local_addr().map_err(io("ask for the address of the socket passed for"))?;
    if address.as_pathname() != Some(path) {
        return Err(BindError::Elsewhere { passed: format!("{address:?}"), path: path.to_owned() });
    }
    let meta = std::fs::symlink_metadata(path).map_err(io("look at"))?;
    // The manager's own setting may be the same; only root with CAP_CHOWN may choose another group.
    if meta.gid() != group.as_raw()
        && let Err(error) = std::os::unix::fs::chown(path, None, Some(group.as_raw()))
    {
        let (path, gid) = (path.display(), group.as_raw());
        tracing::warn!(%error, "{path} is not for group {gid}: set SocketGroup= in the socket unit, too");
    }
    listener.set_nonblocking(true).map_err(io("make non-blocking"))?;
    Ok(listener)
}

/// Tells when something leaves the directory of `path`.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe for other descriptors than owned ones, and this is one"
)]
pub(super) fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    inotify::add_watch(&watch, dir, WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR)?;
    AsyncFd::with_interest(watch, Interest::READABLE)
}

/// Ends when there is nothing at `path` any more; looks when the watch on its directory tells.
pub(super) async fn gone(path: &Path, watch: &AsyncFd<OwnedFd>) -> io::Result<()> {
    while std::fs::symlink_metadata(path).is_ok() {
        let mut ready = watch.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(watch.get_ref(), &mut buffer);
        // What has gone does not matter, only that it was told.
        while events.next().is_ok() {}
        ready.clear_ready();
    }
    Ok(())
}

/// A socket on which nobody listens is a leftover and is replaced; anything else stays.
fn refuse_if_taken(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BindError::Io { operation: "look at", path: path.to_owned(), source }),
        Ok(meta) if !meta.file_type().is_socket() => Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(_) => Err(BindError::InUse(path.to_owned())),
            Err(source) => Err(BindError::Io { operation: "probe", path: path.to_owned(), source }),
        },
    }
}

/// A directory of mode 0700, removed on drop.
struct Nursery(PathBuf);

impl Nursery {
    fn create(parent: &Path) -> io::Result<Self> {
        // Short, because a socket's path holds 107 bytes at most (unix(7)).
        let path = parent.join(format!(".s{}", std::process::id()));
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "temporary directory left behind");
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "control socket left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_group_and_removal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let (listener, file) = bind(&path, nix::unistd::getegid()).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(meta.mode() & 0o7777, MODE);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(bind(&path, nix::unistd::getegid()), Err(BindError::InUse(_))));
        drop((listener, file));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_passed_socket_is_taken_over_where_it_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("control.sock"), dir.path().join("other.sock"));
        let group = nix::unistd::getegid();
        let listener = adopt(UnixListener::bind(&path).unwrap().into(), &path, group).unwrap();
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        drop(listener);
        assert!(path.exists(), "its file is the manager's");
        let elsewhere = adopt(UnixListener::bind(&other).unwrap().into(), &path, group);
        assert!(matches!(elsewhere, Err(BindError::Elsewhere { .. })), "{elsewhere:?}");
        let file = std::fs::File::open(dir.path()).unwrap();
        assert!(matches!(adopt(file.into(), &path, group), Err(BindError::Io { .. })));
    }

    #[test]
    fn a_leftover_is_replaced_but_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (listener, file) = bind(&path, nix::unistd::getegid()).unwrap();
        drop((listener, file));
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, nix::unistd::getegid()), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_deleted_file_is_noticed_and_made_again() {
        const MOMENT: std::time::Duration = std::time::Duration::from_millis(50);
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("control.sock"), dir.path().join("other"));
        let (_listener, file) = bind(&path, nix::unistd::getegid()).unwrap();
        let watch = watch(&path).unwrap();
        std::fs::write(&other, "").unwrap();
        std::fs::remove_file(&other).unwrap();
        tokio::time::timeout(MOMENT, gone(&path, &watch)).await.expect_err("it is still there");
        std::fs::remove_file(&path).unwrap();
        gone(&path, &watch).await.unwrap();
        let (_again, new) = bind_again(&path, nix::unistd::getegid()).unwrap();
        drop(file);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        UnixStream::connect(&path).unwrap();
        drop(new);
        assert!(!path.exists());
    }

    #[test]
    fn a_successor_s_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let (_listener, file) = bind(&path, nix::unistd::getegid()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
