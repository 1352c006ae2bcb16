//! Finding processes by what people remember of them. Works from `/proc` alone; never finds itself.

use clap::ValueEnum;
use regex::bytes::{Regex, RegexBuilder};

use super::error::{CliResult, failed, usage};
use super::globals::Context;
use crate::clock;
use crate::model::id::ProcKey;
use crate::procfs::Proc;
use crate::procfs::listing::{CpuTimes, Row};

/// What a pattern is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Field {
    /// The name that a process has given itself, at most 15 bytes
    #[default]
    Name,
    /// The command line, arguments joined by spaces
    Cmdline,
    /// The path of the executable
    Exe,
    /// Name or number of the user
    User,
    /// The path of the cgroup
    Cgroup,
    /// The process id
    Pid,
}

/// Which processes.
#[derive(Debug)]
pub(super) struct Query {
    field: Field,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Exact(Vec<u8>),
    Regex(Box<Regex>),
}

/// Bound on a compiled pattern, in bytes: whoever runs this may be root.
const REGEX_MAX: usize = 1 << 20;

impl Query {
    /// Compiles a pattern: a regular expression found anywhere in the field or, if `exact`, its whole text.
    /// A pid is always compared whole.
    ///
    /// # Errors
    /// When the pattern is empty, no regular expression, or no pid.
    pub(super) fn new(pattern: &str, field: Field, exact: bool) -> CliResult<Self> {
        if pattern.is_empty() {
            return Err(usage("the pattern is empty, which would match every process").into());
        }
        if field == Field::Pid && pattern.parse::<u32>().is_err() {
            return Err(usage(format!("{pattern:?} is not a pid")).into());
        }
        let test = if exact || field == Field::Pid {
            Test::Exact(pattern.as_bytes().to_vec())
        } else {
            let regex = RegexBuilder::new(pattern).size_limit(REGEX_MAX).build();
            Test::Regex(Box::new(regex.map_err(|error| usage(format!("pattern {pattern:?}: {error}")))?))
        };
        Ok(Self { field, test })
    }

    fn matches(&self, row: &Row) -> bool {
        match self.field {
            Field::Name => self.holds(row.comm.bytes()),
            Field::Cmdline => self.holds(&row.cmdline),
            Field::Exe => row.exe.as_deref().is_some_and(|exe| self.holds(exe)),
            Field::Cgroup => row.cgroup.as_deref().is_some_and(|path| self.holds(path)),
            Field::Pid => self.holds(row.key.pid.to_string().as_bytes()),
            Field::User => {
                self.holds(row.uid.to_string().as_bytes())
                    || user_name(row.uid).is_some_and(|name| self.holds(name.as_bytes()))
            }
        }
    }

    fn holds(&self, text: &[u8]) -> bool {
        match &self.test {
            Test::Exact(wanted) => text == wanted,
            Test::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Name of a user, if the user database knows one.
#[must_use]
pub(super) fn user_name(uid: u32) -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// Opens the host's `/proc`.
///
/// # Errors
/// When it cannot be opened.
pub(super) fn host(context: &Context) -> CliResult<Proc> {
    Proc::of_host(&context.dirs.host.proc).map_err(|error| failed(&error))
}

/// Every process but this one, CPU use over their lives.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn all(proc: &Proc) -> CliResult<Vec<Row>> {
    let rows = proc.rows(clock::now(), None).map_err(|error| failed(&error))?;
    Ok(without_self(rows))
}

/// As [`all`], CPU use since an earlier look.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn all_since(proc: &Proc, base: &CpuTimes) -> CliResult<Vec<Row>> {
    let rows = proc.rows(clock::now(), Some(base)).map_err(|error| failed(&error))?;
    Ok(without_self(rows))
}

/// As [`all`], CPU use measured over `interval`.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn sampled(proc: &Proc, interval: std::time::Duration) -> CliResult<Vec<Row>> {
    Ok(without_self(proc.sample(interval).map_err(|error| failed(&error))?))
}

/// Processes that the query finds, by pid.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn find(proc: &Proc, query: &Query) -> CliResult<Vec<Row>> {
    Ok(all(proc)?.into_iter().filter(|row| query.matches(row)).collect())
}

/// Processes that the query finds and that may be meant by a limit: not the shell that this command was typed
/// into, whose command line holds the pattern, nor any other ancestor, nor kernel threads.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn find_targets(proc: &Proc, query: &Query) -> CliResult<Vec<Row>> {
    let rows = all(proc)?;
    let ancestors = ancestors(&rows);
    let meant = |row: &Row| !row.kthread && !ancestors.contains(&row.key.pid) && query.matches(row);
    Ok(rows.into_iter().filter(|row| meant(row)).collect())
}

/// The process behind a pid now.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn key_of(proc: &Proc, pid: u32) -> CliResult<Option<ProcKey>> {
    let process = proc.process(pid).map_err(|error| failed(&error))?;
    Ok(process.map(|process| process.key))
}

fn without_self(mut rows: Vec<Row>) -> Vec<Row> {
    let own = std::process::id();
    rows.retain(|row| row.key.pid != own);
    rows
}

/// Pids from this process's parent up to init.
fn ancestors(rows: &[Row]) -> Vec<u32> {
    let mut found = Vec::new();
    let mut pid = std::os::unix::process::parent_id();
    // The table was read while processes came and went: a circle must not hang us.
    while pid != 0 && !found.contains(&pid) {
        found.push(pid);
        pid = rows.iter().find(|row| row.key.pid == pid).map_or(0, |row| row.ppid);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_finds_itself_nor_limits_its_parents() {
        let proc = Proc::host().unwrap();
        let own = std::process::id();
        let everything = Query::new(".", Field::Name, false).unwrap();
        let found = find(&proc, &everything).unwrap();
        assert!(!found.is_empty() && found.iter().all(|row| row.key.pid != own));
        let parent = Query::new(&std::os::unix::process::parent_id().to_string(), Field::Pid, false).unwrap();
        assert_eq!(find(&proc, &parent).unwrap().len(), 1);
        assert!(find_targets(&proc, &parent).unwrap().is_empty());
    }

    #[test]
    fn patterns_that_cannot_be_meant() {
        for (pattern, field) in
            [("", Field::Name), ("(", Field::Name), ("x", Field::Pid), ("a{99999}{9999}", Field::Name)]
        {
            assert!(Query::new(pattern, field, false).is_err(), "{pattern:?}");
        }
        assert!(Query::new("(", Field::Name, true).is_ok(), "an exact text is no regular expression");
    }
}
