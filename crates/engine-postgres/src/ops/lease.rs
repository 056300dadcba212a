//! Handing out jobs.

use std::collections::{BTreeMap, BTreeSet};

use onefold_core::{
    DurationMs, Event, FencingToken, IllegalTransition, LeaseParams, LeasedJob, QueueName, Rate, Starts,
    State, Timestamp, limits, rules,
};

use crate::error::{Fault, Outcome, corrupt};
use crate::ops::line::Line;
use crate::ops::rates;
use crate::params;
use crate::rows::{QueueNumber, fill, read_job, seq_code};
use crate::sql;
use crate::work::Work;

/// Looks at a line before a call gives up: each brings jobs, or buries some, or finds some being claimed.
const LOOKS: usize = 10_000;

/// Jobs looked for beyond what one call asks for.
const LOOK_AHEAD: usize = 200;

/// What this life of the server is called, and for which one tokens were raised. Keeps them from being raised until
/// the end of the transaction.
async fn server(work: &mut Work) -> Outcome<(String, String)> {
    let rows = work.rows(sql::SERVER, params![]).await?;
    let row = rows.first().ok_or_else(|| corrupt("a server without a name"))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Makes every later token larger than all earlier ones and than the clock's (I4).
pub(crate) async fn raise_tokens(work: &mut Work) -> Outcome<()> {
    work.rows(sql::GATE, params![]).await?;
    let (here, known) = server(work).await?;
    let high_water = high_water(work).await?;
    // What another server handed out in this very second is unknown here.
    let is_another = !known.is_empty() && known != here;
    let now = if is_another { work.now.saturating_add(DurationMs::from_ms(1_000)) } else { work.now };
    let raised = onefold_core::TokenSequence::opened(high_water, now).high_water();
    if raised > high_water {
        work.rows(sql::TOKEN_RAISE, params![raised.cast_signed()]).await?;
    }
    work.rows(sql::SERVER_KNOWN, params![here]).await?;
    Ok(())
}

async fn high_water(work: &mut Work) -> Outcome<u64> {
    let rows = work.rows(sql::TOKEN_HIGH_WATER, params![]).await?;
    let row = rows.first().ok_or_else(|| corrupt("a sequence without a value"))?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

/// What a call gets.
#[derive(Debug)]
pub(crate) enum Given {
    /// Leases of its own.
    New(Vec<LeasedJob>),
    /// What an earlier call with the same poll id was given and still holds.
    Held(Vec<LeasedJob>),
}

/// The jobs earlier calls with the same poll ids were given and still hold. None are given by others until the end of
/// this transaction.
async fn held_by_polls(work: &mut Work, calls: &[&LeaseParams]) -> Outcome<BTreeMap<u64, Vec<LeasedJob>>> {
    let polls: BTreeSet<u64> = calls.iter().filter_map(|call| call.poll).collect();
    if polls.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Two that fall together wait for each other, no more.
    let locks: BTreeSet<i32> = polls.iter().map(|poll| (*poll as u32).cast_signed()).collect();
    work.rows(sql::LOCK_POLLS, params![locks.into_iter().collect::<Vec<_>>()]).await?;
    let mut held = BTreeMap::new();
    for poll in &polls {
        held.insert(*poll, Vec::new());
    }
    let places = polls.iter().map(|poll| poll.cast_signed()).collect::<Vec<_>>();
    let rows = work.rows(sql::BY_POLL, params![places]).await?;
    let seqs = rows.iter().map(|row| row.try_get(1)).collect::<Result<Vec<i64>, _>>()?;
    if seqs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut jobs = BTreeMap::new();
    for row in &work.rows(sql::LOAD_JOBS, params![seqs.clone()]).await? {
        let read = read_job(row)?;
        if read.job.state == State::Running {
            let leased = LeasedJob { job: read.job, spec: read.spec, checkpoint: None };
            jobs.insert(seq_code(leased.job.id), leased);
        }
    }
    give_contents(work, &mut jobs, seqs).await?;
    for leased in jobs.into_values() {
        let poll = leased.job.attempt.as_ref().and_then(|attempt| attempt.poll);
        if let Some(held) = poll.and_then(|poll| held.get_mut(&poll)) {
            held.push(leased);
        }
    }
    held.retain(|_, jobs| !jobs.is_empty());
    Ok(held)
}

/// What an earlier call with the same poll id was given and still holds.
pub(crate) async fn held(work: &mut Work, call: &LeaseParams) -> Outcome<Vec<LeasedJob>> {
    Ok(held_by_polls(work, &[call]).await?.into_values().next().unwrap_or_default())
}

/// Loads payloads and checkpoints.
async fn give_contents(work: &mut Work, jobs: &mut BTreeMap<i64, LeasedJob>, seqs: Vec<i64>) -> Outcome<()> {
    for row in work.rows(sql::PAYLOADS, params![seqs]).await? {
        let seq: i64 = row.try_get(0)?;
        if let Some(leased) = jobs.get_mut(&seq) {
            fill(&mut leased.spec.payload, row.try_get(1)?);
            leased.checkpoint = row.try_get::<_, Option<Vec<u8>>>(2)?.map(bytes::Bytes::from);
        }
    }
    Ok(())
}

/// Leases what there is for several calls, one after the other.
pub(crate) async fn lease(work: &mut Work, calls: &[&LeaseParams]) -> Outcome<Vec<Given>> {
    let (here, known) = server(work).await?;
    if here != known {
        return Err(Fault::NewServer);
    }
    let mut held = held_by_polls(work, calls).await?;
    let holds = |call: &&LeaseParams| call.poll.is_some_and(|poll| held.contains_key(&poll));
    let new: Vec<&LeaseParams> = calls.iter().copied().filter(|call| !holds(call)).collect();
    let mut leased = lease_new(work, &new).await?.into_iter();
    let given = |call: &&LeaseParams| match call.poll.and_then(|poll| held.remove(&poll)) {
        Some(jobs) => Given::Held(jobs),
        None => Given::New(leased.next().unwrap_or_default()),
    };
    Ok(calls.iter().map(given).collect())
}

async fn lease_new(work: &mut Work, calls: &[&LeaseParams]) -> Outcome<Vec<Vec<LeasedJob>>> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let names: BTreeSet<&QueueName> = calls.iter().flat_map(|call| &call.queues).collect();
    let asked: usize = calls.iter().map(|call| call.max as usize).sum();
    let mut claim =
        Claim { lines: BTreeMap::new(), taken: BTreeSet::new(), ahead: asked, rates: BTreeMap::new() };
    let numbers = lines(work, names, &mut claim).await?;
    if claim.lines.values().all(|line| line.room == 0) {
        return Ok(vec![Vec::new(); calls.len()]);
    }
    let mut chosen: Vec<Vec<i64>> = Vec::with_capacity(calls.len());
    for call in calls {
        claim.ahead -= call.max as usize;
        let queues: Vec<_> = call.queues.iter().map(|name| numbers.get(name).copied()).collect();
        chosen.push(choose(work, call, &queues, &mut claim).await?);
    }
    for (queue, line) in &mut claim.lines {
        line.close(work, *queue, &claim.taken);
    }
    for (queue, (rate, mut starts)) in std::mem::take(&mut claim.rates) {
        let began = claim.taken.iter().filter(|seq| work.record(**seq).is_some_and(|job| job.queue == queue));
        let count = u32::try_from(began.count()).unwrap_or(u32::MAX);
        if count > 0 {
            starts.add(rate, work.now, count);
            rates::keep(work, queue, rate, &starts).await?;
        }
    }
    let mut tokens = take_tokens(work, claim.taken.len()).await?.into_iter();
    for (call, chosen) in calls.iter().zip(&chosen) {
        for seq in chosen {
            let token = tokens.next().ok_or_else(|| corrupt("a sequence that gave too little"))?;
            let done = work.change(*seq, |record, now, _| {
                let last = record.job.attempt.clone();
                let (job, policy) = record.split();
                rules::lease(job, policy, token, call.worker.clone(), call.lease, call.poll, now)?;
                Work::keep_attempt(record, last);
                Ok::<_, IllegalTransition>(Some(Event::Leased))
            })?;
            done.map_err(|illegal| corrupt(&illegal.to_string()))?;
        }
    }
    work.flush().await?;
    let (mut leased, mut incomplete) = (BTreeMap::new(), Vec::new());
    for seq in &claim.taken {
        let record = work.record(*seq).ok_or_else(|| corrupt("a job that is gone"))?;
        // Only who was leased before may have left a checkpoint.
        if !record.has_payload || record.job.attempts() > 1 {
            incomplete.push(*seq);
        }
        let job = LeasedJob { job: record.job.clone(), spec: record.spec.clone(), checkpoint: None };
        leased.insert(*seq, job);
    }
    if !incomplete.is_empty() {
        give_contents(work, &mut leased, incomplete).await?;
    }
    Ok(chosen.iter().map(|chosen| chosen.iter().filter_map(|seq| leased.remove(seq)).collect()).collect())
}

/// What the calls of one transaction share.
struct Claim {
    lines: BTreeMap<QueueNumber, Line>,
    /// Jobs that are chosen.
    taken: BTreeSet<i64>,
    /// Jobs that the calls after the current one ask for.
    ahead: usize,
    /// What counts for the queues that have a rate.
    rates: BTreeMap<QueueNumber, (Rate, Starts)>,
}

/// Opens the lines of the queues asked for; unknown ones have none.
async fn lines(
    work: &mut Work,
    names: BTreeSet<&QueueName>,
    claim: &mut Claim,
) -> Outcome<BTreeMap<QueueName, QueueNumber>> {
    let texts: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
    let rows = work.rows(sql::QUEUES_BY_NAME, params![texts]).await?;
    let mut numbers = work.read_queues(&rows)?;
    work.promote(numbers.clone()).await?;
    numbers.sort_unstable();
    let mut limited = Vec::new();
    for number in &numbers {
        let settings = &work.queue(*number)?.settings;
        if (settings.concurrency.is_some() || settings.rate.is_some()) && !settings.paused {
            limited.push(*number);
        }
    }
    if !limited.is_empty() {
        // Who counts what runs counts alone.
        work.rows(sql::LOCK_QUEUES, params![limited.clone()]).await?;
        let rows = work.rows(sql::QUEUES_BY_NUMBER, params![limited.clone()]).await?;
        work.read_queues(&rows)?;
    }
    let mut started = rates::starts(work, limited).await?;
    for number in &numbers {
        let number = *number;
        let settings = work.queue(number)?.settings.clone();
        let room = match settings.concurrency {
            _ if settings.paused => 0,
            None => u64::MAX,
            Some(limit) => {
                let rows = work.rows(sql::RUNNING, params![number, i64::from(limit)]).await?;
                let running: i64 =
                    rows.first().ok_or_else(|| corrupt("a count without a row"))?.try_get(0)?;
                u64::from(limit).saturating_sub(running.cast_unsigned())
            }
        };
        let room = match settings.rate {
            Some(rate) if room > 0 => {
                let starts = started.remove(&number).unwrap_or_default();
                let left = starts.room(rate, work.now);
                claim.rates.insert(number, (rate, starts));
                room.min(u64::from(left))
            }
            _ => room,
        };
        let line = Line::open(work, number, room);
        claim.lines.insert(number, line);
    }
    Ok(numbers
        .into_iter()
        .filter_map(|number| Some((work.queue(number).ok()?.name.clone(), number)))
        .collect())
}

/// Chooses jobs as the call wants them.
async fn choose(
    work: &mut Work,
    params: &LeaseParams,
    queues: &[Option<QueueNumber>],
    claim: &mut Claim,
) -> Outcome<Vec<i64>> {
    let max = params.max as usize;
    let mut turn = 0;
    if params.fair && !queues.is_empty() {
        // As if each call before it had taken its tokens already.
        let next = high_water(work).await? + claim.taken.len() as u64;
        turn = (next % queues.len() as u64) as usize;
    }
    let (mut chosen, mut bytes, mut empty) = (Vec::new(), 0, BTreeSet::new());
    while chosen.len() < max && empty.len() < queues.len() {
        let place = if params.fair { turn % queues.len() } else { empty.len() };
        turn += 1;
        if empty.contains(&place) {
            continue;
        }
        let rest = max - chosen.len();
        let want = if params.fair { rest.div_ceil(queues.len() - empty.len()) } else { rest };
        let next = match queues.get(place).copied().flatten() {
            Some(queue) => next_of(work, queue, want, claim).await?,
            None => None,
        };
        let Some(seq) = next else {
            empty.insert(place);
            continue;
        };
        let size = work.record(seq).map_or(0, |record| record.payload_bytes);
        if !chosen.is_empty() && bytes + size > limits::LEASE_REPLY_BYTES_MAX {
            // It stands where it stood.
            if let Some(line) =
                queues.get(place).copied().flatten().and_then(|queue| claim.lines.get_mut(&queue))
            {
                line.found.push_front(seq);
                line.room += 1;
            }
            break;
        }
        bytes += size;
        claim.taken.insert(seq);
        chosen.push(seq);
    }
    Ok(chosen)
}

/// The next job of a line that may be leased; those whose last moment to start has passed die on the way.
async fn next_of(
    work: &mut Work,
    queue: QueueNumber,
    want: usize,
    claim: &mut Claim,
) -> Outcome<Option<i64>> {
    let Some(line) = claim.lines.get_mut(&queue).filter(|line| line.room > 0) else { return Ok(None) };
    for _ in 0..LOOKS {
        let Some(seq) = line.found.pop_front() else {
            if line.is_over() {
                if claim.taken.is_empty() && line.wait_for_others(work, queue).await? {
                    continue;
                }
                return Ok(None);
            }
            if line.has_ended() {
                line.look_at_all();
            }
            // What this call leaves is for those after it.
            let want =
                (want + claim.ahead.min(LOOK_AHEAD)).min(usize::try_from(line.room).unwrap_or(usize::MAX));
            line.look(work, queue, want).await?;
            continue;
        };
        let record = work.record(seq).ok_or_else(|| corrupt("a job that is gone"))?;
        // It was found before, and the line was looked at again from its start.
        if record.job.state != State::Available || claim.taken.contains(&seq) {
            continue;
        }
        if !rules::is_expired(&record.job, work.now) {
            line.room -= 1;
            return Ok(Some(seq));
        }
        let grouped = record.job.group_order.is_some();
        work.expire(seq)?;
        if grouped {
            // Whoever follows it may stand before those we found.
            work.flush().await?;
            line.begin_again();
        }
    }
    Ok(None)
}

pub(crate) async fn take_tokens(work: &mut Work, count: usize) -> Outcome<Vec<FencingToken>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let number = i32::try_from(count).map_err(|_| corrupt("more leases than a call can have"))?;
    let rows = work.rows(sql::TOKEN_TAKE, params![number]).await?;
    let mut tokens = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    tokens.sort_unstable();
    let token = |value: i64| u64::try_from(value).ok().and_then(FencingToken::new);
    tokens
        .into_iter()
        .map(|value| token(value).ok_or_else(|| corrupt("a fencing token out of range")))
        .collect()
}

/// Leases that were to be renewed.
pub(crate) struct Renewed {
    /// Where to go on, if there are more.
    pub(crate) next: Option<RenewedTo>,
    /// Those whose jobs are in somebody's open transaction.
    pub(crate) left: Vec<i64>,
}

/// How far live leases were given their full length again: those that were extended first, then the others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RenewedTo {
    /// Rows of `leases`, up to this job.
    Extended(i64),
    /// Rows of `watches`, up to this one.
    Watched(i64, i64),
}

/// Gives live leases their full length again: `Some` place to go on from while there are more.
pub(crate) async fn renew(work: &mut Work, after: RenewedTo) -> Outcome<Renewed> {
    const BATCH: i64 = 1_000;
    const WATCHES: i64 = 4;
    let mut seqs: Vec<i64> = Vec::new();
    let next = match after {
        RenewedTo::Extended(seq) => {
            let rows = work.rows(sql::ALL_LEASES, params![seq, BATCH]).await?;
            for row in &rows {
                seqs.push(row.try_get(0)?);
            }
            let last = seqs.last().filter(|_| seqs.len() as i64 == BATCH);
            Some(last.map_or(RenewedTo::Watched(i64::MIN, i64::MIN), |last| RenewedTo::Extended(*last)))
        }
        RenewedTo::Watched(check, id) => {
            let rows = work.rows(sql::ALL_WATCHES, params![check, id, WATCHES]).await?;
            let mut last = None;
            for row in &rows {
                last = Some(RenewedTo::Watched(row.try_get(0)?, row.try_get(1)?));
                seqs.extend(row.try_get::<_, Vec<i64>>(2)?);
            }
            last.filter(|_| rows.len() as i64 == WATCHES)
        }
    };
    let left = renew_these(work, seqs).await?;
    Ok(Renewed { next, left })
}

/// Gives these leases their full length again, as far as they are live. Gives those whose jobs are in somebody's open
/// transaction.
pub(crate) async fn renew_these(work: &mut Work, seqs: Vec<i64>) -> Outcome<Vec<i64>> {
    let rows = work.rows(sql::STILL_RUNNING, params![seqs]).await?;
    let seqs = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let free = work.load_free(seqs.clone()).await?;
    for seq in &free {
        if work.record(*seq).is_none_or(|record| record.job.state != State::Running) {
            continue;
        }
        let _ = work.change(*seq, |record, now: Timestamp, _| {
            let timeout = record.timeout();
            rules::renew_lease(&mut record.job, timeout, now);
            Ok::<_, IllegalTransition>(None)
        })?;
    }
    work.flush().await?;
    work.look_later(&free.iter().copied().collect::<Vec<_>>()).await?;
    Ok(seqs.into_iter().filter(|seq| !free.contains(seq)).collect())
}
