//! The handler of the runs, and a process of workers. It strikes itself down where its plan says so.

use std::net::SocketAddr;
use std::time::Duration;

use onefold::{
    Context, EffectError, EffectPolicy, HandlerError, Job, JobId, LocalTx, State, Worker, rusqlite,
};
use rustix::process::{Signal, getpid, kill_process};

use crate::ledger::ask;
use crate::store::Open;
use crate::{Fault, MAIL, Moment, PAYMENT, Plan, QUEUE, ROWS, Store, Way};

const CONCURRENCY: usize = 16;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where the receiver forgets its key.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(50);
/// The user's rows in an embedded store.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS charges (job TEXT NOT NULL)";

/// Works until nothing is unfinished any more.
///
/// # Panics
/// If the store cannot be opened.
pub async fn work(store: &Store, ledger: SocketAddr, way: Way) {
    let open = Open::open(store).await;
    let onefold = open.onefold().clone();
    let all_done = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            if let Ok(Some(queue)) = onefold.queue::<u64>(QUEUE).info().await
                && State::ALL.iter().filter(|s| !s.is_finished()).all(|s| queue.counts.of(*s) == 0)
            {
                return;
            }
        }
    };
    let worker = Worker::new(&onefold).queue(QUEUE).concurrency(CONCURRENCY).lease(store.lease());
    let handler = worker.handle({
        let open = open.clone();
        move |job: Job<u64>, ctx| {
            let run = Run { plan: Plan::new(job.payload), open: open.clone(), ledger, way, ctx };
            async move { run.handle().await }
        }
    });
    handler.run_until(all_done).await.expect("a worker goes on whatever happens to its store");
}

struct Run {
    plan: Plan,
    open: Open,
    ledger: SocketAddr,
    way: Way,
    ctx: Context,
}

/// Where a step fails, and how.
#[derive(Debug)]
struct Struck(Fault);

impl std::fmt::Display for Struck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the plan says {:?}", self.0)
    }
}

impl std::error::Error for Struck {}

impl Struck {
    fn of_effect(self) -> EffectError {
        match self.0 {
            Fault::NotApplied => EffectError::not_applied(self),
            Fault::Permanent => EffectError::permanent(self),
            Fault::Unknown | Fault::Fail | Fault::Kill | Fault::Stop | Fault::Panic => {
                EffectError::unknown(self)
            }
        }
    }
}

impl Run {
    async fn handle(&self) -> Result<u64, HandlerError> {
        let mail = self.external(0, MAIL, EffectPolicy::AtLeastOnce).await?;
        let payment = self.external(1, PAYMENT, EffectPolicy::AtMostOnce).await?;
        self.rows(mail + payment).await?;
        self.strike(2, Moment::Recorded)?;
        Ok(mail + payment)
    }

    /// A step that happens in the ledger. Gives its receipt.
    async fn external(&self, number: u64, step: &str, policy: EffectPolicy) -> Result<u64, HandlerError> {
        let naively = async || self.execute(number, step).await.map_err(|failed| format!("{failed:?}"));
        let receipt = match self.way {
            Way::Once => {
                let mut once = self.ctx.once(step).policy(policy);
                if step == MAIL && self.plan.is_forgotten() {
                    once = once.key_valid_for(FORGOTTEN_AFTER);
                }
                once.run(|| self.execute(number, step)).await?
            }
            Way::Plain => naively().await?,
            Way::MarkerFirst => {
                if self.asks_whether_new("mark", step).await? {
                    naively().await?
                } else {
                    0
                }
            }
            Way::MarkerAfter => {
                let receipt = if self.asks_whether_new("peek", step).await? { naively().await? } else { 0 };
                self.asks_whether_new("mark", step).await?;
                receipt
            }
        };
        ask(self.ledger, &format!("kept {} {step} {receipt}", self.ctx.job_id())).await?;
        self.strike(number, Moment::Recorded)?;
        Ok(receipt)
    }

    async fn execute(&self, number: u64, step: &str) -> Result<u64, EffectError> {
        self.strike(number, Moment::Begun).map_err(Struck::of_effect)?;
        let did = format!("did {} {step} {}", self.ctx.job_id(), self.ctx.fencing_token());
        let receipt = ask(self.ledger, &did).await?;
        self.strike(number, Moment::Happened).map_err(Struck::of_effect)?;
        Ok(receipt.parse()?)
    }

    async fn asks_whether_new(&self, how: &str, step: &str) -> Result<bool, HandlerError> {
        Ok(ask(self.ledger, &format!("{how} {} {step}", self.ctx.job_id())).await? == "new")
    }

    /// The step whose rows are in the store's database.
    async fn rows(&self, total: u64) -> Result<(), HandlerError> {
        let (job, plan, attempt) = (self.ctx.job_id(), self.plan, self.ctx.attempt());
        match (&self.open, self.way) {
            (Open::Embedded(store), Way::Once) => {
                let write = move |tx: &LocalTx<'_>| {
                    strike(plan, attempt, 2, Moment::Begun)?;
                    insert(tx, job)?;
                    strike(plan, attempt, 2, Moment::Happened)?;
                    Ok::<_, BoxError>(total)
                };
                store.commit_with(&self.ctx, ROWS, write).await?;
            }
            (Open::Embedded(_) | Open::Server(_), _) => {}
            (Open::Postgres(store, client), way) => {
                let mut client = client.lock().await;
                let tx = client.transaction().await?;
                let token = self.ctx.fencing_token();
                let done = match way {
                    Way::Once => store.once_in(&tx, job, token, ROWS, &total).await?.is_some(),
                    Way::Plain | Way::MarkerFirst | Way::MarkerAfter => false,
                };
                self.strike(2, Moment::Begun)?;
                if !done {
                    let row = "INSERT INTO public.charges (job) VALUES ($1)";
                    tx.execute(row, &[&job.to_string()]).await?;
                }
                self.strike(2, Moment::Happened)?;
                if way == Way::Once && plan.completes_in_rows() {
                    store.complete_in(&tx, job, token, &total).await?;
                }
                tx.commit().await?;
            }
        }
        Ok(())
    }

    fn strike(&self, step: u64, moment: Moment) -> Result<(), Struck> {
        strike(self.plan, self.ctx.attempt(), step, moment)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn insert(tx: &LocalTx<'_>, job: JobId) -> Result<(), rusqlite::Error> {
    tx.execute(TABLE, ())?;
    tx.execute("INSERT INTO charges (job) VALUES (?1)", [job.to_string()])?;
    Ok(())
}

/// Does what the plan says.
fn strike(plan: Plan, attempt: u32, step: u64, moment: Moment) -> Result<(), Struck> {
    match plan.fault(attempt, step, moment) {
        None => Ok(()),
        Some(Fault::Kill) => {
            signal(Signal::KILL);
            Ok(())
        }
        Some(Fault::Stop) => {
            signal(Signal::STOP);
            Ok(())
        }
        Some(Fault::Panic) => panic!("the plan says so"),
        Some(fault) => Err(Struck(fault)),
    }
}

fn signal(signal: Signal) {
    kill_process(getpid(), signal).expect("a process may strike itself");
}
