//! `docs/cli.md`, generated from the command line itself.

use clap::Command;

use super::BINARY;

const HEAD: &str = "\
# Command line

Generated from the program's own help; do not edit. `stdout` carries data, `stderr` messages.
";

/// The reference of every command, as Markdown.
#[must_use]
pub(super) fn reference() -> String {
    let mut text = HEAD.to_owned();
    for (path, help) in pages() {
        text.push_str(&format!("\n## {path}\n\n```text\n{help}```\n"));
    }
    text
}

/// Every visible command with its long help, parents first.
fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    // Global options reach the subcommands only when built. A fixed width, whatever terminal this runs in.
    let mut root = super::command().term_width(100);
    root.build();
    collect(&root, BINARY, &mut pages);
    pages
}

fn collect(command: &Command, path: &str, pages: &mut Vec<(String, String)>) {
    let help = command.clone().bin_name(path).render_long_help().to_string();
    let lines: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    pages.push((path.to_owned(), lines));
    for child in command.get_subcommands().filter(|child| !child.is_hide_set() && child.get_name() != "help")
    {
        collect(child, &format!("{path} {}", child.get_name()), pages);
    }
}
