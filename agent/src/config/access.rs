//! Who may do what over the control socket, as written under `access:`, to [`Access`].

use super::error::Findings;
use super::fields::{Cursor, Map};
use super::host::{Host, Lookup};
use super::matching;
use super::settings::{Group, SOCKET_GROUP};
use crate::model::access::{Access, Account, Grant, Reach, Role};

/// Most grants; each is looked through for every request.
const GRANTS_MAX: usize = 128;

/// Reads the key. `group` is the name of the control socket's group.
pub(super) fn parse(at: Option<&Cursor<'_>>, group: &str, host: &Host, findings: &mut Findings) -> Access {
    let mut access = Access { group: group.to_owned(), ..Access::default() };
    let Some(map) = at.and_then(|at| at.map(&["members", "grants"], &[], findings)) else { return access };
    if let Some(members) = map.get("members") {
        let roles = Role::ALL.map(|role| (role.as_str(), Some(role)));
        let choices: Vec<_> = roles.into_iter().chain([("none", None)]).collect();
        access.members = members.choice(&choices, findings).flatten();
    }
    let grants = map.get("grants").and_then(|at| at.list(findings)).unwrap_or_default();
    if let Some(first) = grants.get(GRANTS_MAX) {
        findings
            .push(first.error(format!("more than {GRANTS_MAX} grants")).with_fix("name groups, not users"));
    }
    access.grants = grants.iter().filter_map(|at| grant(at, host, findings)).collect();
    access
}

fn grant(at: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Grant> {
    let map = at.map(&["role", "users", "groups", "only"], &[], findings)?;
    let role = map.required("role", findings)?.choice(&Role::ALL.map(|role| (role.as_str(), role)), findings);
    let users = accounts(&map, "users", "user", host.user, findings);
    let groups = accounts(&map, "groups", "group", host.group, findings);
    if map.get("users").is_none() && map.get("groups").is_none() {
        findings.push(at.error("this grant names nobody").with_fix("add users: [NAME] or groups: [NAME]"));
    }
    let only = match map.get("only") {
        // Left out, a reach that is wrong would be no limit at all.
        Some(only) => Some(reach(only, role, findings)?),
        None => None,
    };
    Some(Grant { role: role?, users, groups, only })
}

fn accounts(map: &Map<'_>, key: &str, kind: &str, lookup: Lookup, findings: &mut Findings) -> Vec<Account> {
    let items = map.get(key).and_then(|at| at.list(findings)).unwrap_or_default();
    let found = items.iter().filter_map(|at| matching::account(at, kind, None, lookup, findings));
    found.map(|(name, id)| Account { name, id }).collect()
}

fn reach(at: &Cursor<'_>, role: Option<Role>, findings: &mut Findings) -> Option<Reach> {
    if let Some(role) = role.filter(|role| *role != Role::Operator) {
        findings.push(
            at.error(format!("only an operator can be limited, and this is {role}"))
                .with_fix("remove it, or write role: operator"),
        );
        return None;
    }
    let map = at.map(&["users", "cgroups"], &[], findings)?;
    let mut globs = |key: &str| -> Option<Vec<String>> {
        let Some(at) = map.get(key) else { return Some(Vec::new()) };
        let globs = at.list(findings)?;
        if globs.is_empty() {
            findings.push(
                at.error("an empty list matches nothing").with_fix("remove the key, or name something"),
            );
            return None;
        }
        globs.iter().map(|at| glob(at, findings)).collect()
    };
    let (users, cgroups) = (globs("users"), globs("cgroups"));
    let reach = Reach { users: users?, cgroups: cgroups? };
    if reach == Reach::default() {
        findings.push(at.error("it limits to nothing").with_fix("add users: [GLOB] or cgroups: [GLOB]"));
        return None;
    }
    Some(reach)
}

fn glob(at: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let text = at.text(findings)?;
    matching::glob(at, text, findings).then(|| text.to_owned())
}

/// The group of the control socket, which may be missing where nobody has named it.
pub(super) fn socket_group(at: Option<&Cursor<'_>>, host: &Host, findings: &mut Findings) -> Option<Group> {
    let name = match at {
        Some(at) => at.text(findings)?,
        None => SOCKET_GROUP,
    };
    let problem = match (host.group)(name) {
        Ok(Some(gid)) => return Some(Group { name: name.to_owned(), gid }),
        Ok(None) => format!("there is no group {name:?} on this machine"),
        Err(error) => format!("looking up group {name:?} failed: {error}"),
    };
    // The default group is optional.
    if let Some(at) = at {
        findings
            .push(at.error(problem).with_fix(format!("create it with: groupadd --system {SOCKET_GROUP}")));
    }
    None
}
