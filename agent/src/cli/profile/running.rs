//! A profile made of the processes that run now: one rule per program, disabled, for somebody to edit. Limits nothing.

use std::collections::BTreeMap;

use clap::Args;

use crate::cli::error::{CliResult, usage};
use crate::cli::globals::Context;
use crate::cli::processes::{self, Field, Query};
use crate::config::export::quoted;
use crate::control::failure::{Failure, FailureKind};
use crate::model::id::{NAME_MAX, Name};
use crate::model::plural::counted;
use crate::procfs::listing::Row;

/// Most rules: nobody edits more.
const RULES_MAX: usize = 64;
/// What the kernel appends to the path of an executable that was removed or replaced (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

/// Which processes.
#[derive(Args, Debug)]
pub(super) struct Running {
    /// Make a disabled rule for each program that runs now
    #[arg(long)]
    from_running: bool,
    /// Only of processes that this regular expression finds
    #[arg(long, value_name = "RE", requires = "from_running")]
    pattern: Option<String>,
    /// What the pattern is compared with
    #[arg(long = "match", value_enum, value_name = "FIELD", default_value_t, requires = "pattern")]
    field: Field,
    /// The field must equal the pattern, which is then no regular expression
    #[arg(long, requires = "pattern")]
    exact: bool,
}

/// Processes of one rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Program {
    exe: String,
    /// Path of the cgroup of the service that they are in.
    service: Option<String>,
}

impl Running {
    /// Whether it was asked for.
    pub(super) const fn is_asked(&self) -> bool {
        self.from_running
    }

    /// The text of the profile.
    ///
    /// # Errors
    /// When no process is found, or too many different programs are.
    pub(super) fn profile(&self, context: &Context, name: &Name) -> CliResult<String> {
        let pattern = self.pattern.as_deref().unwrap_or(".*");
        let field = if self.pattern.is_some() { self.field } else { Field::Name };
        let query = Query::new(pattern, field, self.exact)?;
        let rows = processes::find_targets(&processes::host(context)?, &query)?;
        let (programs, passed) = programs(&rows);
        if passed > 0 {
            let message = format!(
                "{} passed over: the executable is unknown or no text",
                counted(passed, "process is", "processes are")
            );
            context.output.message(&message);
        }
        if programs.is_empty() {
            return Err(Failure::new(FailureKind::NotFound, format!("no process matches {pattern:?}")).into());
        }
        if programs.len() > RULES_MAX {
            let failure = usage(format!("{} programs are more than {RULES_MAX} rules", programs.len()));
            return Err(failure.with_hint("choose some of them with --pattern and --match").into());
        }
        Ok(text(name, &programs))
    }
}

/// Pids by program, and the number of processes that none is known of.
fn programs(rows: &[Row]) -> (BTreeMap<Program, Vec<u32>>, usize) {
    let (mut programs, mut passed) = (BTreeMap::<Program, Vec<u32>>::new(), 0);
    for row in rows {
        match program(row) {
            Some(program) => programs.entry(program).or_default().push(row.key.pid),
            None => passed += 1,
        }
    }
    (programs, passed)
}

fn program(row: &Row) -> Option<Program> {
    let exe = row.exe.as_deref()?;
    let exe = exe.strip_suffix(DELETED).unwrap_or(exe);
    let exe = std::str::from_utf8(exe).ok().filter(|exe| exe.starts_with('/') && is_plain(exe))?;
    let cgroup = row.cgroup.as_deref().and_then(|path| std::str::from_utf8(path).ok());
    Some(Program { exe: exe.to_owned(), service: cgroup.and_then(service).map(str::to_owned) })
}

/// The part of a cgroup's path up to the service's own, as systemd names them.
fn service(path: &str) -> Option<&str> {
    let end = path.find(".service").map(|at| at + ".service".len())?;
    let service = path.get(..end)?;
    let is_whole = path.get(end..).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // What has another meaning in a pattern is left out rather than escaped: people are to read this.
    let is_plain = service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/:-_.@".contains(&byte));
    (is_whole && service.starts_with('/') && is_plain).then_some(service)
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn text(name: &Name, programs: &BTreeMap<Program, Vec<u32>>) -> String {
    let mut text = format!(
        "# Made of the processes that ran at the time. Every rule is disabled: keep those that are meant, choose their
# limits, and enable them. What must live belongs under critical_processes.
name: {name}
version: \"1.0\"
throttling_rules:
"
    );
    let mut taken: Vec<String> = Vec::new();
    for (program, pids) in programs {
        let name = unique(program, &taken);
        let count = pids.len();
        let noun = if count == 1 { "process" } else { "processes" };
        let service = program.service.as_deref().map(glob_of_service).unwrap_or_default();
        let exe = quoted(&program.exe);
        text.push_str(&format!(
            "  # {count} {noun}
  - name: {name}
    match: {{ exe: {exe}{service} }}
    limits: {{ cpu_weight: 50 }}
    enabled: false
"
        ));
        taken.push(name);
    }
    text
}

/// A service's own cgroup and those below it.
fn glob_of_service(path: &str) -> String {
    format!(", cgroup: {}", quoted(&format!("{{{path},{path}/**}}")))
}

/// A valid name out of a program's file name, unlike those before it.
fn unique(program: &Program, taken: &[String]) -> String {
    let file = program.exe.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let slug: String = file.chars().map(|c| if is_good(c) { c } else { '-' }).take(NAME_MAX - 4).collect();
    let slug = slug.trim_matches(['.', '_', '-']);
    let base = if slug.is_empty() { "program" } else { slug };
    let mut name = base.to_owned();
    let mut number = 1;
    while taken.contains(&name) {
        number += 1;
        name = format!("{base}-{number}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Source;
    use crate::config::host::Host;
    use crate::config::profile::parse;

    fn program(exe: &str, service: Option<&str>) -> Program {
        Program { exe: exe.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn whatever_runs_gives_a_valid_profile() {
        let name: Name = "now".parse().unwrap();
        let programs: BTreeMap<Program, Vec<u32>> = [
            (program("/usr/sbin/nginx", Some("/system.slice/nginx.service")), vec![1, 2]),
            (program("/opt/x y/{z}: 'ö' #\\", None), vec![3]),
            (program("/opt/other/nginx", Some("/system.slice/a@1.service")), vec![4]),
            (program("/...", None), vec![5]),
        ]
        .into();
        let text = text(&name, &programs);
        let (profile, findings) =
            parse(&Source::new("/now.yaml".into(), text.clone()), None, &Host::detect());
        let profile = profile.unwrap_or_else(|| panic!("{findings}\n{text}"));
        let names: Vec<_> = profile.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["program", "nginx", "z", "nginx-2"], "{text}");
        assert!(profile.rules.iter().all(|rule| !rule.enabled));
        assert!(text.contains("{ exe: /usr/sbin/nginx, cgroup: \"{/system.slice/nginx.service,/system.slice/nginx.service/**}\" }"), "{text}");
    }

    #[test]
    fn services_are_found_by_their_whole_name() {
        assert_eq!(service("/system.slice/a.service/sub"), Some("/system.slice/a.service"));
        assert_eq!(service("/system.slice/a.service"), Some("/system.slice/a.service"));
        for other in ["/user.slice/x.scope", "/a.services", "/system.slice/a\\x2db.service", "/a*.service"] {
            assert_eq!(service(other), None, "{other}");
        }
    }
}
