//! What is shipped for Prometheus and Grafana, in the hands of Debian's Prometheus and its alertmanager: each rule is tested,
//! each panel of the dashboard shows something, and an alert arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary::unpacked;
use integration_tests::clock::{wait_for, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::prometheus::{Prometheus, get, shipped};
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::scrape::{Scrape, address};
use integration_tests::tool::{Tool, free_ports};
use integration_tests::workload::Workload;
use serde_json::{Value, json};

const RULES: &str = "prometheus/process-throttler.rules.yaml";
const RULE_TESTS: &str = "prometheus/process-throttler.rules.test.yaml";
const DASHBOARD: &str = "grafana/process-throttler.json";
/// What is there is known to Prometheus after this: a scrape a second, some of which a busy machine misses.
const SCRAPED: Duration = Duration::from_secs(30);
/// Four scrapes, as Grafana has it.
const RATE_INTERVAL: &str = "4s";

fn read(file: &str) -> Result<String> {
    let path = shipped(file);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn promtool(arguments: &[&str], file: &Path) -> Result<String> {
    let mut command = Command::new(unpacked("prometheus", "usr/bin/promtool")?);
    let output = command.args(arguments).arg(file).output().context("start promtool")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "promtool {arguments:?} ended with {}: {said}", output.status);
    Ok(said)
}

/// What follows a key in a file of YAML, each time that the key is there.
fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    yaml.lines()
        .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(key)?.strip_prefix(": "))
        .collect()
}

/// The alerts for which there is a test in which they fire, and one in which they do not.
fn tested(tests: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut fires, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    let mut alert = "";
    for line in tests.lines().map(|line| line.trim_start_matches([' ', '-'])) {
        if let Some(name) = line.strip_prefix("alertname: ") {
            alert = name;
        } else if line == "exp_alerts: []" {
            quiet.insert(alert);
        } else if line.starts_with("exp_labels:") {
            fires.insert(alert);
        }
    }
    (fires, quiet)
}

#[test]
fn every_rule_is_tested_and_passes() -> Result<()> {
    let (rules, tests) = (read(RULES)?, read(RULE_TESTS)?);
    promtool(&["check", "rules"], &shipped(RULES))?;
    promtool(&["test", "rules"], &shipped(RULE_TESTS))?;
    let (fires, quiet) = tested(&tests);
    let alerts = values(&rules, "alert");
    ensure!(alerts.len() >= 20, "{alerts:?}");
    for alert in &alerts {
        ensure!(fires.contains(alert), "no test in which {alert} fires");
        ensure!(quiet.contains(alert), "no test in which {alert} does not fire");
    }
    let asked = values(&tests, "expr");
    for record in values(&rules, "record") {
        ensure!(asked.iter().any(|expression| expression.contains(record)), "no test of {record}");
    }
    for key in ["labels", "summary", "description", "runbook"] {
        ensure!(rules.matches(&format!(" {key}: ")).count() == alerts.len(), "an alert without {key}");
    }
    Ok(())
}

#[test]
fn a_rule_that_is_wrong_fails_its_test() -> Result<()> {
    let dir = tempfile::tempdir().context("make a directory")?;
    for file in [RULES, RULE_TESTS] {
        let name = Path::new(file).file_name().context("a name")?;
        let text = read(file)?
            .replace("process_throttler_emergency_active == 1", "process_throttler_emergency_active == 2");
        fs::write(dir.path().join(name), text).context("copy a file")?;
    }
    let tests = Path::new(RULE_TESTS).file_name().context("a name")?;
    let error = promtool(&["test", "rules"], &dir.path().join(tests)).err().context("it passes")?;
    ensure!(format!("{error:#}").contains("EmergencyStopLasts"), "{error:#}");
    Ok(())
}

/// Runbooks lead to headings that are there.
#[test]
fn runbooks_are_there() -> Result<()> {
    let root = shipped("..");
    let rules = read(RULES)?;
    for runbook in values(&rules, "runbook") {
        let (file, anchor) = runbook.split_once('#').with_context(|| format!("no heading in {runbook}"))?;
        let text = fs::read_to_string(root.join(file)).with_context(|| format!("read {file}"))?;
        let anchors = text.lines().filter_map(|line| line.strip_prefix("## ")).map(|heading| {
            let kept = heading.to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
        });
        ensure!(anchors.into_iter().any(|one| one == anchor), "{runbook}: no such heading");
    }
    Ok(())
}

/// An expression of the dashboard, and whether it is asked for as it is now only.
struct Query {
    place: String,
    expression: String,
    instant: bool,
}

fn queries(dashboard: &Value) -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(panel["type"] == "row" || !targets.is_empty(), "{title} asks for nothing");
        for target in targets {
            let expression = target["expr"].as_str().context("an expression")?.to_owned();
            ensure!(target["datasource"]["uid"] == "${datasource}", "{title}: {target}");
            let instant = target["instant"] == true;
            queries.push(Query { place: format!("panel {title}"), expression, instant });
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().context("annotations")? {
        // The one that every dashboard has is Grafana's own.
        if annotation["builtIn"] == 1 {
            continue;
        }
        let name = annotation["name"].as_str().context("a name")?;
        let expression = annotation["expr"].as_str().context("an expression")?.to_owned();
        queries.push(Query { place: format!("annotation {name}"), expression, instant: false });
    }
    Ok(queries)
}

/// The dashboard's variables as Grafana would fill them in: all values of each, but for the data source.
fn variables(dashboard: &Value, prometheus: &Prometheus) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::from([("$__rate_interval".to_owned(), RATE_INTERVAL.to_owned())]);
    for variable in dashboard["templating"]["list"].as_array().context("variables")? {
        if variable["type"] == "datasource" {
            continue;
        }
        let name = variable["name"].as_str().context("a name")?;
        let query = variable["query"]["query"].as_str().context("a query")?;
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) =
            inside.and_then(|inside| inside.rsplit_once(", ")).context("label_values(a, b)")?;
        let values = prometheus.values(&filled(selector, &found), label)?;
        ensure!(!values.is_empty(), "{name} has no values: {query}");
        found.insert(format!("${name}"), format!("({})", values.join("|")));
    }
    Ok(found)
}

fn filled(expression: &str, variables: &BTreeMap<String, String>) -> String {
    variables.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name.as_str(), value))
}

/// Whether one of these series has a number.
fn has_number(series: &[Value]) -> bool {
    let number =
        |sample: &Value| sample[1].as_str().is_some_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite));
    series.iter().any(|one| {
        let samples = one["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        samples.iter().any(number) || number(&one["value"])
    })
}

fn empty(prometheus: &Prometheus, dashboard: &Value) -> Result<Vec<String>> {
    let variables = variables(dashboard, prometheus)?;
    let mut empty = Vec::new();
    for Query { place, expression, instant } in queries(dashboard)? {
        let expression = filled(&expression, &variables);
        ensure!(!expression.contains('$'), "{place}: an unknown variable in {expression}");
        let series = if instant { prometheus.query(&expression) } else { prometheus.history(&expression) };
        if !has_number(&series.with_context(|| place.clone())?) {
            empty.push(format!("{place}: {expression}"));
        }
    }
    Ok(empty)
}

#[test]
fn every_panel_and_annotation_has_data() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    places.write_config(
        "metrics: { listen: 127.0.0.1:0, bpf_run_time: true }\nscheduler_probes: { mode: on, budget: 100% }\n",
    )?;
    places.write_webhook(&receiver.url(), SECRET)?;
    let hog = Program::Spin.write(&places.bin(), "pt-hog")?;
    let vital = Program::Serve.write(&places.bin(), "pt-vital")?;
    let _leftover = crate::restart::Leftover(&vital);
    let daemon = Daemon::start(&places)?;
    let address = address(&daemon)?;
    let prometheus = Prometheus::start(places.root(), &address, None)?;

    let _hogs = [Workload::spawn(&hog)?, Workload::spawn(&hog)?];
    let mut instance = Workload::spawn(&vital)?;
    let keys = json!({
        "health_check": { "type": "file", "target": vital, "interval": "1s", "timeout": "1s" },
        "latency_slo": { "run_queue_p99": "1s", "for": "1s" },
        "restart": { "command": [vital], "user": "root", "backoff": "100ms" },
    });
    let profile = ProfileText::new("web").critical_with("vital", &vital, &keys);
    // On v1 the memory cgroup that they are in has other members, too.
    let hogs = json!({
        "name": "hogs", "match": { "comm": "pt-hog" }, "allow_move": true,
        "limits": { "cpu": "20%", "memory_max": "256M" },
    });
    daemon.activate(&profile.rule_value(hogs))?;
    crate::critical_alert::wait_known_critical(&daemon, &instance)?;
    let scraped = wait_until("the group is scraped", SCRAPED, || {
        let held_back = prometheus.query("process_throttler_cgroup_cpu_throttled_periods_total > 2")?;
        Ok(has_number(&held_back))
    });
    scraped.with_context(|| {
        let agent = Scrape::over_tcp(&address);
        format!("{:?}\n{agent:?}\n{}", prometheus.targets(), daemon.printed())
    })?;
    // Something to annotate.
    instance.kill()?;
    daemon.wait_event("critical_process_restart", |event| event["result"] == "restarted")?;
    let by_hand = Workload::spawn(&Program::Wait.write(&places.bin(), "pt-hand")?)?;
    daemon.ask(&["throttle", "--pid", &by_hand.pid_text(), "--nice", "5"])?;
    daemon.ask(&["--yes", "release", "--pid", &by_hand.pid_text()])?;
    daemon.ask(&["emergency", "stop", "a test"])?;
    daemon.ask(&["--yes", "emergency", "resume"])?;

    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?).context("the dashboard is JSON")?;
    let all = wait_until("every panel and annotation has data", SCRAPED, || {
        let empty = empty(&prometheus, &dashboard)?;
        ensure!(empty.is_empty(), "nothing for:\n{}", empty.join("\n"));
        Ok(true)
    });
    all.with_context(|| daemon.printed())?;
    drop(prometheus);
    daemon.stop()
}

/// The rules as they are shipped, but for the time that an alert has to last.
fn hasty(rules: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let line = |line: &str| {
        if line.trim_start().starts_with("for: ") {
            format!("{:1$}for: 1s\n", "", indent(line))
        } else {
            format!("{line}\n")
        }
    };
    rules.lines().map(line).collect()
}

fn alertmanager(dir: &Path) -> Result<(Tool, u16)> {
    let [port] = free_ports()?;
    let config = dir.join("alertmanager.yml");
    let nobody = json!({ "route": { "receiver": "nobody" }, "receivers": [{ "name": "nobody" }] });
    fs::write(&config, nobody.to_string()).context("write its configuration")?;
    let program = unpacked("prometheus-alertmanager", "usr/bin/prometheus-alertmanager")?;
    let template = unpacked("prometheus-alertmanager", "usr/share/prometheus/alertmanager/default.tmpl")?;
    let templates = template.parent().context("templates are in a directory")?.to_owned();
    // It has to have templates at this place, which the package would put there.
    let script = "mount -t tmpfs none /usr/share; mkdir -p /usr/share/prometheus/alertmanager
        cp \"$1\"/*.tmpl /usr/share/prometheus/alertmanager/; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-euc", script, "sh"])
        .args([templates, program])
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", dir.join("alerts").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        // It would look for others.
        .arg("--cluster.listen-address=")
        .current_dir(dir);
    Ok((Tool::start(command, port, &dir.join("alertmanager.log"))?, port))
}

#[test]
fn an_alert_arrives_at_the_alertmanager() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config("metrics: { listen: 127.0.0.1:0 }\n")?;
    let vital = Program::Wait.write(&places.bin(), "pt-vital")?;
    let daemon = Daemon::start(&places)?;
    let (manager, port) = alertmanager(places.root())?;
    let rules = places.root().join("rules.yaml");
    fs::write(&rules, hasty(&read(RULES)?)).context("write the rules")?;
    let target = address(&daemon)?;
    let prometheus = Prometheus::start(places.root(), &target, Some((&rules, port)))?;

    let mut instance = Workload::spawn(&vital)?;
    daemon.activate(&ProfileText::new("web").critical("vital", &vital))?;
    crate::critical_alert::wait_known_critical(&daemon, &instance)?;
    let alerts = || get(port, "/api/v2/alerts");
    let of = |alerts: &Value| {
        let all = alerts.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|alert| alert["labels"]["alertname"] == "CriticalProcessDown").cloned()
    };
    wait_until("it is scraped", SCRAPED, || {
        Ok(!prometheus.query("process_throttler_critical_up == 1")?.is_empty())
    })?;
    ensure!(of(&alerts()?).is_none(), "{}", alerts()?);

    instance.kill()?;
    let alert = wait_for("the alert arrives", SCRAPED, || Ok(of(&alerts()?)));
    let alert = alert.with_context(|| format!("{:?}\n{}", alerts(), manager.printed()))?;
    let labels = &alert["labels"];
    ensure!(
        labels["severity"] == "critical"
            && labels["critical"] == "vital"
            && labels["instance"] == target.as_str(),
        "{alert}"
    );
    let annotations = &alert["annotations"];
    ensure!(annotations["summary"] == format!("vital is down on {target}"), "{alert}");
    ensure!(
        annotations["runbook"].as_str().is_some_and(|runbook| runbook.starts_with("docs/guides/")),
        "{alert}"
    );
    drop((prometheus, manager));
    daemon.stop()
}
