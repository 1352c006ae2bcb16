//! Profiles to text: YAML as people write it, or JSON. The same profile always gives the same text, and
//! reading that text gives the same profile.

mod critical;
mod policy;

use std::fmt;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::condition;
use crate::model::limits::{Limits, Scope};
use crate::model::policy::{Side, Threshold, When, Zone};
use crate::model::rule::{Match, OnConflict, Pattern, Profile, Rule, Turn};
use crate::model::signal::Hundredths;
use crate::model::unit::{Bytes, Weight};

/// A profile as YAML.
#[must_use]
pub fn to_yaml(profile: &Profile) -> String {
    let mut text = String::new();
    for (key, value) in entries(profile) {
        write_top(&mut text, key, &value);
    }
    text
}

/// A profile as indented JSON, with a final newline.
///
/// # Errors
/// None that a profile can cause; the serialiser's signature has them.
pub fn to_json(profile: &Profile) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string_pretty(&Tree::Map(entries(profile)))?;
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        // JSON allows these as they are, YAML 1.2 (section 5.1) does not, and the text is to be both.
        if matches!(c, '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    Ok(text)
}

/// A value to be written, with the keys in the order in which people expect them.
#[derive(Clone, Debug)]
enum Tree {
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Self>),
    Map(Vec<(&'static str, Self)>),
}

fn text(value: impl ToString) -> Tree {
    Tree::Text(value.to_string())
}

fn entries(profile: &Profile) -> Vec<(&'static str, Tree)> {
    let Profile { name, version, description, critical: vital, rules, schedule } = profile;
    let mut map = vec![("name", text(name)), ("version", text(version))];
    if !description.is_empty() {
        map.push(("description", text(description)));
    }
    if !vital.is_empty() {
        map.push(("critical_processes", Tree::List(vital.iter().map(critical::tree).collect())));
    }
    if !rules.is_empty() {
        map.push(("throttling_rules", Tree::List(rules.iter().map(rule).collect())));
    }
    if !schedule.is_empty() {
        let item =
            |Turn { cron, profile }: &Turn| Tree::Map(vec![("cron", text(cron)), ("profile", text(profile))]);
        map.push(("schedule", Tree::List(schedule.iter().map(item).collect())));
    }
    map
}

fn rule(rule: &Rule) -> Tree {
    let Rule {
        name,
        description,
        matches,
        when,
        limits,
        policy,
        scope,
        allow_move,
        whole_unit,
        on_conflict,
        priority,
        enabled,
    } = rule;
    let mut map = vec![("name", text(name))];
    if !description.is_empty() {
        map.push(("description", text(description)));
    }
    map.push(("match", matching(matches)));
    if let Some(when) = when {
        map.push(("when", when_tree(when)));
    }
    if !limits.is_empty() {
        map.push(("limits", limits_tree(limits)));
    }
    if !policy.is_fixed() {
        map.push(("policy", policy::tree(policy)));
    }
    let scope = match scope {
        Scope::Group => "group",
        Scope::Process => "process",
    };
    map.push(("scope", text(scope)));
    map.push(("allow_move", Tree::Bool(*allow_move)));
    if *whole_unit {
        map.push(("whole_unit", Tree::Bool(true)));
    }
    if *on_conflict == OnConflict::Reassert {
        map.push(("on_conflict", text("reassert")));
    }
    map.push(("priority", Tree::Integer((*priority).into())));
    map.push(("enabled", Tree::Bool(*enabled)));
    Tree::Map(map)
}

/// A size that is no multiple of 1024 is a plain number.
fn size(bytes: Bytes) -> Tree {
    match i64::try_from(bytes.get()) {
        Ok(number) if number % 1024 != 0 => Tree::Integer(number),
        Ok(_) | Err(_) => text(bytes),
    }
}

fn limits_tree(limits: &Limits) -> Tree {
    let Limits {
        cpu,
        cpu_weight,
        // Of critical processes only, which are written elsewhere.
        memory_low: _,
        memory_high,
        memory_max,
        pids,
        io_weight,
        io_read,
        io_write,
        nice,
        sched,
        io_class,
        io_priority,
        cpu_affinity,
        oom_score_adj,
    } = limits;
    let weight = |weight: Weight| Tree::Integer(weight.get().into());
    let pairs = [
        ("cpu", cpu.map(text)),
        ("cpu_weight", cpu_weight.map(weight)),
        ("memory_high", memory_high.map(size)),
        ("memory_max", memory_max.map(size)),
        ("pids", pids.map(|pids| Tree::Integer(pids.into()))),
        ("io_weight", io_weight.map(weight)),
        ("io_read", io_read.map(size)),
        ("io_write", io_write.map(size)),
        ("nice", nice.map(|nice| Tree::Integer(nice.get().into()))),
        ("sched", sched.map(text)),
        ("io_class", io_class.map(text)),
        ("io_priority", io_priority.map(|level| Tree::Integer(level.get().into()))),
        ("cpu_affinity", cpu_affinity.as_ref().map(text)),
        ("oom_score_adj", oom_score_adj.map(|score| Tree::Integer(score.get().into()))),
    ];
    Tree::Map(pairs.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect())
}

fn when_tree(when: &When) -> Tree {
    let When { thresholds, hours, timezone, cooldown_ms } = when;
    let mut map: Vec<(&'static str, Tree)> = Vec::new();
    for threshold in thresholds {
        map.push((threshold.signal.name(), threshold_tree(threshold)));
    }
    if let Some(hours) = hours {
        map.push(("hours", text(hours)));
    }
    map.extend(zone(timezone));
    map.push(("cooldown", duration(*cooldown_ms)));
    Tree::Map(map)
}

fn threshold_tree(threshold: &Threshold) -> Tree {
    let Threshold { signal, side, on, off } = *threshold;
    let (sign, key) = match side {
        Side::Above => (">", "above"),
        Side::Below => ("<", "below"),
    };
    if off == condition::short_of(side, on, signal.max()) {
        return text(format!("{sign} {}", decimal(on)));
    }
    Tree::Map(vec![(key, text(decimal(on))), ("until", text(decimal(off)))])
}

/// `12.5`, as people write it.
fn decimal(value: Hundredths) -> String {
    let text = value.to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn duration(millis: u64) -> Tree {
    text(humantime::format_duration(Duration::from_millis(millis)))
}

fn zone(zone: &Zone) -> Option<(&'static str, Tree)> {
    zone.name().map(|name| ("timezone", text(name)))
}

fn matching(matches: &Match) -> Tree {
    // Several conditions in the order of the grammar's keys are what one map of those keys means.
    if let Match::All(conditions) = matches
        && conditions.len() > 1
        && is_in_key_order(conditions)
    {
        return Tree::Map(conditions.iter().map(condition).collect());
    }
    Tree::Map(vec![condition(matches)])
}

fn is_in_key_order(conditions: &[Match]) -> bool {
    let position = |matches: &Match| {
        let key = key(matches);
        super::matching::KEYS.iter().position(|known| *known == key)
    };
    conditions.windows(2).all(|pair| position(&pair[0]) < position(&pair[1]))
}

const fn key(matches: &Match) -> &'static str {
    match matches {
        Match::All(_) => "all",
        Match::Any(_) => "any",
        Match::Not(_) => "not",
        Match::Comm(_) => "comm",
        Match::Exe(_) => "exe",
        Match::CmdlineRegex(_) => "cmdline_regex",
        Match::Uid(_) => "uid",
        Match::User { .. } => "user",
        Match::Group { .. } => "group",
        Match::Cgroup(_) => "cgroup",
        Match::Parent(_) => "parent",
        Match::Pid(_) => "pid",
    }
}

fn condition(matches: &Match) -> (&'static str, Tree) {
    let value = match matches {
        Match::All(list) | Match::Any(list) => Tree::List(list.iter().map(matching).collect()),
        Match::Not(inner) | Match::Parent(inner) => matching(inner),
        Match::Comm(pattern) | Match::Exe(pattern) => match pattern {
            Pattern::Exact(exact) => text(exact),
            Pattern::Prefix(prefix) => Tree::Map(vec![("prefix", text(prefix))]),
            Pattern::Glob(glob) => Tree::Map(vec![("glob", text(glob))]),
            Pattern::Regex(regex) => Tree::Map(vec![("regex", text(regex))]),
        },
        Match::CmdlineRegex(value) | Match::Cgroup(value) => text(value),
        Match::Uid(id) | Match::Pid(id) => Tree::Integer((*id).into()),
        Match::User { name, .. } | Match::Group { name, .. } => text(name),
    };
    (key(matches), value)
}

/// A top-level key: lists of maps in blocks, everything inside their items on one line each.
fn write_top(out: &mut String, key: &str, value: &Tree) {
    let Tree::List(items) = value else {
        out.push_str(&format!("{key}: {value}\n"));
        return;
    };
    out.push_str(&format!("{key}:\n"));
    for item in items {
        if let Tree::Map(entries) = item {
            for (index, (key, value)) in entries.iter().enumerate() {
                let lead = if index == 0 { "  - " } else { "    " };
                out.push_str(&format!("{lead}{key}: {value}\n"));
            }
        } else {
            out.push_str(&format!("  - {item}\n"));
        }
    }
}

impl fmt::Display for Tree {
    /// On one line, in YAML's flow style.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("{ ")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{key}: {value}")?;
                }
                f.write_str(" }")
            }
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// A text as YAML: plain where no parser could take it for anything else, in single quotes where that keeps
/// backslashes readable, else with escapes.
pub fn quoted(text: &str) -> String {
    const RESERVED: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let lower = text.to_ascii_lowercase();
    let first_is_safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let all_safe = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b));
    let is_size = text
        .strip_suffix(['%', 'K', 'M', 'G', 'T'])
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    if is_size || (first_is_safe && all_safe && !RESERVED.contains(&lower.as_str())) {
        return text.to_owned();
    }
    let printable = |c: char| (' '..='~').contains(&c);
    if text.contains('\\') && !text.contains('\'') && text.chars().all(printable) {
        return format!("'{text}'");
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if printable(c) || c.is_alphanumeric() => out.push(c),
            // Eight digits reach every character, and only YAML reads this.
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::file::Source;
    use crate::config::host::Host;
    use crate::config::profile::parse;
    use crate::model::attribute::{IoClass, IoLevel, OomScoreAdj, Sched};
    use crate::model::cpu_list::CpuList;
    use crate::model::critical::Critical;
    use crate::model::hours::Hours;
    use crate::model::id::Name;
    use crate::model::policy::{Adaptive, Gradual, Latency, Policy, Schedule, Span, Target};
    use crate::model::signal::Signal;
    use crate::model::unit::{CpuPercent, Nice};
    use proptest::option::of;

    fn host() -> Host {
        Host {
            cpus: None,
            online: || None,
            memory: None,
            user: |name| Ok((name == "root").then_some(0)),
            group: |name| Ok((name == "adm").then_some(4)),
            program: |_| None,
        }
    }

    fn read(text: String) -> Profile {
        let (profile, findings) = parse(&Source::new("/p.yaml".into(), text.clone()), None, &host());
        profile.unwrap_or_else(|| panic!("{findings}\n{text}"))
    }

    fn name() -> impl Strategy<Value = Name> {
        "[a-z0-9][a-z0-9._-]{0,20}".prop_map(|text| text.parse().unwrap())
    }

    /// Anything but NUL, which no text may hold; control and right-to-left characters included.
    fn free_text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{1,12}",
            "\\PC{1,8}",
            any::<Vec<char>>().prop_map(|chars| chars.into_iter().take(8).collect())
        ]
        .prop_map(|text: String| text.replace('\0', "0"))
    }

    /// Printable, but for ends of lines.
    fn description() -> impl Strategy<Value = String> {
        free_text().prop_map(|text| text.replace(|c: char| c.is_control(), "\n"))
    }

    fn pattern(absolute: bool) -> impl Strategy<Value = Pattern> {
        let literal = free_text().prop_map(move |text| {
            let text = if absolute { format!("/{text}") } else { text };
            let end = text.floor_char_boundary(15);
            if end == 0 { "x".to_owned() } else { text[..end].to_owned() }
        });
        (0..4, literal).prop_map(|(kind, literal)| match kind {
            0 => Pattern::Exact(literal),
            1 => Pattern::Prefix(literal),
            2 => Pattern::Glob(globset::escape(&literal.replace('\\', "_"))),
            _ => Pattern::Regex(regex::escape(&literal)),
        })
    }

    fn matches() -> impl Strategy<Value = Match> {
        let leaf = prop_oneof![
            pattern(false).prop_map(Match::Comm),
            pattern(true).prop_map(Match::Exe),
            "[a-z]{1,9}".prop_map(|text| Match::CmdlineRegex(format!("{text}\\.(sh|py) '?$"))),
            (0..u32::MAX).prop_map(Match::Uid),
            Just(Match::User { name: "root".to_owned(), uid: 0 }),
            Just(Match::Group { name: "adm".to_owned(), gid: 4 }),
            Just(Match::Cgroup("/system.slice/**".to_owned())),
            (1..4_000_000u32).prop_map(Match::Pid),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..4).prop_map(Match::All),
                proptest::collection::vec(inner.clone(), 1..4).prop_map(Match::Any),
                inner.clone().prop_map(|inner| Match::Not(Box::new(inner))),
                inner.prop_map(|inner| Match::Parent(Box::new(inner))),
            ]
        })
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let bytes = || of((Bytes::MIN..1 << 50).prop_map(|bytes| Bytes::new(bytes).unwrap()));
        let weight = || of((1..=10_000u64).prop_map(|weight| Weight::new(weight).unwrap()));
        let cpu = (1_000..100_000_000u64).prop_map(|millis| CpuPercent::from_millis(millis).unwrap());
        let nice = of((-20..=19i64).prop_map(|nice| Nice::new(nice).unwrap()));
        let level = of((0..=7i64).prop_map(|level| IoLevel::new(level).unwrap()));
        let io = prop_oneof![
            Just((None, None)),
            Just((Some(IoClass::Idle), None)),
            level.prop_map(|level| (Some(IoClass::BestEffort), level)),
            Just((None, IoLevel::new(2))),
        ];
        let sched = of(prop_oneof![Just(Sched::Batch), Just(Sched::Idle)]);
        let cpus = of(proptest::collection::vec(0..=CpuList::LAST, 1..5))
            .prop_map(|cpus| cpus.and_then(CpuList::new));
        let oom = of((-1000..=1000i64).prop_map(|score| OomScoreAdj::new(score).unwrap()));
        let of_process = (nice, sched, io, cpus, oom);
        (cpu, weight(), bytes(), bytes(), of(1..=4_194_304u32), weight(), bytes(), bytes(), of_process)
            .prop_map(|(cpu, cpu_weight, high, max, pids, io_weight, io_read, io_write, of_process)| Limits {
                cpu: Some(cpu),
                cpu_weight,
                memory_low: None,
                memory_high: high.min(max.or(high)),
                memory_max: max,
                pids,
                io_weight,
                io_read,
                io_write,
                nice: of_process.0,
                sched: of_process.1,
                io_class: of_process.2.0,
                io_priority: of_process.2.1,
                cpu_affinity: of_process.3,
                oom_score_adj: of_process.4,
            })
    }

    fn turns() -> impl Strategy<Value = Turn> {
        (0..60u8, 0..24u8, name())
            .prop_map(|(minute, hour, profile)| Turn { cron: format!("{minute} {hour} * * 1-5"), profile })
    }

    fn hours() -> impl Strategy<Value = Hours> {
        prop::sample::select(vec![
            "Mon..Fri 09:00-17:00",
            "22:00-06:00",
            "Sat..Sun 00:00-24:00; Wed 08:00-08:01",
        ])
        .prop_map(|text| text.parse().unwrap())
    }

    fn zones() -> impl Strategy<Value = Zone> {
        prop_oneof![Just(Zone::default()), Just(Zone::named("Europe/Berlin".to_owned()))]
    }

    /// A policy that fits limits with a quota of up to 100,000 %, and conditions.
    fn moving() -> impl Strategy<Value = (Policy, Option<When>)> {
        let percent = |millis| CpuPercent::from_millis(millis).unwrap();
        let gradual = (1_000..9_000_000u64, 2..600u64).prop_map(move |(from, seconds)| {
            let (over_ms, interval_ms) = (seconds * 1_000, 1_500);
            Policy::Gradual(Gradual { from: percent(from), over_ms, interval_ms })
        });
        let targets = prop_oneof![
            (1_000..100_000_000u64).prop_map(move |millis| Target::Cpu(percent(millis))),
            (1..=10_000u32).prop_map(|value| Target::PressureCpuSome(Hundredths(value))),
            (1..=10_000u32).prop_map(|value| Target::PressureIoSome(Hundredths(value))),
            (1..=10_000_000u32).prop_map(|value| Target::Load1(Hundredths(value))),
        ];
        let adaptive = (targets, 10..=500u32, 1..60u64).prop_map(move |(target, deadband, seconds)| {
            Policy::Adaptive(Adaptive {
                target,
                min: percent(1_000),
                max: percent(100_000_000),
                interval_ms: seconds * 1_000,
                cooldown_ms: seconds * 2_500,
                deadband_permille: deadband,
            })
        });
        let windows = proptest::collection::vec((hours(), limits()), 1..3)
            .prop_map(|windows| windows.into_iter().map(|(hours, limits)| Span { hours, limits }).collect());
        let schedule = (windows, zones())
            .prop_map(|(windows, timezone)| Policy::Schedule(Schedule { windows, timezone }));
        let latency = (1..=100u64, 1_000..500_000u64, 1_000..3_600_000u64).prop_map(
            move |(weight, min, cooldown_ms)| {
                Policy::Latency(Latency {
                    weight: Weight::new(weight).unwrap(),
                    min: percent(min),
                    cooldown_ms,
                })
            },
        );
        let thresholds = proptest::sample::subsequence(Signal::all().collect::<Vec<_>>(), 1..3);
        let when = (thresholds, any::<bool>(), 100..9_000u32, 1..90u32, of(hours()), zones()).prop_map(
            |(signals, above, on, apart, hours, timezone)| {
                let side = if above { Side::Above } else { Side::Below };
                let off = if above { on - apart } else { on + apart };
                let threshold = |signal| Threshold { signal, side, on: Hundredths(on), off: Hundredths(off) };
                When {
                    thresholds: signals.into_iter().map(threshold).collect(),
                    hours,
                    timezone,
                    cooldown_ms: 30_000,
                }
            },
        );
        (prop_oneof![Just(Policy::Fixed), gradual, adaptive, schedule, latency], of(when))
    }

    /// What gives way has something left to give.
    fn within(policy: Policy, limits: &Limits) -> Policy {
        match policy {
            Policy::Latency(latency) => Policy::Latency(Latency {
                weight: limits.cpu_weight.map_or(latency.weight, |own| own.min(latency.weight)),
                min: limits.cpu.map_or(latency.min, |cpu| cpu.min(latency.min)),
                ..latency
            }),
            other @ (Policy::Fixed | Policy::Gradual(_) | Policy::Adaptive(_) | Policy::Schedule(_)) => other,
        }
    }

    fn rules() -> impl Strategy<Value = Rule> {
        (name(), description(), matches(), limits(), moving(), any::<[bool; 4]>(), any::<i32>()).prop_map(
            |(
                name,
                description,
                matches,
                limits,
                (policy, when),
                [process, allow_move, insist, enabled],
                priority,
            )| Rule {
                name,
                description,
                matches,
                when,
                policy: within(policy, &limits),
                limits,
                scope: if process { Scope::Process } else { Scope::Group },
                allow_move,
                whole_unit: insist,
                on_conflict: if insist { OnConflict::Reassert } else { OnConflict::Yield },
                priority,
                enabled,
            },
        )
    }

    prop_compose! {
        fn profiles()(
            name in name(),
            version in "[ -~]{1,9}",
            description in description(),
            vital in proptest::collection::vec(critical::tests::entry(matches()), 0..4),
            rules in proptest::collection::vec(rules(), 0..4),
            schedule in proptest::collection::vec(turns(), 0..3),
        ) -> Profile {
            let mut profile = Profile { name, version, description, critical: Vec::new(), rules: Vec::new(), schedule };
            for (index, entry) in vital.into_iter().enumerate() {
                // Each needs all before it, so that there is no circle.
                let dependencies = profile.critical.iter().map(|critical| critical.name.clone()).collect();
                let name = format!("c{index}-{}", entry.name).parse().unwrap();
                profile.critical.push(Critical { name, dependencies, ..entry });
            }
            for (index, rule) in rules.into_iter().enumerate() {
                if !profile.critical.iter().any(|critical| critical.matches == rule.matches) {
                    profile.rules.push(Rule { name: format!("r{index}-{}", rule.name).parse().unwrap(), ..rule });
                }
            }
            profile
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_written_is_read_back(profile in profiles()) {
            prop_assert_eq!(&read(to_yaml(&profile)), &profile);
            prop_assert_eq!(&read(to_json(&profile).unwrap()), &profile);
            prop_assert_eq!(to_yaml(&profile), to_yaml(&read(to_yaml(&profile))));
        }
    }

    #[test]
    fn the_text_is_what_people_would_write() {
        let text = "name: web
version: \"1.0\"
description: \"web server, with jobs\"
critical_processes:
  - name: nginx
    match: { exe: /usr/sbin/nginx, user: root }
throttling_rules:
  - name: backups
    match: { any: [{ comm: rsync }, { cmdline_regex: 'backup\\.(sh|py)' }], not: { user: root } }
    limits: { cpu: 30%, cpu_weight: 20, memory_high: 1G, pids: 50, nice: 10 }
    scope: group
    allow_move: true
    priority: 1
    enabled: true
";
        assert_eq!(to_yaml(&read(text.to_owned())), text);
    }
}
