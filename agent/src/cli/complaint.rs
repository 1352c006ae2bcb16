//! Command lines that cannot be meant. What is said about them repeats what was typed, so nothing that could disturb a
//! terminal, and nothing of any length, gets into it.

use std::ffi::{OsStr, OsString};

use clap::{CommandFactory as _, Parser as _};

use super::output::escape_controls;
use super::{BINARY, Cli};
use crate::control::failure::{Failure, FailureKind};

/// Characters of a word that are repeated.
const WORD: usize = 200;

/// Reads a command line.
///
/// # Errors
/// What clap says of it, as if it had been typed in a form that can be shown. Help and version are such errors, too.
pub(super) fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let error = match Cli::try_parse_from(words) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    let shown: Vec<OsString> = words.iter().map(|word| presentable(word)).collect();
    if shown == words {
        return Err(error);
    }
    match Cli::try_parse_from(shown) {
        Err(again) if again.kind() == error.kind() => Err(again),
        Ok(_) | Err(_) => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let line = presentable(OsStr::new(&line)).to_string_lossy().into_owned();
            Err(Cli::command().error(error.kind(), line))
        }
    }
}

/// A word without control characters, and cut.
fn presentable(word: &OsStr) -> OsString {
    let text = escape_controls(&word.to_string_lossy()).replace('\n', "\\x0a");
    match text.char_indices().nth(WORD) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

/// A failure of a command with this command line, with a way on where nothing better is known: wrong usage leads to the
/// help, and what is not there to the list of what is.
pub(super) fn advised(failure: Failure, words: &[OsString]) -> Failure {
    if failure.hint.is_some() {
        return failure;
    }
    let matches = Cli::command().try_get_matches_from(words);
    let mut path = Vec::new();
    let mut at = matches.as_ref().ok();
    while let Some((name, inner)) = at.and_then(clap::ArgMatches::subcommand) {
        path.push(name);
        at = Some(inner);
    }
    let hint = match failure.kind {
        FailureKind::Usage => Some(format!("{BINARY} {} --help tells more", path.join(" "))),
        // What is missing is a file, and no profile.
        FailureKind::NotFound if path == ["profile", "import"] => {
            Some("name a file that is there, or - for stdin".to_owned())
        }
        FailureKind::NotFound => listing(path.first().copied().unwrap_or_default())
            .map(|command| format!("{BINARY} {command} shows what there is")),
        FailureKind::Failed
        | FailureKind::NotRunning
        | FailureKind::Denied
        | FailureKind::Invalid
        | FailureKind::Conflict
        | FailureKind::Partial => None,
    };
    Failure { hint, ..failure }
}

/// The command that lists what a command is about.
fn listing(command: &str) -> Option<&'static str> {
    Some(match command {
        "discover" | "throttle" | "explain" => "list",
        "status" | "release" => "status",
        "critical" => "critical list",
        "dynamic" => "dynamic list",
        "profile" | "validate" => "profile list",
        "webhook" => "webhook list",
        "backup" => "backup list",
        _ => return None,
    })
}
