//! `webhook deliveries`: what was sent, is owed, or was given up.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::outbox;
use crate::cli::error::{CliResult, failed};
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, dash, moment, or_dash};
use crate::control::proto::{DELIVERIES_MAX, DeliveryDetail, DeliveryQuery, DeliveryStatus, Request};
use crate::daemon::webhooks;
use crate::model::delivery::DeliveryState;
use crate::model::id::Name;

/// Arguments of `webhook deliveries`.
#[derive(Args, Debug)]
pub(super) struct Deliveries {
    /// An endpoint, or the number of a delivery to show with its body and every attempt
    #[arg(value_name = "NAME|ID", value_parser = parse_which)]
    which: Option<Which>,
    /// In this state only
    #[arg(long, value_name = "STATE", value_parser = state_parser())]
    state: Option<DeliveryState>,
    /// The newest N only
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(DELIVERIES_MAX)))]
    limit: u32,
}

#[derive(Clone, Debug)]
enum Which {
    Id(i64),
    Endpoint(Name),
}

fn parse_which(text: &str) -> Result<Which, String> {
    if let Ok(id) = text.parse() {
        return Ok(Which::Id(id));
    }
    text.parse().map(Which::Endpoint).map_err(|error| format!("no number, and no name: {error}"))
}

/// Understands the words of [`DeliveryState`].
pub(super) fn state_parser() -> impl clap::builder::TypedValueParser<Value = DeliveryState> {
    PossibleValuesParser::new(DeliveryState::ALL.map(DeliveryState::as_str))
        .try_map(|word| DeliveryState::of(&word).ok_or("no such state"))
}

impl Deliveries {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let endpoint = match self.which {
            Some(Which::Id(id)) => return show(context, id),
            Some(Which::Endpoint(name)) => Some(name),
            None => None,
        };
        let query = DeliveryQuery { endpoint, state: self.state, since_ms: None, limit: Some(self.limit) };
        let deliveries = match context.ask_if_running(&Request::Deliveries(query.clone()))? {
            Some(deliveries) => deliveries,
            None => match outbox(context)? {
                Some(store) => webhooks::list(&store, query).map_err(|error| failed(&error))?,
                None => Vec::new(),
            },
        };
        context.output.show(&deliveries)
    }
}

fn show(context: &Context, id: i64) -> CliResult {
    let detail = match context.ask_if_running::<Box<DeliveryDetail>>(&Request::Delivery { id })? {
        Some(detail) => *detail,
        None => {
            let found = match outbox(context)? {
                Some(store) => webhooks::show(&store, id).map_err(|error| failed(&error))?,
                None => None,
            };
            found.ok_or_else(|| webhooks::no_delivery(id))?
        }
    };
    context.output.show(&detail)
}

impl View for Vec<DeliveryStatus> {
    const KIND: &'static str = "DeliveryList";

    fn page(&self, page: &mut Page) {
        page.table(
            [
                Always("ID"),
                Always("CREATED"),
                Always("ENDPOINT"),
                Always("STATE"),
                Always("ATTEMPTS"),
                Always("NEXT"),
                Wide("EVENT"),
                Wide("BYTES"),
                Always("ERROR"),
            ],
            self.iter().map(|delivery| {
                [
                    delivery.id.to_string(),
                    moment(delivery.created),
                    delivery.endpoint.clone(),
                    delivery.state.as_str().to_owned(),
                    delivery.attempts.to_string(),
                    or_dash(delivery.next_attempt.map(moment)),
                    delivery.event.clone(),
                    delivery.bytes.to_string(),
                    or_dash(delivery.last_error.as_ref()),
                ]
            }),
        );
    }
}

impl View for DeliveryDetail {
    const KIND: &'static str = "Delivery";

    fn page(&self, page: &mut Page) {
        let delivery = &self.delivery;
        page.field("Delivery", delivery.id);
        page.field("Event", &delivery.event);
        page.field("Endpoint", &delivery.endpoint);
        page.field("State", delivery.state.as_str());
        page.field("Created", moment(delivery.created));
        page.field("Attempts", delivery.attempts);
        if let Some(next) = delivery.next_attempt {
            page.field("Next attempt", moment(next));
        }
        page.gap();
        page.table(
            [Always("TIME"), Always("STATUS"), Always("TOOK"), Always("ERROR"), Always("ANSWER")],
            self.history.iter().map(|attempt| {
                [
                    moment(attempt.at),
                    or_dash(attempt.status),
                    format!("{} ms", attempt.latency_ms),
                    or_dash(attempt.error.as_ref()),
                    dash(attempt.answer.clone()),
                ]
            }),
        );
        page.gap();
        page.line(&self.body);
    }
}
