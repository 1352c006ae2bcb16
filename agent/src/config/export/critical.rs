//! Critical processes to text.

use std::time::Duration;

use super::{Tree, matching, size, text};
use crate::model::critical::{Critical, Expect, HealthCheck, Probe, Program, Protection, Restart, RestartBy};
use crate::model::unit::{CpuPercent, Weight};

type Map = Vec<(&'static str, Tree)>;

/// An entry of the list.
pub(super) fn tree(critical: &Critical) -> Tree {
    let Critical { name, matches, protection, restart, health, dependencies, expect, latency_slo } = critical;
    let mut map = vec![("name", text(name)), ("match", matching(matches))];
    map.extend(protection_pairs(protection));
    if let Some(restart) = restart {
        map.push(("restart_policy", text(restart.policy.as_str())));
        map.push(("restart", restart_tree(restart)));
    }
    if let Some(health) = health {
        map.push(("health_check", health_tree(health)));
    }
    if let Some(Expect { min_instances, start_within }) = *expect {
        let instances = Tree::Integer(min_instances.into());
        let expect = vec![("min_instances", instances), ("start_within", duration(start_within))];
        map.push(("expect", Tree::Map(expect)));
    }
    if let Some(slo) = latency_slo {
        let slo = vec![("run_queue_p99", duration(slo.run_queue_p99())), ("for", duration(slo.lasting()))];
        map.push(("latency_slo", Tree::Map(slo)));
    }
    if !dependencies.is_empty() {
        map.push(("dependencies", Tree::List(dependencies.iter().map(text).collect())));
    }
    Tree::Map(map)
}

/// The level, and all values that it and what overrides it come to.
fn protection_pairs(protection: &Protection) -> impl Iterator<Item = (&'static str, Tree)> {
    let Protection { level, oom_score_adj, nice, cpu_weight, io_weight, memory_low, reserved_cpu } =
        protection;
    let weight = |weight: Weight| Tree::Integer(weight.get().into());
    let reserved = [
        ("cpu_percent", reserved_cpu.map(|reserved| percent(reserved.percent))),
        ("memory", memory_low.map(size)),
    ];
    let reserved: Map =
        reserved.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect();
    let pairs = [
        ("protection_level", level.map(|level| text(level.as_str()))),
        ("oom_score_adj", oom_score_adj.map(|score| Tree::Integer(score.get().into()))),
        ("nice", nice.map(|nice| Tree::Integer(nice.get().into()))),
        ("cpu_weight", cpu_weight.map(weight)),
        ("io_weight", io_weight.map(weight)),
        ("reserve", (!reserved.is_empty()).then_some(Tree::Map(reserved))),
    ];
    pairs.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)))
}

/// A number of percent where it is whole, and else a text.
fn percent(percent: CpuPercent) -> Tree {
    match i64::try_from(percent.millis()) {
        Ok(millis) if millis % 1_000 == 0 => Tree::Integer(millis / 1_000),
        Ok(_) | Err(_) => text(percent),
    }
}

fn restart_tree(restart: &Restart) -> Tree {
    let Restart { policy: _, by, backoff, backoff_max, most, per } = restart;
    let mut map = match by {
        RestartBy::Unit(unit) => vec![("unit", text(unit))],
        RestartBy::Command(program) => program_tree(program),
    };
    map.extend([
        ("backoff", duration(*backoff)),
        ("backoff_max", duration(*backoff_max)),
        ("max", Tree::Integer((*most).into())),
        ("per", duration(*per)),
    ]);
    Tree::Map(map)
}

fn health_tree(check: &HealthCheck) -> Tree {
    let HealthCheck { probe, interval, timeout, retries, restart } = check;
    let mut map = match probe {
        Probe::Port { target } => vec![("type", text("port")), ("target", text(target))],
        Probe::Http { target } => vec![("type", text("http")), ("target", text(target))],
        Probe::Command { program } => {
            let mut map = vec![("type", text("command"))];
            map.extend(program_tree(program));
            map
        }
        Probe::File { target, max_age } => {
            let mut map = vec![("type", text("file")), ("target", text(target))];
            map.extend(max_age.map(|age| ("max_age", duration(age))));
            map
        }
    };
    map.extend([
        ("interval", duration(*interval)),
        ("timeout", duration(*timeout)),
        ("retries", Tree::Integer((*retries).into())),
    ]);
    if *restart {
        map.push(("restart", Tree::Bool(true)));
    }
    Tree::Map(map)
}

fn program_tree(program: &Program) -> Map {
    let Program { command, user, group, cwd, env } = program;
    let mut map = vec![("command", Tree::List(command.iter().map(text).collect())), ("user", text(user))];
    map.extend(group.as_ref().map(|group| ("group", text(group))));
    map.extend(cwd.as_ref().map(|cwd| ("cwd", text(cwd))));
    if !env.is_empty() {
        let pairs = env.iter().map(|(key, value)| text(format!("{key}={value}")));
        map.push(("env", Tree::List(pairs.collect())));
    }
    map
}

fn duration(duration: Duration) -> Tree {
    text(humantime::format_duration(duration))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;
    use crate::model::attribute::OomScoreAdj;
    use crate::model::critical::{Level, RestartPolicy};
    use crate::model::latency::LatencySlo;
    use crate::model::reservation::ReservedCpu;
    use crate::model::rule::Match;
    use crate::model::unit::{Bytes, Nice};

    /// An entry without dependencies, which only a whole profile can have.
    pub(in crate::config::export) fn entry(
        matches: impl Strategy<Value = Match>,
    ) -> impl Strategy<Value = Critical> {
        (matches, protections(), of(restart()), of(health()), of(expect()), of(latency_slo())).prop_map(
            |(matches, protection, restart, health, expect, latency_slo)| {
                let protection = if matches.is_forgeable() { Protection::NONE } else { protection };
                let restart = restart.filter(|_| !matches.is_forgeable());
                let latency_slo = latency_slo.filter(|_| !matches.is_forgeable());
                let by_unit = restart.as_ref().is_some_and(|restart| {
                    restart.policy != RestartPolicy::Never && matches!(restart.by, RestartBy::Unit(_))
                });
                let health = health
                    .map(|check: HealthCheck| HealthCheck { restart: check.restart && by_unit, ..check });
                Critical {
                    protection,
                    restart,
                    health,
                    expect,
                    latency_slo,
                    ..Critical::new("x".parse().unwrap(), matches)
                }
            },
        )
    }

    fn protections() -> impl Strategy<Value = Protection> {
        let level =
            of(proptest::sample::select(vec![Level::Low, Level::Medium, Level::High, Level::Maximum]));
        let oom = of((-1000..=0i64).prop_map(|score| OomScoreAdj::new(score).unwrap()));
        let nice = of((-20..=0i64).prop_map(|nice| Nice::new(nice).unwrap()));
        let weight = || of((100..=10_000u64).prop_map(|weight| Weight::new(weight).unwrap()));
        let memory = of((4_096..=(1u64 << 40)).prop_map(|bytes| Bytes::new(bytes).unwrap()));
        let percent = of((1_000..=1_000_000u64).prop_map(|millis| CpuPercent::from_millis(millis).unwrap()));
        (level, oom, nice, weight(), weight(), memory, percent).prop_map(
            |(level, oom_score_adj, nice, cpu_weight, io_weight, memory_low, percent)| {
                // A level states both.
                let level = level.filter(|_| oom_score_adj.is_some() && nice.is_some());
                // Of a machine that has just as many CPUs as it takes.
                let on = |percent: CpuPercent| {
                    let cpus = u32::try_from(percent.millis().div_ceil(100_000)).unwrap();
                    ReservedCpu::on(cpus, percent).unwrap()
                };
                let reserved_cpu = percent.map(on).filter(|_| cpu_weight.is_none());
                Protection { level, oom_score_adj, nice, cpu_weight, io_weight, memory_low, reserved_cpu }
            },
        )
    }

    fn latency_slo() -> impl Strategy<Value = LatencySlo> {
        (100_u64..=10_000_000, 100_u64..=3_600_000)
            .prop_map(|(run_queue_p99_us, for_ms)| LatencySlo { run_queue_p99_us, for_ms })
    }

    fn expect() -> impl Strategy<Value = Expect> {
        (1_u32..=1_000, 1_000_u64..=86_400_000).prop_map(|(min_instances, millis)| Expect {
            min_instances,
            start_within: Duration::from_millis(millis),
        })
    }

    fn restart() -> impl Strategy<Value = Restart> {
        let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
        let by = prop_oneof![
            "[a-zA-Z0-9:_.\\\\-]{1,12}\\.service".prop_map(RestartBy::Unit),
            program().prop_map(RestartBy::Command),
        ];
        (proptest::sample::select(policies.to_vec()), by, 100..3_600_000u64, 0..9_999u64, 1..=100u32)
            .prop_map(|(policy, by, backoff, more, most)| Restart {
                policy,
                by,
                backoff: Duration::from_millis(backoff),
                backoff_max: Duration::from_millis(backoff + more),
                most,
                per: Duration::from_millis(1_000 + more),
            })
    }

    fn health() -> impl Strategy<Value = HealthCheck> {
        let age = of((1..9_999_999u64).prop_map(Duration::from_secs));
        let probe = prop_oneof![
            "([a-z0-9.]{1,9}|\\[::1\\]):[1-9][0-9]{0,3}".prop_map(|target| Probe::Port { target }),
            "https?://[a-z]{1,9}(:81)?/[a-z0-9?=]{0,9}".prop_map(|target| Probe::Http { target }),
            program().prop_map(|program| Probe::Command { program }),
            ("/[ -~]{0,12}", age).prop_map(|(target, max_age)| Probe::File { target, max_age }),
        ];
        (probe, 1_000..86_400_000u64, 100..1_000u64, 1..=100u32, any::<bool>()).prop_map(
            |(probe, interval, timeout, retries, restart)| HealthCheck {
                probe,
                interval: Duration::from_millis(interval),
                timeout: Duration::from_millis(timeout),
                retries,
                restart,
            },
        )
    }

    fn program() -> impl Strategy<Value = Program> {
        let words = proptest::collection::vec("[ -~äß]{0,12}", 0..4);
        let env = proptest::collection::btree_map("[A-Z_][A-Z0-9_]{0,5}", "[ -~]{0,9}", 0..3);
        ("/[ -~]{1,12}", words, any::<[bool; 2]>(), env).prop_map(|(path, words, [group, cwd], env)| {
            Program {
                command: std::iter::once(path).chain(words).collect(),
                user: "root".to_owned(),
                group: group.then(|| "adm".to_owned()),
                cwd: cwd.then(|| "/var/lib/a b".to_owned()),
                env: env.into_iter().collect(),
            }
        })
    }
}
