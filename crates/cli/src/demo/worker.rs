//! A worker: charges through the receiver, then acks. Sooner or later it is killed in between.

use std::time::Duration;

use clap::Args;
use onefold_core::JobId;
use onefold_wire::{
    self as wire, ErrorCode, LeaseRequest, LeasedJob, OpError, RawValue, SettleOp, SettleRequest,
};
use serde::Serialize;

use super::orders::{Order, POISON_QUEUE, QUEUE};
use super::producer::{post_until_answered, post_until_settled};
use super::receiver::{Charge, Receiver};
use super::report::{Leased, Outcome, Report, Settled};
use super::server_at;
use crate::client::{Answer, Client};
use crate::config::ServerUrl;
use crate::failure::Failure;

/// Jobs leased at once.
const BATCH: u32 = 8;
/// How long a lease is: short, so that nobody has to wait long for what a killed worker held.
pub(super) const LEASE: Duration = Duration::from_secs(1);
/// How long a poll waits for a job.
const WAIT: Duration = Duration::from_millis(500);
/// Every so many acks are said twice.
const REPEATED: u64 = 8;

/// One of the workers.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerArgs {
    #[arg(long)]
    server: ServerUrl,
    #[arg(long)]
    receiver: String,
    /// Charges only through the naive handler
    #[arg(long)]
    naive_only: bool,
}

/// What the worker keeps of a charge.
#[derive(Serialize)]
struct Done {
    naive: Charge,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyed: Option<Charge>,
}

/// The name under which this process leases jobs.
pub(super) fn name(pid: u32) -> String {
    format!("worker {pid}")
}

pub(super) async fn run(args: WorkerArgs) -> Result<(), Failure> {
    let client = server_at(args.server.clone())?;
    let receiver = Receiver::at(&args.receiver);
    let me = name(std::process::id());
    for poll in 1_u64.. {
        let request = LeaseRequest {
            queues: vec![QUEUE.into(), POISON_QUEUE.into()],
            max: Some(BATCH),
            wait: Some(span(WAIT)),
            lease: Some(span(LEASE)),
            worker: Some(me.as_str().into()),
            poll_id: Some(poll.to_string().into()),
            fair: None,
        };
        let (answer, _) = post_until_answered(&client, "/v1/leases", &request).await?;
        let leased: wire::Leased<'_> = answer.read()?;
        if leased.jobs.is_empty() {
            continue;
        }
        let jobs =
            leased.jobs.iter().map(|job| Ok((id(&job.id)?, job))).collect::<Result<Vec<_>, Failure>>()?;
        Report::Leased(jobs.iter().map(|(id, job)| lease(*id, job)).collect()).tell()?;
        let mut results = Vec::with_capacity(jobs.len());
        for (id, job) in &jobs {
            results.push(charge(&receiver, *id, job, args.naive_only).await?);
        }
        let ops = jobs.iter().zip(&results).map(|((_, job), result)| end(job, result.as_deref())).collect();
        settle(&client, &jobs, &SettleRequest { ops }, poll.is_multiple_of(REPEATED)).await?;
    }
    Ok(())
}

fn id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|_| Failure::failed(format!("{text} is not an id")))
}

fn span(duration: Duration) -> wire::Span<'static> {
    wire::Span::Ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn lease(id: JobId, job: &LeasedJob<'_>) -> Leased {
    let retry_until = job.retry_until.as_ref().map(ToString::to_string);
    Leased { id, attempt: job.attempt, token: job.fencing_token, retry_until }
}

/// Charges the customer, twice over: the naive way, which knows nothing of earlier attempts, and with the job's
/// idempotency key. `None` if it cannot be done.
async fn charge(
    receiver: &Receiver,
    id: JobId,
    job: &LeasedJob<'_>,
    naive_only: bool,
) -> Result<Option<Box<RawValue>>, Failure> {
    let order: Option<Order> = job.payload.and_then(|payload| serde_json::from_str(payload.get()).ok());
    let Some(order) = order else { return Ok(None) };
    let naive = receiver.charge_naively(&order).await?;
    let keyed = match naive_only {
        true => None,
        false => Some(receiver.charge(&order, &job.id).await?),
    };
    Report::Charged { id, attempt: job.attempt, token: job.fencing_token }.tell()?;
    serde_json::value::to_raw_value(&Done { naive, keyed }).map(Some).map_err(Failure::failed)
}

fn end<'a>(job: &LeasedJob<'a>, result: Option<&'a RawValue>) -> SettleOp<'a> {
    match result {
        Some(result) => SettleOp::complete(job.id.clone(), job.fencing_token, Some(result)),
        None => {
            let error = OpError {
                message: "this is no order".into(),
                kind: Some("unreadable".into()),
                retryable: None,
            };
            SettleOp::fail(job.id.clone(), job.fencing_token, error, None)
        }
    }
}

/// Settles until nothing of it is held by somebody's transaction.
async fn settle_until_final(client: &Client, request: &SettleRequest<'_>) -> Result<(Answer, bool), Failure> {
    post_until_settled(client, "/v1/leases/settle", request, |answer| {
        let settled: wire::Settled<'_> = answer.read()?;
        let waits = |result: &wire::SettleResult<'_>| {
            result.code.as_deref() == Some(ErrorCode::JobInProgress.as_str())
        };
        Ok(!settled.results.iter().any(waits))
    })
    .await
}

async fn settle(
    client: &Client,
    jobs: &[(JobId, &LeasedJob<'_>)],
    request: &SettleRequest<'_>,
    twice: bool,
) -> Result<(), Failure> {
    let (answer, again) = settle_until_final(client, request).await?;
    let first: wire::Settled<'_> = answer.read()?;
    let told = jobs.iter().zip(&first.results).map(|((id, job), result)| {
        let outcome = match (result.ok, result.state.as_deref(), result.code.as_deref()) {
            (true, Some("completed"), _) => Outcome::Completed,
            (true, _, _) => Outcome::Failed,
            (false, _, Some("lease-lost")) => Outcome::LeaseLost,
            (false, ..) => return Err(Failure::failed(format!("{id} could not be ended: {result:?}"))),
        };
        Ok(Settled { id: *id, token: job.fencing_token, outcome })
    });
    Report::Settled { results: told.collect::<Result<_, _>>()?, again }.tell()?;
    if twice {
        let (answer, _) = settle_until_final(client, request).await?;
        let second: wire::Settled<'_> = answer.read()?;
        // Where a job stands that another one holds by now may have changed.
        let same = |first: &wire::SettleResult<'_>, second: &wire::SettleResult<'_>| {
            first.ok == second.ok && first.code == second.code && (!first.ok || first.state == second.state)
        };
        let pairs = first.results.iter().zip(&second.results);
        let differently = pairs.filter(|(first, second)| !same(first, second)).count();
        Report::Repeated { ends: second.results.len() as u64, differently: differently as u64 }.tell()?;
    }
    Ok(())
}
