//! `webhook replay`: what was given up, or lost by its receiver, is sent again.

use std::time::Duration;

use clap::Args;

use super::deliveries::state_parser;
use super::outbox;
use crate::cli::audit::audited;
use crate::cli::bar::Bar;
use crate::cli::error::{CliResult, failed, usage};
use crate::cli::events::{Since, parse_since};
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::Page;
use crate::control::feature;
use crate::control::proto::{
    DELIVERIES_MAX, DeliveryDetail, DeliveryQuery, DeliveryStatus, Replayed, Request, WebhookReplay,
    WebhookReplayed, WebhookState,
};
use crate::daemon::webhooks;
use crate::model::delivery::DeliveryState;
use crate::model::id::Name;
use crate::model::plural::counted;

/// Between two looks at what has been tried.
const PAUSE: Duration = Duration::from_millis(200);

/// Arguments of `webhook replay`.
#[derive(Args, Debug)]
pub(super) struct Replay {
    /// The number of a delivery, as webhook deliveries lists it
    #[arg(value_name = "ID", conflicts_with_all = ["endpoint", "since", "state"])]
    id: Option<i64>,
    /// All to this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<Name>,
    /// All that were recorded since then: a duration such as 10m, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// Those in this state [default: dead]
    #[arg(long, value_name = "STATE", value_parser = state_parser())]
    state: Option<DeliveryState>,
    /// Wait until each has been tried once, and show how many have been; Ctrl-C ends the waiting only
    #[arg(long)]
    wait: bool,
}

impl Replay {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Self { id, endpoint, since, state, wait } = self;
        let which = match id {
            Some(id) => Replayed::Id(id),
            None if endpoint.is_none() && since.is_none() => {
                let failure = usage("which deliveries: an id, --endpoint or --since?");
                return Err(failure.with_hint("--since 30d selects every dead letter of a month").into());
            }
            None => Replayed::Matching(DeliveryQuery {
                endpoint,
                state: Some(state.unwrap_or(DeliveryState::Dead)),
                since_ms: since.map(Since::unix_millis),
                limit: None,
            }),
        };
        let count = replay(context, WebhookReplay { which: which.clone(), dry_run: true })?;
        if context.dry_run || count.deliveries == 0 {
            return context.output.show(&count);
        }
        if count.deliveries > 1 {
            context
                .confirm(&format!("Send {} again?", counted(count.deliveries, "delivery", "deliveries")))?;
        }
        if wait {
            // Only a daemon tries them: told before anything is changed.
            untried(context, &which)?;
        }
        let replayed = replay(context, WebhookReplay { which: which.clone(), dry_run: false })?;
        if wait {
            until_tried(context, &which, replayed.deliveries)?;
        }
        context.output.show(&replayed)
    }
}

/// Waits until none of the deliveries is owed without having been tried.
///
/// # Errors
/// When no daemon runs, or it ends meanwhile: nobody tries them then.
fn until_tried(context: &Context, which: &Replayed, total: u64) -> CliResult {
    let bar = Bar::count(context, "tried", total);
    loop {
        let Untried { due, parked } = untried(context, which)?;
        bar.reach(total.saturating_sub(due.saturating_add(parked)));
        if due == 0 {
            drop(bar);
            if parked > 0 {
                let parked = counted(parked, "delivery is", "deliveries are");
                context
                    .output
                    .message(&format!("Warning: {parked} kept: nothing is sent to that endpoint now"));
            }
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Deliveries that have not been tried.
#[derive(Default)]
struct Untried {
    /// They are going to be.
    due: u64,
    /// Their endpoint is disabled or gone, so that they might wait for ever.
    parked: u64,
}

/// What is still to be tried for the first time; of more than a reply holds, so many as it holds.
fn untried(context: &Context, which: &Replayed) -> CliResult<Untried> {
    let pending: Vec<DeliveryStatus> = match which {
        Replayed::Id(id) => {
            let detail: Box<DeliveryDetail> =
                context.ask(feature::WEBHOOKS, &Request::Delivery { id: *id })?;
            vec![detail.delivery]
        }
        Replayed::Matching(query) => {
            let query = DeliveryQuery {
                state: Some(DeliveryState::Pending),
                limit: Some(DELIVERIES_MAX),
                ..query.clone()
            };
            context.ask(feature::WEBHOOKS, &Request::Deliveries(query))?
        }
    };
    let states: Vec<WebhookState> = context.ask(feature::WEBHOOKS, &Request::WebhookStates)?;
    let is_served = |name: &str| {
        let of = states.iter().find(|state| state.endpoint.as_str() == name);
        of.is_some_and(|state| state.enabled && state.disabled.is_none())
    };
    let mut untried = Untried::default();
    for one in pending.iter().filter(|one| one.state == DeliveryState::Pending && one.attempts == 0) {
        *if is_served(&one.endpoint) { &mut untried.due } else { &mut untried.parked } += 1;
    }
    Ok(untried)
}

fn replay(context: &Context, request: WebhookReplay) -> CliResult<WebhookReplayed> {
    if let Some(replayed) = context.ask_if_running(&Request::WebhookReplay(request.clone()))? {
        return Ok(replayed);
    }
    audited(context, &Request::WebhookReplay(request.clone()), || {
        let replayed = match outbox(context)? {
            Some(mut store) => webhooks::replay(&mut store, &request).map_err(|error| failed(&error))?,
            None => WebhookReplayed { deliveries: 0, dry_run: request.dry_run },
        };
        Ok(webhooks::found(&request, replayed)?)
    })
}

impl View for WebhookReplayed {
    const KIND: &'static str = "WebhookReplay";

    fn page(&self, page: &mut Page) {
        let verb = match (self.dry_run, self.deliveries) {
            (true, _) => "would be sent again",
            (false, 1) => "is sent again",
            (false, _) => "are sent again",
        };
        page.line(format!("{} {verb}", counted(self.deliveries, "delivery", "deliveries")));
    }
}
