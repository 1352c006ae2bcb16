//! `man`: manual pages, from the program's own help.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man as Page;

use super::BINARY;
use super::error::{CliResult, usage};
use super::globals::Context;
use crate::control::failure::{Failure, FailureKind};

/// Arguments of `man`.
#[derive(Args, Debug)]
pub(super) struct Man {
    /// Command to tell of, such as profile activate; none for the program itself
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands into this directory, such as /usr/local/share/man/man1
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let mut root = super::command();
        // Global options reach the subcommands only when built.
        root.build();
        match &self.dir {
            Some(dir) => write_all(&root, dir, context),
            None => context.output.raw(&render(find(&root, &self.command)?)?),
        }
    }
}

fn find<'a>(root: &'a Command, path: &[String]) -> CliResult<&'a Command> {
    path.iter().try_fold(root, |command, name| {
        let unknown = || usage(format!("there is no command {:?}", path.join(" ")));
        Ok(command.find_subcommand(name).ok_or_else(unknown)?)
    })
}

fn render(command: &Command) -> CliResult<Vec<u8>> {
    let mut page = Vec::new();
    // The display name joins the commands by hyphens, as the pages of such programs are named.
    Page::new(command.clone()).title(title(command)).render(&mut page)?;
    Ok(set_ragged(&String::from_utf8_lossy(&page)).into_bytes())
}

/// Lets long alternatives be broken, and lines end where words do: the synopsis has few places for either.
fn set_ragged(page: &str) -> String {
    let mut set = String::with_capacity(page.len());
    for line in page.lines() {
        set.push_str(&line.replace(r"\fR|\fB", r"\fR|\:\fB"));
        set.push('\n');
        if line.starts_with(".TH ") {
            set.push_str(".ad l\n");
        }
    }
    set
}

fn title(command: &Command) -> String {
    command.get_display_name().unwrap_or(BINARY).to_owned()
}

fn write_all(root: &Command, dir: &Path, context: &Context) -> CliResult {
    let mut pages = Vec::new();
    collect(root, &mut pages);
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::new(FailureKind::Failed, format!("write {}: {error}", path.display()))
    };
    if !context.dry_run {
        std::fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    }
    for command in &pages {
        let path = dir.join(format!("{}.1", title(command)));
        if !context.dry_run {
            std::fs::write(&path, render(command)?).map_err(|error| failed(&path, &error))?;
        }
    }
    let verb = if context.dry_run { "would be written" } else { "written" };
    context.output.message(&format!("{} pages {verb} to {}", pages.len(), dir.display()));
    Ok(())
}

fn collect<'a>(command: &'a Command, pages: &mut Vec<&'a Command>) {
    pages.push(command);
    let shown = |child: &&Command| !child.is_hide_set() && child.get_name() != "help";
    command.get_subcommands().filter(shown).for_each(|child| collect(child, pages));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_of_its_own_name() {
        let mut root = crate::cli::command();
        root.build();
        let mut pages = Vec::new();
        collect(&root, &mut pages);
        let mut titles: Vec<String> = pages.iter().map(|command| title(command)).collect();
        assert!(titles.contains(&"process-throttler-profile-activate".to_owned()), "{titles:?}");
        for command in &pages {
            let page = String::from_utf8(render(command).unwrap()).unwrap();
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{page}");
        }
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), pages.len());
    }

    #[test]
    fn long_alternatives_can_be_broken() {
        let mut root = crate::cli::command();
        root.build();
        let release = find(&root, &["release".to_owned()]).unwrap();
        let page = String::from_utf8(render(release).unwrap()).unwrap();
        assert!(page.contains("\n.ad l\n.SH NAME"), "{page}");
        let synopsis = page.lines().find(|line| line.contains(r"\fB\-\-pid\fR|")).unwrap();
        assert!(synopsis.contains(r"|\:\fB\-\-group\fR|\:"), "{synopsis}");
    }

    #[test]
    fn unknown_commands_are_refused() {
        let mut root = crate::cli::command();
        root.build();
        assert!(find(&root, &["profile".to_owned(), "activate".to_owned()]).is_ok());
        assert!(find(&root, &["profile".to_owned(), "nonesuch".to_owned()]).is_err());
    }
}
