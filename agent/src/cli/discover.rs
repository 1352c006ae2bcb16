//! `discover`: processes that a pattern finds now.

use clap::Args;

use super::error::CliResult;
use super::globals::Context;
use super::processes::{self, Field, Query};
use crate::control::failure::{Failure, FailureKind};

/// Arguments of `discover`.
#[derive(Args, Debug)]
pub(super) struct Discover {
    /// Regular expression, found anywhere in the field
    pattern: String,
    /// What the pattern is compared with
    #[arg(long = "match", value_enum, value_name = "FIELD", default_value_t)]
    field: Field,
    /// The field must equal the pattern, which is then no regular expression
    #[arg(long)]
    exact: bool,
}

impl Discover {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let query = Query::new(&self.pattern, self.field, self.exact)?;
        let rows = processes::find(&processes::host(context)?, &query)?;
        if rows.is_empty() {
            let message = format!("no process matches {:?}", self.pattern);
            return Err(Failure::new(FailureKind::NotFound, message).into());
        }
        context.output.show(&rows)
    }
}
