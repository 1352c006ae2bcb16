//! What operators want limited: kept apart from what is limited, so that it outlives a stop of the agent.

use crate::model::id::{Name, NameError, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::policy::Policy;
use crate::model::reason::Reason;
use crate::model::time::Timestamp;
use crate::store::{StoreError, Tables};

/// Processes of one wish that are remembered at most.
pub const MEMBERS_MAX: usize = 4_096;

/// A group that an operator wants limited until it is released, its time is up or its processes have ended.
/// Means nothing in another boot: neither processes nor moments can be told apart there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The group, as the operator named it.
    pub name: Name,
    /// The limits.
    pub limits: Limits,
    /// Shared or each.
    pub scope: Scope,
    /// Whether processes may be moved out of a cgroup that is not a hierarchy's root.
    pub allow_move: bool,
    /// Whether a whole systemd unit may be limited although other processes are in it, too.
    pub whole_unit: bool,
    /// How the limits move.
    pub policy: Policy,
    /// The processes, at most [`MEMBERS_MAX`], in order.
    pub members: Vec<ProcKey>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// Who asked for what.
    pub reason: Reason,
    /// When that was, in ms since the Unix epoch.
    pub created: i64,
}

impl Wish {
    /// Whether its time is up.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Sets the processes; those beyond [`MEMBERS_MAX`] are left out.
    pub fn set_members(&mut self, members: impl IntoIterator<Item = ProcKey>) {
        self.members = members.into_iter().collect();
        self.members.sort_unstable();
        self.members.dedup();
        self.members.truncate(MEMBERS_MAX);
    }
}

impl Tables {
    /// Inserts or replaces a wish of this boot.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn put_wish(&self, boot: &str, wish: &Wish) -> Result<(), StoreError> {
        let until = wish.until.map(|until| i64::try_from(until.as_nanos()).unwrap_or(i64::MAX));
        self.run(
            "write wish",
            "INSERT OR REPLACE INTO wishes
                 (name, boot, limits, scope, allow_move, whole_unit, policy, members, until, reason, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            (
                wish.name.as_str(),
                boot,
                self.to_json("wishes.limits", &wish.limits)?,
                self.to_json("wishes.scope", &wish.scope)?,
                wish.allow_move,
                wish.whole_unit,
                self.to_json("wishes.policy", &wish.policy)?,
                self.to_json("wishes.members", &wish.members)?,
                until,
                self.to_json("wishes.reason", &wish.reason)?,
                wish.created,
            ),
        )
        .map(drop)
    }

    /// Removes a wish. One that is not there is no error.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn delete_wish(&self, name: &Name) -> Result<(), StoreError> {
        self.run("delete wish", "DELETE FROM wishes WHERE name = ?1", [name.as_str()]).map(drop)
    }

    /// Removes all wishes.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn delete_wishes(&self) -> Result<(), StoreError> {
        self.run("delete wishes", "DELETE FROM wishes", ()).map(drop)
    }

    /// Removes what was wished for in other boots.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn forget_wishes_of_other_boots(&self, boot: &str) -> Result<(), StoreError> {
        self.run("delete wishes", "DELETE FROM wishes WHERE boot <> ?1", [boot]).map(drop)
    }

    /// The wishes of this boot, by name.
    ///
    /// # Errors
    /// When the table cannot be read, or a row is malformed.
    pub fn wishes(&self, boot: &str) -> Result<Vec<Wish>, StoreError> {
        type Raw = (String, String, String, bool, bool, String, String, Option<i64>, String, i64);
        let rows: Vec<Raw> = self.rows(
            "read wishes",
            "SELECT name, limits, scope, allow_move, whole_unit, policy, members, until, reason, created
             FROM wishes WHERE boot = ?1 ORDER BY name",
            [boot],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                    row.get(7)?,
                    row.get(8)?,
                    row.get(9)?,
                ))
            },
        )?;
        rows.into_iter()
            .map(|(name, limits, scope, allow_move, whole_unit, policy, members, until, reason, created)| {
                Ok(Wish {
                    name: name
                        .parse()
                        .map_err(|error: NameError| self.malformed("wishes.name", error.to_string()))?,
                    limits: self.json("wishes.limits", &limits)?,
                    scope: self.json("wishes.scope", &scope)?,
                    allow_move,
                    whole_unit,
                    policy: self.json("wishes.policy", &policy)?,
                    members: self.json("wishes.members", &members)?,
                    until: until.map(|nanos| Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(0))),
                    reason: self.json("wishes.reason", &reason)?,
                    created,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Store};

    fn wish(name: &str) -> Wish {
        Wish {
            name: name.parse().unwrap(),
            limits: Limits { cpu: "30%".parse().ok(), ..Limits::default() },
            scope: Scope::Process,
            allow_move: true,
            whole_unit: false,
            policy: Policy::Fixed,
            members: vec![ProcKey { pid: 7, start: 70 }],
            until: Some(Timestamp::from_nanos(9)),
            reason: Reason::Operator { uid: 3, request: "throttle".to_owned() },
            created: 5,
        }
    }

    #[test]
    fn wishes_round_trip_within_their_boot() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Process).unwrap().store;
        let (first, mut second) = (wish("a"), wish("b"));
        second.until = None;
        store.write(|tx| tx.put_wish("boot", &second)).unwrap();
        store.write(|tx| tx.put_wish("boot", &first)).unwrap();
        assert_eq!(store.read(|tx| tx.wishes("boot")).unwrap(), [first.clone(), second.clone()]);

        second.limits.cpu = "10%".parse().ok();
        store.write(|tx| tx.put_wish("boot", &second)).unwrap();
        store.write(|tx| tx.delete_wish(&first.name)).unwrap();
        assert_eq!(store.read(|tx| tx.wishes("boot")).unwrap(), [second.clone()]);

        assert_eq!(store.read(|tx| tx.wishes("next boot")).unwrap(), []);
        store.write(|tx| tx.forget_wishes_of_other_boots("next boot")).unwrap();
        assert_eq!(store.read(|tx| tx.wishes("boot")).unwrap(), []);
    }

    #[test]
    fn members_are_bounded_and_each_is_there_once() {
        let mut wish = wish("a");
        let key = |pid| ProcKey { pid, start: 1 };
        wish.set_members([key(2), key(1), key(2)]);
        assert_eq!(wish.members, [key(1), key(2)]);
        wish.set_members((0..10_000).map(key));
        assert_eq!(wish.members.len(), MEMBERS_MAX);
    }

    #[test]
    fn it_is_over_at_its_moment() {
        let wish = wish("a");
        assert!(!wish.is_over(Timestamp::from_nanos(8)) && wish.is_over(Timestamp::from_nanos(9)));
    }
}
