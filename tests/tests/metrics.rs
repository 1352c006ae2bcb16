//! Figures of the real agent: fetched and pushed, as others read them, true to what `daemon status` and the kernel say,
//! and gone with what they tell of.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary::unpacked;
use integration_tests::clock::{SOON, patience, wait_for, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::guide::{blocks, run_block};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::Receiver;
use integration_tests::scrape::{Scrape, address, feature};
use integration_tests::storm::Storm;
use integration_tests::tool::free_ports;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use prost::Message as _;
use serde_json::json;

/// On a port of its own, because the host may have an agent.
const ANY_PORT: &str = "metrics: { listen: 127.0.0.1:0 }\n";

/// Prometheus' own judgement of a text: its syntax, and the rules for names, units and help.
fn promtool(text: &str) -> Result<()> {
    let mut command = Command::new(unpacked("prometheus", "usr/bin/promtool")?);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start promtool")?;
    child.stdin.take().context("its input")?.write_all(text.as_bytes()).context("hand it the text")?;
    let output = child.wait_with_output().context("wait for promtool")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "promtool ended with {}: {said}\n{text}", output.status);
    Ok(())
}

#[test]
fn promtool_finds_fault_with_others() -> Result<()> {
    ensure!(promtool("a_total 1\n").is_err(), "it says nothing about a metric without help");
    Ok(())
}

#[test]
fn a_group_has_figures_while_it_is_limited_and_none_after() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config(ANY_PORT)?;
    let (hog, vital) =
        (Program::Spin.write(&places.bin(), "pt-hog")?, Program::Wait.write(&places.bin(), "pt-vital")?);
    let daemon = Daemon::start(&places)?;
    let address = address(&daemon)?;
    let profile = ProfileText::new("web").rule("hogs", "pt-hog", &json!({ "cpu": "20%", "nice": 1 }));
    daemon.activate(&profile.critical("vital", &vital))?;
    let (hogs, alone) = (Workload::spawn(&hog)?, Workload::spawn(&hog)?);
    let mut instance = Workload::spawn(&vital)?;
    crate::critical_alert::wait_known_critical(&daemon, &instance)?;

    let of = |metric: &str| format!("process_throttler_{metric}{{group=\"hogs\"}}");
    let throttled = wait_for("the quota holds the group back", SOON, || {
        let scrape = Scrape::over_tcp(&address)?;
        let periods = scrape.get(&of("cgroup_cpu_throttled_periods_total"));
        Ok(periods.is_some_and(|periods| periods >= 3.0).then_some(scrape))
    });
    let throttled =
        throttled.with_context(|| format!("{:?}\n{}", Scrape::over_tcp(&address), daemon.printed()))?;
    promtool(&throttled.0)?;
    ensure!(throttled.figure(&of("group_processes"))? == 2.0, "{}", throttled.0);
    let later = wait_for("it goes on using CPU time", SOON, || {
        let (scrape, used) = (Scrape::over_tcp(&address)?, of("cgroup_cpu_time_seconds_total"));
        Ok((scrape.figure(&used)? > throttled.figure(&used)?).then_some(scrape))
    })?;
    for metric in [
        "cgroup_cpu_throttled_seconds_total",
        "cgroup_cpu_throttled_periods_total",
        "cgroup_cpu_periods_total",
        "cgroup_cpu_time_seconds_total",
    ] {
        let (before, after) = (throttled.figure(&of(metric))?, later.figure(&of(metric))?);
        ensure!(after > 0.0 && after >= before, "{metric}: {before}, then {after}");
    }
    let active = "process_throttler_throttle_active{profile=\"web\",resource=\"cpu\"}";
    ensure!(later.figure(active)? == 1.0 && later.figure(&active.replace("cpu", "attributes"))? == 1.0);
    let applied = "process_throttler_effects_total{action=\"apply\",result=\"applied\"}";
    let times = |metric: &str| format!("process_throttler_throttle_{metric}_duration_seconds_count");
    ensure!(later.figure(applied)? >= 1.0 && later.figure(&times("effect"))? == later.figure(applied)?);
    ensure!(later.figure(&times("reaction"))? >= 1.0);
    ensure!(later.figure("process_throttler_throttle_applied_total")? >= 1.0, "{}", later.0);
    ensure!(later.figure("process_throttler_events_received_total{kind=\"exec\"}")? >= 1.0);

    // One who dies is told by cause.
    let critical = |metric: &str| format!("process_throttler_critical_{metric}{{critical=\"vital\"}}");
    ensure!(later.figure(&critical("up"))? == 1.0 && later.figure(&critical("instances"))? == 1.0);
    instance.kill()?;
    let died = "process_throttler_critical_deaths_total{cause=\"signal\",critical=\"vital\"}";
    wait_until("the death is counted", SOON, || {
        let scrape = Scrape::over_tcp(&address)?;
        Ok(scrape.figure(died)? == 1.0 && scrape.figure(&critical("up"))? == 0.0)
    })?;

    // By hand and without a name, which would be a pid.
    let by_hand = Workload::spawn(&Program::Wait.write(&places.bin(), "pt-hand")?)?;
    daemon.ask(&["throttle", "--pid", &by_hand.pid_text(), "--cpu", "50%"])?;
    let by_hand_now = "process_throttler_group_processes{group=\"by-hand\"}";
    let scrape = wait_for("it is there", SOON, || {
        let scrape = Scrape::over_tcp(&address)?;
        Ok((scrape.get(by_hand_now) == Some(1.0)).then_some(scrape))
    })?;
    let pids = [hogs.pid_text(), alone.pid_text(), by_hand.pid_text()];
    let labels: Vec<&str> = scrape.0.split('"').skip(1).step_by(2).collect();
    ensure!(labels.iter().all(|label| pids.iter().all(|pid| !label.contains(pid.as_str()))), "{labels:?}");

    // The same over the socket and by the command.
    let socket = Scrape::over_socket(&places.socket())?;
    let command = daemon.ask(&["metrics"])?.stdout;
    promtool(&command)?;
    let names = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect()
    };
    ensure!(names(&socket.0) == names(&scrape.0) && names(&command) == names(&scrape.0), "{command}");
    let families = daemon.data(&["metrics"])?;
    let hogs_now = families
        .as_array()
        .context("a list")?
        .iter()
        .find(|one| one["name"] == "process_throttler.group.processes");
    ensure!(hogs_now.context("the metric")?["points"][1]["labels"]["group"] == "hogs", "{families}");

    daemon.ask(&["release", "--all", "--yes"])?;
    daemon.ask(&["profile", "deactivate"])?;
    wait_until("no group has figures", SOON, || {
        let scrape = Scrape::over_tcp(&address)?;
        Ok(!scrape.0.contains("group=") && !scrape.0.contains("critical=") && scrape.get(active).is_none())
    })?;
    daemon.stop()
}

#[test]
fn losses_are_those_of_the_status() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config(&format!("rings: {{ priority_bytes: 4K, bulk_bytes: 4K }}\n{ANY_PORT}"))?;
    let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
    let daemon = Daemon::start(&places)?;
    let address = address(&daemon)?;

    daemon.signal(Signal::SIGSTOP)?;
    let account = Storm::for_time(&life, patience(Duration::from_millis(500)))?.finish()?;
    daemon.signal(Signal::SIGCONT)?;
    ensure!(account.lives > 100, "that was no storm: {account:?}");

    let lost = wait_for("the losses agree", SOON, || {
        let source = daemon.data(&["daemon", "status"])?["source"].clone();
        let scrape = Scrape::over_tcp(&address)?;
        let lost = scrape.figure("process_throttler_events_lost_total{stage=\"ring\"}")?;
        let sent = scrape.figure("process_throttler_ring_records_total{outcome=\"sent\"}")?;
        ensure!(scrape.get("process_throttler_source_info{exact=\"yes\",source=\"ebpf\"}") == Some(1.0));
        // Records go on being sent, between the two questions too; none is lost any more.
        let agree =
            source["dropped"].as_f64() == Some(lost) && sent >= source["sent"].as_f64().unwrap_or(f64::MAX);
        Ok((agree && lost > 0.0).then_some(lost))
    })?;
    let event = daemon.wait_event("events_lost", |_| true)?;
    ensure!(event["dropped"].as_f64().is_some_and(|dropped| dropped <= lost), "{event}: {lost} lost");
    daemon.stop()
}

/// The metrics of the last push that a receiver got.
fn pushed(receiver: &Receiver) -> Result<Option<Vec<Metric>>> {
    let mut requests = receiver.requests();
    // Events and traces come there, too.
    requests.retain(|request| request.line == "POST /hook/v1/metrics HTTP/1.1");
    let Some(request) = requests.pop() else { return Ok(None) };
    ensure!(request.header("content-type")? == "application/x-protobuf", "{:?}", request.headers);
    ensure!(request.header("x-scope-orgid")? == "tests", "{:?}", request.headers);
    let body = ExportMetricsServiceRequest::decode(request.body.as_slice()).context("decode a push")?;
    let resource = body.resource_metrics.into_iter().next().context("a resource")?;
    let named = resource.resource.iter().flat_map(|one| &one.attributes).any(|one| one.key == "service.name");
    ensure!(named, "{:?}", resource.resource);
    Ok(Some(resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics).collect()))
}

/// The number of the one series of a metric.
fn number(metrics: &[Metric], name: &str) -> Result<i64> {
    let metric = metrics.iter().find(|metric| metric.name == format!("process_throttler.{name}"));
    let points = match metric.with_context(|| format!("no {name}"))?.data.as_ref().context("no data")? {
        Data::Gauge(gauge) => &gauge.data_points,
        Data::Sum(sum) => &sum.data_points,
        other @ (Data::Histogram(_) | Data::ExponentialHistogram(_) | Data::Summary(_)) => {
            anyhow::bail!("{name} is {other:?}")
        }
    };
    match points.first().and_then(|point| point.value) {
        Some(Number::AsInt(number)) => Ok(number),
        other => anyhow::bail!("{name} is {other:?}"),
    }
}

#[test]
fn pushes_arrive_and_a_receiver_that_does_not_take_them_is_told() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let receiver = Receiver::start()?;
    let headers = json!([{ "name": "X-Scope-OrgID", "value": "tests" }]);
    let config = |url: &str| {
        let otlp = json!({ "endpoint": url, "interval": "1s", "headers": headers });
        json!({ "metrics": { "listen": "127.0.0.1:0", "otlp": otlp } }).to_string()
    };
    places.write_config(&config(&receiver.url()))?;
    let daemon = Daemon::start(&places)?;
    let address = address(&daemon)?;

    let metrics = wait_for("a push arrives", SOON, || pushed(&receiver))?;
    let known = number(&metrics, "processes")?;
    let status = daemon.data(&["daemon", "status"])?["processes"].as_i64().context("processes")?;
    ensure!(known.abs_diff(status) <= 20, "{known} pushed, {status} known");
    let names: Vec<String> = metrics.iter().map(|metric| metric.name.replace('.', "_")).collect();
    let scrape = Scrape::over_tcp(&address)?;
    for family in scrape.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        ensure!(names.iter().any(|name| family.starts_with(name.as_str())), "{family} is not pushed");
    }
    wait_until("a success is told", SOON, || {
        let (state, why) = feature(&daemon)?;
        Ok(state == "working" && why.contains("pushed to") && why.contains("so far"))
    })?;

    receiver.answer_with(503);
    let failed = "process_throttler_metrics_pushes_total{result=\"failed\"}";
    wait_until("refusals are told and counted", SOON, || {
        let (state, why) = feature(&daemon)?;
        let counted = Scrape::over_tcp(&address)?.figure(failed)? >= 1.0;
        Ok(counted && state == "degraded" && why.contains("the receiver answered 503"))
    })?;
    let refused = Scrape::over_tcp(&address)?.figure(failed)?;

    // Nobody is there, from a reload on.
    let [port] = free_ports()?;
    places.write_config(&config(&format!("http://127.0.0.1:{port}")))?;
    daemon.ask(&["daemon", "reload"])?;
    wait_until("its absence is told and counted", SOON, || {
        let (state, why) = feature(&daemon)?;
        let counted = Scrape::over_tcp(&address)?.figure(failed)? > refused;
        Ok(counted && state == "degraded" && why.contains("refused"))
    })?;
    // It takes a second line to tell that it is back, and none for every failure between.
    let said = daemon.printed();
    ensure!(said.matches("metrics cannot be pushed").count() == 2, "{said}");

    places.write_config("metrics: { listen: off }\n")?;
    daemon.ask(&["daemon", "reload"])?;
    ensure!(feature(&daemon)?.0 == "disabled", "{:?}", feature(&daemon)?);
    ensure!(Scrape::over_tcp(&address).is_err(), "it still listens");
    Scrape::over_socket(&places.socket())?;
    daemon.stop()
}

#[test]
fn an_address_that_is_taken_does_not_keep_the_agent_from_its_work() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).context("take a port")?;
    let address = taken.local_addr().context("its address")?;
    places.write_config(&format!("metrics: {{ listen: \"{address}\" }}\n"))?;
    let daemon = Daemon::start(&places)?;
    let (state, why) = feature(&daemon)?;
    ensure!(state == "degraded" && why.contains(&format!("cannot listen on {address}")), "{state}: {why}");
    drop(taken);
    daemon.ask(&["daemon", "reload"])?;
    ensure!(feature(&daemon)? == ("working".to_owned(), format!("http://{address}/metrics")));
    run(&places, &["metrics", "-o", "json"])?.expect(0)?;
    daemon.stop()
}

#[test]
fn the_guide_can_be_followed() -> Result<()> {
    const GUIDE: &str = include_str!("../../docs/guides/metrics.md");
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let [config, run_time] = blocks(GUIDE, "yaml config")[..] else { anyhow::bail!("two configurations") };
    // Port 9464 may be that of the host's own agent, and whoever listens on 4318 is to be told nothing.
    let [nobody] = free_ports()?;
    let config = config.replace("9464", "0").replace("4318", &nobody.to_string());
    places.write_config(&config.replace("60s", "1h"))?;
    places.write_secret("otlp.token", "Bearer x")?;
    let daemon = Daemon::start(&places)?;
    let [commands] = blocks(GUIDE, "sh")[..] else { anyhow::bail!("one block of commands") };
    let printed = run_block(&places, commands)?;
    let scrape = Scrape(printed.clone());
    ensure!(scrape.figure("process_throttler_events_lost_total{stage=\"ring\"}")? == 0.0, "{printed}");
    ensure!(printed.contains("\"kind\": \"MetricList\""), "{printed}");

    let tool = unpacked("prometheus", "usr/bin/promtool")?;
    let [job] = blocks(GUIDE, "yaml prometheus")[..] else { anyhow::bail!("one job") };
    let file = places.root().join("prometheus.yml");
    std::fs::write(&file, job).context("write the job")?;
    let output =
        Command::new(&tool).args(["check", "config"]).arg(&file).output().context("start promtool")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{job}\n{}", String::from_utf8_lossy(&said));
    // What is asked for is there.
    let known = daemon.data(&["metrics"])?;
    let reference = include_str!("../../docs/metrics.md");
    let named = GUIDE.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for metric in named.filter(|word| word.starts_with("process_throttler_")) {
        let metric = metric.trim_end_matches("_bucket");
        ensure!(reference.contains(&format!("`{metric}`")), "{metric} is no metric: {known}");
    }
    places.write_config(run_time)?;
    run(&places, &["validate", "config"])?.expect(0)?;
    daemon.stop()
}
