//! `health`: whether the agent can do its work here, and what to do where it cannot.

use std::time::Duration;

use clap::Args;

use super::daemon;
use super::error::{CliError, CliResult};
use super::globals::{Context, runtime};
use super::output::View;
use super::page::{Always, Page, Wide, dash};
use crate::control::failure::FailureKind;
use crate::control::proto::{Reply, Request};
use crate::health::{Check, Inputs, Report, Status, Told};
use crate::model::plural::counted;

/// A daemon that takes longer to tell of itself is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `health`.
#[derive(Args, Debug)]
pub(super) struct Health {
    /// Ask other machines, too: whether webhook endpoints accept connections
    #[arg(long)]
    check_all: bool,
}

impl Health {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let daemon = told(context, &Request::Status)?;
        let critical = match &daemon {
            Told::This(_) => told(context, &Request::Criticals)?,
            Told::NotRunning => Told::NotRunning,
            Told::Nothing(why) => Told::Nothing(why.clone()),
        };
        let inputs = Inputs { dirs: &context.dirs, daemon, critical, all: self.check_all };
        let report = runtime()?.block_on(crate::health::check(&inputs));
        context.output.show(&report)?;
        match report.status {
            Status::Ok | Status::Warning => Ok(()),
            Status::Error => Err(CliError::Exit(FailureKind::Failed)),
        }
    }
}

/// What the daemon answers, if one runs. A daemon that does not is no failure of this command.
fn told<T: TryFrom<Reply, Error = Box<Reply>>>(context: &Context, request: &Request) -> CliResult<Told<T>> {
    // Where a service manager listens on the socket, asking would start what is only asked after.
    if daemon::sleeps(context)? {
        return Ok(Told::NotRunning);
    }
    Ok(match context.ask_quickly(request, PATIENCE)? {
        Ok(Some(answer)) => Told::This(answer),
        Ok(None) => match daemon::holder(context)? {
            Some(pid) => {
                Told::Nothing(format!("the daemon (pid {pid}) does not listen: it is starting or stopping"))
            }
            None => Told::NotRunning,
        },
        Err(error) => Told::Nothing(crate::model::chain::chain(&error)),
    })
}

impl View for Report {
    const KIND: &'static str = "Health";

    fn page(&self, page: &mut Page) {
        let columns =
            [Always("CATEGORY"), Always("CHECK"), Always("STATUS"), Always("MESSAGE"), Wide("DETAILS")];
        page.table(columns, self.checks.iter().map(row));
        let advice: Vec<&Check> = self.checks.iter().filter(|check| check.status != Status::Ok).collect();
        if advice.iter().any(|check| check.recommendation.is_some()) {
            page.gap();
        }
        for check in advice {
            let Some(words) = &check.recommendation else { continue };
            page.line(format!("{}/{}: {words}", check.category.as_str(), check.name));
            if let Some(command) = &check.command {
                page.line(format!("    {command}"));
            }
        }
        page.gap();
        let verdict = status(self.status);
        let warnings = counted(self.warnings, "warning", "warnings");
        let errors = counted(self.errors, "error", "errors");
        page.line(format!("{verdict}: {} ok, {warnings}, {errors}", self.ok));
    }
}

fn row(check: &Check) -> [String; 5] {
    let details: Vec<String> = check.details.iter().map(|(name, value)| format!("{name}={value}")).collect();
    [
        check.category.as_str().to_owned(),
        check.name.clone(),
        status(check.status).to_owned(),
        check.message.clone(),
        dash(details.join(" ")),
    ]
}

const fn status(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Error => "error",
    }
}
