//! What is fuzzed: one function per reader of bytes that others wrote. `cargo xtask fuzz` drives them with inputs that
//! libFuzzer makes up, and the tests of the agent with the inputs kept in `fuzz/corpus`.
//!
//! A target panics when a promise is broken. Whatever it writes goes to a directory of its own, which is removed with it.

mod backup;
mod config;
mod kernel;
mod machine;
mod outside;
mod served;
mod text;
mod told;

use std::path::Path;

use tempfile::TempDir;

/// Takes one input after the other.
pub(crate) type Run = Box<dyn FnMut(&[u8])>;

/// Something that reads what others wrote.
pub(crate) struct Target {
    /// Its name, and that of the directory of its inputs.
    pub(crate) name: &'static str,
    /// Sets up what it needs.
    pub(crate) begin: fn() -> Run,
}

/// All of them.
pub(crate) const TARGETS: [Target; 18] = [
    Target { name: "record", begin: kernel::record },
    Target { name: "btf", begin: kernel::btf },
    Target { name: "proc", begin: machine::proc },
    Target { name: "cgroup", begin: machine::cgroup },
    Target { name: "settings", begin: config::settings },
    Target { name: "webhooks", begin: config::webhooks },
    Target { name: "profile", begin: config::profile },
    Target { name: "predecessor", begin: config::predecessor },
    Target { name: "revise", begin: config::revise },
    Target { name: "calendar", begin: config::calendar },
    Target { name: "recording", begin: told::recording },
    Target { name: "reply", begin: told::reply },
    Target { name: "audit", begin: told::audit },
    Target { name: "backup", begin: backup::backup },
    Target { name: "address", begin: outside::address },
    Target { name: "answer", begin: outside::answer },
    Target { name: "control", begin: served::control },
    Target { name: "metrics", begin: served::metrics },
];

/// A directory for one target, in memory where that is possible.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

/// Bytes as text, where every byte has to mean something.
fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
