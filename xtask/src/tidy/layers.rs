//! Which module of the agent may use which: data flows one way, and this table is where that is written down.

use crate::tidy::Finding;
use crate::tidy::scrub::{TEST_ONLY, lines_before_tests, scrub};

/// A module of `agent/src` and what it may and may not mention.
struct Layer {
    module: &'static str,
    /// Other modules of the agent; `module::child` allows that child only.
    may_use: &'static [&'static str],
    /// Paths, of crates or of the standard library.
    never: &'static [&'static str],
}

const PURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "tokio",
    "nix",
    "rustix",
    "aya",
    "axum",
    "hyper",
    "reqwest",
    "rusqlite",
    "tracing",
    "libc",
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
];
const READERS: &[&str] = &["aya", "axum", "hyper", "reqwest", "tokio"];

const LAYERS: [Layer; 22] = [
    Layer { module: "model", may_use: &[], never: PURE },
    // Small facilities of the operating system, unsafe ones among them.
    Layer { module: "sys", may_use: &[], never: READERS },
    Layer { module: "clock", may_use: &["model"], never: READERS },
    Layer { module: "decode", may_use: &["model"], never: PURE },
    Layer { module: "engine", may_use: &["model"], never: PURE },
    Layer { module: "alert", may_use: &["model"], never: PURE },
    // Whether this process is in a container, which decides where files are.
    Layer { module: "container", may_use: &["model"], never: READERS },
    // Secrets and what is encrypted, for the configuration and whoever signs.
    Layer { module: "sealed", may_use: &[], never: READERS },
    // Destinations are written to by threads that wait, one kind of them in the form that telemetry has.
    Layer { module: "audit", may_use: &["model", "telemetry"], never: READERS },
    // reqwest is there for its URL parser.
    Layer {
        module: "config",
        may_use: &["model", "clock", "container", "sealed"],
        never: &["aya", "axum", "hyper", "tokio"],
    },
    Layer { module: "procfs", may_use: &["model", "clock"], never: READERS },
    Layer { module: "cgroup", may_use: &["model", "clock"], never: READERS },
    Layer { module: "store", may_use: &["model", "clock"], never: READERS },
    // zbus is driven by tokio, on a thread of its own.
    Layer {
        module: "systemd",
        may_use: &["model", "clock", "cgroup"],
        never: &["aya", "axum", "hyper", "reqwest"],
    },
    // Recordings are a source too, and what they hold is the engine's input.
    Layer {
        module: "source",
        may_use: &["engine::input", "model", "clock", "decode", "procfs", "sys"],
        never: &["axum", "reqwest", "tokio"],
    },
    Layer {
        module: "effect",
        may_use: &[
            "model",
            "clock",
            "engine::action",
            "engine::input",
            "cgroup",
            "procfs",
            "store",
            "systemd",
            "sealed",
            "sys",
        ],
        never: &["aya", "axum"],
    },
    Layer {
        module: "backup",
        may_use: &["model", "clock", "config", "store", "effect::fail_point", "effect::webhook"],
        never: READERS,
    },
    // Asks for figures, and knows nothing of where they come from.
    Layer {
        module: "telemetry",
        may_use: &["model", "clock", "sealed"],
        never: &["aya", "axum", "rusqlite"],
    },
    Layer {
        module: "control",
        may_use: &["model", "clock", "engine", "telemetry"],
        never: &["aya", "rusqlite", "reqwest"],
    },
    Layer {
        module: "daemon",
        may_use: &[
            "model",
            "clock",
            "decode",
            "engine",
            "alert",
            "audit",
            "config",
            "procfs",
            "cgroup",
            "store",
            "source",
            "effect",
            "backup",
            "control",
            "telemetry",
            "sys",
        ],
        never: &[],
    },
    Layer {
        module: "health",
        may_use: &["model", "container", "config", "procfs", "cgroup", "control::proto", "effect::health"],
        never: &["aya", "axum", "hyper", "rusqlite", "tokio"],
    },
    Layer {
        module: "cli",
        may_use: &[
            "source::record",
            "audit",
            "model",
            "clock",
            "config",
            "control",
            "daemon",
            "engine",
            "procfs",
            "cgroup",
            "store",
            "effect",
            "backup",
            "health",
            "telemetry",
        ],
        never: &["aya", "rusqlite", "reqwest"],
    },
];

/// Findings of one file; none for a file outside the agent.
pub(crate) fn check(path: &str, source: &str) -> Vec<Finding> {
    let Some(inside) = path.strip_prefix("agent/src/") else { return check_shared(path, source) };
    let module = inside.split(['/', '.']).next().unwrap_or(inside);
    if matches!(module, "main" | "lib") {
        return Vec::new();
    }
    let Some(layer) = LAYERS.iter().find(|layer| layer.module == module) else {
        return vec![Finding::new(path, 0, format!("module {module} has no row in the table of layers"))];
    };
    let mut findings = Vec::new();
    for (number, line) in code_lines(source) {
        for used in agent_paths(&line) {
            if !layer.allows(&used) {
                findings.push(Finding::new(path, number, format!("{module} must not use {used}")));
            }
        }
        for never in layer.never.iter().filter(|never| mentions(&line, never)) {
            findings.push(Finding::new(path, number, format!("{module} must not mention {never}")));
        }
    }
    findings
}

/// The crate shared with the kernel side has `core` only.
fn check_shared(path: &str, source: &str) -> Vec<Finding> {
    if !path.starts_with("agent-common/src/") {
        return Vec::new();
    }
    let lines = code_lines(source);
    let breaks = lines.filter(|(_, line)| mentions(line, "std::") || mentions(line, "alloc::"));
    breaks.map(|(number, _)| Finding::new(path, number, "agent-common has the core library only")).collect()
}

impl Layer {
    fn allows(&self, used: &str) -> bool {
        let module = used.split("::").next().unwrap_or(used);
        module == self.module || self.may_use.iter().any(|allowed| *allowed == module || *allowed == used)
    }
}

/// Statements before the first test module, comments and literals blanked, each with the number of its first
/// line; a `use` over several lines is one.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, String)> {
    let code = scrub(source);
    let mut lines: Vec<(usize, String)> = Vec::new();
    let (mut open, mut test_only) = (false, false);
    for (index, line) in code.lines().take(lines_before_tests(&code)).enumerate() {
        if std::mem::replace(&mut test_only, line.trim() == TEST_ONLY) {
            continue;
        }
        match lines.last_mut().filter(|_| open) {
            Some((_, statement)) => statement.push_str(line.trim()),
            None => lines.push((index + 1, line.to_owned())),
        }
        let begins = line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ");
        open = (open || begins) && !line.contains(';');
    }
    lines.into_iter()
}

/// Paths of the agent's own modules in a statement: `crate::engine::action::Action` gives `engine::action`, a
/// group gives one for each of its members.
fn agent_paths(statement: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, prefix) in statement.match_indices("crate::") {
        let before = statement[..start].chars().next_back();
        if before.is_none_or(|c| !is_word(c)) {
            expand(&statement[start + prefix.len()..], String::new(), 2, &mut found);
        }
    }
    found
}

/// Reads a path of at most `depth` further parts, and the members of a group one by one.
fn expand(text: &str, so_far: String, depth: usize, found: &mut Vec<String>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{').filter(|_| depth > 0) {
        for member in members(group) {
            expand(member, so_far.clone(), depth, found);
        }
        return;
    }
    let word: String = text.chars().take_while(|c| is_word(*c)).collect();
    if word.is_empty() || depth == 0 {
        found.extend(Some(so_far).filter(|path| !path.is_empty()));
        return;
    }
    let rest = &text[word.len()..];
    let path = if so_far.is_empty() { word } else { format!("{so_far}::{word}") };
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest, path, depth - 1, found),
        None => found.push(path),
    }
}

/// Splits the inside of a brace group at its top-level commas.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0i32, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            '}' if depth == 0 => {
                members.push(&group[start..at]);
                return members;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    members
}

/// Whether the path occurs as whole words.
fn mentions(statement: &str, path: &str) -> bool {
    statement.match_indices(path).any(|(start, _)| {
        let before = statement[..start].chars().next_back();
        let after = statement[start + path.len()..].chars().next();
        before.is_none_or(|c| !is_word(c)) && (path.ends_with(':') || after.is_none_or(|c| !is_word(c)))
    }) || std_group_mentions(statement, path)
}

/// `use std::{fs, io}` mentions `std::fs`.
fn std_group_mentions(statement: &str, path: &str) -> bool {
    let (Some(child), Some(at)) = (path.strip_prefix("std::"), statement.find("std::{")) else {
        return false;
    };
    let first_word = |member: &str| member.trim().chars().take_while(|c| is_word(*c)).collect::<String>();
    members(&statement[at + "std::{".len()..]).into_iter().any(|member| first_word(member) == child)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, source: &str) -> Vec<String> {
        check(path, source).into_iter().map(|finding| format!("{}: {}", finding.line, finding.text)).collect()
    }

    #[test]
    fn the_engine_touches_nothing_but_the_model() {
        let source = "//! x\nuse crate::model::id::Name;\nuse crate::engine::action::Action;\nuse std::fs;\n\
                      use crate::procfs::Reader;\nuse tokio::time;\nlet m = HashMap::new();\n";
        let expected = [
            "4: engine must not mention std::fs",
            "5: engine must not use procfs::Reader",
            "6: engine must not mention tokio",
            "7: engine must not mention HashMap",
        ];
        assert_eq!(texts("agent/src/engine/rule.rs", source), expected);
    }

    #[test]
    fn groups_over_several_lines_are_seen_through() {
        let source = "use crate::{\n    model::{id, time},\n    daemon::Run,\n};\nuse std::{\n  collections,\n  env,\n};\n";
        let expected = ["1: model must not use daemon::Run", "5: model must not mention std::env"];
        assert_eq!(texts("agent/src/model/a.rs", source), expected);
    }

    #[test]
    fn a_child_may_be_allowed_alone() {
        assert!(
            texts("agent/src/effect/mod.rs", "use crate::engine::{action::What, input::Outcome};").is_empty()
        );
        assert_eq!(
            texts("agent/src/effect/mod.rs", "use crate::engine::{action::What, view::View};"),
            ["1: effect must not use engine::view"]
        );
    }

    #[test]
    fn comments_strings_longer_words_and_tests_do_not_count() {
        let source = "// std::fs and tokio\nlet a = \"std::fs\";\nlet tokio_like = stdx::fs;\n\
                      #[cfg(test)]\nuse std::env;\n#[cfg(test)]\nmod tests {\nuse std::fs;\nuse crate::daemon;\n}\n";
        assert!(texts("agent/src/engine/mod.rs", source).is_empty());
    }

    #[test]
    fn a_module_without_a_row_is_found() {
        assert_eq!(texts("agent/src/bogus.rs", ""), ["0: module bogus has no row in the table of layers"]);
        assert!(texts("agent/src/main.rs", "use process_throttler::cli;").is_empty());
    }

    #[test]
    fn the_shared_crate_has_core_only() {
        assert_eq!(texts("agent-common/src/x.rs", "use std::fmt;").len(), 1);
        assert!(texts("agent-common/src/x.rs", "use core::fmt;\n#[cfg(test)]\nuse std::fmt;").is_empty());
    }
}
