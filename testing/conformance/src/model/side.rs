//! One of the two engines: does an operation and says what came of it, in comparable words.

use bytes::Bytes;
use onefold_core::schedule::{
    Interval, Missed, NewSchedule, Overlap, Pattern, ScheduleId, ScheduleView, Template, Timing,
};
use onefold_core::{
    AddParams, Backoff, BeginEffect, DurationMs, EffectAction, EffectDone, EffectName, EffectOp, EffectScope,
    End, EngineError, EventCursor, EventKind, EventsParams, FencingToken, Fingerprint, FreeOn, GroupHead,
    ItemResult, JobClaim, JobEdit, JobFilter, JobId, LeaseParams, LeasedJob, NewJob, OnDead, OnDuplicate,
    OnMismatch, Progress, QueueName, QueuePatch, RedriveParams, SettleAction, SettleOp, State, StoreEvent,
    Ticked, Timestamp,
};

use super::canon::Names;
use super::ops::{Act, Call, Change, Item, Op, Pick, Rhythm, Scope, Touch, What, Write, unknown_job};
use crate::{
    Build, Harness, Lease, ParkedPoll, START_UNIX_MS, call, complete, error, hours, job, key, keyed, label,
    ms, queue, redrive, secs, snooze,
};

/// What came of an operation: words to compare, or why nothing can.
pub(super) type Said = Result<String, String>;

pub(super) struct Side {
    pub(super) harness: Box<dyn Harness>,
    pub(super) names: Names,
    /// Parked calls, in order of parking.
    pub(super) polls: Vec<ParkedPoll>,
    /// Keys are of a generation: setting the clock back begins a new one.
    pub(super) generation: u32,
    /// Of which generation each job is.
    generations: Vec<u32>,
    cursor: EventCursor,
    /// The largest token before and in this step.
    tokens: (u64, u64),
}

pub(super) fn queue_of(number: u8) -> QueueName {
    queue(&format!("q{number}"))
}

fn backoff_of(number: u8) -> Backoff {
    match number {
        0 => Backoff::Fixed(ms(0)),
        1 => Backoff::Fixed(secs(10)),
        _ => Backoff::List(vec![secs(1), secs(60)]),
    }
}

fn wrong(what: &EngineError) -> String {
    format!("the engine failed: {what:?}")
}

impl Side {
    pub(super) fn new(harness: Box<dyn Harness>) -> Side {
        Side {
            harness,
            names: Names::default(),
            polls: Vec::new(),
            generation: 0,
            generations: Vec::new(),
            cursor: 0,
            tokens: (0, 0),
        }
    }

    pub(super) fn key_name(&self, number: u8) -> String {
        format!("k{number}.{}", self.generation)
    }

    fn kind_name(&self) -> String {
        format!("g{}", self.generation)
    }

    /// Does an operation, time and dice aside.
    pub(super) async fn apply(&mut self, op: &Op) -> Said {
        self.tokens.0 = self.tokens.1;
        self.try_apply(op).await.map_err(|failed| wrong(&failed)).and_then(|said| said)
    }

    async fn try_apply(&mut self, op: &Op) -> Result<Said, EngineError> {
        let engine = self.harness.engine();
        Ok(Ok(match op {
            Op::Add { queue, jobs, atomic } => return self.add(*queue, jobs, *atomic).await,
            Op::Lease(call) => {
                let leased = engine.lease(self.call(call, ms(0))).await?;
                return Ok(self.hand_out(leased));
            }
            Op::Park { call, wait } => {
                let mut params = self.call(call, *wait);
                params.queues.truncate(1);
                self.polls.push(self.harness.send(params));
                String::new()
            }
            Op::Unpark(pick) => {
                if let Some(place) = pick.of(self.polls.len()) {
                    drop(self.polls.remove(place));
                }
                String::new()
            }
            Op::Settle(writes) => {
                let ops = writes.iter().map(|write| self.write(write)).collect();
                let outcomes = engine.settle(ops).await?.into_iter();
                let outcomes: Vec<_> =
                    outcomes.map(|o| o.map_err(|refusal| self.names.refusal(refusal))).collect();
                format!("{outcomes:?}")
            }
            Op::Effects(touches) => {
                let ops = touches.iter().map(|touch| self.touch(touch)).collect();
                let outcomes = engine.effects(ops).await?;
                for (touch, outcome) in touches.iter().zip(&outcomes) {
                    if let (Scope::Free(_), Ok(EffectDone::Execute { token, .. })) = (&touch.scope, outcome) {
                        self.tokens.1 = self.tokens.1.max(token.get());
                        self.names.new_effect(*token);
                    }
                }
                let outcomes: Vec<_> = outcomes.into_iter().map(|o| self.names.effect_result(o)).collect();
                format!("{outcomes:?}")
            }
            Op::Cancel(job, force) => self.viewed(engine.cancel(self.job(*job), *force).await?),
            Op::Retry(job, accept) => match job.of(self.names.jobs.len()) {
                Some(place) if self.generations[place] != self.generation => "too old to ask".to_owned(),
                _ => self.viewed(engine.retry(self.job(*job), *accept).await?),
            },
            Op::Redrive { queue, cancelled, limit, accept } => {
                let mut states = vec![State::Dead];
                states.extend(cancelled.then_some(State::Cancelled));
                let kind = Some(crate::kind(&self.kind_name()));
                let params = RedriveParams {
                    filter: JobFilter { kind, ..JobFilter::default() },
                    states,
                    limit: *limit,
                    accept_duplicates: *accept,
                    ..redrive(queue_of(*queue).as_str())
                };
                format!("{:?}", engine.redrive(params).await?.map(|done| self.names.redriven(done)))
            }
            Op::Edit { job, run_in_ms, priority, label: number } => {
                let now = self.harness.now();
                let run_at = run_in_ms.map(|at| match at {
                    0.. => now.saturating_add(ms(at.unsigned_abs())),
                    _ => now.saturating_sub(ms(at.unsigned_abs())),
                });
                let labels = number.map(|n| vec![label(&format!("l{n}"))]);
                let edit = JobEdit { run_at, priority: *priority, labels };
                self.viewed(engine.edit(self.job(*job), edit).await?)
            }
            Op::Delete(job) => self.viewed(engine.delete(self.job(*job)).await?),
            Op::Set(queue, change) => {
                format!("{:?}", engine.set_queue(queue_of(*queue), patch(change)).await?)
            }
            Op::DeleteQueue(queue, force) => {
                format!("{:?}", engine.delete_queue(queue_of(*queue), *force).await?)
            }
            Op::ReleaseKey(queue, number) => {
                let freed = engine.release_key(queue_of(*queue), key(&self.key_name(*number))).await?;
                format!("{:?}", freed.map(|view| self.names.key(view)))
            }
            Op::Put(number, behind) => {
                let name = format!("s{number}");
                let version = engine.setting(name.clone()).await?.map_or(0, |setting| setting.version);
                let expected = version.saturating_sub(*behind);
                let put =
                    engine.set_setting(name, Bytes::from(format!("after {expected}")), expected).await?;
                format!("{put:?}")
            }
            Op::PutSchedule(number, rhythm) => {
                let put = engine.put_schedule(self.schedule_id(*number), self.schedule(rhythm)).await?;
                format!("{} {}", put.created, self.told(put.view))
            }
            Op::PauseSchedule(number, paused) => {
                self.schedule_told(engine.pause_schedule(self.schedule_id(*number), *paused).await?)
            }
            Op::DeleteSchedule(number) => {
                self.schedule_told(engine.delete_schedule(self.schedule_id(*number)).await?)
            }
            Op::RunSchedule(number) => match engine.run_schedule(self.schedule_id(*number)).await? {
                Ok(id) => {
                    if let Err(broken) = self.new_job(id) {
                        return Ok(Err(broken));
                    }
                    format!("{:?}", self.names.id(id))
                }
                Err(refusal) => format!("{:?}", self.names.refusal(refusal)),
            },
            // A tick finds that a rate has room again; whether anything before it does is left open.
            Op::Wait(_) if self.polls.is_empty() => String::new(),
            Op::Pass(_) | Op::Wait(_) => {
                let Ticked { due, ticks, expired, purged, clock_stepped, next: _ } =
                    self.harness.try_tick().await?;
                format!("due {due} ticks {ticks} expired {expired} purged {purged} stepped {clock_stepped}")
            }
            Op::Step(_) => String::new(),
            Op::Crash | Op::Reopen => {
                self.polls.clear();
                if matches!(op, Op::Crash) {
                    self.harness.reopen_after_crash().await;
                } else {
                    self.harness.reopen_cleanly().await;
                }
                self.names.lossy_before = self.names.leases.len() as u64;
                String::new()
            }
        }))
    }

    async fn add(&mut self, to: u8, items: &[Item], atomic: bool) -> Result<Said, EngineError> {
        let jobs = items.iter().map(|item| self.item(item)).collect();
        let outcomes = self.harness.engine().add(AddParams { queue: queue_of(to), jobs, atomic }).await?;
        for added in outcomes.iter().flatten().filter(|added| !added.duplicate) {
            if let Err(broken) = self.new_job(added.id) {
                return Ok(Err(broken));
            }
        }
        let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| self.names.added(outcome)).collect();
        Ok(Ok(format!("{outcomes:?}")))
    }

    fn new_job(&mut self, id: JobId) -> Result<(), String> {
        self.generations.push(self.generation);
        self.names.new_job(id)
    }

    /// Of a generation, as keys are: what is remembered of a tick may go while the clock is ahead.
    fn schedule_id(&self, number: u8) -> ScheduleId {
        format!("s{number}.{}", self.generation).parse().expect("a schedule id")
    }

    fn schedule(&self, rhythm: &Rhythm) -> NewSchedule {
        let start = Timestamp::from_unix_ms(START_UNIX_MS).expect("a time in this century");
        let every = |length| Pattern::Every(Interval::new(length, start).expect("an interval"));
        let pattern = match rhythm.timing {
            0 => every(secs(10)),
            1 => every(secs(600)),
            2 => every(hours(6)),
            3 => Pattern::cron("30 2 * * *", Some("Europe/Berlin".parse().expect("a zone"))).expect("a cron"),
            _ => Pattern::cron("*/7 * * * *", None).expect("a cron"),
        };
        // A job for each of very many ticks would only make cases slow.
        let missed = Missed::ALL[usize::from(rhythm.missed)];
        let missed = if missed == Missed::All && rhythm.timing != 3 { Missed::Once } else { missed };
        let end = rhythm.ends.map(|ends| self.harness.now().saturating_add(ends));
        let NewJob { spec, priority, max_attempts, .. } = self.item(&rhythm.job);
        NewSchedule {
            timing: Timing::new(pattern, None, end).expect("some tick in two days"),
            queue: queue_of(rhythm.queue),
            missed,
            overlap: Overlap::ALL[usize::from(rhythm.overlap)],
            job: Template { spec, priority, max_attempts },
        }
    }

    pub(super) fn told(&self, mut view: ScheduleView) -> String {
        view.schedule.last_job = view.schedule.last_job.map(|id| self.names.id(id));
        format!("{view:?}")
    }

    fn schedule_told(&self, outcome: ItemResult<ScheduleView>) -> String {
        match outcome {
            Ok(view) => self.told(view),
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    /// Names the leases of an answer. I4: their tokens are above all earlier ones.
    pub(super) fn hand_out(&mut self, leased: Vec<LeasedJob>) -> Said {
        for job in &leased {
            let lease = Lease::from(job);
            let held = self.names.leases.contains(&lease);
            if held {
                continue;
            }
            if lease.token.get() <= self.tokens.0 {
                return Err(format!("I4: token {} is not above {}", lease.token, self.tokens.0));
            }
            self.tokens.1 = self.tokens.1.max(lease.token.get());
            self.names.new_lease(lease)?;
        }
        let leased: Vec<_> = leased.into_iter().map(|job| self.names.leased(job)).collect();
        Ok(format!("{leased:?}"))
    }

    /// What happened since this was last asked, in no promised order.
    pub(super) async fn events(&mut self) -> Said {
        let engine = self.harness.engine();
        let mut told: Vec<StoreEvent> = Vec::new();
        loop {
            let params = EventsParams { after: self.cursor, limit: 1000 };
            let page = engine.events(params).await.map_err(|failed| wrong(&failed))?;
            if page.events.is_empty() {
                break;
            }
            self.cursor = page.next;
            for event in page.events {
                // Jobs of ticks are in no answer.
                let new =
                    event.job.filter(|id| event.kind == EventKind::Added && !self.names.jobs.contains(id));
                if let Some(id) = new {
                    self.new_job(id)?;
                }
                told.push(self.names.event(event));
            }
        }
        let mut told: Vec<_> = told.into_iter().map(|event| format!("{event:?}")).collect();
        told.sort();
        Ok(told.join("\n"))
    }

    fn viewed(&self, outcome: onefold_core::ItemResult<onefold_core::JobView>) -> String {
        let outcome =
            outcome.map(|view| self.names.view(view)).map_err(|refusal| self.names.refusal(refusal));
        format!("{outcome:?}")
    }

    fn job(&self, pick: Pick) -> JobId {
        pick.of(self.names.jobs.len()).map_or_else(unknown_job, |place| self.names.jobs[place])
    }

    fn lease(&self, pick: Pick) -> Lease {
        let unknown = || Lease { id: unknown_job(), token: FencingToken::new(1).expect("1 is a token") };
        pick.of(self.names.leases.len()).map_or_else(unknown, |place| self.names.leases[place])
    }

    fn item(&self, item: &Item) -> NewJob {
        let content = format!("c{}", item.content);
        let mut new = match item.key {
            Some(number) => keyed(&self.key_name(number), &content),
            None => job().content(&content),
        };
        new = new.kind(&self.kind_name()).priority(item.priority);
        new.max_attempts = item.max_attempts;
        new.spec.backoff = item.backoff.map(backoff_of);
        (new.spec.timeout, new.spec.retain) = (item.timeout, item.retain);
        new.spec.dedup.free_on = FreeOn::from_bits(item.free_on);
        new.spec.dedup.on_duplicate = OnDuplicate::ALL[usize::from(item.on_duplicate)];
        new.spec.dedup.on_mismatch =
            if item.return_mismatch { OnMismatch::Return } else { OnMismatch::Reject };
        (new.spec.dedup.version, new.spec.dedup.max_delay) = (item.version, item.max_delay);
        if let Some(window) = item.window {
            new = new.window(window);
        }
        if let Some(delay) = item.delay {
            new = new.after(delay);
        }
        if let Some(number) = item.group {
            new = new.group(&format!("g{number}"));
        }
        if let Some(number) = item.request {
            new = new.request(&format!("r{number}.{}", self.generation), &content);
        }
        new
    }

    fn call(&self, asked: &Call, wait: DurationMs) -> LeaseParams {
        LeaseParams {
            queues: asked.queues.iter().map(|number| queue_of(*number)).collect(),
            max: asked.max,
            lease: asked.lease,
            fair: asked.fair,
            poll: asked.poll,
            wait,
            ..call("any")
        }
    }

    pub(super) fn free_scope(&self, number: u8) -> EffectScope {
        EffectScope::new(format!("e{number}.{}", self.generation)).expect("a scope")
    }

    fn touch(&self, touch: &Touch) -> EffectOp {
        let json = |number: u8| Bytes::from(format!("{{\"r\":{number}}}"));
        let held = self.lease(touch.token);
        let (scope, job) = match &touch.scope {
            Scope::Free(number) => (self.free_scope(*number), None),
            Scope::Step(of) => {
                let claim = JobClaim { id: held.id, token: held.token };
                (EffectScope::of_job(self.lease(*of).id), Some(claim))
            }
        };
        let tokens = &self.names.effects;
        let token = match touch.scope {
            Scope::Free(_) => touch.token.of(tokens.len()).map_or(held.token, |place| tokens[place]),
            Scope::Step(_) => held.token,
        };
        let action = match &touch.act {
            Act::Begin(begin) => EffectAction::Begin(BeginEffect {
                fingerprint: begin.fingerprint.map(|n| Fingerprint::custom(&format!("f{n}")).expect("one")),
                policy: begin.policy,
                lease: begin.lease,
                ttl: begin.ttl,
                key_valid_for: begin.key_valid_for,
                job,
                call: begin.call,
            }),
            Act::Commit(result) => EffectAction::Commit { token, result: result.map(json) },
            Act::Extend(lease) => EffectAction::Extend { token, lease: *lease },
            Act::Release(outcome) => EffectAction::Release { token, outcome: *outcome },
            Act::Resolve(outcome) => EffectAction::Resolve {
                outcome: *outcome,
                result: Some(json(7)),
                note: format!("by {}", touch.token.of(3).unwrap_or_default()),
            },
        };
        let name = EffectName { scope, key: key(&format!("s{}", touch.key)) };
        EffectOp { name, action }
    }

    fn write(&self, write: &Write) -> SettleOp {
        let Lease { id, token } = self.lease(write.lease);
        let token = write.crossed.map_or(token, |other| self.lease(other).token);
        let json = |number: u8| Bytes::from(format!("{{\"n\":{number}}}"));
        let action = match &write.what {
            What::Complete(None) => SettleAction::End(complete()),
            What::Complete(Some(number)) => SettleAction::End(End::Complete { result: Some(json(*number)) }),
            What::Fail { retry_in } => {
                SettleAction::End(End::Fail { error: error("oops"), retryable: true, retry_in: *retry_in })
            }
            What::Die => SettleAction::End(crate::fail_for_good()),
            What::Snooze(delay) => SettleAction::End(snooze(*delay)),
            What::Release => SettleAction::End(End::Release),
            What::Extend(length) => SettleAction::Extend(*length),
            What::Progress(percent) => {
                SettleAction::Progress(Progress { percent: Some(*percent), message: None })
            }
            What::Checkpoint(number) => SettleAction::Checkpoint(json(*number)),
            What::Log(number) => SettleAction::Log(vec![format!("line {number}")]),
        };
        SettleOp { id, token, action }
    }
}

fn patch(change: &Change) -> QueuePatch {
    let head = |skip: bool| if skip { GroupHead::Skip } else { GroupHead::Hold };
    let dead = |block: bool| if block { OnDead::Block } else { OnDead::Continue };
    let none = QueuePatch::default();
    match change {
        Change::Pause(paused) => QueuePatch { paused: Some(*paused), ..none },
        Change::Concurrency(limit) => QueuePatch { concurrency: Some(*limit), ..none },
        Change::Rate(rate) => QueuePatch { rate: Some(*rate), ..none },
        Change::Skip(skip) => QueuePatch { group_head: Some(skip.map(head)), ..none },
        Change::Block(block) => QueuePatch { on_dead: Some(block.map(dead)), ..none },
        Change::MaxAttempts(n) => QueuePatch { max_attempts: Some(*n), ..none },
        Change::Backoff(number) => QueuePatch { backoff: Some(number.map(backoff_of)), ..none },
        Change::Window(window) => QueuePatch { dedup_window: Some(*window), ..none },
        Change::Retain(0, keep) => QueuePatch { retain_completed: Some(*keep), ..none },
        Change::Retain(1, keep) => QueuePatch { retain_cancelled: Some(*keep), ..none },
        Change::Retain(_, keep) => QueuePatch { retain_dead: Some(*keep), ..none },
    }
}
