//! The command's program: found as a shell finds it, before anything is limited, and executed at the end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, access};

use crate::cli::error::{CliError, CliResult, usage};
use crate::control::failure::{Failure, FailureKind};
use crate::model::process::Comm;

/// What shells return for a command that is not there (POSIX, Shell Command Language 2.8.2).
const NOT_FOUND: u8 = 127;
/// What they return for one that is there and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// Where execvp(3) looks when there is no `PATH`.
const PATH: &str = "/bin:/usr/bin";

/// A program and its arguments.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// Finds it.
    ///
    /// # Errors
    /// When there is none, or none that may be executed.
    pub(super) fn find(command: &[OsString]) -> CliResult<Self> {
        Self::find_in(command, &std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
    }

    fn find_in(command: &[OsString], path: &OsStr) -> CliResult<Self> {
        let Some((name, arguments)) = command.split_first().filter(|(name, _)| !name.is_empty()) else {
            return Err(usage("no command is given").into());
        };
        let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
            vec![PathBuf::from(name)]
        } else {
            std::env::split_paths(path).map(|dir| Path::new(".").join(dir).join(name)).collect()
        };
        let mut denied = None;
        for path in candidates {
            match executable(&path) {
                Ok(()) => return Ok(Self { path, name: name.clone(), arguments: arguments.to_vec() }),
                Err(error) if is_absent(&error) => {}
                Err(error) => denied = denied.or(Some((path, error))),
            }
        }
        Err(match denied {
            Some((path, error)) => unstarted(&path, &error),
            None => {
                let message = format!("command {} is not found", Path::new(name).display());
                let failure = Box::new(Failure::new(FailureKind::NotFound, message));
                CliError::Unstarted { code: NOT_FOUND, failure }
            }
        })
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The name that its process will have.
    pub(super) fn comm(&self) -> Comm {
        let name = self.path.file_name().unwrap_or_default().as_bytes();
        Comm::from_bytes(name.get(..15).unwrap_or(name))
    }

    /// The executable that its process will show; not known of a script, which shows its interpreter.
    pub(super) fn exe(&self) -> Option<Vec<u8>> {
        let mut head = [0; 2];
        File::open(&self.path).and_then(|mut file| file.read_exact(&mut head)).ok()?;
        let path = self.path.canonicalize().ok().filter(|_| head != *b"#!")?;
        Some(path.into_os_string().into_encoded_bytes())
    }

    /// Its command line, arguments joined by spaces.
    pub(super) fn cmdline(&self) -> Vec<u8> {
        let words = std::iter::once(&self.name).chain(&self.arguments);
        words.map(|word| word.as_bytes()).collect::<Vec<_>>().join(&b' ')
    }

    /// Replaces this process by it. Returns only when that fails, with what to say.
    pub(super) fn become_it(&self) -> CliError {
        let error = Command::new(&self.path).arg0(&self.name).args(&self.arguments).exec();
        unstarted(&self.path, &error)
    }
}

fn executable(path: &Path) -> io::Result<()> {
    if path.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    access(path, Access::EXEC_OK).map_err(io::Error::from)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unstarted(path: &Path, error: &io::Error) -> CliError {
    let code = if is_absent(error) { NOT_FOUND } else { NOT_EXECUTABLE };
    let failure = Failure::new(FailureKind::Failed, format!("execute {}: {error}", path.display()));
    CliError::Unstarted { code, failure: Box::new(failure) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn code(found: CliResult<Program>) -> u8 {
        match found {
            Err(CliError::Unstarted { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn is_found_as_a_shell_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, script) = (dir.path().join("plain"), dir.path().join("a-very-long-script-name"));
        std::fs::write(&plain, "x").unwrap();
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("/nowhere:{}:/bin", dir.path().display());
        let find = |command: &str| Program::find_in(&words(command), path.as_ref());

        let found = find("a-very-long-script-name -x 1").unwrap();
        assert_eq!(found.path(), script);
        assert_eq!(found.comm().bytes(), b"a-very-long-scr");
        assert_eq!((found.exe(), found.cmdline()), (None, b"a-very-long-script-name -x 1".to_vec()));
        let shell = find("sh").unwrap();
        assert_eq!(shell.exe().unwrap(), Path::new("/bin/sh").canonicalize().unwrap().as_os_str().as_bytes());
        assert_eq!(code(find("plain")), NOT_EXECUTABLE);
        assert_eq!(code(find("/tmp")), NOT_EXECUTABLE);
        assert_eq!(code(find("no-such-command")), NOT_FOUND);
        assert_eq!(code(find("/bin/sh/x")), NOT_FOUND);
        assert!(matches!(find(""), Err(CliError::Failed(failure)) if failure.kind == FailureKind::Usage));
    }
}
