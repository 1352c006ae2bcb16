//! Who is at the other end of a connection, as the kernel says (`SO_PEERCRED`, unix(7)).

use std::collections::BTreeSet;
use std::fmt;

use nix::unistd::{Gid, Uid, User, getgrouplist};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::model::access::Subject;

/// Credentials of a process at the time it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Effective uid.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// Its pid; absent when it lives in a pid namespace that the daemon cannot see into.
    pub pid: Option<u32>,
}

impl Peer {
    /// The peer of a connection.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), pid })
    }

    /// Who that is to a daemon of user `owner` whose control socket belongs to `group`.
    #[must_use]
    pub fn subject(&self, owner: Uid, group: Gid) -> Subject {
        let supplementary = supplementary(self.uid, self.gid);
        let gids: BTreeSet<u32> = supplementary.iter().map(|gid| gid.as_raw()).chain([self.gid]).collect();
        let member = gids.contains(&group.as_raw());
        Subject { uid: self.uid, gids, owner: self.uid == 0 || self.uid == owner.as_raw(), member }
    }
}

/// Groups of a user according to the user database; `SO_PEERCRED` carries only the effective one.
fn supplementary(uid: u32, gid: u32) -> Vec<Gid> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return Vec::new() };
    let Ok(name) = std::ffi::CString::new(user.name) else { return Vec::new() };
    // An unreadable group database grants nothing.
    getgrouplist(&name, Gid::from_raw(gid)).unwrap_or_default()
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {} gid {}", self.uid, self.gid)?;
        match self.pid {
            Some(pid) => write!(f, " pid {pid}"),
            None => f.write_str(" pid unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_neither_owners_nor_members() {
        let stranger = Peer { uid: 4_000_001, gid: 4_000_001, pid: None };
        let (owner, group) = (Uid::from_raw(0), Gid::from_raw(4_000_002));
        let is = |peer: Peer, owner| {
            let subject = peer.subject(owner, group);
            (subject.owner, subject.member)
        };
        assert_eq!(is(stranger, owner), (false, false));
        assert_eq!(is(Peer { uid: 0, ..stranger }, owner), (true, false));
        assert_eq!(is(Peer { gid: 4_000_002, ..stranger }, owner), (false, true));
        assert_eq!(is(stranger, Uid::from_raw(4_000_001)), (true, false));
    }
}
