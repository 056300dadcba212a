//! One job from its first attempt to its end.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use onefold_core::{EffectAction, EffectOp, ListEffects, ResolveOutcome};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::Effects;
use crate::rusqlite::Connection;
use crate::{
    Backoff, BoxFuture, Context, DeadReason, DurationMs, EffectState, Embedded, HandlerError, Job, JobId,
    JobView, ReadyWorker, State, Worker,
};

const QUEUE: &str = "testkit";
/// Of the attempt that is struck: over soon.
const SHORT_LEASE: Duration = Duration::from_millis(150);
/// A job that is not finished by then is hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an attempt is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// Where it waits for the so-manieth time.
    Wait(u32),
    /// At its end, before the store hears of it.
    End,
}

/// How the first attempt is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// It is gone.
    Dropped(Point),
    /// It is stopped with its worker until another attempt has run to its end, and goes on then.
    Stopped(Point),
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Blow::Dropped(point) | Blow::Stopped(point)) = self;
        let point = match point {
            Point::Wait(number) => format!("where it waited for time {number}"),
            Point::End => "at its end, before the store heard of it".to_owned(),
        };
        match self {
            Blow::Dropped(_) => write!(f, "the first attempt was dropped {point}"),
            Blow::Stopped(_) => {
                write!(f, "the first attempt was stopped {point}, and went on beside another")
            }
        }
    }
}

/// What came of it.
pub(super) struct Played {
    /// How often each effect happened.
    pub(super) effects: BTreeMap<String, u64>,
    /// How often the first attempt waited.
    pub(super) waits: u32,
    /// What became of the job, if it was not completed.
    pub(super) unfinished: Option<String>,
    /// It died of a doubt about something that happened.
    pub(super) in_doubt: bool,
}

/// What the first attempt tells.
enum Told {
    /// It was struck.
    Struck,
    /// It is over: returned, or dropped. So often it waited.
    Over(u32),
}

/// A handler with its types taken away.
type Handler<T> =
    Arc<dyn Fn(Job<T>, Context) -> BoxFuture<Result<serde_json::Value, HandlerError>> + Send + Sync>;

#[expect(clippy::expect_used, reason = "in a test without a directory for temporary files nothing can go on")]
pub(super) async fn play<T, R, H, F>(handler: H, payload: T, blow: Option<Blow>) -> Played
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
    R: Serialize + 'static,
    H: Fn(Job<T>, Context, Effects) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, HandlerError>> + Send + 'static,
{
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let store = Embedded::open(dir.path()).await.expect("a store can be opened in a temporary directory");
    let effects = Effects::new(store.clone());
    let soon = Backoff::Fixed(DurationMs::from_ms(1));
    let id = store.queue::<T>(QUEUE).add(payload).backoff(soon).await.expect("the job can be added").id;
    let outside = effects.clone();
    let handler: Handler<T> = Arc::new(move |job, ctx| {
        let run = handler(job, ctx, outside.clone());
        Box::pin(async move { Ok(serde_json::to_value(run.await?)?) })
    });
    let mut first = First::start(&store, Arc::clone(&handler), blow);
    let waits = match first.tells().await {
        Told::Over(waits) => waits,
        Told::Struck => 0,
    };
    if let Some(Blow::Dropped(_)) = blow {
        first.drop_it();
    }
    let second = Second::start(&store, handler, blow.is_some());
    let mut job = finished(&store, id).await;
    let effects_now = || {
        let database = Connection::open(dir.path().join("onefold.db")).expect("the database can be read");
        effects.counted(&database)
    };
    let in_doubt = |job: &JobView| job.reason == Some(DeadReason::Indeterminate);
    first.go_on().await;
    if in_doubt(&job) && release_what_did_not_happen(&store, &effects_now()).await {
        job = finished(&store, retried(&store, id).await).await;
    }
    second.stop().await;
    let _ = store.close().await;
    let completed = job.state == State::Completed;
    let why = job.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    Played {
        effects: effects_now(),
        waits,
        unfinished: (!completed).then(|| format!("{}{why}", job.state)),
        in_doubt: in_doubt(&job),
    }
}

async fn retried(store: &Embedded, id: JobId) -> JobId {
    let _ = store.retry(id).await;
    id
}

/// The job once it is completed, dead or cancelled, or as it is when patience ends.
#[expect(clippy::expect_used, reason = "the store is in use by this test alone, and keeps the job")]
async fn finished(store: &Embedded, id: JobId) -> JobView {
    // What it returned does not matter here.
    let _ = store.result::<serde_json::Value>(id, PATIENCE).await;
    store.get(id).await.expect("the job can be read").expect("the job is kept")
}

/// As an operator does who finds out that it did not happen. Whether there was such a step.
async fn release_what_did_not_happen(store: &Embedded, happened: &BTreeMap<String, u64>) -> bool {
    let Some(runtime) = store.runtime() else { return false };
    let engine = runtime.engine();
    let doubts =
        ListEffects { states: vec![EffectState::Indeterminate], limit: 100, ..ListEffects::default() };
    let page = engine.list_effects(doubts).await.unwrap_or_default();
    let not_happened = page.effects.iter().filter(|effect| !happened.contains_key(effect.key.as_str()));
    let release = |name| {
        let note = "it did not happen".to_owned();
        let action = EffectAction::Resolve { outcome: ResolveOutcome::Released, result: None, note };
        EffectOp { name, action }
    };
    let ops: Vec<EffectOp> = not_happened.map(|effect| release(effect.name())).collect();
    let any = !ops.is_empty();
    any && engine.effects(ops).await.is_ok()
}

/// The worker of the first attempt, on a thread of its own: it can be stopped with all it does.
struct First {
    tells: UnboundedReceiver<Told>,
    goes_on: Option<mpsc::Sender<()>>,
    end: Option<oneshot::Sender<()>>,
    is_struck: bool,
}

impl First {
    fn start<T>(store: &Embedded, handler: Handler<T>, blow: Option<Blow>) -> First
    where
        T: DeserializeOwned + Send + 'static,
    {
        let (tell, tells) = unbounded_channel();
        let (goes_on, wait_to_go_on) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let stops = Arc::new(std::sync::Mutex::new(Some(wait_to_go_on)));
        let lease = if blow.is_some() { SHORT_LEASE } else { PATIENCE };
        let worker = worker(store, lease).handle(move |job: Job<T>, ctx| {
            let is_first = ctx.attempt() == 1;
            let stopped = stops.lock().map(|mut stops| stops.take()).ok().flatten();
            Watched {
                handler: handler(job, ctx),
                blow: blow.filter(|_| is_first),
                stopped,
                tell: is_first.then(|| tell.clone()),
                waits: 0,
                is_gone: false,
            }
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            if let Ok(runtime) = runtime {
                // Dropped where it is, as by a crash.
                runtime.block_on(async {
                    tokio::select! {
                        _ = worker.run() => {}
                        _ = ended => {}
                    }
                });
            }
        });
        First { tells, goes_on: Some(goes_on), end: Some(end), is_struck: false }
    }

    async fn tells(&mut self) -> Told {
        let told = self.tells.recv().await.unwrap_or(Told::Over(0));
        self.is_struck = matches!(told, Told::Struck);
        told
    }

    fn drop_it(&mut self) {
        self.end.take();
    }

    /// If it is stopped, it goes on now; once this returns, its first attempt is over.
    async fn go_on(&mut self) {
        self.goes_on.take();
        while self.is_struck && self.end.is_some() && matches!(self.tells().await, Told::Struck) {}
        self.end.take();
    }
}

/// The worker of all attempts after one that was struck.
struct Second {
    running: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
}

impl Second {
    fn start<T>(store: &Embedded, handler: Handler<T>, is_needed: bool) -> Second
    where
        T: DeserializeOwned + Send + 'static,
    {
        let ready: ReadyWorker = worker(store, PATIENCE).handle(move |job: Job<T>, ctx| handler(job, ctx));
        let running = is_needed.then(|| {
            let (stop, stopped) = oneshot::channel();
            let run = ready.run_until(async {
                let _ = stopped.await;
            });
            (stop, tokio::spawn(async { drop(run.await) }))
        });
        Second { running }
    }

    async fn stop(self) {
        if let Some((stop, task)) = self.running {
            let _ = stop.send(());
            let _ = task.await;
        }
    }
}

fn worker(store: &Embedded, lease: Duration) -> Worker {
    Worker::new(store).queue(QUEUE).concurrency(1).lease(lease)
}

/// A handler's future that is struck where its blow says.
struct Watched {
    handler: BoxFuture<Result<serde_json::Value, HandlerError>>,
    blow: Option<Blow>,
    stopped: Option<mpsc::Receiver<()>>,
    tell: Option<UnboundedSender<Told>>,
    waits: u32,
    is_gone: bool,
}

impl Watched {
    fn tell(&self, told: Told) {
        if let Some(tell) = &self.tell {
            let _ = tell.send(told);
        }
    }

    /// Does what is to be done at a point. Whether the attempt is gone.
    fn reach(&mut self, here: Point) -> bool {
        let Some(blow @ (Blow::Dropped(at) | Blow::Stopped(at))) = self.blow else {
            return false;
        };
        if at != here {
            return false;
        }
        self.blow = None;
        self.tell(Told::Struck);
        self.is_gone = matches!(blow, Blow::Dropped(_));
        if let (Blow::Stopped(_), Some(stopped)) = (blow, self.stopped.take()) {
            // The whole thread stands, heartbeats and all.
            let _ = stopped.recv();
        }
        self.is_gone
    }
}

impl Future for Watched {
    type Output = Result<serde_json::Value, HandlerError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if self.is_gone {
            return Poll::Pending;
        }
        match self.handler.as_mut().poll(task) {
            Poll::Ready(outcome) => {
                if self.reach(Point::End) {
                    Poll::Pending
                } else {
                    Poll::Ready(outcome)
                }
            }
            Poll::Pending => {
                self.waits += 1;
                let here = Point::Wait(self.waits);
                self.reach(here);
                Poll::Pending
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tell(Told::Over(self.waits));
    }
}
