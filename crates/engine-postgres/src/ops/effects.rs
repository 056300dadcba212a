//! Effects: records and jobs are locked, the core's rules applied, and what comes out is written.
//!
//! Jobs are locked before records, as by whoever purges a job. Whose record it is stands in the record; it is guessed
//! from the scope, and looked up where the guess was wrong.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use onefold_core::effect::{self, Change, Due, EffectNote, EffectNoteKind, HolderJob};
use onefold_core::{
    Effect, EffectAction, EffectName, EffectOp, EffectPage, EffectResult, EffectState, Event,
    IllegalTransition, JobId, ListEffects, limits, rules,
};
use tokio_postgres::Row;

use super::lease::take_tokens;
use super::tick::Done;
use crate::error::{Fault, Outcome, corrupt};
use crate::rows::{Coded, seq_code};
use crate::work::{LATE_WRITES, Work};
use crate::{params, sql};

/// Effects a tick or a renewal looks at in one transaction.
const BATCH: i64 = 500;
/// Rows a page of a list reads at a time.
const PAGE_ROWS: u32 = 512;
/// When to look again at an effect that cannot be read: it may be repaired by then.
const PASSED_OVER_MS: i64 = 24 * 3_600_000;

/// A record of this transaction, under its lock.
struct Record {
    effect: Effect,
    is_stored: bool,
    is_changed: bool,
    result_changed: bool,
}

type Records = BTreeMap<EffectName, Record>;

/// Does what several calls ask for, in order.
pub(crate) async fn apply_calls(work: &mut Work, calls: &[&[EffectOp]]) -> Outcome<Vec<Vec<EffectResult>>> {
    let mut outcomes = apply(work, &calls.concat()).await?.into_iter();
    Ok(calls.iter().map(|call| outcomes.by_ref().take(call.len()).collect()).collect())
}

pub(crate) async fn apply(work: &mut Work, ops: &[EffectOp]) -> Outcome<Vec<EffectResult>> {
    work.load_for_ends(ops.iter().filter_map(guessed_job).map(seq_code).collect()).await?;
    let mut records = lock(work, ops).await?;
    let of_jobs = records.values().filter_map(|record| record.effect.job);
    let missed: Vec<i64> = of_jobs.filter(|id| work.find(*id).is_none()).map(seq_code).collect();
    work.load_for_ends(missed).await?;
    let begins = |op: &&EffectOp| matches!(&op.action, EffectAction::Begin(begin) if begin.job.is_none());
    let mut tokens = take_tokens(work, ops.iter().filter(begins).count()).await?.into_iter();
    let mut outcomes = Vec::with_capacity(ops.len());
    for op in ops {
        let known = records.get(&op.name).map(|record| &record.effect);
        let job = effect::job_of(known, &op.action).and_then(|id| work.find(id));
        let job = job.map(|record| HolderJob::from(&record.job));
        let change = effect::apply(known.cloned(), op.clone(), job, || tokens.next(), work.now);
        let change = change.ok_or_else(|| corrupt("fewer tokens than were taken"))?;
        outcomes.push(follow(work, &mut records, op, job, change).await?);
    }
    write(work, records).await?;
    work.flush().await?;
    Ok(outcomes)
}

/// The job an operation is about, as far as it tells.
fn guessed_job(op: &EffectOp) -> Option<JobId> {
    match &op.action {
        EffectAction::Begin(begin) => begin.job.map(|claim| claim.id),
        EffectAction::Commit { .. }
        | EffectAction::Extend { .. }
        | EffectAction::Release { .. }
        | EffectAction::Resolve { .. } => op.name.scope.as_str().parse().ok(),
    }
}

async fn lock(work: &mut Work, ops: &[EffectOp]) -> Outcome<Records> {
    let names: BTreeSet<&EffectName> = ops.iter().map(|op| &op.name).collect();
    let (scopes, keys) = columns(names.into_iter());
    let rows = work.rows(sql::LOCK_EFFECTS, params![scopes, keys]).await?;
    rows.iter()
        .map(|row| {
            let effect = read(row)?;
            let record = Record { effect, is_stored: true, is_changed: false, result_changed: false };
            Ok((record.effect.name(), record))
        })
        .collect()
}

/// Records what an operation changed, of the effect and of its job.
async fn follow(
    work: &mut Work,
    records: &mut Records,
    op: &EffectOp,
    job: Option<HolderJob>,
    change: Change,
) -> Outcome<EffectResult> {
    let Change { record, result_changed, note, job_dies, answer } = change;
    if let Some(effect) = record {
        match records.get_mut(&op.name) {
            Some(record) => {
                record.effect = effect;
                record.is_changed = true;
                record.result_changed |= result_changed;
            }
            None => {
                let record = Record { effect, is_stored: false, is_changed: true, result_changed: true };
                records.insert(op.name.clone(), record);
            }
        }
    }
    let Some(job) = job else { return Ok(answer) };
    if let Some(note) = note {
        note_effect(work, job.id, note);
    }
    if job_dies {
        work.lock_groups().await?;
        let done = work.change(seq_code(job.id), |record, now, _| {
            rules::end_indeterminate(&mut record.job, op.name.key.as_str(), now)?;
            Ok::<_, IllegalTransition>(Some(Event::Died))
        })?;
        done.map_err(|illegal| corrupt(&illegal.to_string()))?;
    }
    Ok(answer)
}

fn note_effect(work: &mut Work, id: JobId, note: EffectNote) {
    let Some((queue, job)) = work.find(id).map(|record| (record.queue, record.job.clone())) else { return };
    work.note(seq_code(id), note.kind.evidence(), None, Some(note.text));
    if note.kind == EffectNoteKind::LateWrite {
        work.count(queue, LATE_WRITES, 1);
    }
    work.emit(note.kind.event(), queue, Some(&job));
}

fn columns<'a>(names: impl Iterator<Item = &'a EffectName>) -> (Vec<String>, Vec<String>) {
    names.map(|name| (name.scope.as_str().to_owned(), name.key.as_str().to_owned())).unzip()
}

fn read_record(text: &str) -> Outcome<Effect> {
    serde_json::from_str(text).map_err(|error| corrupt(&format!("the record of an effect: {error}")))
}

fn read(row: &Row) -> Outcome<Effect> {
    let result = row.try_get::<_, Option<Vec<u8>>>(1)?.map(Bytes::from);
    Ok(Effect { result, ..read_record(row.try_get(0)?)? })
}

fn record_text(effect: &Effect) -> Outcome<String> {
    serde_json::to_string(effect).map_err(|_| corrupt("an effect that cannot be written"))
}

async fn write(work: &mut Work, records: Records) -> Outcome<()> {
    let (stored, new): (Vec<Record>, Vec<Record>) =
        records.into_values().filter(|record| record.is_changed).partition(|record| record.is_stored);
    for effect in stored.iter().chain(&new).map(|record| &record.effect) {
        work.effects.due = work.effects.due.into_iter().chain(effect.due_at()).min();
    }
    if !new.is_empty() {
        let names: Vec<EffectName> = new.iter().map(|record| record.effect.name()).collect();
        let (scopes, keys) = columns(names.iter());
        let texts = new.iter().map(|r| record_text(&r.effect)).collect::<Outcome<Vec<String>>>()?;
        let seqs: Vec<Option<i64>> = new.iter().map(|r| r.effect.job.map(seq_code)).collect();
        let states: Vec<i16> = new.iter().map(|r| r.effect.state.code()).collect();
        let due: Vec<Option<i64>> = new.iter().map(|r| r.effect.due_at().map(|at| at.as_unix_ms())).collect();
        let results: Vec<Option<Vec<u8>>> =
            new.iter().map(|r| r.effect.result.as_ref().map(|result| result.to_vec())).collect();
        let count = scopes.len() as u64;
        let batch = vec![(sql::INSERT_EFFECTS, params![scopes, keys, seqs, states, due, texts, results])];
        let inserted = work.tx.pipeline(batch).await?.first().map_or(0, |reply| reply.affected);
        if inserted != count {
            return Err(Fault::Again("an effect was begun twice at once".to_owned()));
        }
    }
    let changed: Vec<(Effect, bool)> = stored.into_iter().map(|r| (r.effect, r.result_changed)).collect();
    update(work, &changed).await
}

/// Writes stored effects; their results only where they changed.
async fn update(work: &mut Work, changed: &[(Effect, bool)]) -> Outcome<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let names: Vec<EffectName> = changed.iter().map(|(effect, _)| effect.name()).collect();
    let (scopes, keys) = columns(names.iter());
    let texts = changed.iter().map(|(effect, _)| record_text(effect)).collect::<Outcome<Vec<String>>>()?;
    let states: Vec<i16> = changed.iter().map(|(effect, _)| effect.state.code()).collect();
    let due: Vec<Option<i64>> =
        changed.iter().map(|(effect, _)| effect.due_at().map(|at| at.as_unix_ms())).collect();
    let result = |effect: &Effect| effect.result.as_ref().map(|result| result.to_vec());
    let results: Vec<Option<Vec<u8>>> =
        changed.iter().map(|(effect, changed)| result(effect).filter(|_| *changed)).collect();
    let results_changed: Vec<bool> = changed.iter().map(|(_, changed)| *changed).collect();
    let columns = params![scopes, keys, states, due, texts, results, results_changed];
    work.rows(sql::UPDATE_EFFECTS, columns).await?;
    Ok(())
}

pub(crate) async fn get(work: &mut Work, name: &EffectName) -> Outcome<Option<Effect>> {
    let asked = params![name.scope.as_str().to_owned(), name.key.as_str().to_owned()];
    work.rows(sql::GET_EFFECT, asked).await?.first().map(read).transpose()
}

/// A job's effects as they were selected, without their results.
pub(crate) fn of_job(rows: &[Row]) -> Outcome<Vec<Effect>> {
    rows.iter().map(|row| read_record(row.try_get(0)?)).collect()
}

/// A page of effects by scope and key, looking at a bounded number of rows.
pub(crate) async fn list(work: &mut Work, params: &ListEffects) -> Outcome<EffectPage> {
    let unclear = params.states == [EffectState::Indeterminate];
    let statement = if unclear { sql::LIST_UNCLEAR_EFFECTS } else { sql::LIST_EFFECTS };
    let mut page = EffectPage::default();
    let mut after = match (&params.after, &params.scope) {
        (Some(name), _) => (name.scope.as_str().to_owned(), name.key.as_str().to_owned()),
        // No key is empty: all of the scope come after this.
        (None, Some(scope)) => (scope.as_str().to_owned(), String::new()),
        (None, None) => (String::new(), String::new()),
    };
    let mut last: Option<EffectName> = None;
    let mut scanned = 0;
    loop {
        let rows =
            work.rows(statement, params![after.0.clone(), after.1.clone(), i64::from(PAGE_ROWS)]).await?;
        for row in &rows {
            let effect = read_record(row.try_get(0)?)?;
            if params.scope.as_ref().is_some_and(|scope| *scope != effect.scope) {
                return Ok(page);
            }
            if page.effects.len() as u32 >= params.limit || scanned >= limits::LIST_ROWS_SCANNED_MAX {
                page.next = last;
                return Ok(page);
            }
            scanned += 1;
            after = (effect.scope.as_str().to_owned(), effect.key.as_str().to_owned());
            last = Some(effect.name());
            if params.states.is_empty() || params.states.contains(&effect.state) {
                page.effects.push(effect);
            }
        }
        if (rows.len() as u32) < PAGE_ROWS {
            return Ok(page);
        }
    }
}

/// What time does to effects that are no job's.
pub(crate) async fn retire(work: &mut Work) -> Outcome<Done> {
    let now = work.now;
    let rows = work.rows(sql::DUE_EFFECTS, params![now.as_unix_ms(), BATCH]).await?;
    let (mut gone, mut changed, mut later) = ((Vec::new(), Vec::new()), Vec::new(), (Vec::new(), Vec::new()));
    for row in &rows {
        let (scope, key): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let effect = read_record(row.try_get(2)?);
        if let Err(fault) = &effect {
            tracing::error!(scope, key, ?fault, "a damaged effect is passed over");
        }
        match effect.ok().as_ref().map(|effect| effect::come_due(effect, now)) {
            Some(Some(Due::Remove)) => {
                gone.0.push(scope);
                gone.1.push(key);
            }
            Some(Some(Due::Indeterminate(effect))) => changed.push((*effect, false)),
            Some(None) | None => {
                later.0.push(scope);
                later.1.push(key);
            }
        }
    }
    if !gone.0.is_empty() {
        work.rows(sql::DELETE_EFFECTS, params![gone.0, gone.1]).await?;
    }
    if !later.0.is_empty() {
        let again = now.as_unix_ms().saturating_add(PASSED_OVER_MS);
        work.rows(sql::PUT_OFF_EFFECTS, params![later.0, later.1, again]).await?;
    }
    update(work, &changed).await?;
    Ok(Done { more: rows.len() as i64 == BATCH, ..Done::default() })
}

/// Gives the leases of standalone effects after `after` their full length again. Gives where to go on.
pub(crate) async fn renew(work: &mut Work, after: (String, String)) -> Outcome<Option<(String, String)>> {
    let rows = work.rows(sql::EXECUTING_EFFECTS, params![after.0, after.1, BATCH]).await?;
    let mut renewed = Vec::new();
    let mut last = None;
    for row in &rows {
        // Who needs a damaged one is told.
        let Ok(mut effect) = read_record(row.try_get(0)?) else { continue };
        last = Some((effect.scope.as_str().to_owned(), effect.key.as_str().to_owned()));
        if effect::renew_lease(&mut effect, work.now) {
            renewed.push((effect, false));
        }
    }
    update(work, &renewed).await?;
    Ok(last.filter(|_| rows.len() as i64 == BATCH))
}
