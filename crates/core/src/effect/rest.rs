//! What holders say of an effect they began, and what operators find out.

use bytes::Bytes;

use super::{
    Change, Effect, EffectDone, EffectName, EffectNote, EffectNoteKind, EffectPolicy, EffectRefusal,
    EffectState, HolderJob, ReleaseOutcome, Resolution, ResolveOutcome, begin,
};
use crate::{DurationMs, FencingToken, Timestamp};

fn standing(record: &Effect) -> EffectDone {
    let lease_until = record.lease_until.filter(|_| record.state == EffectState::Executing);
    EffectDone::Standing { state: record.state, lease_until }
}

fn changed(record: Effect, result_changed: bool) -> Change {
    let answer = Ok(standing(&record));
    Change { record: Some(record), result_changed, note: None, job_dies: false, answer }
}

/// Whether `token` is the current one: of the record, and of the job it belongs to.
fn is_current(record: &Effect, token: FencingToken, job: Option<HolderJob>) -> bool {
    let holds_job = record.job.is_none() || job.is_some_and(|job| job.token == Some(token));
    record.state == EffectState::Executing && record.token == token && holds_job
}

/// Refuses a write with an old token, and leaves evidence (I5).
pub(super) fn late(
    record: Option<Effect>,
    name: &EffectName,
    what: &str,
    token: FencingToken,
    job: Option<HolderJob>,
    now: Timestamp,
) -> Change {
    let effect = record.as_ref().map(|record| record.state);
    let record = record.map(|mut record| {
        record.late_writes.record(now);
        record
    });
    let note = job.map(|_| EffectNote {
        kind: EffectNoteKind::LateWrite,
        text: format!("{what} of {} with token {token}", name.key),
    });
    let answer = Err(EffectRefusal::LeaseLost { job: job.map(|job| job.state), effect });
    Change { record, result_changed: false, note, job_dies: false, answer }
}

fn late_of(
    record: Effect,
    what: &str,
    token: FencingToken,
    job: Option<HolderJob>,
    now: Timestamp,
) -> Change {
    let name = record.name();
    late(Some(record), &name, what, token, job, now)
}

pub(super) fn commit(
    mut record: Effect,
    token: FencingToken,
    result: Option<Bytes>,
    job: Option<HolderJob>,
    now: Timestamp,
) -> Change {
    let by_this_token = record.token == token && record.resolution.is_none();
    if record.state == EffectState::Completed && by_this_token && record.result == result {
        return Change::none(Ok(standing(&record)));
    }
    if !is_current(&record, token, job) {
        return late_of(record, "commit", token, job, now);
    }
    record.result = result;
    record.in_doubt = false;
    record.end(EffectState::Completed, now);
    changed(record, true)
}

pub(super) fn extend(
    mut record: Effect,
    token: FencingToken,
    lease: DurationMs,
    job: Option<HolderJob>,
    now: Timestamp,
) -> Change {
    if !is_current(&record, token, job) {
        return late_of(record, "extend", token, job, now);
    }
    if record.job.is_some() {
        return Change::none(Ok(standing(&record)));
    }
    record.lease = lease;
    record.lease_until = Some(now.saturating_add(lease));
    changed(record, false)
}

pub(super) fn release(
    mut record: Effect,
    token: FencingToken,
    outcome: ReleaseOutcome,
    job: Option<HolderJob>,
    now: Timestamp,
) -> Change {
    let again = record.token == token && record.released == Some(outcome) && record.resolution.is_none();
    if again && record.state != EffectState::Executing {
        return Change::none(Ok(standing(&record)));
    }
    if !is_current(&record, token, job) {
        return late_of(record, "release", token, job, now);
    }
    record.released = Some(outcome);
    if outcome == ReleaseOutcome::NotApplied {
        record.end(EffectState::Released, now);
        return changed(record, false);
    }
    if record.policy == EffectPolicy::AtMostOnce {
        let why = "its holder does not know, and it may be executed at most once";
        let change = begin::become_indeterminate(record, job, why, now);
        let answer = change.record.as_ref().map(standing).ok_or(EffectRefusal::NotFound);
        return Change { answer, ..change };
    }
    record.in_doubt = true;
    record.end(EffectState::Released, now);
    changed(record, false)
}

pub(super) fn resolve(
    mut record: Effect,
    outcome: ResolveOutcome,
    result: Option<Bytes>,
    note: String,
    now: Timestamp,
) -> Change {
    let state = match outcome {
        ResolveOutcome::Completed => EffectState::Completed,
        ResolveOutcome::Released => EffectState::Released,
    };
    // What did not happen returned nothing.
    let result = result.filter(|_| outcome == ResolveOutcome::Completed);
    let same = |r: &Resolution| r.outcome == outcome && r.note == note;
    if record.state == state && record.resolution.as_ref().is_some_and(same) && record.result == result {
        return Change::none(Ok(standing(&record)));
    }
    if record.state != EffectState::Indeterminate {
        return Change::none(Err(EffectRefusal::NotIndeterminate { state: record.state }));
    }
    let text = format!("{} as {outcome}: {note}", record.key);
    record.result = result;
    record.in_doubt = false;
    record.resolution = Some(Resolution { outcome, note, at: now });
    record.end(state, now);
    let note = record.job.map(|_| EffectNote { kind: EffectNoteKind::Resolved, text });
    Change { note, ..changed(record, true) }
}
