//! Restarts, health checks and dependencies as people write them, well and badly.

use std::time::Duration;

use crate::config::error::Findings;
use crate::config::file::Source;
use crate::config::host::Host;
use crate::config::profile::parse;
use crate::model::critical::{Critical, Probe, RestartBy, RestartPolicy};

fn host() -> Host {
    Host {
        cpus: None,
        online: || None,
        memory: None,
        user: |name| Ok(["root", "nobody"].contains(&name).then_some(0)),
        group: |name| Ok((name == "adm").then_some(4)),
        program: |path| path.starts_with("/tmp").then(|| "others could change it".to_owned()),
    }
}

/// A profile whose critical processes have these further keys.
fn read(entries: &[&str]) -> (Vec<Critical>, Findings) {
    let mut text = String::from("name: p\ncritical_processes:\n");
    for (name, entry) in ["a", "b", "c"].iter().zip(entries) {
        text.push_str(&format!("  - {{ name: {name}, match: {{ exe: /{name} }}, {entry} }}\n"));
    }
    let (profile, findings) = parse(&Source::new("/p.yaml".into(), text), None, &host());
    (profile.map(|profile| profile.critical).unwrap_or_default(), findings)
}

fn one(entry: &str) -> Critical {
    let (mut criticals, findings) = read(&[entry]);
    assert!(findings.is_empty(), "{entry}: {findings}");
    criticals.pop().expect("an entry")
}

#[test]
fn what_people_write() {
    let a = one("restart_policy: always, restart: { unit: nginx.service }, \
                 health_check: { type: http, target: \"http://127.0.0.1/health\", interval: 30s, timeout: 5s, \
                 retries: 3 }");
    let restart = a.restart.unwrap();
    assert_eq!(restart.by, RestartBy::Unit("nginx.service".to_owned()));
    assert_eq!(
        (restart.policy, restart.most, restart.per),
        (RestartPolicy::Always, 5, Duration::from_secs(600))
    );
    assert_eq!((restart.backoff, restart.backoff_max), (Duration::from_secs(1), Duration::from_secs(60)));
    let health = a.health.unwrap();
    assert_eq!((health.retries, health.restart), (3, false));

    let a = one("restart: { command: [/bin/web, --flag, \"a b\"], user: nobody, group: adm, cwd: /srv, \
                 env: [\"A=1=2\"], backoff: 200ms, backoff_max: 2s, max: 2, per: 1m }");
    let restart = a.restart.unwrap();
    assert_eq!(restart.policy, RestartPolicy::OnFailure);
    let RestartBy::Command(program) = restart.by else { panic!("a command") };
    assert_eq!(program.command, ["/bin/web", "--flag", "a b"]);
    assert_eq!(program.env, [("A".to_owned(), "1=2".to_owned())]);

    assert!(one("restart_policy: never").restart.is_none());
    for (written, target) in
        [("5432", "127.0.0.1:5432"), ("\"db.lan:1\"", "db.lan:1"), ("\"[::1]:80\"", "[::1]:80")]
    {
        let a = one(&format!("health_check: {{ type: port, target: {written} }}"));
        assert_eq!(a.health.unwrap().probe, Probe::Port { target: target.to_owned() });
    }
    let a = one("health_check: { type: file, target: /run/alive, max_age: 2m, interval: 2s }");
    let health = a.health.unwrap();
    assert_eq!(health.timeout, Duration::from_secs(2), "not longer than the interval");
    let max_age = Some(Duration::from_secs(120));
    assert_eq!(health.probe, Probe::File { target: "/run/alive".to_owned(), max_age });
    let a = one("restart: { unit: a.service }, health_check: { type: port, target: 80, restart: true }");
    assert!(a.health.unwrap().restart);
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    for (entry, key, said) in [
        ("restart_policy: sometimes", "restart_policy", "not one of"),
        ("restart_policy: always", "restart_policy", "by what"),
        ("restart: {}", "restart", "by what"),
        ("restart: { unit: a.service, command: [/bin/a], user: root }", "restart.command", "a unit already"),
        ("restart: { unit: a.service, user: root }", "restart.user", "a unit has its own"),
        ("restart: { unit: nginx }", "restart.unit", "no service unit"),
        ("restart: { unit: ../a.service }", "restart.unit", "no service unit"),
        ("restart: { unit: a@.service }", "restart.unit", "no service unit"),
        ("restart: { command: [/bin/a] }", "restart", "user"),
        ("restart: { command: \"/bin/a -b\", user: root }", "restart.command", "a list"),
        ("restart: { command: [], user: root }", "restart.command", "empty"),
        ("restart: { command: [bin/a], user: root }", "restart.command[0]", "absolute"),
        ("restart: { command: [/tmp/a], user: root }", "restart.command[0]", "others could change it"),
        ("restart: { command: [/bin/a], user: eve }", "restart.user", "no user"),
        ("restart: { command: [/bin/a], user: root, group: x }", "restart.group", "no group"),
        ("restart: { command: [/bin/a], user: root, cwd: srv }", "restart.cwd", "absolute"),
        ("restart: { command: [/bin/a], user: root, env: [A] }", "restart.env[0]", "no variable"),
        ("restart: { command: [/bin/a], user: root, env: [A=1, A=2] }", "restart.env[1]", "twice"),
        ("restart: { unit: a.service, max: 0 }", "restart.max", "from 1 to 100"),
        ("restart: { unit: a.service, backoff: 1ms }", "restart.backoff", "between"),
        ("restart: { unit: a.service, backoff: 5s, backoff_max: 1s }", "restart.backoff_max", "between"),
        ("restart: { unit: a.service, most: 3 }", "restart.most", "unknown key"),
        ("health_check: {}", "health_check", "type"),
        ("health_check: { type: ping }", "health_check.type", "not one of"),
        ("health_check: { type: http, target: 80 }", "health_check.target", "a text"),
        ("health_check: { type: http, target: \"file:///etc\" }", "health_check.target", "scheme"),
        ("health_check: { type: http, target: \"http://u:p@h/\" }", "health_check.target", "password"),
        (
            "health_check: { type: http, target: \"http://h/\", user: root }",
            "health_check.user",
            "unknown key",
        ),
        ("health_check: { type: port, target: 0 }", "health_check.target", "from 1 to 65535"),
        ("health_check: { type: port, target: \"a b:80\" }", "health_check.target", "no host and port"),
        ("health_check: { type: file, target: alive }", "health_check.target", "absolute"),
        ("health_check: { type: command, command: [/bin/a] }", "health_check", "user"),
        ("health_check: { type: port, target: 80, interval: 0s }", "health_check.interval", "between"),
        (
            "health_check: { type: port, target: 80, interval: 1s, timeout: 2s }",
            "health_check.timeout",
            "between",
        ),
        ("health_check: { type: port, target: 80, retries: 0 }", "health_check.retries", "from 1 to 100"),
        (
            "health_check: { type: port, target: 80, restart: true }",
            "health_check.restart",
            "nothing says how",
        ),
        (
            "restart: { command: [/bin/a], user: root }, health_check: { type: port, target: 80, restart: true }",
            "health_check.restart",
            "a second one",
        ),
        ("dependencies: [b]", "dependencies[0]", "no critical process"),
        ("dependencies: [a]", "dependencies[0]", "itself"),
    ] {
        let (criticals, findings) = read(&[entry]);
        let key = format!("critical_processes[0].{key}");
        let found = findings.iter().any(|finding| finding.key == key && finding.message.contains(said));
        assert!(found && criticals.is_empty(), "{entry}: {findings}");
    }
}

#[test]
fn circles_are_found() {
    let (criticals, findings) = read(&["dependencies: [b]", "dependencies: [c]", "dependencies: [a]"]);
    assert!(
        criticals.is_empty() && findings.to_string().contains("a would need itself by way of b"),
        "{findings}"
    );
    let (criticals, findings) = read(&["dependencies: [b, c]", "dependencies: [c]", "restart_policy: never"]);
    assert!(criticals.len() == 3 && findings.is_empty(), "{findings}");
    let (_, findings) = read(&["dependencies: [b, b]", "restart_policy: never"]);
    assert!(findings.to_string().contains("named twice"), "{findings}");
}

#[test]
fn a_match_that_a_process_can_forge_starts_no_program() {
    let text = "name: p\ncritical_processes:\n  - name: a\n    match: { comm: a }\n    \
                restart: { unit: a.service }\n";
    let (profile, findings) = parse(&Source::new("/p.yaml".into(), text.to_owned()), None, &host());
    assert!(profile.is_none() && findings.to_string().contains("can give itself this match"), "{findings}");
    let text = text.replace("restart: { unit: a.service }", "health_check: { type: port, target: 80 }");
    let (profile, _) = parse(&Source::new("/p.yaml".into(), text), None, &host());
    assert!(profile.is_some(), "asking harms nobody");
}
