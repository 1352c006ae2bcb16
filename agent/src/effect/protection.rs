//! Protection of critical processes, by the same records and with the same exactness as limits: attributes are
//! set, read back and restored thread by thread. It never moves a process and never limits one.

use std::collections::BTreeSet;

use crate::clock;
use crate::effect::attribute;
use crate::effect::kernel::EffectError;
use crate::effect::plan::{Candidate, Plan};
use crate::effect::restore::born_after;
use crate::effect::task::Keep;
use crate::effect::throttle::Shared;
use crate::engine::action::Apply;
use crate::engine::input::Outcome;
use crate::model::attribute::Attribute;
use crate::model::id::ProcKey;
use crate::model::limits::{Limits, Scope};
use crate::model::reason::Reason;
use crate::model::time::Timestamp;
use crate::store::StoreError;

impl Shared {
    /// Gives a process what its protection states.
    pub(super) fn protect(&self, keep: &Keep) -> Result<Outcome, EffectError> {
        let Keep { group, key, critical, protection } = keep;
        // Critical processes are spared from limits, not from protection; the others that are never touched are.
        let nobody = BTreeSet::new();
        let process = match self.kernel.guard.verify(*key, &nobody) {
            Ok(process) => process,
            Err(why) => {
                return Ok(Outcome::Applied {
                    how: "not at all".to_owned(),
                    members: Vec::new(),
                    refused: vec![(*key, why.to_string())],
                    borrowed: false,
                    at: clock::now(),
                });
            }
        };
        let before = self.group(group);
        let apply = Apply {
            group: group.clone(),
            limits: Limits::default(),
            scope: Scope::Group,
            allow_move: false,
            whole_unit: false,
            in_place: false,
            sharers: Vec::new(),
            rewrite: false,
            members: vec![*key],
            reason: Reason::Protected { why: format!("critical process {critical}") },
            caused_at: Timestamp::ZERO,
        };
        let plan = Plan {
            accepted: vec![Candidate { process, origins: Vec::new() }],
            refused: Vec::new(),
            settings: Vec::new(),
            places: Vec::new(),
            // What an earlier profile stated and this one does not goes.
            write: before.is_some(),
            undecided: false,
            demands: protection.demands(),
            notes: Vec::new(),
            verified: None,
        };
        self.bring_in(&apply, plan, before, &nobody)
    }

    /// Gives a process back what it would have, had it not been born of a protected one. Recorded nowhere: it is
    /// final, and doing it again changes nothing.
    pub(super) fn disinherit(&self, key: ProcKey, from: ProcKey) -> Result<Outcome, EffectError> {
        let proc = &self.kernel.roots.proc;
        if self.kernel.guard.verify(key, &BTreeSet::new()).is_err() {
            return Ok(Outcome::Released);
        }
        for attribute in Attribute::ALL {
            let (given, own) = self.store().read(|tables| {
                let given = tables.recorded(attribute, from)?;
                Ok::<_, StoreError>((given, tables.recorded(attribute, key)?))
            })?;
            // Of what is on record of it by itself, it is known what was inherited.
            if given.first().is_none_or(|row| key.start < born_after(row.created)) || !own.is_empty() {
                continue;
            }
            let threads =
                if attribute.is_of_process() { vec![key] } else { attribute::threads(proc, key.pid)? };
            for thread in threads {
                let Some(now) = attribute::read(proc, attribute, key, thread)? else { continue };
                let inherited = given.iter().find(|row| attribute::is_as_set(attribute, &now, &row.new));
                let Some(row) = inherited.filter(|row| row.prior != now) else { continue };
                attribute::set(proc, attribute, key, thread, &row.prior, &row.prior)?;
            }
        }
        Ok(Outcome::Released)
    }
}
