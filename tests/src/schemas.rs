//! Python's `jsonschema`, which is not ours, as a judge of JSON. `cargo xtask setup` installs it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::command::run;
use crate::places::Places;

/// What becomes of fields that a schema does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// They are for the schema to judge.
    Open,
    /// They are refused: a schema that lacks a field is stale, although readers may ignore such fields.
    Closed,
}

/// Has it judge bodies, each `[name of the schema, body]`, by the schemas of a directory. Returns what it printed: what
/// was refused, and in the last line how many bodies and refusals.
///
/// # Errors
/// When it cannot be run, or a schema is none.
pub fn check(schemas: &Path, check: Check, bodies: &[Value]) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/check.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(&script).arg(schemas);
    if check == Check::Closed {
        command.arg("--closed");
    }
    let mut python = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start python")?;
    let mut input = python.stdin.take().context("a pipe")?;
    let lines: String = bodies.iter().map(|body| format!("{body}\n")).collect();
    // Both pipes may be full at once.
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = python.wait_with_output().context("wait for python")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{} ended with {}: {out}{err}", script.display(), output.status);
    writer.join().map_err(|_panic| anyhow::anyhow!("the writer panicked"))?.context("write to python")?;
    Ok(out.into_owned())
}

/// Documents that the program printed, to be judged by the schemas of their kinds.
#[derive(Debug, Default)]
pub struct Documents {
    bodies: Vec<Value>,
    kinds: BTreeSet<String>,
}

impl Documents {
    /// Runs a command with `-o json` and with `-o jsonl`, which must end with this code, and keeps what it prints.
    ///
    /// # Errors
    /// When it ends with another code, or prints no document.
    pub fn read(&mut self, places: &Places, command: &[&str], code: i32) -> Result<()> {
        let kind = self.once(places, command, code)?;
        let lines = run(places, &with_form(command, "jsonl"))?.expect(code)?.json_lines()?;
        for line in lines {
            // A list comes as its items.
            let document = if line["kind"] == *kind && line.get("apiVersion").is_some() {
                line
            } else {
                json!({ "apiVersion": "v1", "kind": kind, "data": [line] })
            };
            self.bodies.push(json!([kind, document]));
        }
        Ok(())
    }

    /// Runs a command, which may change something, once, and keeps what it prints. Returns its kind.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn once(&mut self, places: &Places, command: &[&str], code: i32) -> Result<String> {
        let document = run(places, &with_form(command, "json"))?.expect(code)?.json()?;
        let kind = document["kind"].as_str().with_context(|| format!("a kind: {document}"))?.to_owned();
        self.kinds.insert(kind.clone());
        self.bodies.push(json!([kind, document]));
        Ok(kind)
    }

    /// The kinds that were printed.
    #[must_use]
    pub fn kinds(&self) -> &BTreeSet<String> {
        &self.kinds
    }

    /// Has them judged by `docs/schemas`, unnamed fields being refused.
    ///
    /// # Errors
    /// With everything that is refused.
    pub fn judge(&self) -> Result<()> {
        let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
        let printed = check(&schemas, Check::Closed, &self.bodies)?;
        ensure!(printed.trim() == format!("{} bodies, 0 refused", self.bodies.len()), "{printed}");
        Ok(())
    }
}

fn with_form<'a>(command: &[&'a str], form: &'a str) -> Vec<&'a str> {
    // Global options go before the command: what follows it may be another program's.
    [&["-o", form], command].concat()
}
