//! `version`: which build this is.

use serde::Serialize;

use super::error::CliResult;
use super::globals::Context;
use super::output::View;
use super::page::Page;

/// Version of the agent.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Version {
    version: &'static str,
    /// Of the records between kernel and agent.
    abi: u32,
    target: String,
}

pub(super) fn run(context: &Context) -> CliResult {
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let abi = agent_common::abi::ABI_VERSION;
    context.output.show(&Version { version: VERSION, abi, target })
}

impl View for Version {
    const KIND: &'static str = "Version";

    fn page(&self, page: &mut Page) {
        page.line(format!("process-throttler {} (kernel ABI {}, {})", self.version, self.abi, self.target));
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    gallery.show("version", &Version { version: "0.1.0", abi: 7, target: "x86_64-linux".to_owned() });
}
