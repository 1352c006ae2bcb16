//! The part of a plan that is about one place.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Candidate;
use crate::cgroup::{CgroupError, Controller, Dir};
use crate::effect::group::Place;
use crate::model::id::ProcKey;
use crate::systemd::unit::Ending;

/// A place and who has to get there.
#[derive(Debug)]
pub struct PlacePlan {
    /// The place.
    pub place: Place,
    /// Those of its cgroups that were looked at: what is written is written to these.
    pub opened: Vec<Dir>,
    /// Whether the group has it already, as it is.
    pub known: bool,
    /// The place that it takes over from, whose values are restored at the end.
    pub replaces: Option<Place>,
    /// Processes to move into it.
    pub movers: Vec<Mover>,
}

/// A process to move.
#[derive(Clone, Debug)]
pub struct Mover {
    /// The process.
    pub key: ProcKey,
    /// What holds it.
    pub pidfd: Arc<OwnedFd>,
    /// Where it is now.
    pub origins: Vec<(Controller, PathBuf)>,
    /// The service out of which it is moved, where stopping that one has to end it all the same.
    pub bound_to: Option<(String, Ending)>,
}

impl PlacePlan {
    /// A place whose processes are there already.
    pub(super) const fn settled(place: Place, known: bool) -> Self {
        Self { place, opened: Vec::new(), known, replaces: None, movers: Vec::new() }
    }

    /// The cgroup for a controller, which is opened now if it was not looked at.
    pub(in crate::effect) fn open(&mut self, controller: Controller) -> Result<Option<&Dir>, CgroupError> {
        let Some(path) = self.place.dir(controller) else { return Ok(None) };
        let index = match self.opened.iter().position(|dir| dir.path() == path) {
            Some(index) => index,
            None => {
                self.opened.push(Dir::open(path)?);
                self.opened.len() - 1
            }
        };
        Ok(self.opened.get(index))
    }
}

impl Mover {
    pub(super) fn new(one: &Candidate, bound_to: Option<(String, Ending)>) -> Self {
        let (key, pidfd) = (one.process.key, Arc::clone(&one.process.pidfd));
        Self { key, pidfd, origins: one.origins.clone(), bound_to }
    }

    /// Where it comes from, if it is to be moved into this cgroup of a place.
    pub(crate) fn origin(&self, place: &Place, dir: &Path) -> Option<(ProcKey, &Path)> {
        let comes = |(controller, origin): &&(Controller, PathBuf)| {
            place.dir(*controller) == Some(dir) && !origin.starts_with(dir)
        };
        self.origins.iter().find(comes).map(|(_, origin)| (self.key, origin.as_path()))
    }
}
