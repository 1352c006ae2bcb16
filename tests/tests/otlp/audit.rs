//! The audit log as a receiver of OTLP gets it.

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::receiver::Receiver;
use integration_tests::scrape::state_of;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Is;
use serde_json::{Value, json};

use super::{attribute, records};

/// Numbers and lines of the audit records that came in.
pub(super) fn audited(receiver: &Receiver) -> Result<Vec<(i64, String)>> {
    let mut found = Vec::new();
    for record in records(receiver)?.iter().filter(|one| one.event_name == "process_throttler.audit") {
        let number = attribute(&record.attributes, "process_throttler.audit.seq");
        let body = record.body.as_ref().and_then(|body| body.value.as_ref());
        let (Some(Is::IntValue(number)), Some(Is::StringValue(line))) = (number, body) else {
            anyhow::bail!("{record:#?}");
        };
        found.push((*number, line.clone()));
    }
    Ok(found)
}

#[test]
fn audit_records_arrive_in_order_whatever_the_receiver_and_the_agent_do() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    receiver.answer_with(503);
    let ship = json!([{ "type": "otlp", "endpoint": receiver.url() }]);
    places.write_config(&json!({ "metrics": { "listen": "off" }, "audit": { "ship": ship } }).to_string())?;
    let daemon = Daemon::start(&places)?;
    wait_until("it is told", SOON, || Ok(state_of(&daemon, "audit-log")?.1.contains("503")))?;
    ensure!(state_of(&daemon, "audit-log")?.0 == "degraded", "{:?}", state_of(&daemon, "audit-log")?);
    daemon.kill()?;
    let before = receiver.requests().len();
    receiver.answer_with(200);

    let daemon = Daemon::start(&places)?;
    daemon.ask(&["emergency", "stop", "a test"])?;
    daemon.ask(&["emergency", "resume", "--yes"])?;
    daemon.stop()?;
    let last = audited(&receiver)?.last().map_or(0, |(number, _)| *number);
    let daemon = Daemon::start(&places)?;
    daemon.stop()?;

    // Those of the requests that were taken.
    let taken = receiver.requests().into_iter().skip(before).count();
    let all = audited(&receiver)?;
    let mut numbers: Vec<i64> = all.iter().map(|(number, _)| *number).collect();
    let repeated = numbers.iter().rposition(|number| *number == 1).context("the first one")?;
    numbers.drain(..repeated);
    let expected: Vec<i64> = (1..).take(numbers.len()).collect();
    ensure!(numbers == expected && taken > 1, "{numbers:?}");
    ensure!(last > 3 && numbers.last().is_some_and(|number| *number > last), "{last} {numbers:?}");
    for (number, line) in all {
        let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        ensure!(line["seq"] == number && line["prev"].is_string(), "{line}");
    }
    // What arrived is what is there.
    run(&places, &["audit", "verify"])?.expect(0).map(drop)
}
