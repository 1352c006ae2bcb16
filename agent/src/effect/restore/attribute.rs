//! The part of restoring that is done process by process and thread by thread: attributes.

use std::path::Path;

use super::{Restorer, text};
use crate::cgroup::CgroupError;
use crate::clock;
use crate::effect::attribute;
use crate::effect::kernel::EffectError;
use crate::effect::moves::{children_since, is_same};
use crate::model::attribute::Attribute;
use crate::model::id::{ProcKey, TICK_NANOS};
use crate::store::Intent;

impl Restorer<'_> {
    pub(super) fn attribute(
        &mut self,
        attribute: Attribute,
        row: &Intent,
        rows: &[Intent],
    ) -> Result<(), EffectError> {
        let (Some(process), Some(thread)) = (row.change.process, row.change.thread) else { return Ok(()) };
        let proc = &self.kernel.roots.proc;
        let same = is_same(proc, process);
        if !same.map_err(|source| CgroupError::io("read stat of a process in", proc, source))? {
            return Ok(());
        }
        if attribute.is_of_process() || attribute::is_same_thread(proc, process, thread) {
            self.back(attribute, process, thread, row, true)?;
        }
        // Threads and children without a row were born after the others were set: they inherited a value of
        // ours, and get back what the one had that they came from. That is done once, with the first row.
        let of_process =
            |other: &&Intent| other.change.kind == row.change.kind && other.change.process == Some(process);
        if rows.iter().find(of_process).is_none_or(|first| first.id != row.id) {
            return Ok(());
        }
        let all: Vec<&Intent> = rows.iter().filter(of_process).collect();
        let recorded = |key: ProcKey| {
            let of_it =
                |other: &Intent| other.change.process == Some(key) && other.change.kind == row.change.kind;
            rows.iter().any(of_it)
        };
        let mut heirs = vec![process];
        heirs.extend(descendants(proc, process, born_after(row.created), recorded));
        for heir in heirs {
            let threads =
                if attribute.is_of_process() { vec![heir] } else { attribute::threads(proc, heir.pid)? };
            for thread in threads {
                if all.iter().any(|row| row.change.thread == Some(thread)) {
                    continue;
                }
                let Some(now) = attribute::read(proc, attribute, heir, thread)? else { continue };
                if let Some(from) = all.iter().find(|row| is_ours(attribute, row, &now)) {
                    self.back(attribute, heir, thread, from, false)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a thread the value before, if it has one of ours.
    fn back(
        &mut self,
        attribute: Attribute,
        process: ProcKey,
        thread: ProcKey,
        row: &Intent,
        told: bool,
    ) -> Result<(), EffectError> {
        let proc = &self.kernel.roots.proc;
        let prior = text(&row.change.prior);
        let Some(now) = attribute::read(proc, attribute, process, thread)? else { return Ok(()) };
        if now == prior {
            return Ok(());
        }
        if is_ours(attribute, row, &now) {
            return self.put_back(attribute, process, thread, &prior);
        }
        if told {
            let of = if attribute.is_of_process() {
                format!("process {}", process.pid)
            } else {
                format!("thread {} of process {}", thread.pid, process.pid)
            };
            self.report.notes.push(format!(
                "{attribute} of {of} was set to {now} by somebody else since; left so instead of {prior}"
            ));
        }
        Ok(())
    }

    fn put_back(
        &mut self,
        attribute: Attribute,
        process: ProcKey,
        thread: ProcKey,
        prior: &str,
    ) -> Result<(), EffectError> {
        let proc = &self.kernel.roots.proc;
        match attribute::set(proc, attribute, process, thread, prior, prior) {
            Err(EffectError::SetAttribute { attribute: Attribute::CpuAffinity, source, .. })
                if source.kind() == std::io::ErrorKind::InvalidInput =>
            {
                // Its CPUs are offline, or its cpuset has lost them. The kernel itself lets such a thread run
                // wherever its cpuset permits.
                let anywhere = attribute::ANYWHERE;
                attribute::set(proc, attribute, process, thread, anywhere, anywhere)?;
                self.report.notes.push(format!(
                    "thread {} of process {} may not run on CPUs {prior} any more; it may on any now",
                    thread.pid, process.pid
                ));
                Ok(())
            }
            other => other.map(drop),
        }
    }
}

/// When a change was recorded, in ticks since boot as the starts of processes are, rounded down. The wall clock may
/// have been set since: then more or fewer children are looked at, and only those with our value are changed.
pub(crate) fn born_after(created: i64) -> u64 {
    let age = clock::unix_millis(clock::wall()).saturating_sub(created);
    let age = u64::try_from(age).unwrap_or(0).saturating_mul(1_000_000);
    (clock::now().as_nanos().saturating_sub(age) / TICK_NANOS).saturating_sub(1)
}

/// Children of a process and theirs that were born since, short of those that `known` holds, who are looked after
/// by themselves.
fn descendants(proc: &Path, process: ProcKey, since: u64, known: impl Fn(ProcKey) -> bool) -> Vec<ProcKey> {
    let mut found: Vec<ProcKey> = Vec::new();
    let mut parents = vec![process];
    while let Some(parent) = parents.pop() {
        for child in children_since(proc, parent.pid, since) {
            if !known(child) && !found.contains(&child) {
                found.push(child);
                parents.push(child);
            }
        }
    }
    found
}

fn is_ours(attribute: Attribute, row: &Intent, now: &str) -> bool {
    // Where others had put the value back before it was set anew, it was not ours.
    let superseded = row.superseded.as_ref().filter(|value| **value != row.change.prior);
    [Some(&row.change.new), superseded]
        .into_iter()
        .flatten()
        .any(|set| attribute::is_as_set(attribute, now, &text(set)))
}
