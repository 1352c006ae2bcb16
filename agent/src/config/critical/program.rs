//! Programs that the agent is to run: as written, to validated ones. A program is run without a shell, so its command
//! is a list, and it is trusted as configuration is.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::config::error::Findings;
use crate::config::fields::{Cursor, Map};
use crate::config::file::Value;
use crate::config::host::Host;
use crate::model::critical::Program;

/// The keys of a program, beside those of whatever runs it.
pub(super) const KEYS: [&str; 5] = ["command", "user", "group", "cwd", "env"];
/// Most arguments, and most variables.
const WORDS_MAX: usize = 128;
/// Longest argument, and longest variable, in bytes.
const WORD_MAX: usize = 4_096;

/// Reads a program out of a map that has its keys.
pub(super) fn read(map: &Map<'_>, host: &Host, findings: &mut Findings) -> Option<Program> {
    let command = map.required("command", findings).and_then(|at| command(at, host, findings));
    let user = map.required("user", findings).and_then(|at| account(at, "user", host.user, findings));
    let optional = |key: &str| map.get(key);
    let group = optional("group").map(|at| account(at, "group", host.group, findings));
    let cwd = optional("cwd").map(|at| absolute(at, findings));
    let env = optional("env").map_or(Some(Vec::new()), |at| env(at, findings));
    Some(Program {
        command: command?,
        user: user?,
        group: optional_of(group)?,
        cwd: optional_of(cwd)?,
        env: env?,
    })
}

/// What was not written is none; what was written wrongly spoils the whole.
fn optional_of<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn command(at: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Vec<String>> {
    if let Value::Text(text) = at.value() {
        let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        let finding = at.error("a command is a list: no shell reads it");
        findings.push(finding.with_fix(format!("write [{}]", words.join(", "))));
        return None;
    }
    let items = at.list(findings)?;
    if items.len() > WORDS_MAX {
        findings.push(at.error(format!("{} words are more than {WORDS_MAX}", items.len())));
        return None;
    }
    let Some(first) = items.first() else {
        findings.push(at.error("the command is empty").with_fix("name a program by its absolute path"));
        return None;
    };
    let path = absolute(first, findings)?;
    if let Some(objection) = (host.program)(Path::new(&path)) {
        findings.push(first.error(objection).with_fix("name a program that root alone can change"));
        return None;
    }
    let before = findings.errors();
    let words: Vec<String> = items.iter().filter_map(|item| word(item, findings)).collect();
    (findings.errors() == before).then_some(words)
}

fn word(at: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let text = at.text(findings)?;
    if text.len() > WORD_MAX {
        findings.push(at.error(format!("{} bytes are more than {WORD_MAX}", text.len())));
        return None;
    }
    Some(text.to_owned())
}

/// An absolute path.
pub(super) fn absolute(at: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let text = word(at, findings)?;
    if !text.starts_with('/') {
        findings.push(at.error(format!("{text:?} is no absolute path")).with_fix("begin it with /"));
        return None;
    }
    Some(text)
}

fn account(
    at: &Cursor<'_>,
    what: &str,
    lookup: crate::config::host::Lookup,
    findings: &mut Findings,
) -> Option<String> {
    let name = at.text(findings)?;
    match lookup(name) {
        Ok(Some(_)) => Some(name.to_owned()),
        Ok(None) => {
            findings.push(at.error(format!("there is no {what} {name:?}")).with_fix("correct the name"));
            None
        }
        Err(error) => {
            findings.push(at.error(format!("look up {what} {name:?}: {error}")));
            None
        }
    }
}

fn env(at: &Cursor<'_>, findings: &mut Findings) -> Option<Vec<(String, String)>> {
    let before = findings.errors();
    let items = at.list(findings)?;
    if items.len() > WORDS_MAX {
        findings.push(at.error(format!("{} variables are more than {WORDS_MAX}", items.len())));
        return None;
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for item in items {
        let Some(text) = word(&item, findings) else { continue };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match text.split_once('=') {
            Some((key, value))
                if key.chars().all(plain) && key.starts_with(|c: char| plain(c) && !c.is_ascii_digit()) =>
            {
                if pairs.iter().any(|(other, _)| other == key) {
                    findings.push(item.error(format!("{key} is set twice")).with_fix("remove one of them"));
                }
                pairs.push((key.to_owned(), value.to_owned()));
            }
            Some(_) | None => {
                findings.push(item.error(format!("{text:?} is no variable")).with_fix("write NAME=value"));
            }
        }
    }
    (findings.errors() == before).then_some(pairs)
}

/// What is wrong with a program: it is not there, or somebody other than root could put something else in its place.
/// That matters to nobody but root.
pub(in crate::config) fn objection(path: &Path) -> Option<String> {
    let found = match std::fs::canonicalize(path) {
        Ok(found) => found,
        Err(error) => return Some(format!("look at {}: {error}", path.display())),
    };
    match std::fs::metadata(&found) {
        Ok(file) if !file.is_file() => return Some(format!("{} is no file", path.display())),
        Ok(file) if file.mode() & 0o111 == 0 => return Some(format!("{} is not executable", path.display())),
        Ok(_) => {}
        Err(error) => return Some(format!("look at {}: {error}", found.display())),
    }
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    // The way as written may lead over links, and who can change a directory can change what is in it.
    let ways = [path.to_owned(), found];
    ways.iter().flat_map(|way| steps(way)).find_map(|step| distrust(&step))
}

/// A path and everything above it.
fn steps(path: &Path) -> Vec<PathBuf> {
    let plain = path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    plain.ancestors().map(Path::to_owned).collect()
}

fn distrust(path: &Path) -> Option<String> {
    let stat = match std::fs::symlink_metadata(path) {
        Ok(stat) => stat,
        Err(error) => return Some(format!("look at {}: {error}", path.display())),
    };
    if stat.uid() != 0 {
        return Some(format!(
            "{} belongs to uid {}, who could change what root runs",
            path.display(),
            stat.uid()
        ));
    }
    // A link has no mode of its own. In a sticky directory everybody changes their own files only (inode(7)).
    let others = stat.mode() & 0o022 != 0 && !stat.is_symlink();
    let sticky = stat.is_dir() && stat.mode() & 0o1000 != 0;
    (others && !sticky).then(|| {
        format!(
            "{} has mode {:04o}: others could change what root runs",
            path.display(),
            stat.mode() & 0o7777
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn programs_that_others_can_change_are_not_run() {
        assert_eq!(objection(Path::new("/bin/true")), None);
        assert!(objection(Path::new("/no/such/program")).is_some_and(|why| why.contains("No such file")));
        assert!(objection(Path::new("/etc")).is_some_and(|why| why.contains("no file")));
        assert!(objection(Path::new("/etc/passwd")).is_some_and(|why| why.contains("not executable")));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (program, link) = (dir.path().join("p"), dir.path().join("l"));
        std::fs::write(&program, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&program, 0o755);
        symlink("/bin/true", &link).unwrap();
        assert_eq!((objection(&program), objection(&link)), (None, None));
        mode(&program, 0o775);
        assert!(objection(&program).is_some_and(|why| why.contains("0775")));
        mode(&program, 0o755);
        std::os::unix::fs::chown(&program, Some(65_534), None).unwrap();
        assert!(objection(&program).is_some_and(|why| why.contains("65534")));
        // Whoever owns the directory of a link chooses what it names.
        mode(dir.path(), 0o777);
        assert!(objection(&link).is_some_and(|why| why.contains("0777")));
    }
}
