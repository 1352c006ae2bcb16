//! The only place that prints: data on stdout in the chosen form, messages on stderr.
//!
//! Nothing that came from a process reaches a terminal unescaped: views use `model::process::printable`, and
//! control characters that slip through are escaped here once more.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{CliResult, failed};
use super::page::Page;
use crate::control::failure::Failure;
use crate::control::proto::API_VERSION;
use crate::model::process::is_deceptive;

/// Form of the data on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For people with wide terminals.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// One JSON document per line and item.
    Jsonl,
}

/// Something that a command shows.
pub(super) trait View: Serialize {
    /// Its kind in JSON and YAML documents.
    const KIND: &'static str;

    /// Lays it out for people.
    fn page(&self, page: &mut Page);
}

/// Envelope of every document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a, T> {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// [`View::KIND`].
    pub kind: &'static str,
    /// The view.
    pub data: &'a T,
}

/// Where commands print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// Form of the data.
    pub format: Format,
    /// Whether tables have a first line of names.
    pub headers: bool,
    /// Whether messages that are no errors are kept back.
    pub quiet: bool,
}

impl Output {
    /// Shows a view in the chosen form.
    ///
    /// # Errors
    /// When it cannot be written or encoded.
    pub(super) fn show<V: View>(&self, view: &V) -> CliResult {
        self.raw(self.rendered(view)?.as_bytes())
    }

    /// A view in the chosen form, as it is printed.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(super) fn rendered<V: View>(&self, view: &V) -> CliResult<String> {
        let document = Document { api_version: API_VERSION, kind: V::KIND, data: view };
        match self.format {
            Format::Table | Format::Wide => {
                let mut page = Page::new(self.format == Format::Wide, self.headers);
                view.page(&mut page);
                Ok(page.into_text())
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(&document).map_err(|error| failed(&error))?;
                Ok(format!("{}\n", escape_json(&text)))
            }
            Format::Yaml => yaml(&document),
            Format::Jsonl => {
                let text = json(view)?;
                if text.starts_with('[') {
                    let items: Vec<&RawValue> =
                        serde_json::from_str(&text).map_err(|error| failed(&error))?;
                    Ok(items.iter().map(|item| format!("{item}\n")).collect())
                } else {
                    Ok(format!("{}\n", json(&document)?))
                }
            }
        }
    }

    /// Shows a view in place of the one before: on a cleared terminal, or as another line of JSON.
    ///
    /// # Errors
    /// As [`Self::show`].
    pub(super) fn refresh<V: View>(&self, view: &V) -> CliResult {
        if !self.streams_text() {
            let document = Document { api_version: API_VERSION, kind: V::KIND, data: view };
            return self.line(json(&document)?.as_bytes());
        }
        // ECMA-48: home, erase in page.
        self.raw(b"\x1b[H\x1b[2J")?;
        self.show(view)
    }

    /// Whether data is laid out for people.
    #[must_use]
    pub(super) const fn is_page(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Whether a stream goes to a person, who reads text, and not to a program, which gets JSON lines.
    #[must_use]
    pub(super) fn streams_text(&self) -> bool {
        self.is_page() && io::stdout().is_terminal()
    }

    /// One item of a stream.
    ///
    /// # Errors
    /// When it cannot be written or encoded.
    pub(super) fn stream_item<T: Serialize + ToString>(&self, item: &T) -> CliResult {
        let text = if self.streams_text() {
            escape_controls(&item.to_string())
        } else if self.format == Format::Yaml {
            format!("---\n{}", yaml(item)?.trim_end())
        } else {
            json(item)?
        };
        self.line(text.as_bytes())
    }

    /// A line of data as it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn line(&self, text: &[u8]) -> CliResult {
        let mut out = io::stdout().lock();
        out.write_all(text)?;
        out.write_all(b"\n")?;
        out.flush()?;
        Ok(())
    }

    /// Text made for stdout as a whole: completion scripts, exported profiles.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn raw(&self, text: &[u8]) -> CliResult {
        let mut out = io::stdout().lock();
        out.write_all(text)?;
        out.flush()?;
        Ok(())
    }

    /// Something worth saying that is no data. Never fails: a closed stderr must not fail a command.
    pub(super) fn message(&self, text: &str) {
        if !self.quiet {
            to_stderr(text);
        }
    }

    /// An error and what to do about it.
    pub(super) fn failure(failure: &Failure) {
        to_stderr(&format!("Error: {}", failure.message));
        if let Some(hint) = &failure.hint {
            to_stderr(&format!("hint: {hint}"));
        }
    }

    /// Asks a person; only a plain yes counts.
    ///
    /// # Errors
    /// When the answer cannot be read.
    pub(super) fn confirm(question: &str) -> io::Result<bool> {
        let mut err = io::stderr().lock();
        write!(err, "{} [y/N] ", escape_controls(question))?;
        err.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

fn to_stderr(text: &str) {
    let lines: Vec<String> = escape_controls(text).lines().map(abridged).collect();
    // There is nowhere to report that this failed.
    drop(writeln!(io::stderr().lock(), "{}", lines.join("\n")));
}

/// A line that nobody has to scroll for: a path or a pattern may be of any length.
fn abridged(line: &str) -> String {
    const START: usize = 1_500;
    const END: usize = 400;
    if line.len() <= START + END {
        return line.to_owned();
    }
    let (start, end) = (line.floor_char_boundary(START), line.ceil_char_boundary(line.len() - END));
    let (head, tail) = (line.get(..start).unwrap_or_default(), line.get(end..).unwrap_or_default());
    format!("{head} … {} bytes left out … {tail}", end - start)
}

fn json<T: Serialize + ?Sized>(value: &T) -> CliResult<String> {
    let text = serde_json::to_string(value).map_err(|error| failed(&error))?;
    Ok(escape_json(&text))
}

/// JSON that says the same, with escapes for what acts upon a terminal or the text around it. JSON asks for them only for
/// the first 32 characters, and all others are in strings.
fn escape_json(text: &str) -> String {
    let acts = |c: char| !c.is_ascii_whitespace() && is_deceptive(c);
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

fn yaml<T: Serialize>(value: &T) -> CliResult<String> {
    serde_yaml::to_string(value).map_err(|error| failed(&error))
}

/// Control characters but newlines as `\xNN`, and others that are not seen themselves as `\u{NNNN}`.
pub(super) fn escape_controls(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            safe.push_str(&format!("\\x{:02x}", u32::from(c)));
        } else if is_deceptive(c) && c != '\n' {
            safe.push_str(&c.escape_unicode().to_string());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_safe_on_a_terminal_and_says_the_same() {
        let hostile = "a\u{9b}31m\u{7f}\u{202e}\u{feff}\n\u{1b}[2J ü";
        let text = json(&[hostile]).unwrap();
        assert_eq!(text, "[\"a\\u009b31m\\u007f\\u202e\\ufeff\\n\\u001b[2J ü\"]");
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).unwrap(), [hostile]);
    }
}
