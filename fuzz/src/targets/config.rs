//! Files of the configuration, which people and programs write.

use std::fs;
use std::path::Path;

use jiff::Zoned;
use jiff::tz::TimeZone;
use process_throttler::config::file::{Source, parse};
use process_throttler::config::host::Host;
use process_throttler::config::paths::Mounts;
use process_throttler::config::profile as profiles;
use process_throttler::config::profiles::StoreError;
use process_throttler::config::revise::{Revision, revise as change};
use process_throttler::config::{Dirs, ProfileStore, Settings, calendar as crontab, diff, export};
use process_throttler::engine::rule::RuleSet;
use process_throttler::model::endpoint::Endpoint;
use process_throttler::model::hours::{Hours, LocalMinute};

use super::text::is_plain;
use super::{Run, scratch, utf8};

/// A machine on which the same text has the same errors everywhere.
fn host() -> Host {
    Host {
        cpus: Some(4),
        online: || "0-3".parse().ok(),
        memory: Some(8 << 30),
        user: |name| Ok((name == "root").then_some(0)),
        group: |name| Ok((name == "root").then_some(0)),
        program: |_| None,
    }
}

fn dirs(root: &Path) -> Dirs {
    Dirs {
        config: root.to_owned(),
        state: root.join("state"),
        runtime: root.join("run"),
        log: root.join("log"),
        shared_profiles: Vec::new(),
        host: Mounts::default(),
    }
}

/// `config.yaml`.
pub(super) fn settings() -> Run {
    from_file("config.yaml")
}

/// `webhooks.yaml`.
pub(super) fn webhooks() -> Run {
    from_file("webhooks.yaml")
}

fn from_file(name: &'static str) -> Run {
    let root = scratch();
    // What files may name and have to hold: a secret.
    fs::write(root.path().join("key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(root.path().join("key"), private).unwrap();
    let dirs = dirs(root.path());
    Box::new(move |bytes| {
        fs::write(root.path().join(name), bytes).unwrap();
        match Settings::load(&dirs) {
            Ok((settings, warnings)) => {
                settings.endpoints.iter().for_each(is_safe);
                is_plain(&warnings);
            }
            Err(findings) => {
                assert!(findings.has_errors());
                is_plain(&findings);
            }
        }
    })
}

/// What an endpoint must be, however it was written: https unless allowed or this machine, and without credentials.
fn is_safe(endpoint: &Endpoint) {
    let url = &endpoint.url;
    let (scheme, rest) = url.split_once("://").unwrap();
    let authority = rest.split(['/', '?', '#']).next().unwrap();
    assert!(!authority.contains('@'), "{url:?} has credentials");
    let host = authority
        .strip_prefix('[')
        .map_or_else(|| authority.split(':').next().unwrap(), |v6| v6.split(']').next().unwrap());
    let local = host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    assert!(scheme == "https" || (scheme == "http" && (endpoint.allow_http || local)), "{url:?}");
    for network in &endpoint.allow_networks {
        assert!(network.prefix <= if network.address.is_ipv4() { 32 } else { 128 });
    }
}

/// A profile, to its rules and back to text.
pub(super) fn profile() -> Run {
    Box::new(|bytes| {
        let Some(text) = utf8(bytes) else { return };
        let path = Path::new("/p.yaml");
        let (found, findings) = profiles::parse(&Source::new(path.into(), text.to_owned()), None, &host());
        is_plain(&findings);
        assert_eq!(found.is_none(), findings.has_errors());
        let Some(profile) = found else { return };
        RuleSet::compile(&profile).unwrap();
        for written in [export::to_yaml(&profile), export::to_json(&profile).unwrap()] {
            let (again, findings) =
                profiles::parse(&Source::new(path.into(), written.clone()), None, &host());
            let again = again.unwrap_or_else(|| panic!("{findings}\nin\n{written}"));
            assert_eq!(diff::diff(&profile, &again).unwrap(), [], "{written}");
            assert_eq!(again, profile, "{written}");
        }
    })
}

/// A text that is to be imported, the earlier program's among them.
pub(super) fn predecessor() -> Run {
    let root = scratch();
    let store = ProfileStore::new(&dirs(root.path()));
    Box::new(move |bytes| {
        let _kept = &root;
        let Some(text) = utf8(bytes) else { return };
        let source = Source::new("/old.json".into(), text.to_owned());
        match store.draft(source, "imported".parse().ok().as_ref()) {
            Ok(draft) => {
                draft.notes.iter().for_each(is_plain);
                is_plain(&draft.findings);
                assert_eq!(draft.profile.name.as_str(), "imported");
            }
            Err(StoreError::Invalid(findings)) => {
                is_plain(&findings);
                assert!(findings.has_errors(), "refused without a reason");
            }
            Err(error) => drop(error.to_string()),
        }
    })
}

/// A value that is set in a text: the first line says which.
pub(super) fn revise() -> Run {
    Box::new(|bytes| {
        let Some((order, text)) = utf8(bytes).and_then(|text| text.split_once('\n')) else { return };
        let revision = if order.contains('=') { Revision::set(order) } else { Revision::unset(order) };
        let Ok(revision) = revision else { return };
        let path = Path::new("/p.yaml");
        let source = Source::new(path.into(), text.to_owned());
        if let Ok(text) = change(&source, &[revision]) {
            parse(&Source::new(path.into(), text.clone()))
                .unwrap_or_else(|finding| panic!("{finding}\nin\n{text}"));
        }
    })
}

/// A cron expression, or hours, at a moment that the first bytes say.
pub(super) fn calendar() -> Run {
    Box::new(|bytes| {
        let Some((moment, text)) = bytes.split_first_chunk::<5>() else { return };
        let Some(text) = utf8(text) else { return };
        let [zone, seconds @ ..] = *moment;
        let zone =
            ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe"][usize::from(zone % 4)];
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        let seconds = i64::from(u32::from_le_bytes(seconds));
        let now: Zoned = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(zone);
        match crontab::parse(text) {
            Ok(_) => {
                if let Some(next) = crontab::next_of(text, &now) {
                    assert!(next > now, "{text:?} at {now} is next at {next}");
                }
                let turn = process_throttler::model::rule::Turn {
                    cron: text.to_owned(),
                    profile: "a".parse().unwrap(),
                };
                if let Some((last, _)) = crontab::last(&[turn], &now) {
                    assert!(last <= now, "{text:?} at {now} was last at {last}");
                }
            }
            Err(why) => assert!(!why.is_empty()),
        }
        if let Ok(hours) = text.parse::<Hours>() {
            assert_eq!(hours.to_string().parse::<Hours>().as_ref(), Ok(&hours), "{text:?}");
            let _now = hours.contain(LocalMinute::at(seconds * 1_000, 3_600));
        }
    })
}
