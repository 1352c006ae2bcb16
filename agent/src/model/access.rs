//! Who may do what over the control socket. Plain values and one decision; looks nobody up and knows no request.

use std::collections::BTreeSet;
use std::fmt;

/// A role. Each is more than looking; only an admin has what the others have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees state and events, changes nothing.
    Viewer,
    /// Sees what a viewer sees, and records and reads what was done by whom.
    Auditor,
    /// Sees what a viewer sees; limits and releases, activates profiles, restarts and acknowledges.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// All, from the one that may least.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Auditor, Self::Operator, Self::Admin];

    /// As the configuration spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether it may do what needs `need`, its limits put aside.
    #[must_use]
    pub const fn grants(self, need: Need) -> bool {
        match need {
            Need::View => true,
            Need::Audit => matches!(self, Self::Auditor | Self::Admin),
            Need::OperateOn | Need::Operate => matches!(self, Self::Operator | Self::Admin),
            Need::Administer => matches!(self, Self::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request asks of whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To see.
    View,
    /// To read what was done by whom, and what the engine was told.
    Audit,
    /// To act upon named processes or groups: a limited operator may, upon those within the limits.
    OperateOn,
    /// To act upon the host as a whole: a limited operator may not.
    Operate,
    /// To change what everybody is bound by.
    Administer,
}

impl Need {
    /// The roles that have it, in words.
    #[must_use]
    pub const fn roles(self) -> &'static str {
        match self {
            Self::View => "any role",
            Self::Audit => "the role auditor or admin",
            Self::OperateOn => "the role operator or admin",
            Self::Operate => "the role operator without limits, or admin",
            Self::Administer => "the role admin",
        }
    }
}

/// A user or group, looked up when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its uid or gid.
    pub id: u32,
}

/// What an operator is limited to: a process has to satisfy both lists that are not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Globs, one of which the name of its user (of its real uid) matches.
    pub users: Vec<String>,
    /// Globs, one of which its cgroup's path matches; `*` does not cross `/`, `**` does.
    pub cgroups: Vec<String>,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("users", &self.users), ("cgroups", &self.cgroups)];
        let shown = lists.iter().filter(|(_, globs)| !globs.is_empty());
        let shown: Vec<_> = shown.map(|(what, globs)| format!("{what} {}", globs.join(", "))).collect();
        f.write_str(&shown.join(" and "))
    }
}

/// A role given to some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// To these users.
    pub users: Vec<Account>,
    /// To members of these groups.
    pub groups: Vec<Account>,
    /// What an operator is limited to; absent for other roles, and for one without limits.
    pub only: Option<Reach>,
}

impl Grant {
    fn names(&self, who: &Subject) -> bool {
        self.users.iter().any(|user| user.id == who.uid)
            || self.groups.iter().any(|group| who.gids.contains(&group.id))
    }
}

/// Who has which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The role of members of the control socket's group whom no grant names; `None`: none.
    pub members: Option<Role>,
    /// Name of that group, for messages.
    pub group: String,
    /// What is granted beyond.
    pub grants: Vec<Grant>,
}

impl Default for Access {
    fn default() -> Self {
        Self { members: Some(Role::Operator), group: "root".to_owned(), grants: Vec::new() }
    }
}

/// Whoever asks, as the kernel and the user database have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Effective uid.
    pub uid: u32,
    /// Effective gid and those of the user's other groups.
    pub gids: BTreeSet<u32>,
    /// Whether this is root or the daemon's own user.
    pub owner: bool,
    /// Whether among the groups is the control socket's.
    pub member: bool,
}

/// Whether something may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Yes,
    /// It may upon processes that satisfy one of these.
    Within(Vec<Reach>),
    /// It may not.
    No,
}

/// What somebody may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    roles: BTreeSet<Role>,
    /// Of the role of operator; empty when it is unlimited or not held.
    limits: Vec<Reach>,
}

impl Authority {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.roles.is_empty()
    }

    /// Whether what needs this may be done.
    #[must_use]
    pub fn permit(&self, need: Need) -> Permit {
        if !self.roles.iter().any(|role| role.grants(need)) {
            return Permit::No;
        }
        let limited = !self.limits.is_empty() && !self.roles.contains(&Role::Admin);
        match need {
            Need::OperateOn if limited => Permit::Within(self.limits.clone()),
            Need::Operate if limited => Permit::No,
            Need::View | Need::Audit | Need::OperateOn | Need::Operate | Need::Administer => Permit::Yes,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("no role");
        }
        let roles: Vec<_> = self.roles.iter().map(|role| role.as_str()).collect();
        write!(f, "the role {}", roles.join(" and "))?;
        if !self.limits.is_empty() {
            let limits: Vec<_> = self.limits.iter().map(ToString::to_string).collect();
            write!(f, ", limited to {}", limits.join(", or "))?;
        }
        Ok(())
    }
}

impl Access {
    /// What somebody may. Root and the daemon's own user are admins, whatever is written; for everybody else the
    /// grants that name them count, all together, and without one what members of the socket's group have.
    #[must_use]
    pub fn authority(&self, who: &Subject) -> Authority {
        let only = |role| Authority { roles: BTreeSet::from([role]), limits: Vec::new() };
        if who.owner {
            return only(Role::Admin);
        }
        let named: Vec<_> = self.grants.iter().filter(|grant| grant.names(who)).collect();
        if named.is_empty() {
            return self.members.filter(|_| who.member).map(only).unwrap_or_default();
        }
        let operators = || named.iter().filter(|grant| grant.role == Role::Operator);
        let unlimited = operators().any(|grant| grant.only.is_none());
        let limits = operators().filter_map(|grant| grant.only.clone()).filter(|_| !unlimited).collect();
        Authority { roles: named.iter().map(|grant| grant.role).collect(), limits }
    }

    /// Who may do what needs this, in words: root first, and those with limits not where there may be none.
    #[must_use]
    pub fn holders(&self, need: Need) -> String {
        let mut holders = vec!["root".to_owned()];
        if let Some(role) = self.members.filter(|role| role.grants(need)) {
            holders.push(format!("members of group {} ({role})", self.group));
        }
        let unlimited = |grant: &&Grant| !(need == Need::Operate && grant.only.is_some());
        for grant in self.grants.iter().filter(|grant| grant.role.grants(need)).filter(unlimited) {
            let role = grant.role;
            holders.extend(grant.users.iter().map(|user| format!("user {} ({role})", user.name)));
            holders.extend(grant.groups.iter().map(|group| format!("group {} ({role})", group.name)));
        }
        holders.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: [Need; 5] = [Need::View, Need::Audit, Need::OperateOn, Need::Operate, Need::Administer];

    fn account(name: &str, id: u32) -> Account {
        Account { name: name.to_owned(), id }
    }

    fn grant(role: Role, users: &[u32], groups: &[u32], only: Option<Reach>) -> Grant {
        let accounts = |ids: &[u32]| ids.iter().map(|id| account(&format!("a{id}"), *id)).collect();
        Grant { role, users: accounts(users), groups: accounts(groups), only }
    }

    fn web() -> Reach {
        Reach { users: vec!["www-*".to_owned()], cgroups: vec!["/web/**".to_owned()] }
    }

    fn subject(uid: u32, gids: &[u32], member: bool) -> Subject {
        Subject { uid, gids: gids.iter().copied().collect(), owner: uid == 0, member }
    }

    fn may(access: &Access, who: &Subject) -> Vec<Need> {
        let authority = access.authority(who);
        NEEDS.into_iter().filter(|need| authority.permit(*need) != Permit::No).collect()
    }

    #[test]
    fn without_a_word_in_the_configuration_root_rules_and_the_socket_s_group_operates() {
        let access = Access::default();
        assert_eq!(may(&access, &subject(0, &[], false)), NEEDS);
        let member = subject(7, &[9], true);
        assert_eq!(may(&access, &member), [Need::View, Need::OperateOn, Need::Operate]);
        assert_eq!(access.authority(&member).permit(Need::OperateOn), Permit::Yes);
        assert_eq!(may(&access, &subject(7, &[9], false)), [], "denied by default");
        assert!(access.authority(&subject(7, &[9], false)).is_none());
        let none = Access { members: None, ..access };
        assert_eq!(may(&none, &member), []);
    }

    #[test]
    fn a_grant_takes_the_place_of_membership_and_adds_to_other_grants() {
        let grants = vec![
            grant(Role::Viewer, &[7], &[], None),
            grant(Role::Auditor, &[], &[20], None),
            grant(Role::Operator, &[8], &[], Some(web())),
        ];
        let access = Access { grants, ..Access::default() };
        assert_eq!(may(&access, &subject(7, &[], true)), [Need::View], "a viewer although a member");
        assert_eq!(may(&access, &subject(7, &[20], true)), [Need::View, Need::Audit]);
        let limited = access.authority(&subject(8, &[], true));
        assert_eq!(limited.permit(Need::OperateOn), Permit::Within(vec![web()]));
        assert_eq!(limited.permit(Need::Operate), Permit::No);
        assert_eq!(limited.permit(Need::View), Permit::Yes);
        assert_eq!(limited.to_string(), "the role operator, limited to users www-* and cgroups /web/**");
    }

    #[test]
    fn the_widest_of_several_grants_counts() {
        let limited = grant(Role::Operator, &[8], &[], Some(web()));
        let with = |more: Grant| Access { grants: vec![limited.clone(), more], ..Access::default() };
        let who = subject(8, &[30], true);
        let unlimited = with(grant(Role::Operator, &[], &[30], None)).authority(&who);
        assert_eq!(unlimited.permit(Need::OperateOn), Permit::Yes);
        let admin = with(grant(Role::Admin, &[8], &[], None)).authority(&who);
        assert_eq!(admin.permit(Need::OperateOn), Permit::Yes);
        let other = Reach { users: vec!["db".to_owned()], cgroups: Vec::new() };
        let both = with(grant(Role::Operator, &[8], &[], Some(other.clone()))).authority(&who);
        assert_eq!(both.permit(Need::OperateOn), Permit::Within(vec![web(), other]));
    }

    #[test]
    fn those_who_may_are_named() {
        let grants =
            vec![grant(Role::Operator, &[8], &[], Some(web())), grant(Role::Admin, &[], &[30], None)];
        let access = Access { grants, group: "pt".to_owned(), ..Access::default() };
        assert_eq!(access.holders(Need::Administer), "root, group a30 (admin)");
        assert_eq!(access.holders(Need::Operate), "root, members of group pt (operator), group a30 (admin)");
        assert!(access.holders(Need::OperateOn).contains("user a8 (operator)"));
    }
}
