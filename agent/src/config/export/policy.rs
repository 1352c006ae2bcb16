//! Policies to text.

use super::{Tree, decimal, duration, limits_tree, text, zone};
use crate::model::policy::{Adaptive, Gradual, Latency, Policy, Schedule, Span, Target};
use crate::model::signal::Hundredths;

/// With all parameters, those that were not written included.
pub(super) fn tree(policy: &Policy) -> Tree {
    let mut map = vec![("type", text(policy.kind()))];
    match policy {
        Policy::Fixed => {}
        Policy::Gradual(Gradual { from, over_ms, interval_ms }) => map.extend([
            ("from", text(from)),
            ("over", duration(*over_ms)),
            ("interval", duration(*interval_ms)),
        ]),
        Policy::Adaptive(adaptive) => {
            let Adaptive { target, min, max, interval_ms, cooldown_ms, deadband_permille } = adaptive;
            let value = match target {
                Target::Cpu(percent) => text(percent),
                Target::PressureCpuSome(value)
                | Target::PressureMemorySome(value)
                | Target::PressureIoSome(value)
                | Target::Load1(value) => text(decimal(*value)),
            };
            map.extend([
                ("target", Tree::Map(vec![(target.key(), value)])),
                ("min", text(min)),
                ("max", text(max)),
                ("interval", duration(*interval_ms)),
                ("cooldown", duration(*cooldown_ms)),
                ("deadband", text(format!("{}%", decimal(Hundredths(deadband_permille * 10))))),
            ]);
        }
        Policy::Schedule(Schedule { windows, timezone }) => {
            let window = |Span { hours, limits }: &Span| {
                Tree::Map(vec![("hours", text(hours)), ("limits", limits_tree(limits))])
            };
            map.push(("windows", Tree::List(windows.iter().map(window).collect())));
            map.extend(zone(timezone));
        }
        Policy::Latency(Latency { weight, min, cooldown_ms }) => map.extend([
            ("weight", Tree::Integer(weight.get().into())),
            ("min", text(min)),
            ("cooldown", duration(*cooldown_ms)),
        ]),
    }
    Tree::Map(map)
}
