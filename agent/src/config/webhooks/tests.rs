//! What people write is read, told what is wrong with it, and survives commands.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::model::endpoint::{Format, Network, Noise, SecretSource};
use crate::model::notice;

struct Etc(tempfile::TempDir);

impl Etc {
    fn new(text: &str) -> Self {
        let etc = Self(tempfile::tempdir().unwrap());
        std::fs::write(etc.path(), text).unwrap();
        etc
    }

    fn dirs(&self) -> Dirs {
        let dir = self.0.path();
        Dirs::all_at(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("webhooks.yaml")
    }

    fn secret(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, "whsec_x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn read_trusting(&self, trust: Trust) -> (Vec<Endpoint>, Findings) {
        let mut findings = Findings::new();
        let endpoints = read(&self.dirs(), trust, false, &mut findings);
        (endpoints, findings.sorted())
    }

    fn read(&self) -> Vec<Endpoint> {
        let (endpoints, findings) = self.read_trusting(Trust::Anyone);
        assert!(findings.is_empty(), "{findings}");
        endpoints
    }

    /// Each error as `line:column message`, up to the first comma.
    fn errors(&self) -> Vec<String> {
        let (_, findings) = self.read_trusting(Trust::Anyone);
        let one = |finding: &Finding| {
            let message = finding.message.split(", ").next().unwrap();
            format!("{}:{} {message}", finding.line, finding.column)
        };
        findings.iter().map(one).collect()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn change(&self, name: &'static str, change: Change) -> Result<Changed, WebhookError> {
        let name = serde_json::from_value(name.into()).map_err(std::io::Error::from);
        let name = name.map_err(|source| WebhookError::Directory { path: self.path(), source })?;
        WebhookFile::new(&self.dirs()).change(&name, &change, false)
    }
}

fn text(key: &'static str, value: &str) -> Setting {
    Setting { key, value: Some(Written::Text(value.to_owned())) }
}

fn without(key: &'static str) -> Setting {
    Setting { key, value: None }
}

const WHOLE: &str = "\
version: 1
webhooks:
  - name: ops
    url: https://ops.example.org/hook?team=a
    enabled: false
    events: [critical_process_down, test, test]
    min_severity: warning
    format: cloudevents
    secret_file: keys/ops
    previous_secret_credential: ops-old
    hub_signature: true
    timeout: 2s
    rate: 30
    allow_networks: [10.0.0.0/8, \"fd00::/8\", 192.0.2.7]
    proxy: http://proxy.example.org:3128
    repeat_interval: 0s
    send_resolved: false
    group_wait: 1m
    group_interval: 10m
  - { name: pager, url: https://events.pagerduty.com/v2/enqueue, format: pagerduty, routing_key_credential: pd }
  - name: local
    url: http://[::1]:9093/api/v2/alerts/
    format: alertmanager
    secret_age: { file: a.age, identity: /keys/id }
";

#[test]
fn every_key_is_read() {
    let etc = Etc::new(WHOLE);
    for file in ["a.age", "keys"] {
        std::fs::write(etc.0.path().join(file), "x").unwrap();
    }
    // Nobody looks at files that nobody uses.
    let endpoints = WebhookFile::new(&etc.dirs()).list().unwrap();
    let [ops, pager, local] = endpoints.as_slice() else { panic!("{endpoints:?}") };
    assert_eq!(ops.name.as_str(), "ops");
    assert_eq!(ops.url, "https://ops.example.org/hook?team=a");
    assert!(!ops.enabled && ops.hub_signature && !ops.allow_http && !ops.noise.send_resolved);
    assert_eq!(ops.events, ["critical_process_down", "test"]);
    assert_eq!(ops.min_severity, notice::Severity::Warning);
    assert_eq!(ops.format, Format::CloudEvents);
    let key = SecretSource::File(etc.0.path().join("keys/ops"));
    assert_eq!(ops.secrets, [key, SecretSource::Credential("ops-old".to_owned())]);
    assert_eq!((ops.timeout, ops.rate), (Duration::from_secs(2), Some(30)));
    let networks = [("10.0.0.0", 8), ("fd00::", 8), ("192.0.2.7", 32)];
    let networks =
        networks.map(|(address, prefix)| Network { address: address.parse().unwrap(), prefix }).to_vec();
    assert_eq!(ops.allow_networks, networks);
    assert_eq!(ops.proxy.as_deref(), Some("http://proxy.example.org:3128/"));
    let minute = Duration::from_secs(60);
    assert_eq!(ops.noise.repeat_interval, Duration::ZERO);
    assert_eq!((ops.noise.group_wait, ops.noise.group_interval), (minute, 10 * minute));

    assert_eq!(pager.format, Format::PagerDuty);
    assert_eq!(pager.routing_key, Some(SecretSource::Credential("pd".to_owned())));
    assert!(pager.enabled && pager.secrets.is_empty() && pager.events.is_empty() && pager.rate.is_none());
    assert_eq!(pager.timeout, Duration::from_secs(15));
    assert_eq!(pager.noise, Noise::DEFAULT);

    assert_eq!(local.format, Format::PostableAlerts, "an Alertmanager takes alerts");
    assert_eq!(local.allow_networks, [Network { address: "::1".parse().unwrap(), prefix: 128 }]);
    let age = SecretSource::Age { file: etc.0.path().join("a.age"), identity: "/keys/id".into() };
    assert_eq!(local.secrets, [age]);
}

#[test]
fn nothing_written_means_none() {
    for nothing in ["", "# a comment\n", "version: 1\n", "webhooks:\n", "webhooks: []\n"] {
        assert!(Etc::new(nothing).read().is_empty(), "{nothing:?}");
    }
    let gone = tempfile::tempdir().unwrap();
    assert!(WebhookFile::new(&Etc(gone).dirs()).list().unwrap().is_empty());
}

#[test]
fn all_errors_are_told_at_once_at_their_places() {
    let etc = Etc::new(
        "version: 2\nwebhooks:\n\
         - {name: a, url: \"http://h/\", events: [critical_process_dow], rate: 0, colour: red}\n\
         - {name: a, url: \"https://h/\"}\n\
         - {name: B, url: \"https://h/\"}\n\
         - {url: \"https://h/\"}\n\
         - {name: c, url: \"https://u:p@h/\", format: pagerduty, hub_signature: true}\n\
         - {name: d, url: \"http://localhost/\", secret_file: /k, secret_credential: k, proxy: x}\n\
         - {name: e, url: \"https://h/\", routing_key_credential: k, allow_networks: [10.0.0.0/33]}\n\
         - {name: f, url: \"https://h/\", previous_secret_credential: ../k, timeout: 2m, repeat_interval: 1}\n",
    );
    assert_eq!(
        etc.errors(),
        [
            "1:10 2 is not a version of this format that is known: 1",
            "3:18 http to another machine can be read and changed on the way",
            "3:40 \"critical_process_dow\" is not one of critical_process_down",
            "3:69 0 is not a number of deliveries a minute from 1 to 60000",
            "3:72 unknown key \"colour\"",
            "4:10 the name \"a\" is taken at 3:10",
            "5:10 name \"B\" must match [a-z0-9][a-z0-9._-]{0,63}",
            "6:3 key \"name\" is missing",
            "7:18 credentials in a URL end up in logs",
            "7:44 pagerduty needs a routing key",
            "7:70 there is no secret to sign with",
            "8:18 http to another machine can be read and changed on the way",
            "8:75 only one of secret_file",
            "8:85 not a URL: relative URL without a base",
            "9:56 only the format pagerduty has a routing key",
            "9:76 \"10.0.0.0/33\" is no network",
            "10:60 \"../k\" is no name of a credential",
            "10:75 2m is not between 100ms and 60s",
            "10:96 expected a text",
        ]
        .map(str::to_owned)
    );
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let etc = Etc::new("webhooks:\n  - {name: a, url: \"https://h/\", secret_file: key}\n");
    let mine = Trust::Owner(rustix::process::geteuid().as_raw());
    let problem = || {
        let (endpoints, findings) = etc.read_trusting(mine);
        assert_eq!(endpoints.is_empty(), findings.has_errors(), "{findings}");
        let error = findings.iter().find(|finding| finding.severity == Severity::Error);
        error.map(|finding| (finding.line, finding.column, finding.message.clone()))
    };
    let (line, column, message) = problem().unwrap();
    assert!((line, column) == (2, 47) && message.contains("cannot open"), "{message}");
    etc.secret("key", 0o640);
    assert!(problem().unwrap().2.contains("mode 0640 makes it accessible by others"));
    etc.secret("key", 0o600);
    assert_eq!(problem(), None);
    std::fs::write(etc.0.path().join("key"), "").unwrap();
    assert!(problem().unwrap().2.ends_with("is empty"));
}

#[test]
fn a_file_that_others_can_read_is_warned_about() {
    let etc = Etc::new("webhooks: []\n");
    let chmod = |mode| std::fs::set_permissions(etc.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    let mine = Trust::Owner(rustix::process::geteuid().as_raw());
    chmod(0o644);
    let (_, findings) = etc.read_trusting(mine);
    assert_eq!((findings.errors(), findings.warnings()), (0, 1), "{findings}");
    chmod(0o600);
    assert!(etc.read_trusting(mine).1.is_empty());
}

#[test]
fn the_name_of_the_single_endpoint_is_taken() {
    let etc =
        Etc::new("webhooks:\n  - name: default\n    url: https://h/\n  - {name: b, url: \"https://h/\"}\n");
    std::fs::write(etc.0.path().join("config.yaml"), "webhook: {url: \"https://h/\", secret_file: /k}\n")
        .unwrap();
    let mut findings = Findings::new();
    let endpoints = read(&etc.dirs(), Trust::Anyone, true, &mut findings);
    let finding = findings.iter().next().unwrap();
    assert_eq!(
        (finding.line, finding.column, findings.errors(), endpoints.len()),
        (2, 11, 1, 1),
        "{finding}"
    );
    assert!(finding.message.contains("is taken by webhook: in config.yaml"), "{finding}");
    assert_eq!(etc.read().len(), 2, "without it the name is free");
}

/// What people write, with everything that an edit could destroy.
const WRITTEN: &str = "\
# Who is told.
version: 1   # of the format

webhooks:
  # The operators.
  - name: ops   # do not rename
    url: https://ops.example.org/a,b   # with a comma
    events:
      - test   # for now
    # rate: 5

  # In braces.
  - {name: pager, url: \"https://p.example.org/\", events: [test, events_lost]}   # on call

  - name: last
    rate: 10
    url: 'https://l.example.org/it''s'
    # trailing
# the end
";

#[test]
fn an_addition_leaves_the_rest_as_it_was() {
    let etc = Etc::new(WRITTEN);
    let changed = etc.change("new", Change::Add(vec![text("url", "https://n.example.org/x?y=1")])).unwrap();
    assert_eq!(changed.endpoint.url, "https://n.example.org/x?y=1");
    let added = "  - name: new\n    url: \"https://n.example.org/x?y=1\"\n# the end\n";
    assert_eq!(etc.text(), WRITTEN.replace("# the end\n", added));
    for (before, after) in [
        ("", "webhooks:\n  - name: new\n    url: \"https://h/\"\n"),
        ("# only this", "# only this\nwebhooks:\n  - name: new\n    url: \"https://h/\"\n"),
        ("version: 1", "version: 1\nwebhooks:\n  - name: new\n    url: \"https://h/\"\n"),
        (
            "webhooks:\n  # none\n\nversion: 1\n",
            "webhooks:\n  # none\n  - name: new\n    url: \"https://h/\"\n\nversion: 1\n",
        ),
        ("webhooks: [] # none\n", "webhooks: # none\n  - name: new\n    url: \"https://h/\"\n"),
        (
            "webhooks:\n- name: a\n  url: https://h/",
            "webhooks:\n- name: a\n  url: https://h/\n- name: new\n  url: \"https://h/\"\n",
        ),
        (
            "webhooks:\r\n  - name: a\r\n    url: https://h/\r\n",
            "webhooks:\r\n  - name: a\r\n    url: https://h/\r\n  - name: new\r\n    url: \"https://h/\"\r\n",
        ),
    ] {
        let etc = Etc::new(before);
        etc.change("new", Change::Add(vec![text("url", "https://h/")])).unwrap();
        assert_eq!(etc.text(), after, "{before:?}");
    }
}

#[test]
fn an_edit_replaces_values_and_nothing_else() {
    let edit = |name: &'static str, settings: Vec<Setting>| {
        let etc = Etc::new(WRITTEN);
        let changed = etc.change(name, Change::Edit(settings)).unwrap();
        assert_eq!(changed.differs, etc.text() != WRITTEN);
        etc.text()
    };
    let texts = |key, list: &[&str]| Setting {
        key,
        value: Some(Written::Texts(list.iter().map(|&event| event.to_owned()).collect())),
    };
    assert_eq!(
        edit(
            "ops",
            vec![text("url", "https://x/"), texts("events", &["events_lost"]), text("timeout", "5s")]
        ),
        WRITTEN
            .replace("https://ops.example.org/a,b", "\"https://x/\"")
            .replace("events:\n      - test   # for now\n", "events: [events_lost]\n    timeout: \"5s\"\n")
    );
    assert_eq!(
        edit("pager", vec![texts("events", &[]), Setting { key: "rate", value: Some(Written::Number(3)) }]),
        WRITTEN.replace("events: [test, events_lost]}", "events: [], rate: 3}")
    );
    assert_eq!(edit("pager", vec![without("events")]), WRITTEN.replace(", events: [test, events_lost]", ""));
    let disabled = Setting { key: "enabled", value: Some(Written::Bool(false)) };
    assert_eq!(
        edit("last", vec![text("url", "https://y/"), without("rate"), disabled]),
        WRITTEN
            .replace("'https://l.example.org/it''s'", "\"https://y/\"\n    enabled: false")
            .replace("    rate: 10\n", "")
    );
    // What it says already is not written again.
    assert_eq!(edit("last", vec![text("url", "https://l.example.org/it's"), without("proxy")]), WRITTEN);
}

#[test]
fn a_removal_takes_the_entry_only() {
    for (name, gone) in [
        (
            "ops",
            "  - name: ops   # do not rename\n    url: https://ops.example.org/a,b   # with a comma\n    events:\n      - test   # for now\n    # rate: 5\n",
        ),
        (
            "pager",
            "  - {name: pager, url: \"https://p.example.org/\", events: [test, events_lost]}   # on call\n",
        ),
        ("last", "  - name: last\n    rate: 10\n    url: 'https://l.example.org/it''s'\n    # trailing\n"),
    ] {
        let etc = Etc::new(WRITTEN);
        assert_eq!(etc.change(name, Change::Remove).unwrap().endpoint.name.as_str(), name);
        assert_eq!(etc.text(), WRITTEN.replace(gone, ""), "{name}");
    }
    let etc = Etc::new("# c\nwebhooks:\n  - name: a\n    url: https://h/\n");
    etc.change("a", Change::Remove).unwrap();
    assert_eq!(etc.text(), "# c\nwebhooks:\n");
    etc.change("b", Change::Add(vec![text("url", "https://h/")])).unwrap();
    assert_eq!(etc.text(), "# c\nwebhooks:\n  - name: b\n    url: \"https://h/\"\n");
}

#[test]
fn what_cannot_be_followed_is_left_alone() {
    let url = || vec![text("url", "https://new/")];
    for written in [
        "webhooks: [{name: a, url: \"https://h/\"}]\n",
        "{\"webhooks\": [{\"name\": \"a\", \"url\": \"https://h/\"}]}\n",
        "webhooks:\n  -\n    name: a\n    url: https://h/\n",
    ] {
        let etc = Etc::new(written);
        for change in [Change::Edit(url()), Change::Remove] {
            let error = etc.change("a", change).unwrap_err();
            assert!(matches!(error, WebhookError::Unfit { .. }), "{error}");
        }
        if !written.contains("-\n") {
            assert!(matches!(etc.change("b", Change::Add(url())), Err(WebhookError::Unfit { .. })));
        }
        assert_eq!(etc.text(), written);
    }
    let shared = "webhooks:\n  - name: a\n    url: &u https://h/\n  - name: b\n    url: *u\n";
    let etc = Etc::new(shared);
    assert!(matches!(etc.change("a", Change::Edit(url())), Err(WebhookError::Unfit { .. })));
    assert!(matches!(etc.change("a", Change::Remove), Err(WebhookError::Unfit { .. })));
    assert_eq!(etc.text(), shared);
    etc.change("b", Change::Edit(url())).unwrap();
    assert_eq!(etc.text(), shared.replace("*u", "\"https://new/\""));
}

#[test]
fn malformed_files_stay_byte_for_byte() {
    for written in
        ["webhooks: [\n", "- a\n", "slack: {url: https://h/}\n", "webhooks: {a: 1}\n", "a: \u{0}\n"]
    {
        let etc = Etc::new(written);
        for change in [Change::Add(vec![text("url", "https://h/")]), Change::Edit(vec![]), Change::Remove] {
            let error = etc.change("a", change).unwrap_err();
            assert!(matches!(error, WebhookError::Invalid(_)), "{written:?}: {error}");
        }
        assert_eq!(etc.text(), written);
    }
}

#[test]
fn wrong_values_are_told_by_their_keys_and_change_nothing() {
    let etc = Etc::new(WRITTEN);
    let settings = vec![text("url", "nothing"), Setting { key: "rate", value: Some(Written::Number(0)) }];
    let error = etc.change("n", Change::Add(settings)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "url: not a URL: relative URL without a base (write https://host/path)\n\
         rate: 0 is not a number of deliveries a minute from 1 to 60000"
    );
    assert!(matches!(etc.change("n", Change::Remove), Err(WebhookError::NotFound { near: None, .. })));
    let near = etc.change("opps", Change::Remove).unwrap_err();
    assert!(matches!(&near, WebhookError::NotFound { near: Some(near), .. } if near == "ops"), "{near}");
    assert!(matches!(etc.change("ops", Change::Add(vec![])), Err(WebhookError::Exists { .. })));
    assert_eq!(etc.text(), WRITTEN);
}

#[test]
fn written_files_are_their_owners_alone() {
    let etc = Etc::new(WRITTEN);
    std::fs::set_permissions(etc.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mode = || std::fs::metadata(etc.path()).unwrap().permissions().mode() & 0o7777;
    etc.change("ops", Change::Edit(vec![text("timeout", "3s")])).unwrap();
    assert_eq!(mode(), 0o600);
    std::fs::remove_file(etc.path()).unwrap();
    etc.change("a", Change::Add(vec![text("url", "https://h/")])).unwrap();
    assert_eq!(mode(), 0o600);
    assert!(etc.text().starts_with("# Webhook endpoints"));
}

/// An identity of age, as `age-keygen` writes it.
fn identity(dir: &Path) -> String {
    use std::os::unix::fs::PermissionsExt as _;

    use age::secrecy::ExposeSecret as _;
    let key = age::x25519::Identity::generate();
    let path = dir.join("webhooks.identity");
    std::fs::write(&path, format!("# made by a test\n{}\n", key.to_string().expose_secret())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    key.to_public().to_string()
}

fn encrypted(text: &str, recipient: &str) -> String {
    let recipient: age::x25519::Recipient = recipient.parse().unwrap();
    age::encrypt_and_armor(&recipient, text.as_bytes()).unwrap()
}

#[test]
fn an_encrypted_file_is_read_and_changed_and_never_in_clear_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let dirs = Dirs::all_at(&path);
    let sealed = path.join("webhooks.yaml.age");
    let recipient = identity(&path);
    let text = "# kept\nwebhooks:\n  - { name: chat, url: \"https://hooks.example.org/t0ken\" }\n";
    std::fs::write(&sealed, encrypted(text, &recipient)).unwrap();
    let file = WebhookFile::new(&dirs);
    assert_eq!(file.path(), sealed);
    assert_eq!(file.list().unwrap()[0].url, "https://hooks.example.org/t0ken");

    let name: Name = "chat".parse().unwrap();
    let settings = vec![Setting { key: "rate", value: Some(Written::Number(5)) }];
    let before = std::fs::read(&sealed).unwrap();
    file.change(&name, &Change::Edit(settings.clone()), true).unwrap();
    assert_eq!(std::fs::read(&sealed).unwrap(), before, "a dry run");
    file.change(&name, &Change::Edit(settings), false).unwrap();
    let listed = file.list().unwrap();
    assert_eq!((listed[0].rate, listed[0].url.as_str()), (Some(5), "https://hooks.example.org/t0ken"));
    for entry in std::fs::read_dir(&path).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(
            !bytes.windows(6).any(|part| part == b"t0ken\"" || part == b"/t0ken"),
            "in clear on the disk"
        );
    }

    // Another identity, none at all, and a second file.
    let says = |file: &WebhookFile| file.list().unwrap_err().to_string();
    identity(&path);
    assert!(says(&file).contains("webhooks.identity"), "{}", says(&file));
    std::fs::remove_file(path.join("webhooks.identity")).unwrap();
    assert!(says(&file).contains("put the identity into"), "{}", says(&file));
    std::fs::write(path.join("webhooks.yaml"), "webhooks: []\n").unwrap();
    assert!(says(&file).contains("nobody can tell which counts"), "{}", says(&file));
}
