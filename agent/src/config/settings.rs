//! The agent's own settings: `config.yaml` and `config.d/*.yaml` as written, merged, validated.
//!
//! Three forms: `Written` holds what the files say with places, later files over earlier ones key by key;
//! reading it gives [`Settings`]. Starts and opens nothing.

use std::path::{Path, PathBuf};

use super::error::Findings;
use super::fields::Cursor;
use super::file::{Trust, Value};
use super::host::Host;
use super::paths::Dirs;
use super::{access, audit, backup, limits, logging, metrics, parts, probes, profile, webhook, webhooks};
use crate::model::access::Access;
use crate::model::audit::AuditSettings;
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;
use crate::model::telemetry::MetricsSettings;

pub use super::backup::Backup;
pub use super::logging::{LogFormat, LogLevel};
use super::probes::ProbesSettings;
pub use super::webhook::Webhook;

/// Format of the configuration that this version reads.
const VERSION: i128 = 1;
/// Group that may use the control socket where the configuration names none and the group exists.
pub const SOCKET_GROUP: &str = "process-throttler";
/// The group that owns it otherwise.
const ROOT_GROUP: &str = "root";

const KEYS: &[&str] = &[
    "version",
    "profile",
    "on_stop",
    "source",
    "cgroup_root",
    "log",
    "webhook",
    "rings",
    "socket_group",
    "allow_containers",
    "backup",
    "access",
    "audit",
    "scheduler_probes",
    "metrics",
];

/// What becomes of the limits when the daemon stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStop {
    /// They are lifted and prior values restored.
    #[default]
    Release,
    /// They stay in force.
    Keep,
}

/// Which event source to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceChoice {
    /// The first that works: eBPF, netlink, polling.
    #[default]
    Auto,
    /// eBPF or none.
    Ebpf,
    /// The netlink proc connector or none.
    Netlink,
    /// Polling `/proc`.
    Poll,
}

/// A group of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its gid.
    pub gid: u32,
}

/// The agent's settings, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Profile to activate at the start; its file exists.
    pub profile: Option<Name>,
    /// What becomes of the limits when the daemon stops.
    pub on_stop: OnStop,
    /// Which event source to use.
    pub source: SourceChoice,
    /// Where the cgroup hierarchies are mounted. Absolute.
    pub cgroup_root: PathBuf,
    /// Least severe messages that are logged.
    pub log_level: LogLevel,
    /// How messages are written.
    pub log_format: LogFormat,
    /// The single `webhook:` key.
    pub webhook: Option<Webhook>,
    /// Where events are posted to: the one of the `webhook:` key, named `default`, then those of `webhooks.yaml`
    /// in the order of the file. Names are unique.
    pub endpoints: Vec<Endpoint>,
    /// Size of the priority ring in bytes: a power of two, a multiple of the page size.
    pub priority_ring: u32,
    /// Size of the bulk ring in bytes, likewise.
    pub bulk_ring: u32,
    /// Group that owns the control socket; `None`: root's.
    pub socket_group: Option<Group>,
    /// Whether containers may be limited, through systemd only.
    pub allow_containers: bool,
    /// Where backups are kept, how many, and when they are made.
    pub backup: Backup,
    /// Who may do what over the control socket.
    pub access: Access,
    /// How the audit log is kept and where it is sent.
    pub audit: AuditSettings,
    /// Whether the scheduler is watched, and at what cost.
    pub scheduler_probes: ProbesSettings,
    /// Where figures can be fetched, and where they are pushed to.
    pub metrics: MetricsSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: None,
            on_stop: OnStop::default(),
            source: SourceChoice::default(),
            cgroup_root: PathBuf::from("/sys/fs/cgroup"),
            log_level: LogLevel::default(),
            log_format: LogFormat::default(),
            webhook: None,
            endpoints: Vec::new(),
            priority_ring: agent_common::abi::PRIORITY_RING_BYTES,
            bulk_ring: agent_common::abi::BULK_RING_BYTES,
            socket_group: None,
            allow_containers: false,
            backup: Backup::default(),
            access: Access::default(),
            audit: AuditSettings::default(),
            scheduler_probes: ProbesSettings::default(),
            metrics: MetricsSettings::default(),
        }
    }
}

impl Settings {
    /// Loads the settings, the endpoints of `webhooks.yaml` with them, and warnings. No file at all means the
    /// defaults.
    ///
    /// # Errors
    /// All errors in all files.
    pub fn load(dirs: &Dirs) -> Result<(Self, Findings), Findings> {
        Self::load_on(dirs, Trust::of_this_process(), &Host::detect())
    }

    /// Loads the settings without reading `webhooks.yaml`, for what must work whatever is in there; the only
    /// endpoint is that of the `webhook:` key.
    ///
    /// # Errors
    /// All errors in all of these files.
    pub fn load_own(dirs: &Dirs) -> Result<(Self, Findings), Findings> {
        let mut findings = Findings::new();
        let settings = Self::read_own(dirs, Trust::of_this_process(), &Host::detect(), &mut findings);
        judged(settings, findings)
    }

    pub(super) fn load_on(dirs: &Dirs, trust: Trust, host: &Host) -> Result<(Self, Findings), Findings> {
        let mut findings = Findings::new();
        let mut settings = Self::read_own(dirs, trust, host, &mut findings);
        let has_default = settings.webhook.is_some();
        settings.endpoints.extend(webhooks::read(dirs, trust, has_default, &mut findings));
        judged(settings, findings)
    }

    fn read_own(dirs: &Dirs, trust: Trust, host: &Host, findings: &mut Findings) -> Self {
        let files = parts::parse(dirs, trust, findings);
        let mut merged = Written::default();
        for (source, node) in &files {
            merged.overlay(Written::read(&Cursor::root(source, node), findings));
        }
        merged.validate(dirs, host, findings)
    }
}

fn judged(settings: Settings, findings: Findings) -> Result<(Settings, Findings), Findings> {
    let findings = findings.sorted();
    if findings.has_errors() { Err(findings) } else { Ok((settings, findings)) }
}

/// What files say, nothing of it judged yet but that the keys exist.
#[derive(Default)]
struct Written<'a> {
    version: Option<Cursor<'a>>,
    profile: Option<Cursor<'a>>,
    on_stop: Option<Cursor<'a>>,
    source: Option<Cursor<'a>>,
    cgroup_root: Option<Cursor<'a>>,
    log_level: Option<Cursor<'a>>,
    log_format: Option<Cursor<'a>>,
    webhook: Option<Cursor<'a>>,
    priority_ring: Option<Cursor<'a>>,
    bulk_ring: Option<Cursor<'a>>,
    socket_group: Option<Cursor<'a>>,
    allow_containers: Option<Cursor<'a>>,
    backup: Option<Cursor<'a>>,
    access: Option<Cursor<'a>>,
    audit: Option<Cursor<'a>>,
    scheduler_probes: Option<Cursor<'a>>,
    metrics: Option<Cursor<'a>>,
}

impl<'a> Written<'a> {
    fn read(root: &Cursor<'a>, findings: &mut Findings) -> Self {
        // A file of nothing but comments, as the sample is, says nothing.
        if *root.value() == Value::Null {
            return Self::default();
        }
        let Some(map) = root.map(KEYS, &[], findings) else { return Self::default() };
        let log = map.get("log").and_then(|at| at.map(&["level", "format"], &[], findings));
        let rings = map.get("rings").and_then(|at| at.map(&["priority_bytes", "bulk_bytes"], &[], findings));
        let within =
            |map: &Option<super::fields::Map<'a>>, key| map.as_ref().and_then(|map| map.get(key).cloned());
        Self {
            version: map.get("version").cloned(),
            profile: map.get("profile").cloned(),
            on_stop: map.get("on_stop").cloned(),
            source: map.get("source").cloned(),
            cgroup_root: map.get("cgroup_root").cloned(),
            log_level: within(&log, "level"),
            log_format: within(&log, "format"),
            // As a whole: half an endpoint in one file and half in another is a mistake.
            webhook: map.get("webhook").cloned(),
            priority_ring: within(&rings, "priority_bytes"),
            bulk_ring: within(&rings, "bulk_bytes"),
            socket_group: map.get("socket_group").cloned(),
            allow_containers: map.get("allow_containers").cloned(),
            // As a whole, as `webhook` is: a schedule without its recipients would write secrets elsewhere.
            backup: map.get("backup").cloned(),
            // As a whole, too: what a later file leaves out must not stay granted by an earlier one.
            access: map.get("access").cloned(),
            // As a whole, as an endpoint is.
            audit: map.get("audit").cloned(),
            scheduler_probes: map.get("scheduler_probes").cloned(),
            // As a whole: half a receiver in one file and half in another is a mistake.
            metrics: map.get("metrics").cloned(),
        }
    }

    /// Puts what a later file says over this.
    fn overlay(&mut self, later: Self) {
        let put = |slot: &mut Option<Cursor<'a>>, later: Option<Cursor<'a>>| {
            if later.is_some() {
                *slot = later;
            }
        };
        put(&mut self.version, later.version);
        put(&mut self.profile, later.profile);
        put(&mut self.on_stop, later.on_stop);
        put(&mut self.source, later.source);
        put(&mut self.cgroup_root, later.cgroup_root);
        put(&mut self.log_level, later.log_level);
        put(&mut self.log_format, later.log_format);
        put(&mut self.webhook, later.webhook);
        put(&mut self.priority_ring, later.priority_ring);
        put(&mut self.bulk_ring, later.bulk_ring);
        put(&mut self.socket_group, later.socket_group);
        put(&mut self.allow_containers, later.allow_containers);
        put(&mut self.backup, later.backup);
        put(&mut self.access, later.access);
        put(&mut self.audit, later.audit);
        put(&mut self.scheduler_probes, later.scheduler_probes);
        put(&mut self.metrics, later.metrics);
    }

    /// Errors go to `findings`, and the default takes the place of what is wrong, so that all are found.
    fn validate(&self, dirs: &Dirs, host: &Host, findings: &mut Findings) -> Settings {
        let default = Settings::default();
        if let Some(at) = &self.version {
            at.integer(VERSION..=VERSION, "a version of the configuration format that is known: 1", findings);
        }
        let log_level = self.log_level.as_ref().and_then(|at| logging::level(at, findings));
        let log_format = self.log_format.as_ref().and_then(|at| logging::format(at, findings));
        let on_stop = self
            .on_stop
            .as_ref()
            .and_then(|at| at.choice(&[("release", OnStop::Release), ("keep", OnStop::Keep)], findings));
        let source = self.source.as_ref().and_then(|at| {
            let choices = [
                ("auto", SourceChoice::Auto),
                ("ebpf", SourceChoice::Ebpf),
                ("netlink", SourceChoice::Netlink),
                ("poll", SourceChoice::Poll),
            ];
            at.choice(&choices, findings)
        });
        let cgroup_root = self.cgroup_root.as_ref().and_then(|at| absolute(at, findings));
        let webhook = self.webhook.as_ref().and_then(|at| webhook::parse(at, &dirs.config, findings));
        let priority_ring = self.priority_ring.as_ref().and_then(|at| ring(at, findings));
        let allow_containers = self.allow_containers.as_ref().and_then(|at| at.boolean(findings));
        let bulk_ring = self.bulk_ring.as_ref().and_then(|at| ring(at, findings));
        let socket_group = access::socket_group(self.socket_group.as_ref(), host, findings);
        let group = socket_group.as_ref().map_or(ROOT_GROUP, |group| group.name.as_str());
        let access = access::parse(self.access.as_ref(), group, host, findings);
        Settings {
            profile: self.profile.as_ref().and_then(|at| existing_profile(at, dirs, findings)),
            on_stop: on_stop.unwrap_or(default.on_stop),
            source: source.unwrap_or(default.source),
            cgroup_root: cgroup_root.unwrap_or_else(|| dirs.host.cgroup.clone()),
            log_level: log_level.unwrap_or(default.log_level),
            log_format: log_format.unwrap_or(default.log_format),
            endpoints: webhook.iter().filter_map(|webhook| webhook.endpoint().ok()).collect(),
            webhook,
            priority_ring: priority_ring.unwrap_or(default.priority_ring),
            bulk_ring: bulk_ring.unwrap_or(default.bulk_ring),
            socket_group,
            allow_containers: allow_containers.unwrap_or(default.allow_containers),
            backup: self.backup.as_ref().and_then(|at| backup::parse(at, findings)).unwrap_or_default(),
            access,
            audit: self.audit.as_ref().map(|at| audit::parse(at, &dirs.config, findings)).unwrap_or_default(),
            scheduler_probes: self
                .scheduler_probes
                .as_ref()
                .and_then(|at| probes::parse(at, findings))
                .unwrap_or_default(),
            metrics: self
                .metrics
                .as_ref()
                .and_then(|at| metrics::parse(at, &dirs.config, findings))
                .unwrap_or_default(),
        }
    }
}

fn existing_profile(at: &Cursor<'_>, dirs: &Dirs, findings: &mut Findings) -> Option<Name> {
    let name = profile::read_name(at, findings)?;
    let path = dirs.existing_profile_file(&name);
    if !path.exists() {
        let finding = at.error(format!("unknown profile \"{name}\": there is no {}", path.display()));
        findings.push(finding.with_fix("create it, or correct the name"));
        return None;
    }
    Some(name)
}

pub(super) fn absolute(at: &Cursor<'_>, findings: &mut Findings) -> Option<PathBuf> {
    let path = Path::new(at.text(findings)?);
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    findings.push(at.error(format!("{path:?} is not an absolute path")));
    None
}

/// `BPF_MAP_TYPE_RINGBUF` takes a power of two that is a multiple of the page size (bpf(2), kernel/bpf/ringbuf.c).
fn ring(at: &Cursor<'_>, findings: &mut Findings) -> Option<u32> {
    const MAX: u64 = 1 << 28;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    let bytes = limits::size(at, findings)?.get();
    if bytes.is_power_of_two() && bytes >= page && bytes <= MAX {
        return u32::try_from(bytes).ok();
    }
    let message = format!("{bytes} is not a power of two from {page} to {MAX}");
    let near = bytes.clamp(page, MAX).next_power_of_two();
    findings.push(at.error(message).with_fix(format!("write {near}")));
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::error::Finding;

    fn host() -> Host {
        Host {
            cpus: None,
            online: || None,
            memory: None,
            user: |_| Ok(None),
            group: |name| Ok((name == "staff").then_some(50)),
            program: |_| None,
        }
    }

    struct Etc(tempfile::TempDir);

    impl Etc {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            Self(dir)
        }

        fn load(&self) -> Result<Settings, Findings> {
            let dir = self.0.path();
            let dirs = Dirs::all_at(dir);
            Settings::load_on(&dirs, Trust::Anyone, &host()).map(|(settings, _)| settings)
        }

        /// Each error as `file:line:column message`.
        fn errors(&self) -> Vec<String> {
            let findings = self.load().unwrap_err();
            let one = |finding: &Finding| {
                let file = finding.file.strip_prefix(self.0.path()).unwrap().display();
                format!("{file}:{}:{} {}", finding.line, finding.column, finding.message)
            };
            findings.iter().map(one).collect()
        }
    }

    #[test]
    fn nothing_written_means_the_defaults() {
        assert_eq!(Etc::new(&[]).load().unwrap(), Settings::default());
        assert_eq!(Etc::new(&[("config.yaml", "# nothing\n")]).load().unwrap(), Settings::default());
        let sample = include_str!("../../../packaging/config.yaml");
        assert_eq!(Etc::new(&[("config.yaml", sample)]).load().unwrap(), Settings::default());
    }

    #[test]
    fn metrics_are_on_this_machine_unless_it_is_said_otherwise() {
        use crate::model::signal::Hundredths;
        use crate::model::telemetry::{Access, Header, HeaderValue, Otlp, Urls};

        let read = |text: &str| Etc::new(&[("config.yaml", text)]).load().unwrap().metrics;
        assert_eq!(read("metrics: {}\n").listen.unwrap().to_string(), "127.0.0.1:9464");
        assert_eq!(read("metrics: { listen: off }\n").listen, None);
        assert!(!read("metrics: {}\n").bpf_run_time);
        assert!(read("metrics: { bpf_run_time: true }\n").bpf_run_time);
        assert_eq!(read("metrics: { listen: \"[::1]:0\" }\n").listen.unwrap().port(), 0);
        let remote = read("metrics: { listen: 0.0.0.0:9464, allow_remote: true }\n");
        assert_eq!((remote.listen.unwrap().to_string(), remote.otlp), ("0.0.0.0:9464".to_owned(), None));
        let otlp = |text: &str| read(&format!("metrics: {{ otlp: {text} }}\n")).otlp.unwrap();
        let plain = otlp("{ endpoint: \"http://127.0.0.1:4318\", interval: 2s }");
        let two = Duration::from_secs(2);
        let at = |signal: &str| Some(format!("http://127.0.0.1:4318/v1/{signal}"));
        let expected = Otlp {
            urls: Urls { metrics: at("metrics"), logs: at("logs"), traces: at("traces") },
            trace_ratio: Hundredths(100),
            interval: two,
            access: Access { timeout: two, headers: Vec::new(), ca_file: None },
        };
        assert_eq!(plain, expected, "the timeout is not longer than the interval");
        let headers =
            "[{ name: X-Scope-OrgID, value: a b }, { name: authorization, secret_file: otlp.token }]";
        let full = otlp(&format!("{{ endpoint: \"https://h/otlp/v1/metrics\", headers: {headers} }}"));
        let metrics = Some("https://h/otlp/v1/metrics".to_owned());
        assert_eq!((full.urls, full.interval.as_secs()), (Urls { metrics, ..Urls::default() }, 60));
        let two =
            otlp("{ endpoint: \"https://h/x/v1/metrics/\", signals: [logs, traces], trace_ratio: 2.5% }");
        let at = |signal: &str| Some(format!("https://h/x/v1/{signal}"));
        assert_eq!(two.urls, Urls { metrics: None, logs: at("logs"), traces: at("traces") });
        assert_eq!(two.trace_ratio, Hundredths(250));
        let [tenant, token] = &full.access.headers[..] else { panic!("{:?}", full.access) };
        let value = HeaderValue::Plain("a b".to_owned());
        assert_eq!(*tenant, Header { name: "x-scope-orgid".to_owned(), value });
        assert!(matches!(&token.value, HeaderValue::File(path) if path.ends_with("otlp.token")), "{token:?}");
    }

    #[test]
    fn metrics_that_would_leak_or_cannot_be_are_refused() {
        for (text, wrong) in [
            ("listen: 0.0.0.0:9464", "0.0.0.0 is not this machine alone"),
            ("listen: localhost", "\"localhost\" is neither off nor an address with a port"),
            ("otlp: {}", "key \"endpoint\" is missing"),
            ("otlp: { endpoint: \"http://collector/\" }", "http to another machine"),
            ("otlp: { endpoint: \"https://u:p@h/\" }", "credentials in a URL"),
            ("otlp: { endpoint: \"https://h/\", interval: 1ms }", "1ms is not within 1s to 1h"),
            ("otlp: { endpoint: \"https://h/\", signals: [] }", "config.yaml:1:53 names no signal"),
            (
                "otlp: { endpoint: \"https://h/\", signals: [spans] }",
                "1:54 \"spans\" is not one of metrics, logs",
            ),
            ("otlp: { endpoint: \"https://h/\", trace_ratio: 101% }", "\"101%\" is no share from 0% to 100%"),
            ("otlp: { endpoint: \"https://h/\", trace_ratio: \"0.1\" }", "is no share from 0% to 100%"),
            ("otlp: { endpoint: \"https://h/\", headers: [{ name: a }] }", "either value or secret_file"),
            (
                "otlp: { endpoint: \"https://h/\", headers: [{ name: \"a b\", value: c }] }",
                "no name of a header",
            ),
            ("otlp: { endpoint: \"https://h/\", headers: [{ name: host, value: c }] }", "set by the agent"),
            ("otlp: { endpoint: \"https://h/\", headers: [{ name: a, value: \"b\\n\" }] }", "visible ASCII"),
            (
                "otlp: { endpoint: \"https://h/\", headers: [{ name: Authorization, value: Zm9v }] }",
                "is a secret",
            ),
        ] {
            let errors = Etc::new(&[("config.yaml", &format!("metrics: {{ {text} }}\n"))]).errors();
            assert!(errors.len() == 1 && errors[0].contains(wrong), "{text}: {errors:?}");
            assert!(!errors[0].contains("Zm9v"), "a secret is quoted: {errors:?}");
        }
    }

    #[test]
    fn the_single_endpoint_comes_first_and_both_files_are_judged_together() {
        let single = "webhook: { url: \"http://127.0.0.1:8/\", secret_file: /k }\n";
        let list = "webhooks:\n  - { name: b, url: \"https://h/\" }\n  - { name: a, url: \"https://h/\" }\n";
        let settings = Etc::new(&[("config.yaml", single), ("webhooks.yaml", list)]).load().unwrap();
        let names: Vec<_> = settings.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        assert_eq!(names, ["default", "b", "a"]);
        assert_eq!(settings.endpoints[0].allow_networks.len(), 2, "it may reach this machine");
        let clash = list.replace("name: a", "name: default");
        let etc = Etc::new(&[("config.yaml", &format!("{single}nonsense: 1\n")), ("webhooks.yaml", &clash)]);
        assert_eq!(
            etc.errors(),
            [
                "config.yaml:2:1 unknown key \"nonsense\"",
                "webhooks.yaml:3:13 the name \"default\" is taken by webhook: in config.yaml",
            ]
        );
        let dir = etc.0.path();
        let dirs = Dirs::all_at(dir);
        std::fs::write(dir.join("config.yaml"), single).unwrap();
        assert!(Settings::load_own(&dirs).is_ok(), "whatever is in the other file");
    }

    #[test]
    fn the_probes_of_the_scheduler_are_off_unless_asked_for() {
        use crate::config::probes::ProbesMode;
        use crate::model::signal::Hundredths;

        let read = |text: &str| Etc::new(&[("config.yaml", text)]).load().unwrap().scheduler_probes;
        assert_eq!(read("version: 1\n").mode, ProbesMode::Off);
        let text = "scheduler_probes: { mode: auto, window: 30s, budget: 1.25%, threshold: 5ms }\n";
        let expected = ProbesSettings {
            mode: ProbesMode::Auto,
            window: Duration::from_secs(30),
            budget: Hundredths(125),
            threshold: Duration::from_millis(5),
        };
        assert_eq!(read(text), expected);
        let bad = "scheduler_probes:\n  mode: sometimes\n  window: 1s\n  budget: 0%\n  threshold: soon\n";
        assert_eq!(
            Etc::new(&[("config.yaml", bad)]).errors(),
            [
                "config.yaml:2:9 \"sometimes\" is not one of off, on, auto",
                "config.yaml:3:11 \"1s\" is not within 2s to 1h",
                "config.yaml:4:11 \"0%\" is no share of a CPU from 0.01% to 100%",
                "config.yaml:5:14 \"soon\" is no duration: expected number at 0",
            ]
        );
    }

    #[test]
    fn how_backups_are_made_is_read_and_judged() {
        let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        let good = format!(
            "backup: {{ keep: 3, schedule: \"30 3 * * *\", directory: /b, recipients: [ {key} ] }}\n"
        );
        let backup = Etc::new(&[("config.yaml", &good)]).load().unwrap().backup;
        assert_eq!((backup.keep, backup.schedule.as_deref()), (3, Some("30 3 * * *")));
        assert_eq!(backup.recipients, [key]);
        let secret = "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS4J7PUE";
        let bad = format!(
            "backup:\n  keep: 0\n  schedule: \"61 * * * *\"\n  directory: here\n  recipients: [ {secret} ]\n  more: 1\n"
        );
        let errors = Etc::new(&[("config.yaml", &bad)]).errors();
        assert_eq!(errors.len(), 5, "{errors:?}");
        assert!(!errors.concat().contains("AGE-SECRET"), "{errors:?}");
    }

    #[test]
    fn later_files_win_key_by_key() {
        let etc = Etc::new(&[
            ("config.yaml", "version: 1\non_stop: keep\nlog: {level: debug, format: json}\nprofile: web\n"),
            ("config.d/20-b.yaml", "log: {level: warn}\nrings: {bulk_bytes: 2M}\n"),
            ("config.d/10-a.yaml", "log: {level: trace}\nsocket_group: staff\nsource: poll\n"),
            ("config.d/.hidden.yaml", "nonsense"),
            ("config.d/notes.txt", "nonsense"),
            ("profiles/web.yaml", ""),
        ]);
        let settings = etc.load().unwrap();
        assert_eq!((settings.log_level, settings.log_format), (LogLevel::Warn, LogFormat::Json));
        assert_eq!((settings.on_stop, settings.source), (OnStop::Keep, SourceChoice::Poll));
        assert_eq!((settings.priority_ring, settings.bulk_ring), (262_144, 2 << 20));
        assert_eq!(settings.socket_group, Some(Group { name: "staff".to_owned(), gid: 50 }));
        assert_eq!(settings.profile.unwrap().as_str(), "web");
    }

    #[test]
    fn all_errors_of_all_files_are_reported_at_their_places() {
        let etc = Etc::new(&[
            (
                "config.yaml",
                "version: 2\nprofil: web\nprofile: gone\non_stop: stay\ncgroup_root: sys\nlog: {level: loud}\nlog: {}\n",
            ),
            (
                "config.d/1.yaml",
                "rings: {priority_bytes: 100000, bulk_bytes: 4096T}\nsocket_group: nobodies\n",
            ),
            ("config.d/2.yaml", "source: [ebpf\n"),
            ("config.d/3.yaml", "source: \u{0}\n"),
        ]);
        assert_eq!(
            etc.errors(),
            [
                "config.d/1.yaml:1:25 100000 is not a power of two from 4096 to 268435456",
                "config.d/1.yaml:1:45 4503599627370496 is not a power of two from 4096 to 268435456",
                "config.d/1.yaml:2:15 there is no group \"nobodies\" on this machine",
                "config.d/2.yaml:1:9 unclosed bracket '['",
                "config.d/3.yaml:1:9 the file contains a NUL byte: it is not text",
                "config.yaml:1:10 2 is not a version of the configuration format that is known: 1",
                "config.yaml:2:1 unknown key \"profil\"",
                &format!(
                    "config.yaml:3:10 unknown profile \"gone\": there is no {}",
                    etc.0.path().join("profiles/gone.yaml").display()
                ),
                "config.yaml:4:10 \"stay\" is not one of release, keep",
                "config.yaml:5:14 \"sys\" is not an absolute path",
                "config.yaml:6:14 \"loud\" is not one of error, warn, info, debug, trace",
                "config.yaml:7:1 duplicate key \"log\", first at 6:1",
            ]
        );
    }

    #[test]
    fn endpoints() {
        let hook = |body: &str| {
            Etc::new(&[("config.yaml", &format!("webhook: {{ {body} }}\n"))])
                .load()
                .map(|s| s.webhook.unwrap())
        };
        for good in [
            "url: https://h/x, secret_file: /k",
            "url: \"http://127.0.0.1:8/\", secret_file: /k",
            "url: \"http://[::1]:8/\", secret_file: /k, timeout: 500ms",
            "url: http://localhost/, secret_file: /k",
            "url: http://h/, secret_file: /k, allow_http: true",
            "url: https://h/, secret_file: /k, repeat_interval: 0s, group_wait: 1s, group_interval: 30days",
        ] {
            assert!(hook(good).is_ok(), "{good}");
        }
        for (bad, column, message) in [
            ("url: http://h/, secret_file: /k", 17, "http to another machine"),
            ("url: http://127.0.0.1.evil.org/, secret_file: /k", 17, "http to another machine"),
            ("url: ftp://h/, secret_file: /k", 17, "scheme \"ftp\""),
            ("url: https://u:p@h/, secret_file: /k", 17, "credentials"),
            ("url: nothing, secret_file: /k", 17, "not a URL"),
            ("url: https://h/", 10, "\"secret_file\" is missing"),
            ("url: https://h/, secret_file: /k, timeout: 1h", 55, "not between"),
            ("url: https://h/, secret_file: /k, timeout: soon", 55, "no duration"),
            ("url: https://h/, secret_file: /k, repeat_interval: 1ms", 63, "not between 1s and"),
            ("url: https://h/, secret_file: /k, group_wait: x", 58, "no duration"),
        ] {
            let findings = hook(bad).unwrap_err();
            let finding = findings.iter().next().unwrap();
            assert_eq!((finding.line, finding.column), (1, column), "{finding}");
            assert!(finding.message.contains(message), "{finding}");
            assert_eq!(findings.errors(), 1, "{findings}");
        }
        let hook = hook("url: https://h/x, secret_file: secrets/key").unwrap();
        let endpoint = hook.endpoint().unwrap();
        assert_eq!((endpoint.name.as_str(), endpoint.url.as_str()), ("default", "https://h/x"));
        assert!(hook.secret_file.is_absolute() && hook.secret_file.ends_with("secrets/key"));
        assert_eq!(hook.timeout, Duration::from_secs(15));
        assert_eq!(hook.noise, crate::model::endpoint::Noise::DEFAULT);
        assert_eq!(hook.endpoint().unwrap().name.as_str(), "default");
    }

    #[test]
    fn roles_are_granted_to_accounts_there_are() {
        let access = |body: &str| {
            Etc::new(&[("config.yaml", &format!("access: {{ {body} }}\n"))]).load().map(|s| s.access)
        };
        assert_eq!(Etc::new(&[]).load().unwrap().access, Access::default());
        let granted = access(
            "members: none, grants: [ { role: operator, groups: [staff], only: { users: [\"www-*\"] } } ]",
        )
        .unwrap();
        assert_eq!(granted.members, None);
        assert_eq!(granted.grants[0].groups[0].id, 50);
        assert_eq!(granted.grants[0].only.as_ref().unwrap().users, ["www-*"]);
        for (bad, message) in [
            ("members: everybody", "not one of viewer, auditor, operator, admin, none"),
            ("grants: [ { groups: [staff] } ]", "\"role\" is missing"),
            ("grants: [ { role: viewer } ]", "names nobody"),
            ("grants: [ { role: viewer, users: [nobody-here] } ]", "there is no user"),
            ("grants: [ { role: viewer, groups: [staff], only: { users: [a] } } ]", "only an operator"),
            ("grants: [ { role: operator, groups: [staff], only: {} } ]", "limits to nothing"),
            ("grants: [ { role: operator, groups: [staff], only: { users: [] } } ]", "matches nothing"),
            ("grants: [ { role: operator, groups: [staff], only: { cgroups: [\"/a[\"] } } ]", "malformed"),
            ("grants: [ { role: operator, groups: [50] } ]", "takes a name"),
            ("owners: []", "unknown key"),
        ] {
            let findings = access(bad).unwrap_err();
            assert!(findings.to_string().contains(message), "{bad}: {findings}");
        }
    }
}
