//! The part of restoring that is done thread by thread: nice values.

use super::{Restorer, text};
use crate::cgroup::CgroupError;
use crate::effect::kernel::EffectError;
use crate::effect::moves::is_same;
use crate::effect::nice;
use crate::model::id::ProcKey;
use crate::store::{Intent, Kind};

impl Restorer<'_> {
    pub(super) fn nice(&mut self, row: &Intent, rows: &[Intent]) -> Result<(), EffectError> {
        let (Some(process), Some(_)) = (row.change.process, row.change.thread) else { return Ok(()) };
        let proc = &self.kernel.roots.proc;
        let same = is_same(proc, process);
        if !same.map_err(|source| CgroupError::io("read stat of a process in", proc, source))? {
            return Ok(());
        }
        let recorded = |key: ProcKey| {
            rows.iter()
                .find(|other| other.change.process == Some(process) && other.change.thread == Some(key))
        };
        let first = rows
            .iter()
            .find(|other| other.change.kind == Kind::Nice && other.change.process == Some(process));
        let is_first = first.is_some_and(|first| first.id == row.id);
        for thread in nice::threads(proc, process.pid)? {
            // A thread without a row was born after the others were set: it inherited our value, and gets
            // back what its process had. That is done once, with the first row.
            let source = match recorded(thread.key) {
                Some(own) if own.id == row.id => own,
                None if is_first => row,
                Some(_) | None => continue,
            };
            let number = |bytes: &[u8]| text(bytes).parse::<i64>().ok();
            let (prior, new) = (number(&source.change.prior), number(&source.change.new));
            let superseded = source.superseded.as_deref().and_then(number);
            let Some(prior) = prior else { continue };
            if thread.nice == prior {
                continue;
            }
            if Some(thread.nice) == new || Some(thread.nice) == superseded {
                nice::set(process.pid, thread.key.pid, prior)?;
            } else {
                self.report.notes.push(format!(
                    "nice of thread {} of process {} was set to {} by somebody else since; left so instead of {prior}",
                    thread.key.pid, process.pid, thread.nice
                ));
            }
        }
        Ok(())
    }
}
