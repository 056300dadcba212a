//! May I execute it? The one question that is asked before anything happens.

use super::{
    BeginEffect, Change, Effect, EffectDone, EffectName, EffectNote, EffectNoteKind, EffectPolicy,
    EffectRefusal, EffectState, ForgottenEarly, HolderJob, rest,
};
use crate::{DurationMs, FencingToken, LateWrites, Timestamp, limits};

pub(super) fn begin(
    record: Option<Effect>,
    name: EffectName,
    params: BeginEffect,
    job: Option<HolderJob>,
    take_token: impl FnOnce() -> Option<FencingToken>,
    now: Timestamp,
) -> Option<Change> {
    // First of all: whoever means something else learns that, whatever state it is in.
    let same = |r: &Effect| r.fingerprint == params.fingerprint && r.job == params.job.map(|claim| claim.id);
    if let Some(record) = record.as_ref().filter(|record| !same(record)) {
        return Some(Change::none(Err(EffectRefusal::KeyReused { job: record.job })));
    }
    if let Some(claim) = params.job {
        let Some(job) = job else { return Some(Change::none(Err(EffectRefusal::JobNotFound))) };
        if job.token != Some(claim.token) {
            return Some(rest::late(record, &name, "begin", claim.token, Some(job), now));
        }
    }
    let Some(mut record) = record else {
        let token = token_of(&params, take_token)?;
        return Some(execute(fresh(name, &params, token, now), &params, job, None, now));
    };
    match record.state {
        EffectState::Completed => Some(replay(record, job)),
        EffectState::Indeterminate => Some(refuse_doubt(job)),
        EffectState::Executing if is_held(&record, &params, now) => Some(held(&record, &params, now, job)),
        EffectState::Executing | EffectState::Released => {
            record.in_doubt |= record.state == EffectState::Executing;
            again(record, &params, job, take_token, now)
        }
    }
}

/// The token an execution is begun under: that of the job's lease, or one of its own.
fn token_of(params: &BeginEffect, take_token: impl FnOnce() -> Option<FencingToken>) -> Option<FencingToken> {
    params.job.map_or_else(take_token, |claim| Some(claim.token))
}

/// Whether the execution that was begun last still counts.
fn is_held(record: &Effect, params: &BeginEffect, now: Timestamp) -> bool {
    match params.job {
        Some(claim) => record.token == claim.token,
        None => record.lease_until.is_some_and(|until| now < until),
    }
}

fn held(record: &Effect, params: &BeginEffect, now: Timestamp, job: Option<HolderJob>) -> Change {
    if params.call.is_some() && params.call == record.call {
        let forgotten_early = forgotten_early(record, job);
        return Change::none(Ok(EffectDone::Execute { token: record.token, forgotten_early }));
    }
    let left = record.lease_until.map(|until| until.since(now));
    let retry_after = left.unwrap_or(limits::EFFECT_RETRY_AFTER).max(DurationMs::from_ms(1));
    Change::none(Err(EffectRefusal::InProgress { retry_after }))
}

fn replay(mut record: Effect, job: Option<HolderJob>) -> Change {
    let result = record.result.clone();
    let answer = Ok(EffectDone::Replay { result });
    // Within the attempt that did it there is nothing to tell.
    let Some(attempt) = job.map(|job| job.attempt).filter(|attempt| record.attempt != Some(*attempt)) else {
        return Change::none(answer);
    };
    record.replays = record.replays.saturating_add(1);
    let text = format!("{} in attempt {attempt}: the stored result", record.key);
    let note = Some(EffectNote { kind: EffectNoteKind::Replayed, text });
    Change { record: Some(record), result_changed: false, note, job_dies: false, answer }
}

fn refuse_doubt(job: Option<HolderJob>) -> Change {
    Change { job_dies: job.is_some(), ..Change::none(Err(EffectRefusal::Indeterminate)) }
}

/// An execution after another one that did not commit.
fn again(
    mut record: Effect,
    params: &BeginEffect,
    job: Option<HolderJob>,
    take_token: impl FnOnce() -> Option<FencingToken>,
    now: Timestamp,
) -> Option<Change> {
    if !record.in_doubt {
        // Nothing is out there that a receiver could have forgotten.
        record.first_begun_at = now;
        record.key_valid_until = None;
    }
    let valid_until = params.key_valid_for.map(|valid| record.first_begun_at.saturating_add(valid));
    record.key_valid_until = record.key_valid_until.into_iter().chain(valid_until).min();
    let once = [record.policy, params.policy].contains(&EffectPolicy::AtMostOnce);
    if record.in_doubt && (once || record.is_forgotten(now)) {
        let why =
            if once { "it may be executed at most once" } else { "its receiver may have forgotten the key" };
        return Some(become_indeterminate(record, job, why, now));
    }
    let before = record.attempt.filter(|_| record.in_doubt);
    let token = token_of(params, take_token)?;
    record.policy = params.policy;
    record.token = token;
    record.resolution = None;
    record.released = None;
    record.ended_at = None;
    Some(execute(record, params, job, before, now))
}

fn fresh(name: EffectName, params: &BeginEffect, token: FencingToken, now: Timestamp) -> Effect {
    Effect {
        scope: name.scope,
        key: name.key,
        job: params.job.map(|claim| claim.id),
        fingerprint: params.fingerprint.clone(),
        policy: params.policy,
        state: EffectState::Executing,
        token,
        attempt: None,
        call: None,
        lease: DurationMs::ZERO,
        lease_until: None,
        ttl: DurationMs::ZERO,
        first_begun_at: now,
        begun_at: now,
        ended_at: None,
        key_valid_until: params.key_valid_for.map(|valid| now.saturating_add(valid)),
        in_doubt: false,
        released: None,
        executions: 0,
        replays: 0,
        late_writes: LateWrites::default(),
        resolution: None,
        result: None,
    }
}

/// Gives it out. `before` is the attempt it is taken over from.
fn execute(
    mut record: Effect,
    params: &BeginEffect,
    job: Option<HolderJob>,
    before: Option<u32>,
    now: Timestamp,
) -> Change {
    record.state = EffectState::Executing;
    record.call = params.call;
    record.attempt = job.map(|job| job.attempt);
    record.begun_at = now;
    record.executions = record.executions.saturating_add(1);
    if job.is_none() {
        record.lease = params.lease;
        record.lease_until = Some(now.saturating_add(params.lease));
        record.ttl = params.ttl;
    }
    let note = before.zip(job).map(|(before, job)| EffectNote {
        kind: EffectNoteKind::TakenOver,
        text: format!("{} in attempt {}, begun in attempt {before}", record.key, job.attempt),
    });
    let answer =
        Ok(EffectDone::Execute { token: record.token, forgotten_early: forgotten_early(&record, job) });
    Change { record: Some(record), result_changed: false, note, job_dies: false, answer }
}

fn forgotten_early(record: &Effect, job: Option<HolderJob>) -> Option<ForgottenEarly> {
    let (key_valid_until, retry_until) = record.key_valid_until.zip(job?.retry_until)?;
    (key_valid_until < retry_until).then_some(ForgottenEarly { key_valid_until, retry_until })
}

/// Nobody may execute it and nobody knows: it waits for somebody who finds out, and its job ends.
pub(super) fn become_indeterminate(
    mut record: Effect,
    job: Option<HolderJob>,
    why: &str,
    now: Timestamp,
) -> Change {
    record.in_doubt = true;
    record.end(EffectState::Indeterminate, now);
    let begun = record.attempt.map(|attempt| format!(", begun in attempt {attempt}")).unwrap_or_default();
    let text = format!("{}{begun}: {why}", record.key);
    let note = job.map(|_| EffectNote { kind: EffectNoteKind::Indeterminate, text });
    let answer = Err(EffectRefusal::Indeterminate);
    Change { record: Some(record), result_changed: false, note, job_dies: job.is_some(), answer }
}
