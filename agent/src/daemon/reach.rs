//! Whether what an operator with limits asks for stays within them. Checked when it is asked for: processes are known
//! by their identity from then on, and what the engine does with them later is nobody's wish.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::PoisonError;

use globset::{GlobBuilder, GlobMatcher};
use nix::unistd::{Uid, User};

use crate::control::access::{Refusal, denied};
use crate::control::failure::{Failure, FailureKind};
use crate::control::peer::Peer;
use crate::control::proto::{GroupStatus, ProcRef, ReleaseOf, Request};
use crate::daemon::command::Command;
use crate::daemon::requests::{Office, group_of};
use crate::engine::action::Wants;
use crate::model::access::{Need, Reach};
use crate::model::id::{Name, ProcKey};
use crate::model::process::printable;
use crate::model::reason::Reason;

type Result<T> = std::result::Result<T, Failure>;

impl Office {
    /// Refuses a request that leaves the operator's limits, and tells of it. Returns the request with each process
    /// named by its identity: the one that was looked at, and no successor with its pid.
    ///
    /// # Errors
    /// When it does, or a process or group is not there.
    pub(super) async fn keep_within(
        &self,
        request: Request,
        peer: Peer,
        reaches: &[Reach],
    ) -> Result<Request> {
        let globs = reaches.iter().map(Globs::compile).collect::<Result<Vec<_>>>()?;
        let check = Check { office: self, peer, globs };
        let words = request.words();
        let checked = check.request(request).await?;
        checked.map_err(|why| {
            let limits: Vec<_> = reaches.iter().map(ToString::to_string).collect();
            let limits = limits.join(", or ");
            let why = format!("{words}: {why}; uid {} is an operator limited to {limits}", peer.uid);
            let failure = denied(&why, Need::Operate, &self.access.borrow());
            self.refused(Refusal { peer, request: words, why });
            failure
        })
    }

    /// Hands over that somebody was refused.
    fn refused(&self, refusal: Refusal) {
        if let Err(error) = self.refusals.try_send(refusal) {
            tracing::warn!(%error, "denied over the control socket, and not told");
        }
    }
}

/// Why something is out of reach.
type Outside = String;

struct Check<'a> {
    office: &'a Office,
    peer: Peer,
    globs: Vec<Globs>,
}

impl Check<'_> {
    async fn request(&self, request: Request) -> Result<std::result::Result<Request, Outside>> {
        match request {
            Request::Throttle(mut throttle) => {
                if throttle.whole_unit {
                    return Ok(Err("a whole unit may hold processes of others".to_owned()));
                }
                for process in &mut throttle.processes {
                    match self.process(*process)? {
                        Ok(key) => *process = key.into(),
                        Err(outside) => return Ok(Err(outside)),
                    }
                }
                // Unnamed, it is a group that may be there already, with others in it.
                let group = group_of(&throttle)?;
                if let Some(outside) = self.groups(|one| one.group == group).await?.outside {
                    return Ok(Err(outside));
                }
                throttle.group = Some(group);
                Ok(Ok(Request::Throttle(throttle)))
            }
            Request::Release(mut release) => {
                let found = match &mut release.target {
                    ReleaseOf::Process(process) => match self.process(*process)? {
                        Ok(key) => {
                            *process = key.into();
                            return Ok(Ok(Request::Release(release)));
                        }
                        // Moved into a group it is elsewhere than where it came from.
                        Err(outside) => {
                            let key = self.office.identify(*process)?;
                            *process = key.into();
                            let holds = |one: &GroupStatus| {
                                self.made(one) && one.members.iter().any(|member| member.key == key)
                            };
                            let found = self.groups(holds).await?;
                            if found.any { found } else { return Ok(Err(outside)) }
                        }
                    },
                    ReleaseOf::Group(name) => self.groups(|one| one.group == *name).await?.or_none(name)?,
                    ReleaseOf::Rule(name) => {
                        self.groups(|one| one.rule.as_ref() == Some(name)).await?.or_none(name)?
                    }
                    ReleaseOf::All => return Ok(Err("it is everybody's".to_owned())),
                };
                Ok(found.outside.map_or(Ok(Request::Release(release)), Err))
            }
            Request::DynamicApply(apply) => {
                let outside = self.target(&apply.target).await?;
                Ok(outside.map_or(Ok(Request::DynamicApply(apply)), Err))
            }
            Request::DynamicRemove(remove) => {
                let outside = self.target(&remove.target).await?;
                Ok(outside.map_or(Ok(Request::DynamicRemove(remove)), Err))
            }
            other @ (Request::Status
            | Request::Groups
            | Request::Explain { .. }
            | Request::Plan { .. }
            | Request::Activate(_)
            | Request::Deactivate(_)
            | Request::ActiveProfile
            | Request::Events(_)
            | Request::Follow(_)
            | Request::Record
            | Request::Emergency(_)
            | Request::Dynamics
            | Request::WebhookStates
            | Request::Deliveries(_)
            | Request::Delivery { .. }
            | Request::WebhookTest(_)
            | Request::WebhookReplay(_)
            | Request::Criticals
            | Request::CriticalRestart(_)
            | Request::Reload(_)
            | Request::Alerts
            | Request::Acknowledge(_)
            | Request::BackUp(_)
            | Request::Latency(_)
            | Request::Metrics
            | Request::State) => {
                Ok(Err(format!("{} names no process that could be within them", other.words())))
            }
        }
    }

    /// A rule says whom it limits, and that may be anybody: only what an operator made is theirs to steer.
    async fn target(&self, name: &Name) -> Result<Option<Outside>> {
        let of_rule = |one: &GroupStatus| one.rule.as_ref() == Some(name);
        if self.groups(of_rule).await?.any {
            return Ok(Some(format!("{name} is a rule of the profile")));
        }
        Ok(self.groups(|one| one.group == *name).await?.or_none(name)?.outside)
    }

    /// The groups that are meant, and the first of them that is out of reach.
    async fn groups(&self, meant: impl Fn(&GroupStatus) -> bool) -> Result<Found> {
        let groups = self.office.ask(Command::Groups).await?;
        let mut found = Found { any: false, outside: None };
        for group in groups.iter().map(|placed| &placed.status).filter(|group| meant(group)) {
            found.any = true;
            if self.made(group) {
                continue;
            }
            for member in &group.members {
                if let Err(outside) = self.key(member.key)? {
                    found.outside = Some(format!("group {}: {outside}", group.group));
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// Whether this user made it by hand: its members were within reach then, wherever they were moved.
    fn made(&self, group: &GroupStatus) -> bool {
        let by_them = matches!(&group.reason, Reason::Operator { uid, .. } if *uid == self.peer.uid);
        group.rule.is_none() && by_them
    }

    fn process(&self, process: ProcRef) -> Result<std::result::Result<ProcKey, Outside>> {
        self.key(self.office.identify(process)?)
    }

    fn key(&self, key: ProcKey) -> Result<std::result::Result<ProcKey, Outside>> {
        let proc = self.office.proc.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: crate::procfs::ProcError| Failure::from_error(FailureKind::Failed, &error);
        let gone = || Failure::new(FailureKind::NotFound, format!("no process {}", key.pid));
        let process = proc.process(key.pid).map_err(failed)?.filter(|process| process.key == key);
        let uid = process.ok_or_else(gone)?.uid;
        let wants = Wants { cgroup_path: true, ..Wants::default() };
        let cgroup = proc.facts(key, wants).map_err(failed)?.ok_or_else(gone)?.cgroup_path;
        drop(proc);
        let user = user_name(uid)?;
        if self.globs.iter().any(|globs| globs.hold(user.as_deref(), cgroup.as_deref())) {
            return Ok(Ok(key));
        }
        let user = user.unwrap_or_else(|| format!("uid {uid}"));
        let cgroup = cgroup.unwrap_or_default();
        Ok(Err(format!("pid {} is {user}'s, in cgroup {}", key.pid, printable(&cgroup))))
    }
}

/// Groups that were meant.
struct Found {
    any: bool,
    outside: Option<Outside>,
}

impl Found {
    fn or_none(self, name: &Name) -> Result<Self> {
        if self.any {
            return Ok(self);
        }
        Err(Failure::new(FailureKind::NotFound, format!("nothing is limited by {name}")))
    }
}

/// A compiled reach.
struct Globs {
    users: Option<Vec<GlobMatcher>>,
    cgroups: Option<Vec<GlobMatcher>>,
}

impl Globs {
    fn compile(reach: &Reach) -> Result<Self> {
        Ok(Self { users: compile(&reach.users)?, cgroups: compile(&reach.cgroups)? })
    }

    /// What is not known is not within.
    fn hold(&self, user: Option<&str>, cgroup: Option<&[u8]>) -> bool {
        let any = |globs: &Option<Vec<GlobMatcher>>, text: Option<&OsStr>| match (globs, text) {
            (None, _) => true,
            (Some(globs), Some(text)) => globs.iter().any(|glob| glob.is_match(text)),
            (Some(_), None) => false,
        };
        any(&self.users, user.map(OsStr::new)) && any(&self.cgroups, cgroup.map(OsStr::from_bytes))
    }
}

/// `None` for an empty list, which limits nothing.
fn compile(globs: &[String]) -> Result<Option<Vec<GlobMatcher>>> {
    if globs.is_empty() {
        return Ok(None);
    }
    let compiled = globs.iter().map(|glob| {
        let built = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
        let built = built.map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        Ok(built.compile_matcher())
    });
    compiled.collect::<Result<_>>().map(Some)
}

fn user_name(uid: u32) -> Result<Option<String>> {
    let user = User::from_uid(Uid::from_raw(uid)).map_err(|error| {
        Failure::new(FailureKind::Failed, format!("look up the user of uid {uid}: {error}"))
    })?;
    Ok(user.map(|user| user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(users: &[&str], cgroups: &[&str]) -> Globs {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Globs::compile(&Reach { users: owned(users), cgroups: owned(cgroups) }).unwrap()
    }

    #[test]
    fn both_lists_have_to_hold_and_the_unknown_is_outside() {
        let both = globs(&["www-*", "app"], &["/web/*"]);
        assert!(both.hold(Some("www-data"), Some(b"/web/a")));
        assert!(both.hold(Some("app"), Some(b"/web/a")));
        assert!(!both.hold(Some("root"), Some(b"/web/a")));
        assert!(!both.hold(Some("app"), Some(b"/web/a/b")), "a star does not cross a slash");
        assert!(!both.hold(Some("app"), Some(b"/")));
        assert!(!both.hold(None, Some(b"/web/a")));
        assert!(!both.hold(Some("app"), None));
        assert!(globs(&[], &["/web/**"]).hold(None, Some(b"/web/\xff/b")));
        assert!(globs(&["*"], &[]).hold(Some("x"), None));
    }
}
