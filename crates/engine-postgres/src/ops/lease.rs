//! Handing out jobs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use onefold_core::{
    DeliveryParams, DurationMs, Event, FencingToken, IllegalTransition, Lane, LeaseParams, LeasedJob,
    QueueName, Rate, Starts, State, WorkerName, limits, rules,
};

use crate::error::{Fault, Outcome, corrupt};
use crate::ops::line::Line;
use crate::ops::rates;
use crate::params;
use crate::rows::{LineNumber, QueueNumber, fill, lane_code, read_job, seq_code};
use crate::sql;
use crate::work::{Record, Work};

/// Looks at a line before a call gives up: each brings jobs, or buries some, or finds some being claimed.
const LOOKS: usize = 10_000;

/// The lane of workers.
const PULL: i32 = 0;
/// Before the first line.
pub(crate) const NO_LINE: LineNumber = (0, 0);

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
    let texts: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
    let rows = work.rows(sql::QUEUES_BY_NAME, params![texts]).await?;
    let numbers = work.read_queues(&rows)?;
    work.promote(numbers.clone()).await?;
    let lines = numbers.iter().map(|number| (*number, PULL)).collect();
    let mut claim = Claim::open(work, lines, asked).await?;
    if claim.rooms.values().all(|room| *room == 0) {
        return Ok(vec![Vec::new(); calls.len()]);
    }
    let of_name = |number: QueueNumber| Some((work.queue(number).ok()?.name.clone(), (number, PULL)));
    let lines: BTreeMap<QueueName, LineNumber> = numbers.into_iter().filter_map(of_name).collect();
    let mut chosen: Vec<Vec<i64>> = Vec::with_capacity(calls.len());
    for call in calls {
        claim.ahead -= call.max as usize;
        let lines: Vec<_> = call.queues.iter().map(|name| lines.get(name).copied()).collect();
        chosen.push(choose(work, call, &lines, &mut claim).await?);
    }
    let lessees =
        calls.iter().map(|call| Lessee { worker: &call.worker, lease: call.lease, poll: call.poll });
    hand_out(work, claim, lessees.zip(chosen).collect()).await
}

/// Who leases, and for how long.
struct Lessee<'c> {
    worker: &'c WorkerName,
    lease: DurationMs,
    poll: Option<u64>,
}

/// Leases what was chosen to those for whom it was.
async fn hand_out(
    work: &mut Work,
    mut claim: Claim,
    chosen: Vec<(Lessee<'_>, Vec<i64>)>,
) -> Outcome<Vec<Vec<LeasedJob>>> {
    for (line, place) in &mut claim.lines {
        place.close(work, *line, &claim.taken);
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
    for (lessee, chosen) in &chosen {
        for seq in chosen {
            let token = tokens.next().ok_or_else(|| corrupt("a sequence that gave too little"))?;
            let done = work.change(*seq, |record, now, _| {
                let last = record.job.attempt.clone();
                let (job, policy) = record.split();
                rules::lease(job, policy, token, lessee.worker.clone(), lessee.lease, lessee.poll, now)?;
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
    let given = |chosen: &Vec<i64>| chosen.iter().filter_map(|seq| leased.remove(seq)).collect();
    Ok(chosen.iter().map(|(_, chosen)| chosen).map(given).collect())
}

/// What the calls of one transaction share.
struct Claim {
    lines: BTreeMap<LineNumber, Line>,
    /// How many more of each queue may run.
    rooms: BTreeMap<QueueNumber, u64>,
    /// Jobs that are chosen.
    taken: BTreeSet<i64>,
    /// Jobs that the calls after the current one ask for.
    ahead: usize,
    /// What counts for the queues that have a rate.
    rates: BTreeMap<QueueNumber, (Rate, Starts)>,
    /// It may wait for what others are claiming from: it holds nothing those might wait for.
    waits: bool,
}

impl Claim {
    /// Opens lines of queues that were read.
    async fn open(work: &mut Work, lines: Vec<LineNumber>, ahead: usize) -> Outcome<Claim> {
        let mut claim = Claim {
            lines: BTreeMap::new(),
            rooms: BTreeMap::new(),
            taken: BTreeSet::new(),
            ahead,
            rates: BTreeMap::new(),
            waits: true,
        };
        let numbers: BTreeSet<QueueNumber> = lines.iter().map(|(queue, _)| *queue).collect();
        let mut limited = Vec::new();
        for number in &numbers {
            let settings = &work.queue(*number)?.settings;
            if (settings.concurrency.is_some() || settings.rate.is_some()) && !settings.paused {
                limited.push(*number);
            }
        }
        if !limited.is_empty() {
            // Who counts what runs counts alone.
            rates::lock(work, limited.clone()).await?;
            let rows = work.rows(sql::QUEUES_BY_NUMBER, params![limited.clone()]).await?;
            work.read_queues(&rows)?;
        }
        let mut started = rates::starts(work, limited).await?;
        for number in numbers {
            let settings = work.queue(number)?.settings.clone();
            let room = match settings.concurrency {
                _ if settings.paused => 0,
                None => u64::MAX,
                Some(limit) => {
                    let rows = work.rows(sql::RUNNING, params![number, i64::from(limit)]).await?;
                    let row = rows.first().ok_or_else(|| corrupt("a count without a row"))?;
                    let running: i64 = row.try_get(0)?;
                    // Others may have ended since this transaction began, and nobody is to read that they overlapped.
                    if let Some(later) = work.tx.time_in(row, 1)? {
                        work.now = work.now.max(later);
                    }
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
            claim.rooms.insert(number, room);
        }
        for line in lines {
            claim.lines.insert(line, Line::open(work, line));
        }
        Ok(claim)
    }

    /// Leaves a job that was found where it stood.
    fn put_back(&mut self, line: LineNumber, seq: i64) {
        if let Some(place) = self.lines.get_mut(&line) {
            place.found.push_front(seq);
        }
        if let Some(room) = self.rooms.get_mut(&line.0) {
            *room = room.saturating_add(1);
        }
    }
}

/// Lines looked at for one call for deliveries, and those taken from at the most.
const DELIVERY_STEPS: i32 = 2_000;
const DELIVERY_LINES: i32 = 100;

/// Jobs to deliver, some of each line in turn, beginning behind `last`. Gives also the last line that had its turn.
pub(crate) async fn lease_deliveries(
    work: &mut Work,
    call: &DeliveryParams,
    last: LineNumber,
) -> Outcome<(Vec<LeasedJob>, LineNumber)> {
    let (here, known) = server(work).await?;
    if here != known {
        return Err(Fault::NewServer);
    }
    let dirty = work.rows(sql::DIRTY_QUEUES, params![]).await?;
    if !dirty.is_empty() {
        let dirty = dirty.iter().map(|row| row.try_get(0)).collect::<Result<Vec<QueueNumber>, _>>()?;
        let rows = work.rows(sql::QUEUES_BY_NUMBER, params![dirty]).await?;
        let numbers = work.read_queues(&rows)?;
        work.promote(numbers).await?;
    }
    let full: Vec<i32> =
        call.room.keys().filter(|lane| call.room_of(**lane) == 0).map(|lane| lane_code(*lane)).collect();
    let mut lines: Vec<LineNumber> = Vec::new();
    let mut stopped = last;
    // Behind the last, then from the start.
    for from in [last, NO_LINE] {
        let rows = work
            .rows(sql::DELIVERY_LINES, params![from.0, from.1, full.clone(), DELIVERY_LINES, DELIVERY_STEPS]);
        for row in rows.await? {
            let line = (row.try_get(0)?, row.try_get(1)?);
            stopped = line;
            if row.try_get(2)? && !lines.contains(&line) {
                lines.push(line);
            }
        }
        if lines.len() >= DELIVERY_LINES as usize || from == NO_LINE {
            break;
        }
    }
    lines.truncate(DELIVERY_LINES as usize);
    if lines.is_empty() {
        return Ok((Vec::new(), stopped));
    }
    let numbers: BTreeSet<QueueNumber> = lines.iter().map(|(queue, _)| *queue).collect();
    let numbers: Vec<QueueNumber> = numbers.into_iter().collect();
    let rows = work.rows(sql::QUEUES_BY_NUMBER, params![numbers]).await?;
    work.read_queues(&rows)?;
    lines.retain(|(queue, _)| work.queue(*queue).is_ok());
    let mut claim = Claim { waits: false, ..Claim::open(work, lines.clone(), 0).await? };
    let mut open: VecDeque<LineNumber> = lines.into();
    let mut given: BTreeMap<i32, usize> = BTreeMap::new();
    let (mut chosen, mut bytes, max) = (Vec::new(), 0, call.max as usize);
    let mut turn_of = stopped;
    'full: while let Some(line) = open.pop_front().filter(|_| chosen.len() < max) {
        let lane =
            u32::try_from(line.1).ok().and_then(Lane::new).ok_or_else(|| corrupt("a lane that is none"))?;
        let had = given.entry(line.1).or_default();
        let left = (call.room_of(lane) as usize).saturating_sub(*had);
        let share = (max - chosen.len()).div_ceil(open.len() + 1).min(left);
        turn_of = line;
        let mut took = 0;
        while took < share {
            let Some(seq) = next_of(work, line, share - took, &mut claim).await? else { break };
            let size = work.record(seq).map_or(0, Record::reply_bytes);
            if !chosen.is_empty() && bytes + size > limits::LEASE_REPLY_BYTES_MAX {
                claim.put_back(line, seq);
                break 'full;
            }
            bytes += size;
            claim.taken.insert(seq);
            chosen.push(seq);
            took += 1;
        }
        *had += took;
        if share > 0 && took == share {
            open.push_back(line);
        }
    }
    let lessee = Lessee { worker: &call.worker, lease: call.lease, poll: None };
    let leased = hand_out(work, claim, vec![(lessee, chosen)]).await?;
    Ok((leased.into_iter().flatten().collect(), turn_of))
}

/// Chooses jobs as the call wants them.
async fn choose(
    work: &mut Work,
    params: &LeaseParams,
    queues: &[Option<LineNumber>],
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
        let size = work.record(seq).map_or(0, Record::reply_bytes);
        if !chosen.is_empty() && bytes + size > limits::LEASE_REPLY_BYTES_MAX {
            // It stands where it stood.
            if let Some(line) = queues.get(place).copied().flatten() {
                claim.put_back(line, seq);
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
    number: LineNumber,
    want: usize,
    claim: &mut Claim,
) -> Outcome<Option<i64>> {
    let Some(room) = claim.rooms.get_mut(&number.0).filter(|room| **room > 0) else { return Ok(None) };
    let Some(line) = claim.lines.get_mut(&number) else { return Ok(None) };
    for _ in 0..LOOKS {
        let Some(seq) = line.found.pop_front() else {
            if line.is_over() {
                if claim.waits && claim.taken.is_empty() && line.wait_for_others(work, number).await? {
                    continue;
                }
                return Ok(None);
            }
            if line.has_ended() {
                line.look_at_all();
            }
            // What this call leaves is for those after it.
            let want = (want + claim.ahead.min(LOOK_AHEAD)).min(usize::try_from(*room).unwrap_or(usize::MAX));
            line.look(work, number, want).await?;
            continue;
        };
        let record = work.record(seq).ok_or_else(|| corrupt("a job that is gone"))?;
        // It was found before, and the line was looked at again from its start.
        if record.job.state != State::Available || claim.taken.contains(&seq) {
            continue;
        }
        if !rules::is_expired(&record.job, work.now) {
            *room -= 1;
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
