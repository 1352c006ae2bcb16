//! How profiles of the configuration directory are shown.

use serde::Serialize;

use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, dash};
use crate::config::export;
use crate::config::file::Source;
use crate::config::profiles::Entry;
use crate::model::id::Name;
use crate::model::plural::counted;
use crate::model::rule::Profile;

/// The profiles, by name.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub(super) struct Listed(Vec<Item>);

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Item {
    name: String,
    active: bool,
    valid: bool,
    version: String,
    rules: usize,
    critical: usize,
    description: String,
    errors: usize,
    path: String,
    /// Whether it is of a directory that everybody shares and commands only read.
    shared: bool,
    /// Files of the same name that do not count because of this one.
    hides: Vec<String>,
}

impl Listed {
    pub(super) fn new(entries: Vec<Entry>, active: Option<&Name>) -> Self {
        let item = |entry: Entry| {
            let profile = entry.profile.as_ref();
            Item {
                active: active.is_some_and(|active| active.as_str() == entry.name),
                valid: profile.is_some(),
                version: profile.map(|profile| profile.version.clone()).unwrap_or_default(),
                rules: profile.map_or(0, |profile| profile.rules.len()),
                critical: profile.map_or(0, |profile| profile.critical.len()),
                description: profile.map(|profile| profile.description.clone()).unwrap_or_default(),
                errors: entry.findings.errors(),
                path: entry.path.display().to_string(),
                shared: entry.is_shared,
                hides: entry.hides.iter().map(|path| path.display().to_string()).collect(),
                name: entry.name,
            }
        };
        Self(entries.into_iter().map(item).collect())
    }
}

impl View for Listed {
    const KIND: &'static str = "ProfileList";

    fn page(&self, page: &mut Page) {
        page.table(
            [
                Always("NAME"),
                Always("STATE"),
                Always("VERSION"),
                Always("RULES"),
                Always("CRITICAL"),
                Always("DESCRIPTION"),
                Wide("FILE"),
                Wide("HIDES"),
            ],
            self.0.iter().map(|item| {
                let state = match (item.active, item.valid) {
                    (true, true) => "active".to_owned(),
                    (false, true) => "-".to_owned(),
                    // The daemon keeps what it read while the file was good.
                    (true, false) => {
                        format!("active, {} in its file", counted(item.errors, "error", "errors"))
                    }
                    (false, false) => counted(item.errors, "error", "errors"),
                };
                [
                    item.name.clone(),
                    state,
                    dash(item.version.clone()),
                    item.rules.to_string(),
                    item.critical.to_string(),
                    dash(item.description.clone()),
                    item.path.clone(),
                    dash(item.hides.join(" ")),
                ]
            }),
        );
    }
}

/// A profile: what holds once its bases are merged in, and for people the text of its file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Shown {
    #[serde(flatten)]
    profile: Profile,
    /// Its file.
    path: String,
    #[serde(skip)]
    text: Option<String>,
}

impl Shown {
    /// For people, as it is in its file.
    pub(super) fn as_written(profile: Profile, source: Source) -> Self {
        let path = source.path().display().to_string();
        Self { profile, path, text: Some(source.into_text()) }
    }

    /// For people, as it comes into force.
    pub(super) fn resolved(profile: Profile, source: &Source) -> Self {
        Self { profile, path: source.path().display().to_string(), text: None }
    }
}

impl View for Shown {
    const KIND: &'static str = "Profile";

    fn page(&self, page: &mut Page) {
        let text = self.text.clone().unwrap_or_else(|| export::to_yaml(&self.profile));
        for line in text.lines() {
            page.line(line);
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    let item = |name: &str, active, valid, version: &str, errors| Item {
        name: name.to_owned(),
        active,
        valid,
        version: version.to_owned(),
        rules: 2,
        critical: 1,
        description: String::new(),
        errors,
        path: format!("/etc/process-throttler/profiles/{name}.yaml"),
        shared: false,
        hides: Vec::new(),
    };
    let packaged = Item {
        path: "/usr/share/process-throttler/profiles/base.yaml".to_owned(),
        shared: true,
        ..item("base", false, true, "1.0", 0)
    };
    let own = Item {
        hides: vec!["/usr/share/process-throttler/profiles/web.yaml".to_owned()],
        description: "web server with background jobs".to_owned(),
        ..item("web", true, true, "2.0", 0)
    };
    let items = vec![
        item("bad", false, false, "", 2),
        packaged,
        item("night", false, true, "1.0", 0),
        item("stale", true, false, "", 1),
        own,
    ];
    gallery.show("profile list", &Listed(items));
    let profile = || -> Profile {
        let matches = serde_json::json!({ "any": [
            { "comm": { "exact": "rsync" } }, { "not": { "user": { "name": "root", "uid": 0 } } },
        ] });
        let profile = serde_json::json!({
            "name": "web", "version": "1.0", "description": "web server",
            "critical": [{
                "name": "nginx", "matches": { "exe": { "exact": "/usr/sbin/nginx" } },
                "protection": { "level": "high", "oom_score_adj": -800, "nice": -5 },
                "restart": {
                    "policy": "on-failure", "by": { "unit": "nginx.service" },
                    "backoff": { "secs": 1, "nanos": 0 }, "backoff_max": { "secs": 60, "nanos": 0 },
                    "most": 5, "per": { "secs": 600, "nanos": 0 },
                },
            }],
            "rules": [{
                "name": "backups", "matches": matches, "limits": { "cpu": "30%" }, "scope": "group",
                "allow_move": true, "priority": 1, "enabled": true,
            }],
            "schedule": [{ "cron": "0 9 * * 1-5", "profile": "night" }],
        });
        serde_json::from_value(profile).unwrap()
    };
    let source = || {
        let path = "/etc/process-throttler/profiles/web.yaml".into();
        Source::new(path, "# kept\nname: web\n".to_owned())
    };
    gallery.show("profile show web", &Shown::as_written(profile(), source()));
    gallery.show("profile show web --resolved", &Shown::resolved(profile(), &source()));
}
