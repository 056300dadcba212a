//! Effects: each operation reads its record, applies the core's rules and writes what comes out.

use onefold_core::effect::{self, Change, Due, EffectNote, EffectNoteKind, HolderJob};
use onefold_core::{DurationMs, Effect, EffectOp, EffectResult, Event, Timestamp, rules};

use super::store::{Entry, Store};
use crate::error::{StoreError, StoreResult};
use crate::{effects, rows};

/// Effects whose time has come that one tick looks at.
const EFFECTS_PER_TICK: u32 = 512;
/// When to look again at an effect that cannot be read: it may be repaired by then.
const PASSED_OVER: DurationMs = DurationMs::from_ms(24 * 3_600_000);

impl Store<'_> {
    pub(crate) fn effects(&mut self, ops: &[EffectOp]) -> StoreResult<Vec<EffectResult>> {
        ops.iter().map(|op| self.effect_op(op)).collect()
    }

    fn effect_op(&mut self, op: &EffectOp) -> StoreResult<EffectResult> {
        let record = effects::select(&mut self.stmts.effect_select, &op.name)?;
        let mut entry = match effect::job_of(record.as_ref(), &op.action) {
            Some(id) => self.take_id(id)?,
            None => None,
        };
        let is_new = record.is_none();
        let job = entry.as_ref().map(|entry| HolderJob::from(&entry.job));
        let tokens = &mut self.tokens;
        let change = effect::apply(record, op.clone(), job, || tokens.take(), self.now);
        let Change { record, result_changed, note, job_dies, answer } =
            change.ok_or(StoreError::TokensExhausted)?;
        if let Some(record) = &record {
            self.put_effect(record, is_new || result_changed)?;
        }
        if let Some(entry) = &mut entry {
            if let Some(note) = note {
                self.note_effect(entry, &note)?;
            }
            if job_dies {
                // A job whose token is current runs, and every running job can die.
                let _ = self.change(entry, Some(Event::Died), |job, _, _, now| {
                    rules::end_indeterminate(job, op.name.key.as_str(), now)
                })?;
            }
        }
        if let Some(entry) = entry {
            self.put(entry);
        }
        Ok(answer)
    }

    fn put_effect(&mut self, effect: &Effect, whole: bool) -> StoreResult<()> {
        if whole {
            rows::write_effect(&mut self.stmts.effect_put, effect)?;
        } else {
            rows::update_effect(&mut self.stmts.effect_update, effect)?;
        }
        self.effects_due = self.effects_due.into_iter().chain(effect.due_at()).min();
        Ok(())
    }

    fn note_effect(&mut self, entry: &Entry, note: &EffectNote) -> StoreResult<()> {
        self.note_next(entry.seq(), note.kind.evidence(), Some(&note.text))?;
        if note.kind == EffectNoteKind::LateWrite
            && let Some(counts) = self.mem.counts(entry.queue)
        {
            counts.late_writes += 1;
        }
        self.emit(note.kind.event(), entry.queue, Some(&entry.job));
        Ok(())
    }

    /// Lets the next tick look when the next effect is due.
    pub(crate) fn look_at_effects(&mut self) {
        self.effects_due = Some(Timestamp::EPOCH);
    }

    /// What time does to effects that are no job's. Whether there is more to do at once.
    pub(crate) fn retire_effects(&mut self) -> StoreResult<bool> {
        if self.effects_due.is_none_or(|due| due > self.now) {
            return Ok(false);
        }
        let mut due = Vec::new();
        let mut found = self.stmts.effects_due.query((self.now.as_unix_ms(), EFFECTS_PER_TICK))?;
        while let Some(row) = found.next()? {
            match rows::listed_effect(row) {
                Err(error) if error.is_damage() => {
                    tracing::error!(%error, "an effect is passed over; `onefold doctor` tells more");
                    due.push((row.get::<_, String>(0)?, row.get::<_, String>(1)?, None));
                }
                read => {
                    let read = read?;
                    let (scope, key) = (read.scope.as_str().to_owned(), read.key.as_str().to_owned());
                    due.push((scope, key, Some(read)));
                }
            }
        }
        drop(found);
        let more = due.len() as u32 == EFFECTS_PER_TICK;
        for (scope, key, record) in due {
            match record.as_ref().map(|record| effect::come_due(record, self.now)) {
                Some(Some(Due::Remove)) => {
                    self.stmts.effect_delete.execute((scope, key))?;
                }
                Some(Some(Due::Indeterminate(record))) => self.put_effect(&record, false)?,
                Some(None) | None => {
                    let later = self.now.saturating_add(PASSED_OVER);
                    self.stmts.effect_put_off.execute((scope, key, later.as_unix_ms()))?;
                }
            }
        }
        let next: Option<i64> = self.stmts.effects_next_due.query_row([], |row| row.get(0))?;
        self.effects_due = next.map(|ms| Timestamp::from_unix_ms(ms).unwrap_or(Timestamp::EPOCH));
        Ok(more)
    }

    /// Gives the leases of standalone effects their full length again.
    pub(crate) fn renew_effect_leases(&mut self) -> StoreResult<()> {
        let mut executing = Vec::new();
        let mut found = self.stmts.effects_executing.query([])?;
        while let Some(row) = found.next()? {
            match rows::listed_effect(row) {
                // Who needs it is told.
                Err(error) if error.is_damage() => {}
                read => executing.push(read?),
            }
        }
        drop(found);
        for mut record in executing {
            if effect::renew_lease(&mut record, self.now) {
                self.put_effect(&record, false)?;
            }
        }
        self.look_at_effects();
        Ok(())
    }
}
