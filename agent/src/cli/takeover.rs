//! Whether the daemon takes over what a command has changed in the configuration.

use serde::Serialize;

use super::error::CliResult;
use super::globals::{Context, call, runtime};
use super::page::Page;
use crate::control::client::ClientError;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{DryRun, Reloaded, Request};

/// What the daemon said.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum Daemon {
    /// There was nothing to say to it.
    NotAsked,
    /// It will read the file when it starts.
    NotRunning,
    /// It has read the file.
    Reloaded {
        /// What it found changed.
        detail: String,
    },
    /// It goes on with what it had.
    Refused {
        /// Why.
        why: String,
    },
}

impl Daemon {
    /// Has a running daemon read its configuration again.
    ///
    /// # Errors
    /// When this process cannot ask at all; what the daemon answers is no error here.
    pub(super) fn reload(context: &Context) -> CliResult<Self> {
        let (client, request) = (context.client(), Request::Reload(DryRun { dry_run: false }));
        let asked = runtime()?.block_on(call::<Reloaded>(&client, &request));
        Ok(match asked {
            Ok(Reloaded { detail, .. }) => Self::Reloaded { detail },
            Err(ClientError::NotRunning(_)) => Self::NotRunning,
            Err(error) => Self::Refused { why: Failure::from(error).message },
        })
    }

    /// That the change is only partly done, if the daemon goes on as before.
    ///
    /// # Errors
    /// Then.
    pub(super) fn refusal(&self) -> CliResult {
        match self {
            Self::Refused { why } => {
                let message = format!("written, but the daemon goes on as before: {why}");
                Err(Failure::new(FailureKind::Partial, message).into())
            }
            Self::NotAsked | Self::NotRunning | Self::Reloaded { .. } => Ok(()),
        }
    }

    /// Says it to people.
    pub(super) fn tell(&self, page: &mut Page) {
        match self {
            Self::NotAsked => {}
            Self::NotRunning => page.line("the daemon does not run; it reads this when it starts"),
            Self::Reloaded { detail } => page.line(format!("the daemon has reloaded: {detail}")),
            Self::Refused { .. } => page.line("the daemon has not taken it over"),
        }
    }
}
