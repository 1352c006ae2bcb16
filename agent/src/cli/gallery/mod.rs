//! Every form of every view, from fixed replies: what people see is compared with `tests/snapshots/views`, what programs
//! read with `tests/snapshots/documents`, and the JSON Schemas in `docs/schemas` are made from the types that are
//! serialised. Nothing of it is in the program.

mod critical;
mod daemon;
mod groups;
mod latency;
mod schemas;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::output::{Document, Format, Output, View};
use crate::control::proto::API_VERSION;
use crate::model::id::Name;

/// Commands that print no document, and what they print instead.
pub(super) const TEXT_ONLY: [(&str, &str); 6] = [
    ("completions", "a script for a shell"),
    ("daemon run", "nothing: it logs to stderr"),
    ("man", "a manual page"),
    ("profile export", "the profile itself, as YAML or JSON"),
    ("run", "what its command prints; with `--dry-run` a [`Throttled`](Throttled.json)"),
    ("top", "a screen on a terminal"),
];

/// The views, by their kind in documents.
#[derive(Default)]
pub(super) struct Gallery {
    kinds: BTreeMap<&'static str, Kind>,
}

/// All views of one kind.
struct Kind {
    /// The command lines that show it.
    commands: BTreeSet<String>,
    /// What people see.
    pages: String,
    /// What programs read.
    texts: String,
    generator: SchemaGenerator,
    /// Schemas of the data: one for each type.
    data: Vec<Schema>,
    documents: Vec<Value>,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            commands: BTreeSet::new(),
            pages: String::new(),
            texts: String::new(),
            generator: SchemaSettings::draft2020_12().for_serialize().into_generator(),
            data: Vec::new(),
            documents: Vec::new(),
        }
    }
}

impl Gallery {
    /// All of them.
    fn filled() -> Self {
        let mut gallery = Self::default();
        groups::fill(&mut gallery);
        latency::fill(&mut gallery);
        daemon::fill(&mut gallery);
        critical::fill(&mut gallery);
        webhooks::fill(&mut gallery);
        super::audit::samples(&mut gallery);
        super::backup::samples(&mut gallery);
        super::daemon::samples(&mut gallery);
        super::metrics::samples(&mut gallery);
        super::profile::samples(&mut gallery);
        super::record::samples(&mut gallery);
        super::replay::samples(&mut gallery);
        super::state::samples(&mut gallery);
        super::validate::samples(&mut gallery);
        super::version::samples(&mut gallery);
        super::webhook::samples(&mut gallery);
        gallery
    }

    /// Takes in what a command line shows.
    pub(super) fn show<V: View + JsonSchema>(&mut self, command: &str, view: &V) {
        let kind = self.kinds.entry(V::KIND).or_default();
        kind.commands.insert(command.to_owned());
        let schema = kind.generator.subschema_for::<V>();
        if !kind.data.contains(&schema) {
            kind.data.push(schema);
        }
        let document = Document { api_version: API_VERSION, kind: V::KIND, data: view };
        kind.documents.push(serde_json::to_value(&document).unwrap());
        let text = |format| stable(&Output { format, headers: true, quiet: false }.rendered(view).unwrap());
        let (table, wide) = (text(Format::Table), text(Format::Wide));
        kind.pages.push_str(&format!("$ process-throttler {command}\n{table}\n"));
        if wide != table {
            kind.pages.push_str(&format!("$ process-throttler -o wide {command}\n{wide}\n"));
        }
        for (form, format) in [("json", Format::Json), ("yaml", Format::Yaml), ("jsonl", Format::Jsonl)] {
            kind.texts.push_str(&format!("$ process-throttler -o {form} {command}\n{}\n", text(format)));
        }
    }

    /// As [`Self::show`], of a reply as it comes over the control socket.
    fn reply<V: View + JsonSchema + DeserializeOwned>(&mut self, command: &str, data: Value) {
        let view: V = serde_json::from_value(data).unwrap();
        self.show(command, &view);
    }

    /// The paths of commands that show something, such as `profile list`.
    fn commands(&self) -> BTreeMap<String, BTreeSet<&'static str>> {
        let leaves = leaves();
        let mut commands: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
        for (kind, shown) in &self.kinds {
            for line in &shown.commands {
                let leaf = leaves.iter().find(|leaf| {
                    line.strip_prefix(leaf.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                });
                let leaf = leaf.unwrap_or_else(|| panic!("{line}: no such command"));
                let words = std::iter::once(OsString::from(super::BINARY)).chain(words(line));
                if let Err(error) = super::complaint::parse(&words.collect::<Vec<_>>()) {
                    panic!("{line}: nobody could type that: {error}");
                }
                commands.entry(leaf.clone()).or_default().insert(kind);
            }
        }
        commands
    }
}

/// The words of a command line, as a shell would part them: by spaces outside of single quotes.
fn words(line: &str) -> Vec<OsString> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(OsString::from).collect(),
        _ => vec![OsString::from(part)],
    });
    words.collect()
}

/// The text without moments that are of this boot and not of the samples: when a process started.
fn stable(text: &str) -> String {
    let moment =
        regex::Regex::new(r"\b(\d{4}-\d\d-\d\d)([ T])\d\d:\d\d:\d\d(?:\.\d+)?(Z|\+\d\d:\d\d)").unwrap();
    let replaced = moment.replace_all(text, |found: &regex::Captures<'_>| {
        if &found[1] == "2025-03-01" {
            found[0].to_owned()
        } else {
            format!("2025-01-01{}00:00:00.000{}", &found[2], &found[3])
        }
    });
    replaced.into_owned()
}

/// A moment of the samples.
pub(super) fn moment(text: &str) -> jiff::Timestamp {
    format!("2025-03-01T{text}Z").parse().unwrap()
}

/// A name.
pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The paths of all commands that do something themselves, in the order of the help.
fn leaves() -> Vec<String> {
    fn collect(command: &clap::Command, path: &str, leaves: &mut Vec<String>) {
        for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
            let path = format!("{path}{}", child.get_name());
            if child.has_subcommands() {
                collect(child, &format!("{path} "), leaves);
            } else {
                leaves.push(path);
            }
        }
    }
    let mut leaves = Vec::new();
    collect(&super::command(), "", &mut leaves);
    leaves
}

/// A file of the workspace.
fn in_workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Compares a directory of generated files, which has no others with that ending, with what they should be; writes
/// them with `UPDATE_REFERENCE`.
fn compare(dir: &str, ending: &str, files: &BTreeMap<String, String>) {
    let dir = in_workspace(dir);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }
    let mut stale = Vec::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(ending) && !files.contains_key(&name) {
            stale.push(format!("{name} is of no use any more"));
        }
    }
    for (name, text) in files {
        let written = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        if written != *text {
            stale.push(format!("{name} should be:\n{text}"));
        }
    }
    let dir = dir.display();
    assert!(
        stale.is_empty(),
        "{dir}: run this test with UPDATE_REFERENCE=1 if that is meant: {}",
        stale.join("\n")
    );
}

mod tests {
    use super::*;

    /// Set `UPDATE_REFERENCE` to write the files anew.
    #[test]
    fn reference_is_current() {
        let kinds = Gallery::filled().kinds;
        let (mut pages, mut texts) = (BTreeMap::new(), BTreeMap::new());
        for (kind, shown) in kinds {
            let all = [&shown.pages, &shown.texts];
            assert!(all.iter().all(|text| !text.contains(|c: char| c.is_control() && c != '\n')), "{kind}");
            assert!(all.iter().all(|text| !text.contains("token=secret")), "{kind} shows a secret");
            pages.insert(format!("{kind}.txt"), format!("{}\n", shown.pages.trim_end()));
            texts.insert(format!("{kind}.txt"), format!("{}\n", shown.texts.trim_end()));
        }
        compare("tests/snapshots/views", ".txt", &pages);
        compare("tests/snapshots/documents", ".txt", &texts);
    }

    #[test]
    fn every_command_has_a_sample_or_prints_no_document() {
        let mut shown: BTreeSet<String> = Gallery::filled().commands().into_keys().collect();
        shown.extend(TEXT_ONLY.map(|(command, _)| command.to_owned()));
        assert_eq!(shown, leaves().into_iter().collect());
    }

    /// A view that is not in here has no schema either.
    #[test]
    fn every_view_has_a_sample() {
        const MARK: &str = "const KIND: &'static str = \"";
        fn scan(dir: &Path, kinds: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    scan(&path, kinds);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let found = text.lines().filter_map(|line| line.trim_start().strip_prefix(MARK));
                kinds.extend(found.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
        let mut written = BTreeSet::new();
        scan(&in_workspace("agent/src"), &mut written);
        let kinds: BTreeSet<String> = Gallery::filled().kinds.into_keys().map(str::to_owned).collect();
        assert_eq!(written, kinds);
    }
}
