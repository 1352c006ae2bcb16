//! The key as written, good and bad.

use tempfile::TempDir;

use super::*;
use crate::config::Settings;
use crate::config::file::Trust;
use crate::config::host::Host;
use crate::config::paths::Dirs;
use crate::model::telemetry::Access;

fn etc(text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.yaml"), text).unwrap();
    dir
}

fn load(text: &str) -> Result<AuditSettings, Vec<String>> {
    let dir = etc(text);
    let path = dir.path();
    let dirs = Dirs::all_at(path);
    let host = Host {
        cpus: None,
        online: || None,
        memory: None,
        user: |_| Ok(None),
        group: |_| Ok(None),
        program: |_| None,
    };
    Settings::load_on(&dirs, Trust::Anyone, &host).map(|(settings, _)| settings.audit).map_err(|findings| {
        findings.iter().map(|one| format!("{}:{} {}", one.line, one.column, one.message)).collect()
    })
}

#[test]
fn all_of_it() {
    let text = "audit:\n  rotate_size: 1M\n  rotate_after: 1d\n  keep: 3\n  ship:\n\
                \x20   - { type: journald }\n\
                \x20   - { name: a, type: syslog, address: \"logs.example.org:6514\", ca_file: /ca.pem }\n\
                \x20   - { name: b, type: syslog, address: \"[::1]:514\", transport: udp }\n\
                \x20   - { type: otlp, endpoint: \"http://127.0.0.1:4318/x/\", timeout: 2s }\n";
    let AuditSettings { rotation, ship } = load(text).unwrap();
    assert_eq!(rotation, Rotation { size: 1 << 20, after: Duration::from_secs(86_400), keep: 3 });
    assert_eq!(ship.len(), 4);
    assert_eq!((ship[0].name.as_str(), &ship[0].to), ("journald", &Receiver::Journald));
    let tls = Transport::Tls { ca_file: "/ca.pem".into() };
    let host = "logs.example.org".to_owned();
    assert_eq!(ship[1].to, Receiver::Syslog { host, port: 6_514, transport: tls });
    assert_eq!(ship[2].to, Receiver::Syslog { host: "::1".to_owned(), port: 514, transport: Transport::Udp });
    let access = Access { timeout: Duration::from_secs(2), headers: Vec::new(), ca_file: None };
    let url = "http://127.0.0.1:4318/x/v1/logs".to_owned();
    assert_eq!((ship[3].name.as_str(), &ship[3].to), ("otlp", &Receiver::Otlp { url, access }));
}

#[test]
fn every_mistake_has_its_place() {
    for (text, expected) in [
        ("audit: { rotate_size: 8K }", "1:23 8192 bytes are not between 64K and 1G"),
        ("audit: { rotate_after: 1s }", "1:24 1s is not between 1h and 366days"),
        ("audit: { keep: 0 }", "1:16 0 is not a number of files from 1 to 10000"),
        ("audit: { path: /x }", "1:10 unknown key \"path\""),
        ("audit: { ship: [{ name: a }] }", "1:17 key \"type\" is missing"),
        ("audit: { ship: [{ type: kafka }] }", "1:25 \"kafka\" is not one of journald, syslog, otlp"),
        (
            "audit: { ship: [{ type: journald, address: \"a:1\" }] }",
            "1:44 address means nothing for the journal of this machine",
        ),
        ("audit: { ship: [{ type: syslog, address: logs, ca_file: /c }] }", "1:42 \"logs\" is not HOST:PORT"),
        (
            "audit: { ship: [{ type: syslog, address: \"h:0\", ca_file: /c }] }",
            "1:42 \"h:0\" is not HOST:PORT",
        ),
        ("audit: { ship: [{ type: syslog, address: \"h:1\" }] }", "1:17 key \"ca_file\" is missing"),
        (
            "audit: { ship: [{ type: syslog, address: \"h:1\", ca_file: c }] }",
            "1:58 c is not an absolute path",
        ),
        (
            "audit: { ship: [{ type: journald }, { type: journald }] }",
            "1:37 two destinations are named journald",
        ),
    ] {
        assert_eq!(load(text).unwrap_err(), [expected], "{text}");
    }
    let otlp = "audit: { ship: [{ type: otlp, endpoint: \"https://h\", address: \"a:1\" }] }";
    assert_eq!(load(otlp).unwrap_err(), ["1:63 address means nothing for a receiver of OTLP"]);
    let otlp = "audit: { ship: [{ type: otlp, endpoint: \"http://h\" }] }";
    assert!(load(otlp).unwrap_err()[0].contains("http"), "it would go in clear");
    let clear = "audit: { ship: [{ type: syslog, address: \"10.0.0.1:514\", transport: tcp }] }";
    assert!(
        load(clear).unwrap_err()[0].starts_with("1:42 10.0.0.1 is another machine"),
        "who did what goes in clear"
    );
}
