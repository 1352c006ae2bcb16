//! `emergency`: lift everything at once and keep it lifted, with the daemon or without it.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::error::{CliResult, failed, usage};
use super::globals::Context;
use super::output::View;
use super::page::{Page, moment};
use crate::control::client::ClientError;
use crate::control::failure::Failure;
use crate::control::proto::{Emergency as Spec, EmergencyOrder, EmergencyStatus, Request};
use crate::daemon::emergency::{check, record, told};
use crate::model::chain::chain;
use crate::model::plural::counted;
use crate::store::block::Block;

/// Arguments of `emergency`.
#[derive(Args, Debug)]
pub(super) struct Emergency {
    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand, Debug)]
enum Order {
    /// Lift every limit at once, and limit nothing until `emergency resume`, also across restarts
    Stop {
        /// Why, for those who find it later
        reason: Vec<String>,
    },
    /// Limit again: rules at once, limits made by hand not at all
    Resume,
    /// Tell whether an emergency stop is in force, since when and why
    Status,
}

impl Emergency {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let order = match self.order {
            Order::Stop { reason } => {
                let reason = reason.join(" ");
                check(&reason).map_err(|failure| usage(failure.message))?;
                EmergencyOrder::Stop { reason }
            }
            Order::Resume => EmergencyOrder::Resume,
            Order::Status => return status(context),
        };
        let spec = Spec { order, dry_run: context.dry_run };
        let resumes = spec.order == EmergencyOrder::Resume && !spec.dry_run;
        // Whoever may not read the record is told what holds in either case.
        let idle = resumes && matches!(Block::read(&context.dirs.emergency_file()), Ok(None));
        let status: EmergencyStatus =
            match context.ask_quickly(&Request::Emergency(spec.clone()), PATIENCE)? {
                Ok(Some(status)) => status,
                Ok(None) => super::offline::emergency(context, spec)?,
                Err(error @ (ClientError::Timeout(_) | ClientError::Http(_))) => {
                    return Err(stuck(context, spec, error.into()).into());
                }
                Err(error) => return Err(Failure::from(error).into()),
            };
        if resumes {
            context.output.message(if idle {
                "No emergency stop was in force."
            } else {
                "Rules limit again; what was limited by hand stays released."
            });
        }
        context.output.show(&status)
    }
}

/// Lifting a thousand groups takes less than two seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon that is there and does not answer keeps what it has set; it can be kept from setting more, and be
/// done without.
fn stuck(context: &Context, spec: Spec, failure: Failure) -> Failure {
    let EmergencyOrder::Stop { reason } = spec.order else { return failure };
    if spec.dry_run {
        return failure;
    }
    let uid = nix::unistd::getuid().as_raw();
    let recorded = record(reason, uid).write(&context.dirs.emergency_file());
    let lock = context.dirs.pid_file();
    let kill = format!("kill -9 $(cat {}) && process-throttler emergency stop", lock.display());
    match recorded {
        Ok(()) => {
            Failure::new(failure.kind, format!("{}; what it has set is still in force", failure.message))
                .with_hint(kill)
        }
        Err(error) => {
            Failure::new(failure.kind, format!("{}; {}", failure.message, chain(&error))).with_hint(kill)
        }
    }
}

/// The record tells all there is to know; whoever may not read it asks the daemon, who may.
fn status(context: &Context) -> CliResult {
    let path = context.dirs.emergency_file();
    let status = match Block::read(&path) {
        Ok(block) => block.map(told).unwrap_or_default(),
        Err(error) => {
            let spec = Spec { order: EmergencyOrder::Tell, dry_run: false };
            match context.ask_if_running(&Request::Emergency(spec))? {
                Some(status) => status,
                None => return Err(failed(&error)),
            }
        }
    };
    context.output.show(&status)
}

impl View for EmergencyStatus {
    const KIND: &'static str = "Emergency";

    fn page(&self, page: &mut Page) {
        let state = match (self.active, self.dry_run) {
            (true, false) => "active: nothing is limited until process-throttler emergency resume",
            (true, true) => "would be active",
            (false, true) => "would be inactive",
            (false, false) => "inactive",
        };
        page.field("Emergency stop", state);
        if let Some(reason) = &self.reason {
            page.field("Reason", reason);
        }
        if let Some(uid) = self.uid {
            page.field("By", self.user.clone().unwrap_or_else(|| format!("uid {uid}")));
        }
        if let Some(since) = self.since {
            page.field("Since", moment(since));
        }
        if let Some(released) = self.released {
            page.field("Released", counted(released, "group", "groups"));
        }
        if let Some(ms) = self.took_ms {
            page.field("Took", format!("{ms} ms"));
        }
    }
}
