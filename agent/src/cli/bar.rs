//! Progress of long work, on a terminal only.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use super::globals::Context;

/// A bar on stderr; nothing off a terminal. Gone when dropped.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Of so many bytes.
    pub(super) fn bytes(context: &Context, what: &'static str, total: u64) -> Self {
        Self::new(context, what, total, "{msg} {wide_bar} {bytes}/{total_bytes}")
    }

    /// Of so many things.
    pub(super) fn count(context: &Context, what: &'static str, total: u64) -> Self {
        Self::new(context, what, total, "{msg} {wide_bar} {pos}/{len}")
    }

    fn new(context: &Context, what: &'static str, total: u64, template: &str) -> Self {
        if context.output.quiet || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_unknown_key| ProgressStyle::default_bar());
        Self(Some(ProgressBar::new(total).with_message(what).with_style(style)))
    }

    /// So much more is done.
    pub(super) fn advance(&self, by: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(by);
        }
    }

    /// So much is done.
    pub(super) fn reach(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
