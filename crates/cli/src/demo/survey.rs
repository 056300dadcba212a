//! What the server holds, asked for over HTTP like anybody else would.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use onefold_core::{JobId, Timestamp};
use onefold_wire::{
    Added, Attempt, Event, Job, JobList, LeaseRequest, Leased, NewJob, Problem, QueueCounts, QueueList,
    SettleOp, SettleRequest, Settled,
};
use serde_json::Value;

use super::orders::{Order, POISON_QUEUE, QUEUE};
use crate::client::{CallError, Client};
use crate::failure::Failure;
use crate::time::given;

/// Where the demo itself leases a job after every start of the server.
const PROBE_QUEUE: &str = "probe";
/// How long a dead letter may take to be told.
const EVENT: Duration = Duration::from_secs(15);

/// A job as a list shows it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: JobId,
    pub(super) state: String,
    pub(super) attempts: u32,
    pub(super) group: Option<String>,
}

/// A job with its history.
#[derive(Debug)]
pub(super) struct History {
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) attempts: Vec<AttemptSeen>,
    pub(super) result: Value,
}

#[derive(Debug)]
pub(super) struct AttemptSeen {
    pub(super) number: u32,
    pub(super) token: u64,
    pub(super) worker: String,
    pub(super) started_at: Timestamp,
    pub(super) outcome: String,
    pub(super) late_successes: u64,
}

/// The one order nobody can charge.
#[derive(Debug)]
pub(super) struct Poison {
    pub(super) history: History,
    /// What the event stream said of it.
    pub(super) event: Option<String>,
    /// Whether the metrics count it.
    pub(super) counted: bool,
}

/// Every job of the orders' queue.
pub(super) async fn rows(client: &Client) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = client.get(&format!("/v1/jobs?queue={QUEUE}&limit=1000{cursor}")).await?;
        let page: JobList<'_> = answer.read()?;
        for job in &page.jobs {
            rows.push(Row {
                id: id(&job.id)?,
                state: job.state.to_string(),
                attempts: job.attempt,
                group: job.group.as_ref().map(ToString::to_string),
            });
        }
        match page.cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(rows),
        }
    }
}

pub(super) async fn history(client: &Client, id: JobId) -> Result<History, Failure> {
    let answer = client.get(&format!("/v1/jobs/{id}")).await?;
    let job: Job<'_> = answer.read()?;
    let attempt = |attempt: &Attempt<'_>| AttemptSeen {
        number: attempt.number,
        token: attempt.fencing_token,
        worker: attempt.worker.to_string(),
        started_at: given(&attempt.started_at),
        outcome: attempt.outcome.as_ref().map(ToString::to_string).unwrap_or_default(),
        late_successes: attempt.late_success.as_ref().map_or(0, |late| u64::from(late.count)),
    };
    Ok(History {
        state: job.state.to_string(),
        reason: job.reason.as_ref().map(ToString::to_string),
        finished_at: job.finished_at.as_ref().map(|at| given(at)),
        attempts: job.attempts.iter().flatten().map(attempt).collect(),
        result: job.result.and_then(|result| serde_json::from_str(result.get()).ok()).unwrap_or_default(),
    })
}

pub(super) async fn histories(
    client: &Client,
    ids: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, History>, Failure> {
    let mut histories = HashMap::new();
    for id in ids {
        histories.insert(id, history(client, id).await?);
    }
    Ok(histories)
}

/// The counts of every queue.
pub(super) async fn counts(client: &Client) -> Result<BTreeMap<String, QueueCounts>, Failure> {
    let answer = client.get("/v1/queues").await?;
    let list: QueueList<'_> = answer.read()?;
    Ok(list.queues.into_iter().map(|queue| (queue.name.into_owned(), queue.counts)).collect())
}

pub(super) fn unfinished(counts: &QueueCounts) -> u64 {
    counts.scheduled + counts.available + counts.running + counts.retrying
}

/// Adds, leases and completes a job of the demo's own: its token.
pub(super) async fn probe(client: &Client) -> Result<u64, Failure> {
    client.post(&format!("/v1/queues/{PROBE_QUEUE}/jobs"), &NewJob::default()).await?;
    let request = LeaseRequest {
        queues: vec![PROBE_QUEUE.into()],
        worker: Some("demo".into()),
        ..LeaseRequest::default()
    };
    let answer = client.post("/v1/leases", &request).await?;
    let leased: Leased<'_> = answer.read()?;
    let job =
        leased.jobs.first().ok_or_else(|| Failure::failed("a job that was just added cannot be leased"))?;
    let ops = vec![SettleOp::complete(job.id.clone(), job.fencing_token, None)];
    let answer = client.post("/v1/leases/settle", &SettleRequest { ops }).await?;
    let settled: Settled<'_> = answer.read()?;
    match settled.results.first() {
        Some(result) if result.ok => Ok(job.fencing_token),
        _ => Err(Failure::failed("a job that was just leased cannot be completed")),
    }
}

/// Sends another order under the key of an order that was accepted: how that was refused, `None` if it was not.
pub(super) async fn reuse_key(client: &Client, order: u32) -> Result<Option<Problem>, Failure> {
    let order = Order { cents: 1, ..Order::number(order) };
    let payload = order.payload()?;
    match client.post(&format!("/v1/queues/{QUEUE}/jobs"), &order.job(&payload, u32::MAX)).await {
        Ok(_) => Ok(None),
        Err(CallError::Refused(problem)) => Ok(Some(*problem)),
        Err(error) => Err(error.into()),
    }
}

/// Adds an order nobody can charge, and listens to what becomes of it.
pub(super) async fn poison(client: &Client) -> Result<Poison, Failure> {
    let path = format!("/v1/events?queue={POISON_QUEUE}&type=job.dead");
    let mut events = client.open(Method::GET, &path, None, EVENT).await?.into_body();
    let payload = serde_json::value::to_raw_value("not an order").map_err(Failure::failed)?;
    let job = NewJob {
        payload: Some(&payload),
        max_attempts: Some(2),
        backoff: Some(onefold_wire::Backoff::Fixed(onefold_wire::Span::Ms(50))),
        ..NewJob::default()
    };
    let answer = client.post(&format!("/v1/queues/{POISON_QUEUE}/jobs"), &job).await?;
    let added: Added<'_> = answer.read()?;
    let id = id(&added.id)?;
    let told = async {
        let mut stream = String::new();
        while let Some(Ok(frame)) = events.frame().await {
            stream.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[][..], |data| data)));
            if let Some(event) = stream.lines().find_map(|line| dead(line, id)) {
                return Some(event);
            }
        }
        None
    };
    // Whether it was told or not is for the verdict to say.
    let event = tokio::time::timeout(EVENT, told).await.unwrap_or(None);
    let metric = format!("onefold_jobs{{queue=\"{POISON_QUEUE}\",state=\"dead\"}} 1");
    let counted = client.get("/metrics").await?.text().lines().any(|line| line == metric);
    Ok(Poison { history: history(client, id).await?, event, counted })
}

/// The reason in an event that says that this job died.
fn dead(line: &str, id: JobId) -> Option<String> {
    let event: Event<'_> = serde_json::from_str(line.strip_prefix("data:")?.trim()).ok()?;
    let is_it = event.job.as_ref().is_some_and(|job| **job == *id.to_string()) && &*event.kind == "job.dead";
    is_it.then(|| event.reason.map(|reason| reason.into_owned()).unwrap_or_default())
}

fn id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|_| Failure::failed(format!("the server gave {text} as an id")))
}
