//! Events and traces of the real agent as a receiver of OTLP gets them: what was limited and who was told have one trace,
//! and a receiver that does not take them is told, counted, and holds nobody up.

mod audit;

use std::io::Read as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use integration_tests::binary::python_package;
use integration_tests::clock::{SOON, unix_nanos, wait_for, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::{Receiver, Request, SECRET};
use integration_tests::scrape::{Scrape, address, state_of};
use integration_tests::tool::{Tool, free_ports};
use integration_tests::workload::Workload;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Is;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};

/// Sends to this URL, traces so many.
fn config(url: &str, trace_ratio: &str) -> String {
    let otlp = json!({ "endpoint": url, "trace_ratio": trace_ratio, "interval": "1s" });
    json!({ "metrics": { "listen": "127.0.0.1:0", "otlp": otlp } }).to_string()
}

/// An endpoint that is told at once.
fn webhook(places: &Places, receiver: &Receiver) -> Result<()> {
    let secret = places.write_secret("ops.secret", SECRET)?;
    places.write_webhooks(&[json!({
        "name": "ops",
        "url": receiver.url(),
        "secret_file": secret,
        "allow_networks": ["127.0.0.0/8"],
        "group_wait": "0s",
        "min_severity": "info",
        "events": ["throttle_applied", "critical_process_down", "critical_process_restart"],
    })])
}

/// The bodies of what came in for a signal.
fn bodies(receiver: &Receiver, signal: &str) -> Result<Vec<Vec<u8>>> {
    let path = format!("/v1/{signal} ");
    let of_signal = |request: &Request| request.line.contains(&path);
    let plain = |request: Request| {
        if request.header("content-encoding").is_err() {
            return Ok(request.body);
        }
        // The collector compresses, whatever it is told.
        let mut body = Vec::new();
        GzDecoder::new(request.body.as_slice()).read_to_end(&mut body).context("unpack a request")?;
        Ok(body)
    };
    receiver.requests().into_iter().filter(of_signal).map(plain).collect()
}

fn records(receiver: &Receiver) -> Result<Vec<LogRecord>> {
    let mut records = Vec::new();
    for body in bodies(receiver, "logs")? {
        let request = ExportLogsServiceRequest::decode(body.as_slice()).context("decode logs")?;
        let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
        records.extend(scopes.flat_map(|scope| scope.log_records));
    }
    Ok(records)
}

fn spans(receiver: &Receiver) -> Result<Vec<Span>> {
    let mut spans = Vec::new();
    for body in bodies(receiver, "traces")? {
        let request = ExportTraceServiceRequest::decode(body.as_slice()).context("decode traces")?;
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        spans.extend(scopes.flat_map(|scope| scope.spans));
    }
    Ok(spans)
}

/// The spans of a trace, the first one first, once one of this name is there.
fn trace(receiver: &Receiver, id: &str, last: &str) -> Result<Vec<Span>> {
    let found = wait_for(&format!("the span {last} of {id}"), SOON, || {
        let mut of_trace = spans(receiver)?;
        of_trace.retain(|span| hex(&span.trace_id) == id);
        Ok(of_trace.iter().any(|span| span.name == last).then_some(of_trace))
    });
    let mut found = found.with_context(|| format!("{:#?}", spans(receiver)))?;
    found.sort_by_key(|span| (span.start_time_unix_nano, span.end_time_unix_nano));
    for two in found.windows(2) {
        let [before, after] = two else { continue };
        ensure!(
            after.parent_span_id == before.span_id,
            "{} does not follow from {}",
            after.name,
            before.name
        );
        ensure!(after.start_time_unix_nano >= before.end_time_unix_nano, "{} begins too early", after.name);
    }
    ensure!(found.iter().all(|span| span.span_id.len() == 8 && span.span_id != [0; 8]), "{found:#?}");
    ensure!(found.first().is_some_and(|root| root.parent_span_id.is_empty()), "{found:#?}");
    Ok(found)
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Is> {
    attributes.iter().find(|one| one.key == key)?.value.as_ref()?.value.as_ref()
}

fn text(text: &str) -> Is {
    Is::StringValue(text.to_owned())
}

/// The notice of a type that the webhook got, with its trace, which its header tells too.
fn told(receiver: &Receiver, kind: &str) -> Result<(Value, String, String)> {
    let request = receiver.wait_for(kind, SOON, |body| body["type"] == kind)?;
    request.verify(SECRET)?;
    let body = request.json()?;
    let id = body["data"]["trace_id"].as_str().with_context(|| format!("no trace: {body}"))?.to_owned();
    ensure!(request.header("webhook-id")? == format!("evt_{id}"), "{body}");
    let header = request.header("traceparent")?;
    let parts: Vec<&str> = header.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { anyhow::bail!("{header}") };
    ensure!((version, trace, flags) == ("00", id.as_str(), "01"), "{header}");
    let span = span.to_owned();
    Ok((body, id, span))
}

#[test]
fn from_the_exec_to_the_webhook_there_is_one_trace() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let (collector, receiver) = (Receiver::start()?, Receiver::start()?);
    places.write_config(&config(&collector.url(), "100%"))?;
    webhook(&places, &receiver)?;
    let hog = Program::Spin.write(&places.bin(), "pt-traced")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("web").rule("hogs", "pt-traced", &json!({ "cpu": "20%" })))?;
    let before = unix_nanos();
    let hog = Workload::spawn(&hog)?;
    let (body, id, delivered_as) = told(&receiver, "throttle_applied").context(daemon.printed())?;
    let after = unix_nanos();
    ensure!(body["data"]["details"]["group"] == "hogs", "{body}");

    let found = trace(&collector, &id, "deliver")?;
    ensure!(names(&found) == ["exec", "decide", "act", "deliver"], "{found:#?}");
    let [exec, _, act, deliver] = &found[..] else { anyhow::bail!("{found:#?}") };
    let within =
        before <= u128::from(exec.start_time_unix_nano) && u128::from(act.end_time_unix_nano) <= after;
    ensure!(within, "{before} {found:#?} {after}");
    let latency = body["data"]["details"]["latency_ns"].as_u64().context("a latency")?;
    let traced = act.end_time_unix_nano - exec.start_time_unix_nano;
    ensure!(traced.abs_diff(latency) < 1_000, "{traced} ns traced, {latency} ns told");
    let pid = Is::IntValue(hog.pid().into());
    ensure!(attribute(&exec.attributes, "process.pid") == Some(&pid), "{exec:#?}");
    ensure!(hex(&deliver.span_id) == delivered_as && deliver.kind == 3, "{deliver:#?}");
    ensure!(attribute(&deliver.attributes, "http.response.status_code") == Some(&Is::IntValue(200)));
    ensure!(attribute(&deliver.attributes, "server.port") == Some(&Is::IntValue(receiver.port().into())));

    let name = "process_throttler.throttle_applied";
    let record = wait_for("its log record", SOON, || {
        Ok(records(&collector)?.into_iter().find(|record| record.event_name == name))
    })?;
    ensure!(hex(&record.trace_id) == id && record.span_id == act.span_id, "{record:#?}");
    ensure!(
        record.body.as_ref().and_then(|body| body.value.as_ref())
            == Some(&text(body["data"]["message"].as_str().context("a message")?))
    );
    ensure!(attribute(&record.attributes, "process.pid") == Some(&pid), "{record:#?}");
    ensure!(attribute(&record.attributes, "process_throttler.group") == Some(&text("hogs")), "{record:#?}");
    ensure!(record.severity_number == 9 && record.observed_time_unix_nano >= record.time_unix_nano);

    let audited = wait_for("its audit record", SOON, || {
        let line = ["audit", "search", "--type", "throttle.applied", "-o", "jsonl"];
        Ok(run(&places, &line)?.expect(0)?.json_lines()?.pop())
    })?;
    ensure!(audited["facts"]["trace_id"] == id && audited["event"] == format!("evt_{id}"), "{audited}");

    wait_until("metrics", SOON, || Ok(!bodies(&collector, "metrics")?.is_empty()))?;
    wait_until("the status tells of both", SOON, || {
        let (state, why) = state_of(&daemon, "event-export")?;
        Ok(state == "working"
            && why.contains("logs to")
            && why.contains("traces to")
            && why.contains("so far, the last"))
    })?;
    daemon.stop()?;
    // What is told at the end arrives too.
    let gone = "process_throttler.throttle_removed";
    ensure!(records(&collector)?.iter().any(|record| record.event_name == gone), "the release is not told");
    Ok(())
}

#[test]
fn deaths_of_critical_processes_are_always_traced_and_others_as_the_ratio_says() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let (collector, receiver) = (Receiver::start()?, Receiver::start()?);
    places.write_config(&config(&collector.url(), "0%"))?;
    webhook(&places, &receiver)?;
    let (hog, vital) = (
        Program::Spin.write(&places.bin(), "pt-untraced")?,
        Program::Wait.write(&places.bin(), "pt-traced")?,
    );
    let daemon = Daemon::start(&places)?;
    let profile = ProfileText::new("web").rule("hogs", "pt-untraced", &json!({ "cpu": "20%" }));
    daemon.activate(&profile.critical("vital", &vital))?;
    let _hog = Workload::spawn(&hog)?;
    let mut vital = Workload::spawn(&vital)?;
    crate::critical_alert::wait_known_critical(&daemon, &vital)?;
    vital.kill()?;

    let (body, id, _) = told(&receiver, "critical_process_down")?;
    ensure!(body["data"]["details"]["name"] == "vital", "{body}");
    let found = trace(&collector, &id, "deliver")?;
    ensure!(names(&found) == ["exit", "decide", "deliver"], "{found:#?}");
    let pid = Is::IntValue(vital.pid().into());
    ensure!(found.first().is_some_and(|exit| attribute(&exit.attributes, "process.pid") == Some(&pid)));
    let record = wait_for("its log record", SOON, || {
        let name = "process_throttler.critical_process_down";
        Ok(records(&collector)?.into_iter().find(|record| record.event_name == name))
    })?;
    ensure!(record.severity_number == 18 && hex(&record.trace_id) == id, "{record:#?}");
    ensure!(
        attribute(&record.attributes, "process_throttler.exit.signal") == Some(&text("SIGKILL")),
        "{record:#?}"
    );

    let request = receiver.wait_for("the limit", SOON, |body| body["type"] == "throttle_applied")?;
    ensure!(request.header("traceparent").is_err() && request.json()?["data"]["trace_id"].is_null());
    let of_limits =
        records(&collector)?.into_iter().find(|record| record.event_name.ends_with("throttle_applied"));
    ensure!(of_limits.context("events are told all the same")?.trace_id.is_empty());
    let traces: Vec<String> = spans(&collector)?.iter().map(|span| hex(&span.trace_id)).collect();
    ensure!(traces.iter().all(|trace| *trace == id), "{traces:?}");
    daemon.stop()
}

#[test]
fn a_restart_is_traced_from_the_death_to_the_new_instance() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    crate::restart::open(&places)?;
    let (collector, receiver) = (Receiver::start()?, Receiver::start()?);
    places.write_config(&config(&collector.url(), "0%"))?;
    webhook(&places, &receiver)?;
    let vital = Program::Wait.write(&places.bin(), "pt-traced")?;
    let _leftover = crate::restart::Leftover(&vital);
    let daemon = Daemon::start(&places)?;
    daemon.activate(&crate::restart::profile(&vital, "on-failure", &json!({})))?;
    let mut vital = Workload::spawn(&vital)?;
    crate::critical_alert::wait_known_critical(&daemon, &vital)?;
    let before = unix_nanos();
    vital.kill()?;

    let (body, id, _) = told(&receiver, "critical_process_restart").context(daemon.printed())?;
    ensure!(body["data"]["details"]["result"] == "restarted", "{body}");
    let found = trace(&collector, &id, "deliver")?;
    ensure!(names(&found) == ["exit", "decide", "act", "deliver"], "{found:#?}");
    let [exit, _, act, _] = &found[..] else { anyhow::bail!("{found:#?}") };
    ensure!(before <= u128::from(exit.start_time_unix_nano), "{before} {exit:#?}");
    // The profile has it wait for 300 ms.
    ensure!(exit.end_time_unix_nano - exit.start_time_unix_nano >= 300_000_000, "{exit:#?}");
    ensure!(act.end_time_unix_nano > act.start_time_unix_nano, "a program starts in no time: {act:#?}");
    daemon.stop()
}

#[test]
fn a_receiver_that_refuses_is_told_and_holds_nobody_up() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let (collector, receiver) = (Receiver::start()?, Receiver::start()?);
    places.write_config(&config(&collector.url(), "0%"))?;
    webhook(&places, &receiver)?;
    let vital = Program::Wait.write(&places.bin(), "pt-vital")?;
    collector.answer_with(400);
    let daemon = Daemon::start(&places)?;
    let address = address(&daemon)?;
    daemon.activate(&ProfileText::new("web").critical("vital", &vital))?;
    let lost =
        |stage: &str| format!("process_throttler_otlp_lost_total{{signal=\"logs\",stage=\"{stage}\"}}");
    wait_until("refusals are told and counted", SOON, || {
        let (state, why) = state_of(&daemon, "event-export")?;
        let refused = Scrape::over_tcp(&address)?.figure(&lost("refused"))?;
        Ok(refused >= 1.0 && state == "degraded" && why.contains("the receiver answered 400"))
    })?;

    // One that is not there: what is told waits, and nobody else does.
    let [port] = free_ports()?;
    places.write_config(&config(&format!("http://127.0.0.1:{port}"), "0%"))?;
    daemon.ask(&["daemon", "reload"])?;
    let mut vital = Workload::spawn(&vital)?;
    crate::critical_alert::wait_known_critical(&daemon, &vital)?;
    vital.kill()?;
    let (_, id, _) = told(&receiver, "critical_process_down")?;
    wait_until("its absence is told", SOON, || {
        let (state, why) = state_of(&daemon, "event-export")?;
        Ok(state == "degraded" && why.contains("refused"))
    })?;
    let scrape = Scrape::over_tcp(&address)?;
    ensure!(scrape.figure("process_throttler_otlp_queue_size{signal=\"logs\"}")? >= 1.0, "{}", scrape.0);
    ensure!(
        scrape.figure(&lost("queue"))? == 0.0 && scrape.figure(&lost("given_up"))? == 0.0,
        "{}",
        scrape.0
    );

    // Another one gets what waits.
    collector.answer_with(200);
    places.write_config(&config(&collector.url(), "0%"))?;
    daemon.ask(&["daemon", "reload"])?;
    let found = trace(&collector, &id, "deliver")?;
    ensure!(names(&found) == ["exit", "decide", "deliver"], "{found:#?}");
    places.write_config("metrics: { listen: off }\n")?;
    daemon.ask(&["daemon", "reload"])?;
    ensure!(state_of(&daemon, "event-export")?.0 == "disabled");
    daemon.stop()
}

#[test]
fn a_collector_that_is_not_ours_hands_on_all_three_signals() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let sink = Receiver::start()?;
    let [grpc, http] = free_ports()?;
    let mut command = Command::new(python_package("rotel/rotel-agent")?);
    let (log, sink_url) = (places.root().join("rotel.log"), sink.url());
    command.arg("start").args(["--pid-file", "rotel.pid", "--log-file", "rotel.own.log"]);
    command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}"), "--exporter", "otlp"]);
    command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}"), "--batch-timeout", "100ms"]);
    command.args(["--otlp-exporter-endpoint", &sink_url, "--otlp-exporter-protocol", "http"]);
    command.current_dir(places.root());
    let rotel = Tool::start(command, http, &log)?;
    let url = format!("http://127.0.0.1:{http}");
    let mut settings: Value = serde_json::from_str(&config(&url, "100%")).context("the configuration")?;
    settings["audit"] = json!({ "ship": [{ "type": "otlp", "endpoint": url }] });
    places.write_config(&settings.to_string())?;
    let hog = Program::Spin.write(&places.bin(), "pt-traced")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("web").rule("hogs", "pt-traced", &json!({ "cpu": "20%" })))?;
    let hog = Workload::spawn(&hog)?;

    let act = wait_for("a span", SOON, || Ok(spans(&sink)?.into_iter().find(|span| span.name == "act")));
    let act = act.with_context(|| format!("{}\n{}", rotel.printed(), daemon.printed()))?;
    let found = trace(&sink, &hex(&act.trace_id), "act")?;
    ensure!(names(&found) == ["exec", "decide", "act"], "{found:#?}");
    let pid = Is::IntValue(hog.pid().into());
    ensure!(found.first().is_some_and(|exec| attribute(&exec.attributes, "process.pid") == Some(&pid)));
    let record = wait_for("a log record", SOON, || {
        Ok(records(&sink)?.into_iter().find(|record| record.span_id == act.span_id))
    })?;
    ensure!(record.event_name == "process_throttler.throttle_applied", "{record:#?}");
    ensure!(record.trace_id == act.trace_id && record.severity_text == "info", "{record:#?}");
    ensure!(attribute(&record.attributes, "process_throttler.group") == Some(&text("hogs")), "{record:#?}");
    wait_until("metrics", SOON, || {
        for body in bodies(&sink, "metrics")? {
            let request = ExportMetricsServiceRequest::decode(body.as_slice()).context("decode metrics")?;
            let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
            let mut metrics = scopes.flat_map(|scope| scope.metrics);
            if metrics.any(|metric| metric.name == "process_throttler.processes") {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    wait_for("an audit record", SOON, || {
        Ok(audit::audited(&sink)?.into_iter().find(|(_, line)| line.contains("hogs")))
    })?;
    let (state, why) = state_of(&daemon, "event-export")?;
    ensure!(state == "working" && !why.contains("lost"), "{why}");
    daemon.stop()
}
