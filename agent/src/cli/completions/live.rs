//! Names that exist now, for completion. Whatever cannot be had is not offered: a completion reports no errors.

use std::time::Duration;

use clap::{Arg, Command, Parser as _};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::cli::globals::Context;
use crate::cli::{BINARY, Cli, offline};
use crate::config::profiles::ProfileStore;
use crate::config::webhooks::WebhookFile;
use crate::control::proto::{CriticalStatus, GroupStatus, Reply, Request};

/// How long somebody who types waits.
const PATIENCE: Duration = Duration::from_millis(500);

/// What an argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Group,
    Rule,
    Profile,
    Endpoint,
    Critical,
}

/// The command with candidates for every argument that names something of ours.
pub(super) fn with_names(command: Command) -> Command {
    add(command, "")
}

fn add(command: Command, parent: &str) -> Command {
    let name = command.get_name().to_owned();
    let new = matches!(name.as_str(), "add" | "create" | "import");
    let parent = parent.to_owned();
    let command = command.mut_args(|arg| match kind(&arg, &parent) {
        Some(kind) if !new => arg.add(ArgValueCandidates::new(move || candidates(kind))),
        Some(_) | None => arg,
    });
    command.mut_subcommands(|child| add(child, &name))
}

/// What an argument names, by the command that it is of and by its own name.
fn kind(arg: &Arg, parent: &str) -> Option<Kind> {
    let value = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
    match (value, arg.get_id().as_str(), parent) {
        (Some("GROUP"), ..) => Some(Kind::Group),
        (Some("RULE"), ..) => Some(Kind::Rule),
        (Some("PROFILE"), ..) | (_, "name" | "source" | "left" | "right", "profile") => Some(Kind::Profile),
        (_, "name", "webhook") => Some(Kind::Endpoint),
        (_, "name", "critical") => Some(Kind::Critical),
        _ => None,
    }
}

fn candidates(kind: Kind) -> Vec<CompletionCandidate> {
    let Some(context) = context() else { return Vec::new() };
    let mut names = match kind {
        Kind::Group => groups(&context).into_iter().map(|group| group.group.to_string()).collect(),
        Kind::Rule => {
            groups(&context).into_iter().filter_map(|group| Some(group.rule?.to_string())).collect()
        }
        Kind::Profile => profile_names(&context),
        Kind::Endpoint => endpoints(&context),
        Kind::Critical => {
            let found: Vec<CriticalStatus> = ask(&context, &Request::Criticals).unwrap_or_default();
            found.into_iter().map(|critical| critical.name.to_string()).collect()
        }
    };
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Directories as the environment has them; options of the line that is being typed are not known here.
fn context() -> Option<Context> {
    Cli::try_parse_from([BINARY, "-q", "version"]).ok()?.globals.resolve().ok()
}

fn ask<T: TryFrom<Reply, Error = Box<Reply>>>(context: &Context, request: &Request) -> Option<T> {
    context.ask_quickly(request, PATIENCE).ok()?.ok()?
}

fn groups(context: &Context) -> Vec<GroupStatus> {
    ask(context, &Request::Groups).or_else(|| offline::groups(context).ok()).unwrap_or_default()
}

fn profile_names(context: &Context) -> Vec<String> {
    let entries = ProfileStore::new(&context.dirs).list().unwrap_or_default();
    entries.into_iter().map(|entry| entry.name).collect()
}

fn endpoints(context: &Context) -> Vec<String> {
    let endpoints = WebhookFile::new(&context.dirs).list().unwrap_or_default();
    endpoints.into_iter().map(|endpoint| endpoint.name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(command: &Command, parent: &str, path: &str, found: &mut Vec<(String, Kind)>) {
        let of = |arg: &Arg| Some((format!("{path} {}", arg.get_id()), kind(arg, parent)?));
        found.extend(command.get_arguments().filter_map(of));
        for child in command.get_subcommands() {
            kinds(child, command.get_name(), &format!("{path} {}", child.get_name()), found);
        }
    }

    #[test]
    fn arguments_that_name_something_are_known() {
        let mut found = Vec::new();
        kinds(&crate::cli::command(), "", "", &mut found);
        for wanted in [
            (" release group", Kind::Group),
            (" release rule", Kind::Rule),
            (" run profile", Kind::Profile),
            (" profile activate name", Kind::Profile),
            (" webhook test name", Kind::Endpoint),
            (" critical restart name", Kind::Critical),
        ] {
            assert!(
                found.iter().any(|(path, kind)| (path.as_str(), *kind) == wanted),
                "{wanted:?} in {found:?}"
            );
        }
    }

    #[test]
    fn the_command_stays_sound() {
        with_names(crate::cli::command()).debug_assert();
    }
}
