//! Names of units: ours, and those that are never touched.

use crate::model::id::{Name, ProcKey};

/// The slice in which all of ours are. Slices nest by `-` (systemd.slice(5)), so it is below `process.slice`.
pub const ROOT_SLICE: &str = "process-throttler.slice";
/// What the names of all our units begin with.
pub const PREFIX: &str = "process-throttler-";
/// What the descriptions of all our units begin with, which names alone do not prove.
pub const DESCRIPTION: &str = "process-throttler: ";

/// The slice of a group's place: `process-throttler-<group>.slice`, with `:<pid>:<start>` where a process has the
/// limits to itself. A group's name has no colon, so no two places share a slice.
#[must_use]
pub fn slice(group: &Name, each: Option<ProcKey>) -> String {
    let each = each.map(|key| format!(":{}:{}", key.pid, key.start)).unwrap_or_default();
    format!("{PREFIX}{}{each}.slice", escape(group.as_str()))
}

/// A scope in that slice; numbers are never used twice.
#[must_use]
pub fn scope(group: &Name, each: Option<ProcKey>, stamp: u64) -> String {
    let slice = slice(group, each);
    format!("{}-{stamp:x}.scope", slice.strip_suffix(".slice").unwrap_or(&slice))
}

/// The service that stops a scope when the one it is bound to is restarted.
#[must_use]
pub fn follower(scope: &str) -> String {
    format!("{}.service", scope.strip_suffix(".scope").unwrap_or(scope))
}

/// A scope for a process whose old cgroup is gone when it is released.
#[must_use]
pub fn returned(key: ProcKey, stamp: u64) -> String {
    format!("{PREFIX}returned-{}-{stamp:x}.scope", key.pid)
}

/// The service in which a critical process runs that a command restarts. No group has a colon in its name.
#[must_use]
pub fn restarted(critical: &Name) -> String {
    format!("{PREFIX}restart:{critical}.service")
}

/// The service in which a critical process is checked by a command.
#[must_use]
pub fn check(critical: &Name) -> String {
    format!("{PREFIX}check:{critical}.service")
}

/// The slices above a slice, outermost first, itself last: `a-b.slice` gives `a.slice`, `a-b.slice`.
#[must_use]
pub fn lineage(slice: &str) -> Vec<String> {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    ends.filter_map(|end| stem.get(..end)).map(|stem| format!("{stem}.slice")).collect()
}

/// As systemd-escape(1) does it, as far as a group's name needs it: `-` would nest, and a leading `.` is special.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        if c == '-' || (at == 0 && c == '.') {
            escaped.push_str(&format!("\\x{:02x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Why a unit is never limited, if it is one of those: without them nobody can log in, or learn what happened.
#[must_use]
pub fn never(unit: &str) -> Option<&'static str> {
    const EXACT: [&str; 15] = [
        "init.scope",
        "dbus.service",
        "dbus-broker.service",
        "systemd-journald.service",
        "systemd-udevd.service",
        "systemd-logind.service",
        "elogind.service",
        "ssh.service",
        "sshd.service",
        "rsyslog.service",
        "emergency.service",
        "rescue.service",
        "process-throttler.service",
        "systemd-networkd.service",
        "systemd-resolved.service",
    ];
    const TEMPLATES: [&str; 4] = ["ssh@", "sshd@", "systemd-journald@", "user@"];
    if EXACT.contains(&unit) || TEMPLATES.iter().any(|template| unit.starts_with(template)) {
        return Some("it is one of the units that are never touched");
    }
    if !unit.ends_with(".service") && !unit.ends_with(".scope") {
        return Some("only services and scopes are limited as a whole");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_nest_only_where_they_should() {
        let group: Name = "nightly-backup.1".parse().unwrap();
        let key = ProcKey { pid: 7, start: 9 };
        assert_eq!(slice(&group, None), "process-throttler-nightly\\x2dbackup.1.slice");
        assert_eq!(slice(&group, Some(key)), "process-throttler-nightly\\x2dbackup.1:7:9.slice");
        assert_eq!(scope(&group, None, 255), "process-throttler-nightly\\x2dbackup.1-ff.scope");
        let above =
            ["process.slice", "process-throttler.slice", "process-throttler-nightly\\x2dbackup.1.slice"];
        assert_eq!(lineage(&slice(&group, None)), above);
    }

    #[test]
    fn some_units_are_left_alone() {
        for unit in ["init.scope", "ssh.service", "user@1000.service", "system.slice", "a.socket"] {
            assert!(never(unit).is_some(), "{unit}");
        }
        for unit in ["cron.service", "session-3.scope", "docker-0.scope", "ssh-agent.service"] {
            assert!(never(unit).is_none(), "{unit}");
        }
    }
}
