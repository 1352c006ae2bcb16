//! What each request needs, in one table, and what is said to whoever lacks it. Decides nothing about processes: that
//! is the daemon's, for operators with limits.

use super::failure::{Failure, FailureKind};
use super::peer::Peer;
use super::proto::{EmergencyOrder, Release, ReleaseOf, Request};
use crate::model::access::{Access, Authority, Need};

/// Something that was denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who asked.
    pub peer: Peer,
    /// For what.
    pub request: &'static str,
    /// Why not.
    pub why: String,
}

impl Request {
    /// What it needs. With `dry_run` a request needs the same: it tells what only they may do.
    #[must_use]
    pub const fn need(&self) -> Need {
        self.entry().1
    }

    /// Its name in messages.
    #[must_use]
    pub const fn words(&self) -> &'static str {
        self.entry().0
    }

    const fn entry(&self) -> (&'static str, Need) {
        match self {
            Self::Status => ("daemon status", Need::View),
            Self::Groups => ("status", Need::View),
            Self::Explain { .. } => ("explain", Need::View),
            Self::Plan { .. } => ("profile plan", Need::View),
            Self::ActiveProfile => ("profile list", Need::View),
            Self::Events(_) => ("events", Need::View),
            Self::Follow(_) => ("events --follow", Need::View),
            Self::Dynamics => ("dynamic list", Need::View),
            Self::WebhookStates => ("webhook list", Need::View),
            Self::Deliveries(_) => ("webhook deliveries", Need::View),
            Self::Criticals => ("critical list", Need::View),
            Self::Alerts => ("critical show", Need::View),
            Self::Emergency(emergency) => match &emergency.order {
                EmergencyOrder::Tell => ("emergency status", Need::View),
                EmergencyOrder::Stop { .. } => ("emergency stop", Need::Operate),
                EmergencyOrder::Resume => ("emergency resume", Need::Operate),
            },
            // The bodies of deliveries and the engine's inputs hold what every process does, command lines included.
            Self::Delivery { .. } => ("webhook deliveries ID", Need::Audit),
            Self::Record => ("record", Need::Audit),
            Self::Throttle(_) => ("throttle", Need::OperateOn),
            Self::Release(Release { target: ReleaseOf::All, .. }) => ("release --all", Need::Operate),
            Self::Release(_) => ("release", Need::OperateOn),
            Self::DynamicApply(_) => ("dynamic apply", Need::OperateOn),
            Self::DynamicRemove(_) => ("dynamic remove", Need::OperateOn),
            Self::Activate(_) => ("profile activate", Need::Operate),
            Self::Deactivate(_) => ("profile deactivate", Need::Operate),
            Self::WebhookTest(_) => ("webhook test", Need::Operate),
            Self::WebhookReplay(_) => ("webhook replay", Need::Operate),
            Self::CriticalRestart(_) => ("critical restart", Need::Operate),
            Self::Acknowledge(_) => ("critical ack", Need::Operate),
            Self::Reload(_) => ("daemon reload", Need::Administer),
            Self::BackUp(_) => ("backup create", Need::Administer),
            Self::State => ("state check", Need::View),
            Self::Latency(_) => ("latency", Need::View),
            Self::Metrics => ("metrics", Need::View),
        }
    }
}

/// Why somebody may not, in words.
#[must_use]
pub fn lacks(request: &str, need: Need, uid: u32, has: &Authority) -> String {
    format!("{request} needs {}; uid {uid} has {has}", need.roles())
}

/// The failure for whoever was refused, and who could do it instead.
#[must_use]
pub fn denied(why: &str, need: Need, access: &Access) -> Failure {
    let holders = access.holders(need);
    Failure::new(FailureKind::Denied, why)
        .with_hint(format!("ask one of: {holders}; roles are granted under access: in config.yaml"))
}
