//! Delivers leased jobs: from a lease to what is to be written of it.
//!
//! What is leased beyond what can start at once is bounded by what a lane did of late: a target that hangs has nobody
//! waiting here, however many jobs it has in the store.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onefold_core::{
    BoxFuture, Clock, DurationMs, End, Engine, Entropy, FencingToken, JobError, JobId, Lane, LeasedJob,
    Origin, Parked, ParkedTargets, Payload, SettleAction, SettleOp, Target,
};
use onefold_runtime::{Deliverer, Room};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::stored::{StoredAnswer, exchange};
use crate::{
    Answer, Cause, Client, Delivery, DeliveryHeaders, Health, JobVerdict, KeyRing, LaneLimits, LaneNews,
    LaneState, Lanes, Pass, Report, Stamp,
};

/// How long a job may wait here for its turn before it is given back.
const WAIT_MAX: DurationMs = DurationMs::from_ms(5_000);
/// How often it is looked at what lanes did of late.
const WINDOW: DurationMs = DurationMs::from_ms(1_000);
/// Jobs leased for a lane beyond its slots, at the most.
const AHEAD_MAX: u32 = 100;
/// Jobs of one lease at the most.
const LEASE_MAX: u32 = 500;
/// Between two sweeps of connections nobody uses.
const SWEEP: DurationMs = DurationMs::from_ms(10_000);

/// What a [`HttpDeliverer`] is made of.
pub struct DelivererParts {
    /// Makes the requests.
    pub client: Client,
    /// Remembers which targets are gone.
    pub engine: Arc<dyn Engine>,
    /// What signs them. May change at any time.
    pub keys: watch::Receiver<KeyRing>,
    /// How many at once.
    pub lanes: LaneLimits,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For backoff and rests.
    pub entropy: Arc<dyn Entropy>,
}

/// Delivers over HTTP.
pub struct HttpDeliverer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    engine: Arc<dyn Engine>,
    keys: watch::Receiver<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    slots: u32,
    state: Mutex<State>,
    told: Notify,
}

struct State {
    lanes: Lanes<Origin, Waiting>,
    /// What each lane that is in use did of late.
    pace: HashMap<Origin, Pace>,
    running: HashMap<(JobId, FencingToken), CancellationToken>,
    to_tell: Vec<SettleOp>,
    /// Targets that said that they are gone, and that is not durable yet.
    gone: Vec<(Origin, Parked)>,
    /// Targets that are parked in the store, as far as is known here.
    parked: HashSet<Origin>,
    window_ends: DurationMs,
    sweep_at: DurationMs,
    draining: bool,
}

/// A job that waits for its turn.
struct Waiting {
    job: Box<LeasedJob>,
    since: DurationMs,
}

/// What a lane did of late.
#[derive(Debug, Default, Clone, Copy)]
struct Pace {
    /// Deliveries that ended in this window.
    ended: u32,
    /// Those of the window before: as many may be leased ahead.
    ahead: u32,
}

impl HttpDeliverer {
    /// One that has nothing to do yet.
    pub fn new(parts: DelivererParts) -> HttpDeliverer {
        let now = parts.clock.monotonic();
        let slots = parts.lanes.slots.max(1);
        let state = State {
            lanes: Lanes::new(parts.lanes, Arc::clone(&parts.entropy)),
            pace: HashMap::new(),
            running: HashMap::new(),
            to_tell: Vec::new(),
            gone: Vec::new(),
            parked: HashSet::new(),
            window_ends: now.saturating_add(WINDOW),
            sweep_at: now.saturating_add(SWEEP),
            draining: false,
        };
        let DelivererParts { client, engine, keys, clock, entropy, .. } = parts;
        let shared = Shared {
            client,
            engine,
            keys,
            clock,
            entropy,
            slots,
            state: Mutex::new(state),
            told: Notify::new(),
        };
        HttpDeliverer { shared: Arc::new(shared) }
    }
}

impl Deliverer for HttpDeliverer {
    fn room(&self) -> Room {
        let now = self.shared.clock.monotonic();
        let mut state = self.shared.lock();
        self.shared.look_around(&mut state, now);
        Shared::start(&self.shared, &mut state, now);
        if state.draining {
            return Room::default();
        }
        let waiting = u32::try_from(state.lanes.waiting()).unwrap_or(u32::MAX);
        let mut max = self.shared.slots.saturating_sub(state.lanes.running()).saturating_sub(waiting);
        let (mut lanes, mut again_at) = (HashMap::new(), state.lanes.wake_at());
        for (origin, room) in state.lanes.rooms(now) {
            // Only a lane that keeps its slots busy is given more than those.
            let ahead = state.pace.get(origin).filter(|_| room.steady).map_or(0, |pace| pace.ahead);
            let ahead = ahead.saturating_sub(room.waiting);
            max = max.saturating_add(ahead);
            again_at = again_at.into_iter().chain(room.opens_at).min();
            // Of two origins with one lane, the one that could take less.
            let place = lanes.entry(Lane::of(origin)).or_insert(u32::MAX);
            *place = (room.free + ahead).min(*place);
        }
        Room { max: max.min(LEASE_MAX), per_lane: state.lanes.per_lane(), lanes, again_at }
    }

    fn take(&self, job: LeasedJob) {
        let now = self.shared.clock.monotonic();
        let mut state = self.shared.lock();
        let Target::Http(target) = &job.spec.target else {
            return self.shared.tell(&mut state, give_back(&job, End::Release));
        };
        let origin = target.url.origin();
        if state.draining {
            return self.shared.tell(&mut state, give_back(&job, End::Release));
        }
        let waiting = Waiting { job: Box::new(job), since: now };
        match state.lanes.offer(origin, waiting, now) {
            Ok(()) => Shared::start(&self.shared, &mut state, now),
            Err(waiting) => self.shared.tell(&mut state, give_back(&waiting.job, End::Release)),
        }
    }

    fn told(&self) -> BoxFuture<'_, Vec<SettleOp>> {
        Box::pin(async move {
            loop {
                let told = self.shared.told.notified();
                let ops = std::mem::take(&mut self.shared.lock().to_tell);
                if !ops.is_empty() {
                    return ops;
                }
                told.await;
            }
        })
    }

    fn call_off(&self, job: JobId, token: FencingToken) {
        let mut state = self.shared.lock();
        if let Some(running) = state.running.remove(&(job, token)) {
            running.cancel();
        }
        state.lanes.withdraw(|waiting| is(waiting, job, token));
    }

    fn give_back(&self, job: JobId, token: FencingToken) {
        let mut state = self.shared.lock();
        for waiting in state.lanes.withdraw(|waiting| is(waiting, job, token)) {
            self.shared.tell(&mut state, give_back(&waiting.job, End::Release));
        }
    }

    fn drain(&self) {
        let mut state = self.shared.lock();
        state.draining = true;
        for waiting in state.lanes.withdraw(|_| true) {
            self.shared.tell(&mut state, give_back(&waiting.job, End::Release));
        }
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let gone = std::mem::take(&mut self.shared.lock().gone);
            let engine = self.shared.engine.as_ref();
            let looked = match gone.is_empty() {
                true => ParkedTargets::of(engine).await,
                false => {
                    let park = |parked: &mut ParkedTargets| {
                        gone.iter().for_each(|(origin, why)| parked.park(origin, why.clone()));
                    };
                    ParkedTargets::change(engine, park).await
                }
            };
            match looked {
                Ok(parked) => self.shared.parked_are(&parked),
                Err(error) => {
                    tracing::warn!(%error, "it is not known which targets are parked; it is tried again");
                    self.shared.lock().gone.extend(gone);
                }
            }
        })
    }
}

fn is(waiting: &Waiting, job: JobId, token: FencingToken) -> bool {
    waiting.job.job.id == job && waiting.job.job.held_by(token)
}

fn give_back(job: &LeasedJob, end: End) -> Vec<SettleOp> {
    let op = |token| SettleOp { id: job.job.id, token, action: SettleAction::End(end.clone()) };
    job.attempt().map(|attempt| op(attempt.token)).into_iter().collect()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what the store says: parks what somebody else found gone, starts again what was resumed.
    fn parked_are(&self, parked: &ParkedTargets) {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        let listed: HashSet<Origin> = parked.origins().collect();
        let before = std::mem::take(&mut state.parked);
        for origin in listed.difference(&before) {
            tracing::warn!(%origin, "parked: the target said that it is gone; `onefold targets resume` goes on");
            state.lanes.park(origin.clone());
        }
        for origin in before.difference(&listed) {
            tracing::info!(%origin, "the target is delivered to again");
            state.lanes.resume(origin, now);
        }
        state.parked = listed;
    }

    fn tell(&self, state: &mut State, ops: Vec<SettleOp>) {
        state.to_tell.extend(ops);
        self.told.notify_one();
    }

    /// Gives back what waited for too long, or in a lane that starts nothing now, and forgets what nobody uses.
    fn look_around(&self, state: &mut State, now: DurationMs) {
        let shut: Vec<Origin> = state
            .lanes
            .rooms(now)
            .filter(|(_, room)| room.waiting > 0 && !room.steady)
            .map(|(o, _)| o.clone())
            .collect();
        let mut back: Vec<Waiting> =
            state.lanes.withdraw(|waiting| waiting.since.saturating_add(WAIT_MAX) <= now);
        for origin in shut {
            // Of those that wait for a rest to end one may stay, to ask.
            if state.lanes.view(&origin, now).is_some_and(|view| view.state != LaneState::Open) {
                back.extend(state.lanes.take_waiting(&origin));
            }
        }
        for waiting in back {
            self.tell(state, give_back(&waiting.job, End::Release));
        }
        if state.window_ends <= now {
            state.window_ends = now.saturating_add(WINDOW);
            for pace in state.pace.values_mut() {
                *pace = Pace { ended: 0, ahead: pace.ended.min(AHEAD_MAX) };
            }
            state.pace.retain(|_, pace| pace.ahead > 0);
            state.lanes.forget_idle(now);
        }
        if state.sweep_at <= now {
            state.sweep_at = now.saturating_add(SWEEP);
            self.client.close_idle();
        }
    }

    /// Starts whatever there is a slot for.
    fn start(shared: &Arc<Shared>, state: &mut State, now: DurationMs) {
        while let Some(started) = state.lanes.start(now) {
            let job = started.item.job;
            let Some(token) = job.attempt().map(|attempt| attempt.token) else { continue };
            let called_off = CancellationToken::new();
            state.running.insert((job.job.id, token), called_off.clone());
            let run = Run {
                shared: Arc::clone(shared),
                origin: started.lane,
                pass: Some(started.pass),
                key: (job.job.id, token),
            };
            tokio::spawn(run.make(job, called_off));
        }
    }
}

/// A delivery that runs: holds its slot, and gives it back however it ends.
struct Run {
    shared: Arc<Shared>,
    origin: Origin,
    pass: Option<Pass>,
    key: (JobId, FencingToken),
}

impl Run {
    async fn make(mut self, job: Box<LeasedJob>, called_off: CancellationToken) {
        let made = tokio::select! {
            biased;
            () = called_off.cancelled() => return,
            made = self.shared.deliver(&job) => made,
        };
        let Made { news, ops } = made;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        // What was called off meanwhile is told by nobody.
        if state.running.remove(&self.key).is_some() {
            shared.tell(&mut state, ops);
        }
        self.end(&mut state, news);
        state.pace.entry(self.origin.clone()).or_default().ended += 1;
        Shared::start(&shared, &mut state, shared.clock.monotonic());
    }

    fn end(&mut self, state: &mut State, news: LaneNews) {
        if let Some(pass) = self.pass.take() {
            let now = self.shared.clock.monotonic();
            if state.lanes.finish(&self.origin, pass, news, now) {
                let why = Parked { since: self.shared.clock.now().to_string(), job: self.key.0.to_string() };
                state.gone.push((self.origin.clone(), why));
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.pass.is_some() {
            let shared = Arc::clone(&self.shared);
            let mut state = shared.lock();
            state.running.remove(&self.key);
            self.end(&mut state, LaneNews { health: Health::Unknown, pause: None });
            shared.told.notify_one();
        }
    }
}

/// What came of a delivery.
struct Made {
    news: LaneNews,
    ops: Vec<SettleOp>,
}

impl Shared {
    async fn deliver(&self, job: &LeasedJob) -> Made {
        let now = self.clock.now();
        let (Some(target), Some(attempt)) = (job.spec.target.http(), job.attempt()) else {
            return Made {
                news: LaneNews { health: Health::Unknown, pause: None },
                ops: give_back(job, End::Release),
            };
        };
        let keys = self.keys.borrow().of(&target.url.origin()).clone();
        let stamp = Stamp {
            job: job.job.id,
            attempt: attempt.number,
            token: attempt.token,
            retry_until: job.job.retry_until,
            traceparent: job.spec.traceparent.as_ref(),
            job_headers: &job.spec.headers,
            now,
        };
        let (body, content_type) = match &job.spec.payload {
            Payload::Absent => (bytes::Bytes::new(), None),
            Payload::Json(text) => (text.clone(), Some("application/json")),
            Payload::Raw { bytes, content_type } => (bytes.clone(), Some(content_type.as_str())),
        };
        let headers =
            match DeliveryHeaders::new(&target.url, &stamp, &target.headers, content_type, &keys, &body) {
                Ok(headers) => headers,
                // Media types and headers are checked when they are accepted.
                Err(refused) => {
                    let error =
                        JobError { message: refused.to_string(), kind: Some("invalid-header".to_owned()) };
                    let end = End::Fail { error, retryable: false, retry_in: None };
                    let news = LaneNews { health: Health::Unknown, pause: None };
                    return Made { news, ops: give_back(job, end) };
                }
            };
        let left = attempt.deadline.since(now);
        let delivery = Delivery {
            url: target.url.clone(),
            method: target.method,
            headers,
            body,
            timeout: target.timeout().min(left),
            fresh_connection: is_last(job),
        };
        let report = self.client.deliver(delivery).await;
        let verdict = report.verdict(self.clock.now());
        let exchange = exchange(target, &report, verdict.job == JobVerdict::Complete);
        let action = SettleAction::Exchange(Box::new(exchange));
        let mut ops = vec![SettleOp { id: job.job.id, token: attempt.token, action }];
        ops.extend(give_back(job, self.end_of(job, &verdict.job, &report)));
        Made { news: verdict.lane, ops }
    }

    fn end_of(&self, job: &LeasedJob, verdict: &JobVerdict, report: &Report) -> End {
        let error =
            |cause: &Cause| JobError { message: cause.to_string(), kind: Some(cause.code().into_owned()) };
        match verdict {
            JobVerdict::Complete => End::Complete { result: report.answer().map(result) },
            JobVerdict::Fail { cause, not_before: None } => {
                End::Fail { error: error(cause), retryable: true, retry_in: None }
            }
            JobVerdict::Fail { cause, not_before: Some(_) } => {
                let backoff = job.spec.backoff.clone().unwrap_or_default();
                let wait = verdict.wait(backoff.wait(job.job.failures + 1, self.entropy.as_ref()));
                End::Fail { error: error(cause), retryable: true, retry_in: Some(wait) }
            }
            JobVerdict::FailForGood { cause } => {
                End::Fail { error: error(cause), retryable: false, retry_in: None }
            }
            JobVerdict::Snooze { delay, .. } => End::Snooze { delay: *delay },
        }
    }
}

/// Whether a failure of this attempt ends the job.
fn is_last(job: &LeasedJob) -> bool {
    job.job.failures.saturating_add(job.job.lost_leases).saturating_add(1) >= job.job.max_attempts
}

/// The result of a delivered job: what its target answered.
fn result(answer: &Answer) -> bytes::Bytes {
    let text = serde_json::to_vec(&StoredAnswer::of(answer)).unwrap_or_default();
    bytes::Bytes::from(text)
}
