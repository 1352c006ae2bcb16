//! Profiles and the store against every kind of bad input: each error at its place, and nothing changed.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::error::{Findings, Severity};
use super::file::Source;
use super::host::Host;
use super::paths::Dirs;
use super::profile;
use super::profiles::{Draft, Format, ProfileStore, StoreError};
use crate::model::rule::{Match, Pattern, Profile};

fn host() -> Host {
    Host {
        cpus: Some(2),
        online: || "0-1".parse().ok(),
        memory: Some(1 << 30),
        user: |name| match name {
            "root" => Ok(Some(0)),
            "broken" => Err(std::io::Error::other("directory service is down")),
            _ => Ok(None),
        },
        group: |name| Ok((name == "adm").then_some(4)),
        program: |_| None,
    }
}

fn parse(text: &str) -> (Option<Profile>, Findings) {
    let source = Source::new("/etc/p/web.yaml".into(), text.to_owned());
    profile::parse(&source, Some("web"), &host())
}

/// `line:column key: message` of each finding.
fn shown(findings: &Findings) -> Vec<String> {
    findings.iter().map(|f| format!("{}:{} {}: {}", f.line, f.column, f.key, f.message)).collect()
}

/// The findings of a profile whose rule has this match and these limits; line 5 and line 6.
fn rule(matches: &str, limits: &str) -> (Option<Profile>, Findings) {
    parse(&format!(
        "name: web\n\nthrottling_rules:\n  - name: r\n    match: {matches}\n    limits: {limits}\n"
    ))
}

#[test]
fn the_contracts_example_is_understood() {
    let text = include_str!("../../../packaging/profiles/production-web.yaml");
    let source = Source::new("/p/production-web.yaml".into(), text.to_owned());
    let (profile, findings) = profile::parse(&source, Some("production-web"), &host());
    let profile = profile.unwrap_or_else(|| panic!("{findings}"));
    assert_eq!(profile.critical[0].name.as_str(), "nginx");
    let comm = |text: &str| Match::Comm(Pattern::Exact(text.to_owned()));
    let Match::All(conditions) = &profile.rules[0].matches else { panic!("{:?}", profile.rules[0]) };
    let any = Match::Any(vec![comm("rsync"), Match::CmdlineRegex(r"backup\.(sh|py)".to_owned())]);
    assert_eq!(conditions[0], any);
    assert!(matches!(&conditions[1], Match::Not(_)));
    assert!(profile.rules[0].allow_move && profile.rules[0].enabled);
}

#[test]
fn every_shipped_profile_is_valid() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/profiles");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // On a machine large enough for any of their limits.
        let host = Host { cpus: None, memory: None, ..host() };
        let (profile, findings) = profile::parse(&Source::new(path, text), Some(&stem), &host);
        assert!(profile.is_some() && findings.is_empty(), "{findings}");
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn one_pass_finds_every_error() {
    let (profile, findings) = parse(
        "name: Web
version: 1.0
throttling_rules:
  - name: a
    match: { com: rsync }
    limits: { cpu: 30 }
    scop: group
  - name: a
    match: { user: 0 }
    limits: {}
    scope: shared
    enabled: yes
    priority: 99999999999
  - match: { pid: 0 }
  - 12
schedule: []
version: \"2\"
critical_processes: {}
",
    );
    assert!(profile.is_none());
    assert_eq!(
        shown(&findings),
        [
            "1:7 name: name \"Web\" must match [a-z0-9][a-z0-9._-]{0,63}",
            "2:10 version: expected a text, found a number with a fraction",
            "5:14 throttling_rules[0].match.com: unknown key \"com\"",
            "6:20 throttling_rules[0].limits.cpu: 30 has no unit",
            "7:5 throttling_rules[0].scop: unknown key \"scop\"",
            "8:11 throttling_rules[1].name: the name \"a\" is taken at 4:11",
            "9:20 throttling_rules[1].match.user: user takes a name, not the number 0",
            "10:13 throttling_rules[1].limits: limits are empty: the rule would do nothing",
            "11:12 throttling_rules[1].scope: \"shared\" is not one of group, process",
            "12:14 throttling_rules[1].enabled: expected true or false, found a text",
            "13:15 throttling_rules[1].priority: 99999999999 is not a priority from -2147483648 to 2147483647",
            "14:5 throttling_rules[2]: key \"name\" is missing",
            "14:5 throttling_rules[2]: key \"limits\" is missing",
            "14:19 throttling_rules[2].match.pid: 0 is not a pid from 1 to 4194304",
            "15:5 throttling_rules[3]: expected a map of keys, found an integer",
            "17:1 version: duplicate key \"version\", first at 2:1",
            "18:21 critical_processes: expected a list, found a map",
        ]
    );
    let fixes: Vec<_> = findings.iter().filter_map(|finding| finding.fix.as_deref()).collect();
    assert!(fixes.contains(&"did you mean comm?") && fixes.contains(&"write 30%, in percent of one CPU"));
    assert!(fixes.contains(&"write uid: 0") && fixes.contains(&"did you mean scope?"));
    let first = findings.iter().next().unwrap().to_string();
    assert!(first.starts_with("/etc/p/web.yaml:1:7: error: name: "), "{first}");
    assert!(first.contains("\n  name: Web\n        ^\n  fix: "), "{first}");
}

#[test]
fn malformed_files_are_refused_at_their_place() {
    for (text, place, message) in [
        ("", (1, 1), "the file is empty"),
        ("# only a comment\n", (1, 1), "the file is empty"),
        ("just text\n", (1, 1), "expected a map of keys, found a text"),
        ("[1, 2]\n", (1, 1), "expected a map of keys, found a list"),
        ("name: web\nname: web\n", (2, 1), "duplicate key \"name\", first at 1:1"),
        ("name: web\nrules: []\n", (2, 1), "unknown key \"rules\""),
        ("name: web\n1: x\n", (2, 1), "a key must be a text, not an integer"),
        ("name: other\n", (1, 7), "the profile is named \"other\", but its file \"web\""),
        ("name: ../web\n", (1, 7), "name \"../web\" must match"),
        ("name: \"we b\"\n", (1, 7), "name \"we b\" must match"),
        ("name: \"web\\n\"\n", (1, 7), "name \"web\\n\" must match"),
        ("name: \"web\\0\"\n", (1, 7), "contains a NUL character"),
        ("name: [web\n", (1, 7), "unclosed bracket"),
        ("name: web\nversion: \"1\\n2\"\n", (2, 10), "contains control characters"),
        ("name: web\nversion: \"\"\n", (2, 10), "the version is empty"),
        // As the library that looks for it quotes it.
        (
            "name: web\nthrottling_rules:\n  - name: x\n    match: { comm: x }\n    limits: { nice: 5 }\n    \
             when: { hours: \"01:00-02:00\", timezone: \"a\\tb\" }\n",
            (6, 45),
            "there is no time zone \"a\\tb\": failed to find time zone `a\u{fffd}b`",
        ),
        ("name: web\ndescription: \"\\e[31m\"\n", (2, 14), "contains control characters"),
        ("name: web\nextends: base\n", (2, 10), "unknown profile \"base\""),
    ] {
        let (profile, findings) = parse(text);
        let finding = findings.iter().next().unwrap_or_else(|| panic!("{text:?}"));
        assert!(profile.is_none() && findings.errors() == 1, "{findings}");
        assert_eq!((finding.line, finding.column), place, "{finding}");
        assert!(finding.message.starts_with(message), "{finding}");
    }
}

#[test]
fn no_damage_to_a_file_is_worse_than_an_error() {
    let whole = include_str!("../../../packaging/profiles/production-web.yaml");
    let mut refused = 0;
    for at in (0..whole.len()).filter(|at| whole.is_char_boundary(*at)).step_by(3) {
        let (head, tail) = whole.split_at(at);
        for text in
            [head.to_owned(), format!("{head}{{{tail}"), format!("{head}\n{tail}"), format!("{head}:{tail}")]
        {
            let (profile, findings) = parse(&text);
            assert_eq!(profile.is_none(), findings.has_errors(), "{findings}\n{text}");
            refused += usize::from(profile.is_none());
        }
    }
    assert!(refused > whole.len() / 3, "the name alone refuses them all, unless it is damaged");
    // As bad as a megabyte can be: bounded in findings, and in time by their cheapness.
    let hostile = format!("name: web\nthrottling_rules:\n{}", "- {a: 1, b: 2}\n".repeat(12_000));
    assert!(parse(&hostile).1.has_errors());
    let (_, findings) = parse(&format!("name: web\nthrottling_rules:\n{}", "- {a: 1, b: 2}\n".repeat(1_000)));
    assert!(findings.errors() > 2_000 && findings.iter().count() == Findings::MAX);
}

#[test]
fn bad_matches_are_refused_at_their_place() {
    for (matches, column, message) in [
        ("{}", 12, "the match is empty"),
        ("rsync", 12, "expected a map"),
        ("{ comm: rsync-very-long-name }", 20, "\"rsync-very-long-name\" has 20 bytes"),
        ("{ comm: { prefix: rsync-very-long-name } }", 30, "\"rsync-very-long-name\" has 20 bytes"),
        ("{ comm: '' }", 20, "is empty"),
        ("{ comm: { prefix: '' } }", 30, "is empty"),
        ("{ comm: \"a\\0b\" }", 20, "contains a NUL"),
        ("{ comm: { exact: a, prefix: b } }", 20, "expected exactly one of"),
        ("{ comm: {} }", 20, "expected exactly one of"),
        ("{ comm: 12 }", 20, "expected a text, found an integer"),
        ("{ exe: nginx }", 19, "\"nginx\" is not an absolute path"),
        ("{ exe: { glob: 'a[' } }", 27, "the glob is malformed: unclosed character class"),
        ("{ cmdline_regex: '(' }", 29, "the regular expression does not compile: unclosed group"),
        ("{ cmdline_regex: '(?=x)' }", 29, "the regular expression does not compile: look-around"),
        ("{ comm: { regex: 'a)|(b' } }", 29, "the regular expression does not compile: unopened group"),
        ("{ comm: { regex: '(?x) a # b' } }", 29, "the regular expression does not compile"),
        (
            "{ cmdline_regex: 'x{1000}{1000}{1000}' }",
            29,
            "the regular expression does not compile: Compiled regex exceeds",
        ),
        ("{ user: nobody-here }", 20, "there is no user \"nobody-here\""),
        ("{ user: broken }", 20, "looking up user \"broken\" failed"),
        ("{ user: '0' }", 20, "user takes a name, not the number 0"),
        ("{ group: 4 }", 21, "group takes a name, not the number 4"),
        ("{ uid: -1 }", 19, "-1 is not a uid"),
        ("{ uid: 4294967295 }", 19, "4294967295 is not a uid"),
        ("{ uid: root }", 19, "expected a uid from 0 to 4294967294, found a text"),
        ("{ cgroup: user.slice }", 22, "cgroup paths start with"),
        ("{ any: [] }", 19, "the list is empty"),
        ("{ any: [ {} ] }", 21, "the match is empty"),
        ("{ not: { parent: { comm: '' } } }", 37, "is empty"),
        ("{ unit: nginx.service }", 14, "\"unit\" is not supported by this version yet"),
        ("{ container: web }", 14, "\"container\" is not supported by this version yet"),
        ("{ comm: a, comm: b }", 23, "duplicate key \"comm\", first at 5:14"),
    ] {
        let (profile, findings) = rule(matches, "{ cpu: 30% }");
        let finding = findings.iter().next().unwrap_or_else(|| panic!("{matches} is accepted"));
        assert!(profile.is_none() && findings.errors() == 1, "{findings}");
        assert_eq!((finding.line, finding.column), (5, column), "{finding}");
        assert!(finding.message.starts_with(message), "{finding}");
    }
}

#[test]
fn bad_limits_are_refused_at_their_place() {
    for (limits, column, message) in [
        ("{ cpu: 0% }", 20, "\"0%\" is not a CPU limit"),
        ("{ cpu: -5% }", 20, "\"-5%\" is not a CPU limit"),
        ("{ cpu: 0.5% }", 20, "\"0.5%\" is not a CPU limit"),
        ("{ cpu: 99999999999999999999% }", 20, "\"99999999999999999999%\" is not a CPU limit"),
        ("{ cpu: ~ }", 20, "expected a text, found nothing"),
        ("{ cpu_weight: 0 }", 27, "0 is not a weight"),
        ("{ cpu_weight: 10001 }", 27, "10001 is not a weight"),
        ("{ cpu_weight: heavy }", 27, "expected a weight"),
        ("{ memory_max: 0 }", 27, "\"0\" is not a size"),
        ("{ memory_max: -1 }", 27, "\"-1\" is not a size"),
        ("{ memory_max: 4095 }", 27, "\"4095\" is not a size"),
        ("{ memory_max: 99999999999GB }", 27, "\"99999999999GB\" is not a size"),
        ("{ memory_max: 340282366920938463463374607431768211455 }", 27, ""),
        ("{ memory_max: 1.5 }", 27, "expected a text"),
        ("{ memory_high: 2M, memory_max: 1M }", 28, "memory_high 2M is above memory_max 1M"),
        ("{ pids: 0 }", 21, "0 is not a number of tasks"),
        ("{ pids: 4194305 }", 21, "4194305 is not a number of tasks"),
        ("{ nice: 20 }", 21, "20 is not a nice value"),
        ("{ nice: -21 }", 21, "-21 is not a nice value"),
        ("{ sched: fifo }", 22, "\"fifo\" is not one of batch, idle"),
        ("{ io_class: realtime }", 25, "\"realtime\" is not one of best-effort, idle"),
        ("{ io_priority: 8 }", 28, "8 is not an I/O priority from 0 to 7"),
        ("{ io_class: idle, io_priority: 3 }", 44, "there are no priorities within the idle I/O class"),
        ("{ cpu_affinity: 0-x }", 29, "\"0-x\" is not a list of CPUs"),
        ("{ cpu_affinity: 7 }", 29, "none of the CPUs 7 is online"),
        ("{ oom_score_adj: 1001 }", 30, "1001 is not an OOM score adjustment"),
        ("{ io_read: 1 }", 24, "\"1\" is not a size"),
        ("{ io_weight: [] }", 26, "expected a weight"),
        ("{ memory: 1G }", 15, "unknown key \"memory\""),
        ("30%", 13, "expected a map of keys, found a text"),
        ("", 11, "expected a map of keys, found nothing"),
    ] {
        let (profile, findings) = rule("{ comm: a }", limits);
        let finding = findings.iter().next().unwrap_or_else(|| panic!("{limits} is accepted"));
        assert!(profile.is_none() && findings.errors() == 1, "{findings}");
        assert_eq!((finding.line, finding.column), (6, column), "{finding}");
        assert!(finding.message.starts_with(message), "{finding}");
    }
}

#[test]
fn a_level_states_values_that_keys_of_their_own_override() {
    let text =
        |keys: &str| format!("name: web\ncritical_processes:\n  - name: c\n    match: {{ exe: /c }}\n{keys}");
    for (keys, shown) in [
        ("", ""),
        ("    protection_level: maximum\n", "maximum: oom_score_adj=-900 nice=-10"),
        ("    protection_level: low\n    nice: -7\n", "low: oom_score_adj=-100 nice=-7"),
        ("    oom_score_adj: -50\n", "oom_score_adj=-50"),
    ] {
        let (profile, findings) = parse(&text(keys));
        assert_eq!(findings.iter().count(), 0, "{findings}");
        assert_eq!(profile.unwrap().critical[0].protection.to_string(), shown);
    }
    for (keys, at, message) in [
        ("    protection_level: most\n", (5, 23), "\"most\" is not one of maximum, high, medium, low"),
        ("    oom_score_adj: 1\n", (5, 20), "1 is not an OOM score adjustment that protects"),
        ("    nice: 1\n", (5, 11), "1 is not a nice value that protects"),
    ] {
        let (profile, findings) = parse(&text(keys));
        let finding = findings.iter().next().unwrap();
        assert!(profile.is_none() && finding.message.starts_with(message), "{finding}");
        assert_eq!((finding.line, finding.column), at, "{finding}");
    }
    let (profile, findings) = parse(&text("    oom_score_adj: -1000\n"));
    assert!(profile.is_some() && findings.to_string().contains("panics"), "{findings}");
    let forged = "name: web\ncritical_processes:\n  - name: c\n    match: { comm: c }\n    nice: -1\n";
    let (profile, findings) = parse(forged);
    assert!(profile.is_none() && findings.to_string().contains("would be protected by it"), "{findings}");
}

#[test]
fn a_policy_and_its_default_are_told_apart() {
    let fixed = "name: web\nthrottling_rules:\n  - name: r\n    match: { comm: r }\n    limits: { nice: 1 }\n    policy: { type: fixed }\n";
    assert!(parse(fixed).0.is_some());
}

/// One rule whose last line is this, at line 6.
fn moving(line: &str) -> (Option<Profile>, Findings) {
    parse(&format!(
        "name: web\nthrottling_rules:\n  - name: r\n    match: {{ comm: r }}\n    priority: 1\n    {line}\n"
    ))
}

#[test]
fn bad_policies_and_conditions_are_refused_at_their_place() {
    for (line, column, message) in [
        ("policy: { type: gradual }", 5, "key \"limits\" is missing"),
        ("policy: { type: latency, objective: 5ms }", 30, "unknown key \"objective\""),
        (
            "policy: { type: latency, weight: 101 }",
            38,
            "101 is not a weight at which a group gives way, 1 to 100",
        ),
        (
            "policy: { type: latency, weight: 0 }",
            38,
            "0 is not a weight at which a group gives way, 1 to 100",
        ),
        ("policy: { type: latency, min: 0.5% }", 35, "\"0.5%\" is not a CPU limit from 1%"),
        ("policy: { type: latency, cooldown: 10ms }", 40, "10ms is not between 1s and 1h"),
        (
            "policy: { type: linear }",
            21,
            "\"linear\" is not one of fixed, gradual, adaptive, schedule, latency",
        ),
        ("policy: { over: 5m }", 13, "key \"type\" is missing"),
        ("policy: gradual", 13, "expected a map of keys"),
        ("policy: { type: adaptive }", 13, "key \"target\" is missing"),
        ("policy: { type: adaptive, target: {} }", 39, "expected exactly one target"),
        ("policy: { type: adaptive, target: { load5: 3 } }", 41, "unknown key \"load5\""),
        ("policy: { type: adaptive, target: { cpu: 40 } }", 46, "40 has no unit"),
        ("policy: { type: adaptive, target: { load1: -1 } }", 48, "\"-1\" is no number up to 100000"),
        (
            "policy: { type: adaptive, target: { pressure_io_some: 101 } }",
            59,
            "\"101\" is no number up to 100",
        ),
        ("policy: { type: adaptive, target: { cpu: 40% }, min: 60% }", 39, "target 40% is not within 60%"),
        (
            "policy: { type: adaptive, target: { cpu: 40% }, min: 50%, max: 20% }",
            58,
            "min 50% is above max 20%",
        ),
        (
            "policy: { type: adaptive, target: { cpu: 40% }, interval: 5s, cooldown: 2s }",
            77,
            "2s is not between 5s and 1h",
        ),
        ("policy: { type: adaptive, target: { cpu: 40% }, deadband: 90% }", 63, "\"90%\" is no share"),
        ("policy: { type: adaptive, target: { cpu: 40% }, over: 5m }", 53, "unknown key \"over\""),
        ("policy: { type: schedule, windows: [] }", 13, "0 windows are not from 1 to 32"),
        (
            "policy: { type: schedule, windows: [{ hours: '9-17', limits: { cpu: 30% } }] }",
            50,
            "\"9-17\" are no hours",
        ),
        (
            "policy: { type: schedule, windows: [{ hours: Sat, limits: {} }] }",
            13,
            "there is no limit in any window",
        ),
        (
            "policy: { type: schedule, timezone: Moon, windows: [{ hours: Sat, limits: { nice: 1 } }] }",
            41,
            "there is no time zone \"Moon\"",
        ),
    ] {
        let (profile, findings) = moving(line);
        assert!(profile.is_none(), "{line} is accepted");
        let found = findings.iter().find(|finding| finding.message.starts_with(message));
        let finding = found.unwrap_or_else(|| panic!("{line}: {findings}"));
        let place = if message.starts_with("key \"limits\"") { (3, column) } else { (6, column) };
        assert_eq!((finding.line, finding.column), place, "{finding}");
    }
    for (line, column, message) in [
        ("limits: { nice: 1 }, policy: x", 24, ""),
        (
            "limits: { cpu: 30% }\n    policy: { type: gradual, over: 0s }",
            36,
            "0s is not between 1s and 7days",
        ),
        (
            "limits: { cpu: 30% }\n    policy: { type: gradual, over: 5s, interval: 9s }",
            50,
            "the interval is longer",
        ),
        ("limits: { nice: 1 }\n    policy: { type: gradual }", 13, "gradual has no end"),
        ("limits: { nice: 1 }\n    when: {}", 11, "there is no condition"),
        ("limits: { nice: 1 }\n    when: { load1: 4 }", 20, "expected a text"),
        ("limits: { nice: 1 }\n    when: { load1: '4' }", 20, "\"4\" is no condition on a number"),
        ("limits: { nice: 1 }\n    when: { load1: '> -4' }", 20, "\"> -4\" is no condition"),
        ("limits: { nice: 1 }\n    when: { pressure_cpu_full_avg10: '> 4' }", 13, "unknown key"),
        (
            "limits: { nice: 1 }\n    when: { pressure_cpu_some_avg10: '> 101' }",
            38,
            "\"> 101\" is no condition",
        ),
        (
            "limits: { nice: 1 }\n    when: { load1: { above: 4, until: 5 } }",
            20,
            "it could not hold and cease to",
        ),
        (
            "limits: { nice: 1 }\n    when: { load1: { above: 4, below: 5 } }",
            20,
            "expected exactly one of above",
        ),
        ("limits: { nice: 1 }\n    when: { hours: 'Mo 09:00-17:00' }", 20, "\"Mo 09:00-17:00\" are no hours"),
        ("limits: { nice: 1 }\n    when: { load1: '> 4', cooldown: 0s }", 37, "0s is not between 1s and 1h"),
    ] {
        let (profile, findings) = moving(line);
        assert!(profile.is_none(), "{line} is accepted");
        if !message.is_empty() {
            let finding = findings.iter().next().unwrap_or_else(|| panic!("{line}"));
            assert!(finding.message.starts_with(message), "{findings}");
            assert_eq!((finding.line, finding.column), (7, column), "{finding}");
        }
    }
}

#[test]
fn schedules_name_profiles_that_exist() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("night.yaml"), "").unwrap();
    let parse = |text: &str| {
        let source = Source::new(dir.path().join("web.yaml"), text.to_owned());
        profile::parse(&source, Some("web"), &host())
    };
    let text = "name: web\nschedule:\n  - { cron: \"0 22 * * *\", profile: night }\n";
    let (found, findings) = parse(text);
    assert_eq!(found.unwrap().schedule[0].profile.as_str(), "night", "{findings}");
    let bad = "name: web\nschedule:\n  - { cron: \"0 25 * * *\", profile: nigth }\n  - { profile: night }\n";
    let (found, findings) = parse(bad);
    assert!(found.is_none());
    let told: Vec<_> = findings.iter().map(|one| (one.line, one.column, one.message.clone())).collect();
    assert_eq!((told[0].0, told[0].1), (3, 13));
    assert!(told[0].2.starts_with("\"0 25 * * *\" is no cron expression"), "{findings}");
    assert_eq!((told[1].0, told[1].1), (3, 36));
    assert!(told[1].2.starts_with("unknown profile \"nigth\""), "{findings}");
    assert_eq!((told[2].0, told[2].2.as_str()), (4, "key \"cron\" is missing"));
}

#[test]
fn a_critical_match_that_can_be_forged_is_warned_about() {
    let critical = |matches: &str| {
        let (profile, findings) =
            parse(&format!("name: web\ncritical_processes:\n  - {{ name: a, match: {matches} }}\n"));
        assert!(profile.is_some(), "{matches}: {findings}");
        findings
    };
    for matches in
        ["{ comm: a }", "{ cmdline_regex: abc }", "{ comm: a, cmdline_regex: abc }", "{ parent: a }"]
    {
        let findings = critical(matches);
        let finding = findings.iter().next().unwrap_or_else(|| panic!("{matches} is not warned about"));
        assert_eq!((findings.warnings(), finding.line, finding.column), (1, 3, 23), "{findings}");
        assert!(finding.message.starts_with("critical for alerts only"), "{finding}");
        assert_eq!(finding.fix.as_deref(), Some("add exe, user or uid to the match"));
    }
    for matches in ["{ exe: /usr/bin/a }", "{ comm: a, uid: 0 }", "{ cmdline_regex: abc, user: root }"] {
        assert!(critical(matches).is_empty(), "{matches}");
    }
    // What is critical for alerts only may be limited: here the same match is no contradiction.
    let (profile, findings) = parse(
        "name: web
critical_processes:
  - { name: a, match: { comm: a } }
throttling_rules:
  - { name: x, match: { comm: a }, limits: { cpu: 10% } }
",
    );
    assert!(profile.is_some() && findings.warnings() == 1, "{findings}");
}

#[test]
fn contradictions_and_absurdities() {
    let (profile, findings) = parse(
        "name: web
critical_processes:
  - { name: a, match: { comm: a, uid: 0 } }
throttling_rules:
  - { name: x, match: { uid: 0, comm: a }, limits: { cpu: 10% } }
",
    );
    assert!(profile.is_none());
    assert_eq!(
        shown(&findings),
        [
            "5:23 throttling_rules[0].match: the same match makes a critical at line 3: the rule would never apply"
        ]
    );

    let (profile, findings) = parse(
        "name: web
throttling_rules:
  - { name: x, match: { comm: a }, limits: { cpu: 300%, memory_max: 2G } }
  - { name: y, match: { comm: a }, limits: { cpu: 200% } }
  - { name: z, match: { not: { uid: 0 } }, limits: { memory_high: 1G } }
  - { name: w, match: { comm: { regex: '.*' } }, limits: { nice: 1 } }
  - { name: v, match: { cmdline_regex: 'x*' }, limits: { nice: 1 } }
  - { name: u, match: { comm: { glob: '*' } }, limits: { nice: 1 } }
",
    );
    assert!(profile.is_some(), "warnings do not refuse: {findings}");
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning));
    let places: Vec<_> = findings.iter().map(|f| (f.line, f.column)).collect();
    assert_eq!(places, [(3, 51), (3, 69), (4, 23), (5, 23), (6, 40), (7, 40), (8, 39)], "{findings}");

    let (profile, findings) = parse("name: web\n");
    assert!(profile.is_some());
    assert_eq!(findings.warnings(), 1);
}

#[test]
fn rules_that_stand_in_each_others_way() {
    let text = "name: web
critical_processes:
  - { name: db, match: { exe: /usr/bin/db, uid: 0 } }
  - { name: alert, match: { comm: a } }
throttling_rules:
  - { name: late, match: { comm: a, uid: 5 }, limits: { nice: 1 }, priority: 2 }
  - { name: wide, match: { any: [{ comm: a }, { comm: b }] }, limits: { nice: 1 } }
  - { name: db, match: { exe: { prefix: /usr/ } }, limits: { nice: 1 }, when: { load1: '> 3' } }
  - { name: inner, match: { exe: /usr/bin/db, uid: 0, comm: c }, limits: { nice: 1 } }
  - { name: off, match: { uid: 0 }, limits: { nice: 1 }, enabled: false }
  - { name: free, match: { exe: /usr/bin/x }, limits: { nice: 1 } }
";
    let (profile, findings) = parse(text);
    assert!(profile.is_some());
    let told: Vec<_> =
        shown(&findings).into_iter().filter(|line| line.contains("throttling_rules")).collect();
    assert_eq!(
        told,
        [
            "6:26 throttling_rules[0].match: rule wide at line 7 comes first and matches all of this: the rule never applies",
            "8:24 throttling_rules[2].match: matches the critical process db at line 3, too, which is left alone",
            "9:27 throttling_rules[3].match: every process of this match is critical as db at line 3: the rule would never apply",
        ]
    );
    // A rule that does not always hold leaves its processes to the others.
    let sometimes = text.replace(
        "limits: { nice: 1 } }\n  - { name: db",
        "limits: { nice: 1 }, when: { load1: '> 3' } }\n  - { name: db",
    );
    let (_, findings) = parse(&sometimes);
    assert!(!findings.to_string().contains("comes first"), "{findings}");
}

#[test]
fn defaults_and_shorthands() {
    let (profile, findings) = rule("{ parent: sshd, user: root }", "{ memory_max: 65536 }");
    let profile = profile.unwrap_or_else(|| panic!("{findings}"));
    assert_eq!((profile.version.as_str(), profile.description.as_str()), ("1.0", ""));
    let rule = &profile.rules[0];
    assert_eq!((rule.priority, rule.enabled, rule.allow_move), (0, true, false));
    // In the order of the grammar, whichever order they were written in.
    let user = Match::User { name: "root".to_owned(), uid: 0 };
    let parent = Match::Parent(Box::new(Match::Comm(Pattern::Exact("sshd".to_owned()))));
    assert_eq!(rule.matches, Match::All(vec![user, parent]));
}

struct Store {
    dir: tempfile::TempDir,
    store: ProfileStore,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_owned();
        let dirs = Dirs { config: at.join("etc"), ..Dirs::all_at(&at) };
        Self { store: ProfileStore::new(&dirs), dir }
    }

    /// A file outside the store.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file in the store.
    fn put(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let dir = self.dir.path().join("etc/profiles");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(name), content).unwrap();
    }

    /// Names and contents of everything in the store.
    fn contents(&self) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("etc/profiles")) else { return Vec::new() };
        let mut all: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
            .collect();
        all.sort();
        all
    }
}

const WEB: &str = "# kept\nname: web\nthrottling_rules:\n  - name: r\n    match: { comm: r } # and this\n    limits: { nice: 1 }\n";

#[test]
fn one_malformed_file_hides_no_other() {
    let store = Store::new();
    assert!(store.store.list().unwrap().is_empty(), "no directory, no profiles");
    store.put("web.yaml", WEB);
    store.put("broken.yaml", "name: [\n");
    store.put("binary.yaml", b"\x7fELF\0\0");
    store.put("large.yaml", vec![b'#'; 10 << 20]);
    store.put("old.yml", "name: old\n");
    store.put("Upper.yaml", "name: upper\n");
    store.put(std::ffi::OsStr::from_bytes(b"\xff.yaml"), "name: x\n");
    store.put(".web.yaml.tmp", "half");
    store.put("README", "text");
    std::fs::create_dir(store.dir.path().join("etc/profiles/dir.yaml")).unwrap();
    let entries = store.store.list().unwrap();
    let listed: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.profile.is_some())).collect();
    assert_eq!(
        listed,
        [
            ("Upper", false),
            ("binary", false),
            ("broken", false),
            ("dir", false),
            ("large", false),
            ("old", false),
            ("web", true),
            ("\u{fffd}", false),
        ]
    );
    assert!(entries.iter().all(|entry| entry.profile.is_some() != entry.findings.has_errors()));
}

#[test]
fn loading_says_what_is_wrong() {
    let store = Store::new();
    store.put("web.yaml", WEB);
    store.put("other.yaml", WEB);
    assert_eq!(store.store.load(&"web".parse().unwrap()).unwrap().0.rules.len(), 1);
    let error = store.store.load(&"wbe".parse().unwrap()).unwrap_err();
    assert!(matches!(&error, StoreError::NotFound { near: Some(near), .. } if near == "web"), "{error}");
    let StoreError::Invalid(findings) = store.store.load(&"other".parse().unwrap()).unwrap_err() else {
        panic!()
    };
    assert_eq!(shown(&findings), ["2:7 name: the profile is named \"web\", but its file \"other\""]);
    if rustix::process::geteuid().is_root() {
        let path = store.dir.path().join("etc/profiles/web.yaml");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let StoreError::Invalid(findings) = store.store.load(&"web".parse().unwrap()).unwrap_err() else {
            panic!()
        };
        assert!(findings.to_string().contains("mode 0666 makes it writable by others"), "{findings}");
        let (profile, findings) = profile::validate_profile_file(&path, &[]);
        assert!(profile.is_some() && findings.warnings() == 1, "{findings}");
    }
}

/// Reads a file from anywhere as a profile of the store.
fn import(store: &Store, path: &Path) -> Result<Draft, StoreError> {
    store.store.draft(super::file::read::read(path, super::file::Trust::Anyone)?, None)
}

#[test]
fn import_and_export_are_inverse() {
    let store = Store::new();
    let yaml = store.file("in.yaml", WEB);
    let imported = import(&store, &yaml).unwrap();
    assert!(store.contents().is_empty(), "a draft writes nothing");
    let name = "web".parse().unwrap();
    let path = store.store.swap(&name, None, Some(&imported.text)).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), WEB, "comments are kept");
    assert_eq!(store.store.export(&name, Format::Yaml).unwrap(), WEB);

    let before = store.contents();
    assert!(matches!(store.store.swap(&name, None, Some("x")), Err(StoreError::Exists { .. })));
    assert!(matches!(store.store.swap(&name, Some("other"), None), Err(StoreError::Write(_))));
    assert_eq!(store.contents(), before);

    let json = store.file("in.json", store.store.export(&name, Format::Json).unwrap());
    let again = import(&store, &json).unwrap();
    assert_eq!(again.profile, imported.profile);
    assert!(again.text.starts_with("name: web\n"), "JSON becomes YAML");
    let source = super::file::read::read(&yaml, super::file::Trust::Anyone).unwrap();
    let other = store.store.draft(source, Some(&"other".parse().unwrap())).unwrap();
    assert_eq!(other.text, WEB.replacen("name: web", "name: other", 1), "a name is replaced in place");
    store.store.swap(&name, Some(WEB), None).unwrap();
    assert!(matches!(store.store.load(&name), Err(StoreError::NotFound { .. })));
}

#[test]
fn who_needs_a_profile_is_known() {
    let store = Store::new();
    store.put("base.yaml", "name: base\nthrottling_rules: []\n");
    store.put("child.yaml", "name: child\nextends: base\n");
    store.put("office.yaml", "name: office\nschedule: [{ cron: \"0 9 * * *\", profile: base }]\n");
    store.put("broken.yaml", "extends: [\n");
    let names = store.store.dependents(&"base".parse().unwrap()).unwrap();
    assert_eq!(names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["child", "office"]);
    assert!(store.store.dependents(&"child".parse().unwrap()).unwrap().is_empty());
}

#[test]
fn a_refused_import_changes_nothing() {
    let store = Store::new();
    store.put("web.yaml", WEB);
    let before = store.contents();
    let bad: [&[u8]; 9] = [
        b"",
        b"name: web\nname: web\n",
        b"name: web\nunknown: 1\n",
        b"name: ../../escape\n",
        b"name: web\nthrottling_rules: [{ name: a, match: { cmdline_regex: '(' }, limits: { cpu: 0% } }]\n",
        b"\xff\xfe\x00",
        b"name: web\nd: &a [*a]\n",
        b"name: web\nauthor: me\nthrottling_rules: [{ name: x, matcher: { pattern: '(' }, limits: { pids_limit: 1 } }]\n",
        &[b'x'; 2 << 20],
    ];
    for content in bad {
        let file = store.file("bad.yaml", content);
        let error = import(&store, &file).unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_) | StoreError::Read(_)), "{error}");
        assert!(error.to_string().contains("bad.yaml"), "{error}");
        assert_eq!(store.contents(), before);
    }
}

#[test]
fn the_predecessors_files_are_imported_with_notes() {
    let store = Store::new();
    let file = store.file(
        "old.yaml",
        "name: Old One\nauthor: me\nthrottling_rules:\n  - name: tars\n    matcher: { pattern: tar, match_type: name }\n    limits: { cpu_quota: 50000, cpu_period: 100000 }\n    enabled: true\n",
    );
    let imported = import(&store, &file).unwrap();
    assert_eq!(imported.profile.name.as_str(), "old-one");
    assert!(imported.notes.iter().any(|note| note.key == "author" && !note.carried));
    let name = "old-one".parse().unwrap();
    store.store.swap(&name, None, Some(&imported.text)).unwrap();
    assert_eq!(store.store.load(&name).unwrap().0, imported.profile);
}
