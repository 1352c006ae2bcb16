//! `critical restart`.

use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::Page;
use crate::control::feature;
use crate::control::proto::{CriticalRestart, CriticalRestarted, Request};
use crate::model::id::Name;

/// Asks on a terminal, because whoever uses the process will notice. What speaks against it is told before.
pub(super) fn run(context: &Context, name: Name) -> CliResult {
    let ask = |dry_run| {
        let request = CriticalRestart { name: name.clone(), dry_run };
        context.ask::<CriticalRestarted>(feature::CRITICAL, &Request::CriticalRestart(request))
    };
    let would = ask(true)?;
    if context.dry_run {
        return context.output.show(&would);
    }
    context.confirm(&format!("Restart critical process {name}?"))?;
    context.output.show(&ask(false)?)
}

impl View for CriticalRestarted {
    const KIND: &'static str = "CriticalRestarted";

    fn page(&self, page: &mut Page) {
        page.line(format!("critical process {}: {}", self.name, self.how));
    }
}
