//! The emergency stop, as the daemon carries it out: on record first, then in the kernel.

use std::path::PathBuf;

use nix::unistd::{Uid, User};

use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{EmergencyOrder, EmergencyStatus};
use crate::daemon::command::{Answer, Command};
use crate::daemon::obey::{failures, send};
use crate::daemon::pending::Settled;
use crate::daemon::requests::Office;
use crate::daemon::turn::Turn;
use crate::engine::action::What;
use crate::engine::input::{Input, ReleaseTarget};
use crate::store::StoreError;
use crate::store::block::{Block, REASON_MAX};

/// What stands in the record when nobody gave a reason.
pub const NO_REASON: &str = "no reason was given";

/// A record of a stop that begins now.
#[must_use]
pub fn record(reason: String, uid: u32) -> Block {
    // An account that is not known has no name.
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    let reason = if reason.trim().is_empty() { NO_REASON.to_owned() } else { reason };
    Block { reason, uid, user, at: clock::unix_millis(clock::wall()), released: None, told: false }
}

/// What a record tells.
#[must_use]
pub fn told(block: Block) -> EmergencyStatus {
    let Block { reason, uid, user, at, released, told: _ } = block;
    EmergencyStatus {
        active: true,
        reason: Some(reason),
        uid: Some(uid),
        user,
        since: jiff::Timestamp::from_millisecond(at).ok(),
        released,
        ..EmergencyStatus::default()
    }
}

/// What ending it would leave, as nothing is done: no stop in force, and what is told of the one that is.
#[must_use]
pub fn would_resume(block: Option<Block>) -> EmergencyStatus {
    EmergencyStatus { active: false, dry_run: true, ..block.map(told).unwrap_or_default() }
}

/// Refuses a reason that nobody could read.
///
/// # Errors
/// When it is too long or holds control characters.
pub fn check(reason: &str) -> Result<(), Failure> {
    if reason.len() > REASON_MAX {
        return Err(Failure::new(
            FailureKind::Usage,
            format!("the reason is longer than {REASON_MAX} bytes"),
        ));
    }
    // They would reach the terminal of whoever asks for the status.
    if reason.chars().any(char::is_control) {
        return Err(Failure::new(FailureKind::Usage, "the reason holds control characters"));
    }
    Ok(())
}

fn unrecorded(error: &StoreError) -> Failure {
    Failure::from_error(FailureKind::Failed, error)
}

impl Office {
    /// Begins, ends or tells of an emergency stop.
    ///
    /// # Errors
    /// When it cannot be recorded, or not everything could be lifted.
    pub async fn emergency(
        &self,
        order: EmergencyOrder,
        dry_run: bool,
        uid: u32,
    ) -> Result<EmergencyStatus, Failure> {
        let path = self.emergency_file();
        let tell = || -> Result<Option<EmergencyStatus>, Failure> {
            let block = Block::read(&path).map_err(|error| unrecorded(&error))?;
            Ok(block.map(told))
        };
        match order {
            EmergencyOrder::Tell => Ok(tell()?.unwrap_or_default()),
            EmergencyOrder::Stop { reason } => {
                check(&reason)?;
                let block = record(reason, uid);
                if dry_run {
                    return Ok(EmergencyStatus { dry_run, ..told(block) });
                }
                self.stop_all(path, block, uid).await
            }
            EmergencyOrder::Resume if dry_run => {
                Ok(would_resume(Block::read(&path).map_err(|error| unrecorded(&error))?))
            }
            EmergencyOrder::Resume => {
                Block::clear(&path).map_err(|error| unrecorded(&error))?;
                self.ask(|answer| Command::Emergency { stop: None, told: false, uid, answer }).await?;
                Ok(EmergencyStatus::default())
            }
        }
    }

    async fn stop_all(&self, path: PathBuf, mut block: Block, uid: u32) -> Result<EmergencyStatus, Failure> {
        let began = clock::now();
        // A disk that cannot be written must not keep anything limited.
        let recorded = block.write(&path);
        let stop = Some(block.reason.clone());
        let (groups, errors) =
            self.ask(|answer| Command::Emergency { stop, told: false, uid, answer }).await?;
        (block.released, block.told) = (Some(groups), true);
        let recorded = recorded.and_then(|()| block.write(&path));
        if !errors.is_empty() {
            let message = format!("not everything could be lifted, it is tried again: {}", errors.join("; "));
            return Err(Failure::new(FailureKind::Partial, message));
        }
        recorded.map_err(|error| {
            let failure = Failure::from_error(FailureKind::Partial, &error);
            failure.with_hint("everything is lifted, but a restart of the daemon would limit again")
        })?;
        let took = clock::now().since(began).as_millis();
        Ok(EmergencyStatus { took_ms: u64::try_from(took).ok(), ..told(block) })
    }
}

impl Turn {
    /// Lifts everything and blocks, or ends that; answers when all that comes of it is done.
    pub(super) fn emergency(
        &mut self,
        stop: Option<String>,
        told: bool,
        uid: u32,
        answer: Answer<(usize, Vec<String>)>,
    ) {
        let groups = self.parts.throttle.groups().len();
        if stop.is_some()
            && let Err(failure) = self.forget_wishes(&ReleaseTarget::All, &[])
        {
            tracing::error!("{failure}");
        }
        let input = match stop {
            Some(reason) => Input::EmergencyStop { reason, uid, told },
            None => Input::EmergencyResume { uid },
        };
        self.feed_and_wait(input, move |_turn, settled| {
            // What resuming limits again is told by its own events.
            let lifted: Vec<Settled> =
                settled.into_iter().filter(|(what, _)| matches!(what, What::Lift)).collect();
            send(answer, Ok((groups, failures(&lifted))));
        });
    }
}
