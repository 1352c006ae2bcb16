//! Bodies of deliveries satisfy the published schemas of their receivers, which are in `tests/schemas`. The
//! validator is Python's `jsonschema`, and the Alertmanager is a real one; `cargo xtask setup` installs both.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpStream;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use anyhow::{Context as _, Result, ensure};
    use integration_tests::binary::unpacked;
    use integration_tests::clock::{SOON, wait_for};
    use integration_tests::receiver::Receiver;
    use integration_tests::schemas::{self, Check};
    use process_throttler::effect::webhook::payload::{finish, render};
    use process_throttler::model::alert::{Alert, AlertState, Told};
    use process_throttler::model::endpoint::Format;
    use process_throttler::model::notice::Notice;
    use process_throttler::model::notice::table::EventType;
    use process_throttler::model::process::Comm;
    use process_throttler::model::trace::TraceContext;
    use serde_json::{Value, json};

    const FORMATS: [(&str, Format); 8] = [
        ("standard", Format::Standard),
        ("cloudevents", Format::CloudEvents),
        ("alertmanager", Format::Alertmanager),
        ("postablealerts", Format::PostableAlerts),
        ("slack", Format::Slack),
        ("pagerduty", Format::PagerDuty),
        ("discord", Format::Discord),
        ("teams", Format::Teams),
    ];

    /// One notice of every type, with this text wherever there is free text, and this comm.
    fn notices(text: &str, comm: &[u8]) -> Vec<Notice> {
        let comm = serde_json::to_value(Comm::from_bytes(comm)).unwrap();
        let reason = json!({ "cause": "operator", "uid": 0, "request": text });
        let process = json!({
            "key": { "pid": 5, "start": 7 }, "started": 0, "ppid": 1, "uid": 0, "gid": 0, "cgroup": 0, "comm": comm,
        });
        let samples = json!([
            { "type": "critical_process_down", "name": "nginx", "remaining": 0,
              "exit": { "process": process, "at": 1_000_000_000 } },
            { "type": "critical_process_missing", "name": "nginx", "instances": 0, "wanted": 1,
              "absent": { "secs": 30, "nanos": 0 }, "why": { "why": "changed", "key": { "pid": 5, "start": 7 }, "comm": comm } },
            { "type": "critical_process_recovered", "name": "nginx", "how": { "how": "by_others", "key": { "pid": 6, "start": 8 }, "comm": comm, "parent": 1 }, "instances": 1,
              "absent": { "secs": 1, "nanos": 5 } },
            { "type": "critical_process_restart", "name": "nginx", "result": "given_up", "by": text,
              "attempt": 5, "detail": text },
            { "type": "health_check_failed", "name": "nginx", "failures": 3, "error": text },
            { "type": "health_check_recovered", "name": "nginx", "lasted_ms": 9 },
            { "type": "latency_slo_violated", "name": "nginx", "p99_us": 7_300, "objective_us": 5_000, "lasted_ms": 9,
              "held_by": [{ "group": "g", "cpu_weight": 10, "cpu": "5%", "at_floor": true }], "candidates": 1,
              "at_floor": true, "holders": [{ "cgroup": 7, "path": text, "share": 9_000 }], "held": {
                "cgroup": text, "share": 100, "quota": { "periods": 9, "throttled": 1, "throttled_ns": 5 } } },
            { "type": "latency_slo_recovered", "name": "nginx", "p99_us": 200, "objective_us": 5_000, "lasted_ms": 9,
              "held_by": [], "how": "held" },
            { "type": "protection_failed", "name": "nginx", "process": { "pid": 5, "start": 7 }, "error": text },
            { "type": "webhook_disabled", "endpoint": "ops", "why": text },
            { "type": "throttle_applied", "group": "g", "limits": {}, "processes": [[{ "pid": 5, "start": 7 }, comm]],
              "how": text, "reason": reason, "latency_ns": 1_000 },
            { "type": "throttle_adjusted", "group": "g", "from": {}, "to": {}, "reason": reason },
            { "type": "throttle_failed", "group": "g", "error": text, "reason": reason },
            { "type": "throttle_removed", "group": "g", "reason": reason },
            { "type": "throttle_conflict", "group": "g", "clash": { "at": text, "ours": text, "found": text },
              "response": "yielded" },
            { "type": "emergency_stop", "reason": text, "uid": 0, "groups": 1 },
            { "type": "emergency_resumed", "uid": 0 },
            { "type": "events_lost", "dropped": u64::MAX, "missed_exits": 0 },
            { "type": "probes_shed", "cost": 90, "budget": 50 },
            { "type": "profile_activated", "profile": "web" },
            { "type": "configuration_changed", "detail": text, "accepted": false },
            { "type": "backup_created", "name": "nightly", "path": text, "size": 9, "encrypted": true },
            { "type": "security_violation", "uid": 7, "gid": 7, "pid": 5, "request": text, "why": text, "times": 2 },
            { "type": "test", "detail": text },
        ]);
        serde_json::from_value(samples).unwrap()
    }

    /// The types that notices have, in the words of the deserialiser's complaint about another one.
    fn types() -> BTreeSet<String> {
        let error =
            serde_json::from_value::<Notice>(json!({ "type": "none of them" })).unwrap_err().to_string();
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    fn alerts() -> Vec<Option<Alert>> {
        let states =
            [AlertState::Firing, AlertState::Repeated, AlertState::Acknowledged, AlertState::Resolved];
        let alert = |state| Alert {
            // As long as a key can be.
            key: format!("{:ä<140}", "critical_process_down:nginx@host-1"),
            state,
            since: 1_700_000_000_000,
            until: (state == AlertState::Resolved).then_some(1_700_000_060_000),
            events: 3,
        };
        std::iter::once(None).chain(states.map(|state| Some(alert(state)))).collect()
    }

    fn trace() -> Option<TraceContext> {
        "00-0190a1b2c3d47e5f8091a2b3c4d5e6f7-00f067aa0ba902b7-01".parse().ok()
    }

    #[test]
    fn every_type_is_sampled_and_can_be_asked_for() {
        let sampled: BTreeSet<String> =
            notices("x", b"x").iter().map(|notice| notice.kind().to_owned()).collect();
        assert_eq!(sampled, types());
        for kind in sampled {
            assert!(EventType::named(&kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn bodies_satisfy_the_schemas_of_their_receivers() {
        let long = "<&>*😀\u{7}\n\"\\".repeat(3_000);
        let mut lines = Vec::new();
        for (text, comm) in [
            ("x", &b"nginx"[..]),
            ("", b""),
            ("<!channel> @everyone & [x](https://evil) `*_~|", b"<@U1>&*_`\"'"),
            ("\u{0}\u{1b}[31m\u{202e}\u{feff}\u{fffe}\n\r\t\u{7f}", b"\x00\xff\xfe\x1b[31m\\\x80"),
            (&long, b"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98"),
        ] {
            for notice in notices(text, comm) {
                for alert in alerts() {
                    for host in ["web-1", "ä b\n<&>/?#"] {
                        let told = Told {
                            id: "evt_018c",
                            notice: &notice,
                            unix_ms: 1_700_000_000_123,
                            host,
                            alert: alert.as_ref(),
                            alike: 7,
                            trace: trace(),
                        };
                        for (schema, format) in FORMATS {
                            let body = finish(format, render(format, &told).body, Some(&"k".repeat(32)));
                            let body: Value = serde_json::from_slice(&body).unwrap();
                            lines.push(json!([schema, body]));
                        }
                    }
                }
            }
        }
        let printed = check(&lines);
        let bodies = 5 * types().len() * alerts().len() * 2 * FORMATS.len();
        assert_eq!(printed.trim(), format!("{bodies} bodies, 0 refused"));
    }

    /// A check that refuses nothing proves nothing.
    #[test]
    fn the_check_refuses_what_is_wrong() {
        let wrong = [
            json!(["slack", { "text": "<!channel>", "blocks": [] }]),
            json!(["pagerduty", { "routing_key": "k".repeat(32), "event_action": "trigger", "dedup_key": "😀".repeat(128) }]),
            json!(["cloudevents", { "id": "", "source": "a b", "specversion": "1.0", "type": "t" }]),
        ];
        let printed = check(&wrong);
        assert!(printed.trim().ends_with("3 bodies, 6 refused"), "{printed}");
    }

    /// An Alertmanager on the loopback interface, which tells a receiver of what it is told. Ends with the test.
    struct Alertmanager {
        process: Child,
        address: String,
        _storage: tempfile::TempDir,
    }

    impl Alertmanager {
        fn start(receiver: &Receiver) -> Result<Self> {
            let storage = tempfile::tempdir()?;
            let config = storage.path().join("alertmanager.yml");
            let route = "{ receiver: ours, group_by: [alertname], group_wait: 0s, group_interval: 1s }";
            let hook = format!("{{ name: ours, webhook_configs: [{{ url: \"{}\" }}] }}", receiver.url());
            std::fs::write(&config, format!("route: {route}\nreceivers: [{hook}]\n"))?;
            let program = unpacked("prometheus-alertmanager", "usr/bin/prometheus-alertmanager")?;
            let share = program.ancestors().nth(2).context("a package has a usr")?.join("share");
            // It reads its templates from where the package would have put them.
            let script = "mount --bind \"$1\" /usr/share && shift && exec \"$@\"";
            let mut process = Command::new("unshare")
                .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
                .arg(share)
                .arg(program)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.path={}", storage.path().display()))
                .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="])
                .stderr(Stdio::piped())
                .spawn()
                .context("start prometheus-alertmanager")?;
            let log = process.stderr.take().context("its log")?;
            let mut alertmanager = Self { process, address: String::new(), _storage: storage };
            let mut lines = BufReader::new(log).lines();
            while alertmanager.address.is_empty() {
                let line = lines.next().context("it ended before it listened")??;
                if line.contains("Listening on") {
                    let address = line.split("address=").nth(1).context("the address in its log")?;
                    alertmanager.address = address.trim().to_owned();
                }
            }
            // A full pipe would stop it.
            std::thread::spawn(move || lines.count());
            Ok(alertmanager)
        }

        /// Asks for `/api/v2/alerts`, and returns the status and the body.
        fn ask(&self, method: &str, body: &[u8]) -> Result<(u16, String)> {
            let mut stream = TcpStream::connect(&self.address)?;
            write!(
                stream,
                "{method} /api/v2/alerts HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )?;
            stream.write_all(body)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
            let status = head.split(' ').nth(1).context("a status")?.parse()?;
            Ok((status, body.to_owned()))
        }

        fn alerts(&self) -> Result<Value> {
            Ok(serde_json::from_str(&self.ask("GET", b"")?.1)?)
        }
    }

    impl Drop for Alertmanager {
        fn drop(&mut self) {
            let killed = self.process.kill().and_then(|()| self.process.wait());
            assert!(killed.is_ok(), "{killed:?}");
        }
    }

    fn moment(value: &Value) -> Result<jiff::Timestamp> {
        Ok(value.as_str().context("a time")?.parse()?)
    }

    /// Keys of an object.
    fn keys(value: &Value) -> BTreeSet<&String> {
        value.as_object().map(|map| map.keys().collect()).unwrap_or_default()
    }

    #[test]
    fn an_alertmanager_takes_our_alerts_and_tells_of_them_as_we_do() -> Result<()> {
        let receiver = Receiver::start()?;
        let alertmanager = Alertmanager::start(&receiver)?;
        // With a last digit of zero: the API writes three digits always, its messages as few as will do.
        let now = process_throttler::clock::unix_millis(process_throttler::clock::wall()) / 10 * 10;
        let mut alert = Alert {
            key: "critical_process_down:nginx@web-1".to_owned(),
            state: AlertState::Firing,
            since: now - 60_000,
            until: None,
            events: 1,
        };
        let down = notices("x", b"<nginx>\xff").remove(0);
        let body = |format, alert: &Alert| {
            let alert = Some(alert);
            let told = Told {
                id: "evt_1",
                notice: &down,
                unix_ms: now,
                host: "web-1",
                alert,
                alike: 1,
                trace: trace(),
            };
            render(format, &told).body
        };

        let (status, answer) = alertmanager.ask("POST", &body(Format::PostableAlerts, &alert))?;
        ensure!(status == 200, "{status}: {answer}");
        let ours: Value = serde_json::from_slice(&body(Format::Alertmanager, &alert))?;
        let alerts = wait_for("the alert", SOON, || {
            let alerts = alertmanager.alerts()?;
            Ok((alerts[0]["status"]["state"] == "active").then_some(alerts))
        })?;
        assert_eq!(alerts.as_array().map(Vec::len), Some(1));
        for part in ["labels", "annotations", "fingerprint"] {
            assert_eq!(alerts[0][part], ours["alerts"][0][part], "{part}");
        }
        assert_eq!(moment(&alerts[0]["startsAt"])?, moment(&ours["alerts"][0]["startsAt"])?);

        let theirs = receiver.wait_for("its message", SOON, |body| body["status"] == "firing")?.json()?;
        assert_eq!(keys(&theirs), keys(&ours));
        assert_eq!(keys(&theirs["alerts"][0]), keys(&ours["alerts"][0]));
        for part in ["version", "groupKey", "status", "groupLabels", "commonLabels", "commonAnnotations"] {
            assert_eq!(theirs[part], ours[part], "{part}");
        }

        alert.state = AlertState::Resolved;
        alert.until = Some(now - 1_000);
        let (status, answer) = alertmanager.ask("POST", &body(Format::PostableAlerts, &alert))?;
        ensure!(status == 200, "{status}: {answer}");
        wait_for("the end", SOON, || Ok((alertmanager.alerts()? == json!([])).then_some(())))?;
        let theirs = receiver.wait_for("its message", SOON, |body| body["status"] == "resolved")?.json()?;
        let ours: Value = serde_json::from_slice(&body(Format::Alertmanager, &alert))?;
        for part in ["labels", "startsAt", "endsAt", "fingerprint", "status"] {
            assert_eq!(theirs["alerts"][0][part], ours["alerts"][0][part], "{part}");
        }
        Ok(())
    }

    fn check(bodies: &[Value]) -> String {
        let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/schemas");
        schemas::check(&schemas, Check::Open, bodies).unwrap()
    }
}
