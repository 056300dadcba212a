//! What two engines say, made comparable: ids and tokens become their order of appearance.

use std::collections::HashMap;

use onefold_core::{
    Added, Attempt, Effect, EffectDone, EffectRefusal, EffectResult, EffectScope, FencingToken, ItemResult,
    Job, JobId, JobSummary, JobView, KeyView, LeasedJob, Redriven, Refusal, Seq, StoreEvent, Timestamp,
};

use crate::Lease;

/// Above every lease there may be in a case.
const EFFECT_TOKENS: u64 = 1 << 24;

/// What an engine named how.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) jobs: Vec<JobId>,
    pub(super) leases: Vec<Lease>,
    /// Tokens of effects that are no job's.
    pub(super) effects: Vec<FencingToken>,
    ids: HashMap<JobId, u64>,
    tokens: HashMap<FencingToken, u64>,
    /// Leases older than this may have lost progress and log in a restart.
    pub(super) lossy_before: u64,
}

impl Names {
    pub(super) fn new_job(&mut self, id: JobId) -> Result<(), String> {
        let number = self.jobs.len() as u64 + 1;
        self.jobs.push(id);
        match self.ids.insert(id, number) {
            None => Ok(()),
            Some(before) => Err(format!("the id {id} of job {before} was given again")),
        }
    }

    /// I4: tokens are never used twice and grow.
    pub(super) fn new_lease(&mut self, lease: Lease) -> Result<(), String> {
        let number = self.leases.len() as u64 + 1;
        self.leases.push(lease);
        match self.tokens.insert(lease.token, number) {
            None => Ok(()),
            Some(before) => Err(format!("I4: token {} of lease {before} was given again", lease.token)),
        }
    }

    /// The same of an effect that is no job's. Answered again to a repeat of the call, it is no new one.
    pub(super) fn new_effect(&mut self, token: FencingToken) {
        if self.tokens.contains_key(&token) {
            return;
        }
        self.effects.push(token);
        self.tokens.insert(token, EFFECT_TOKENS + self.effects.len() as u64);
    }

    fn token(&self, token: FencingToken) -> FencingToken {
        let number = self.tokens.get(&token).copied().unwrap_or(u64::from(u32::MAX));
        FencingToken::new(number).unwrap_or(token)
    }

    /// Without its result, which is said apart.
    pub(super) fn effect(&self, mut effect: Effect) -> Effect {
        effect.job = effect.job.map(|job| self.id(job));
        if let Ok(job) = effect.scope.as_str().parse() {
            effect.scope = EffectScope::of_job(self.id(job));
        }
        effect.token = self.token(effect.token);
        effect
    }

    pub(super) fn effect_result(&self, outcome: EffectResult) -> EffectResult {
        match outcome {
            Ok(EffectDone::Execute { token, forgotten_early }) => {
                Ok(EffectDone::Execute { token: self.token(token), forgotten_early })
            }
            Err(EffectRefusal::KeyReused { job }) => {
                Err(EffectRefusal::KeyReused { job: job.map(|id| self.id(id)) })
            }
            outcome => outcome,
        }
    }

    /// Notes of late writes name their token.
    fn note(&self, note: String) -> String {
        let Some((before, token)) = note.rsplit_once(" with token ") else { return note };
        let token = token.parse().ok().and_then(FencingToken::new);
        token.map_or(note.clone(), |token| format!("{before} with token {}", self.token(token)))
    }

    /// Ids the store never gave out, as of an atomic batch that was taken back, are all alike.
    pub(super) fn id(&self, id: JobId) -> JobId {
        let number = self.ids.get(&id).and_then(|number| Seq::new(*number)).unwrap_or(Seq::MAX);
        JobId::new(Timestamp::EPOCH, number)
    }

    fn attempt(&self, mut attempt: Attempt) -> Attempt {
        let number = self.tokens.get(&attempt.token).copied().unwrap_or(u64::from(u32::MAX));
        if number <= self.lossy_before {
            attempt.progress = None;
            attempt.log.clear();
        }
        attempt.token = FencingToken::new(number).unwrap_or(attempt.token);
        attempt
    }

    fn job(&self, mut job: Job) -> (Timestamp, Job) {
        let created = job.created_at();
        job.id = self.id(job.id);
        job.group_order = job.group_order.map(|_| 0);
        job.attempt = job.attempt.map(|attempt| self.attempt(attempt));
        (created, job)
    }

    pub(super) fn view(&self, mut view: JobView) -> (Timestamp, JobView) {
        let (created, job) = self.job(view.job);
        view.job = job;
        view.attempts = view.attempts.into_iter().map(|attempt| self.attempt(attempt)).collect();
        view.effects = view.effects.into_iter().map(|effect| self.effect(effect)).collect();
        for evidence in &mut view.evidence {
            evidence.note = evidence.note.take().map(|note| self.note(note));
        }
        (created, view)
    }

    pub(super) fn summary(&self, mut summary: JobSummary) -> JobSummary {
        summary.job = self.job(summary.job).1;
        summary
    }

    pub(super) fn leased(&self, mut leased: LeasedJob) -> LeasedJob {
        leased.job = self.job(leased.job).1;
        leased
    }

    pub(super) fn added(&self, added: ItemResult<Added>) -> ItemResult<Added> {
        added.map(|added| Added { id: self.id(added.id), ..added }).map_err(|refusal| self.refusal(refusal))
    }

    pub(super) fn key(&self, view: KeyView) -> KeyView {
        KeyView { job: self.id(view.job), ..view }
    }

    pub(super) fn redriven(&self, mut done: Redriven) -> Redriven {
        let refused = done.refused.into_iter();
        done.refused = refused.map(|(id, refusal)| (self.id(id), self.refusal(refusal))).collect();
        done
    }

    pub(super) fn refusal(&self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::KeyReused { existing } => Refusal::KeyReused { existing: self.id(existing) },
            Refusal::DuplicateKey { existing } => Refusal::DuplicateKey { existing: self.id(existing) },
            Refusal::VersionStale { existing } => Refusal::VersionStale { existing: self.id(existing) },
            Refusal::KeyTaken { by } => Refusal::KeyTaken { by: self.id(by) },
            Refusal::ScheduleJobUnfinished { job } => Refusal::ScheduleJobUnfinished { job: self.id(job) },
            Refusal::KeyInProgress
            | Refusal::JobInProgress
            | Refusal::AtomicBatch { .. }
            | Refusal::LeaseLost { .. }
            | Refusal::JobNotFound
            | Refusal::QueueNotFound
            | Refusal::ScheduleNotFound
            | Refusal::QueueNotEmpty { .. }
            | Refusal::JobStarted { .. }
            | Refusal::JobFinished { .. }
            | Refusal::JobNotFinished { .. }
            | Refusal::JobNotRetryable { .. }
            | Refusal::RetryWindowPassed { .. } => refusal,
        }
    }

    pub(super) fn event(&self, event: StoreEvent) -> StoreEvent {
        StoreEvent { cursor: 0, job: event.job.map(|id| self.id(id)), ..event }
    }
}
