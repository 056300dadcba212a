//! Effects in the reference engine: a map, and what the core's rules make of it.

use crate::effect::{self, Change, Due, HolderJob};
use crate::rules;
use crate::{
    Effect, EffectName, EffectOp, EffectPage, EffectResult, EngineError, EngineResult, Event,
    IllegalTransition, JobId, ListEffects, Timestamp,
};

use super::model::Model;

impl Model {
    pub(super) fn effects(&mut self, ops: Vec<EffectOp>, now: Timestamp) -> EngineResult<Vec<EffectResult>> {
        ops.into_iter().map(|op| self.effect_op(op, now)).collect()
    }

    fn effect_op(&mut self, op: EffectOp, now: Timestamp) -> EngineResult<EffectResult> {
        let name = op.name.clone();
        let record = self.effects.get(&name).cloned();
        let job = effect::job_of(record.as_ref(), &op.action)
            .and_then(|id| self.find(id))
            .map(|record| HolderJob::from(&record.job));
        let tokens = &mut self.tokens;
        let change = effect::apply(record, op, job, || tokens.take(), now);
        let Change { record, result_changed: _, note, job_dies, answer } =
            change.ok_or(EngineError::TokensExhausted)?;
        if let Some(record) = record {
            self.effects.insert(name.clone(), record);
        }
        if let (Some(note), Some(job)) = (note, job) {
            self.note_effect(job.id, note, now);
        }
        if let Some(job) = job.filter(|_| job_dies) {
            let _ = self.change(job.id, now, |record| {
                rules::end_indeterminate(&mut record.job, name.key.as_str(), now)?;
                Ok::<_, IllegalTransition>(Some(Event::Died))
            });
        }
        Ok(answer)
    }

    fn note_effect(&mut self, id: JobId, note: effect::EffectNote, now: Timestamp) {
        let Some(record) = self.jobs.get_mut(&id.seq()) else { return };
        record.note(note.kind.evidence(), Some(note.text), now);
        let job = record.job.clone();
        if note.kind == effect::EffectNoteKind::LateWrite {
            self.queue_mut(&job.queue).counts.late_writes += 1;
        }
        self.emit(note.kind.event(), &job.queue, Some(&job), now);
    }

    /// A job's effects, without their results.
    pub(super) fn effects_of(&self, id: JobId) -> Vec<Effect> {
        let of_job = self.effects.values().filter(|effect| effect.job == Some(id));
        let mut effects: Vec<Effect> = of_job.map(without_result).collect();
        effects.sort_by(|a, b| (&a.key, &a.scope).cmp(&(&b.key, &b.scope)));
        effects.truncate(crate::limits::EFFECTS_SHOWN_MAX as usize);
        effects
    }

    pub(super) fn list_effects(&self, params: &ListEffects) -> EffectPage {
        let matches = |effect: &&Effect| {
            params.scope.as_ref().is_none_or(|scope| *scope == effect.scope)
                && (params.states.is_empty() || params.states.contains(&effect.state))
        };
        let after = self.effects.iter().filter(|(name, _)| params.after.as_ref().is_none_or(|a| *name > a));
        let mut found = after.map(|(_, effect)| effect).filter(matches);
        let effects: Vec<Effect> = found.by_ref().take(params.limit as usize).map(without_result).collect();
        let next = found.next().and(effects.last()).map(Effect::name);
        EffectPage { effects, next }
    }

    pub(super) fn forget_effects_of(&mut self, id: JobId) {
        self.effects.retain(|_, effect| effect.job != Some(id));
    }

    /// What time does to effects that are no job's.
    pub(super) fn retire_effects(&mut self, now: Timestamp) {
        let due: Vec<(EffectName, Due)> = self
            .effects
            .iter()
            .filter_map(|(name, effect)| Some((name.clone(), effect::come_due(effect, now)?)))
            .collect();
        for (name, due) in due {
            match due {
                Due::Remove => self.effects.remove(&name),
                Due::Indeterminate(effect) => self.effects.insert(name, *effect),
            };
        }
    }

    pub(super) fn next_effect_due(&self) -> Option<Timestamp> {
        self.effects.values().filter_map(Effect::due_at).min()
    }

    pub(super) fn renew_effect_leases(&mut self, now: Timestamp) {
        for effect in self.effects.values_mut() {
            effect::renew_lease(effect, now);
        }
    }
}

fn without_result(effect: &Effect) -> Effect {
    Effect { result: None, ..effect.clone() }
}
