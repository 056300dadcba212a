//! Leasing jobs and saying what became of them.

use axum::extract::State;
use bytes::Bytes;
use onefold_core::{End, LeasedJob, SettleAction, SettleOp};
use onefold_wire::{self as wire, Leased, RawValue, SettleRequest, SettleResult, Settled, read};
use serde::Deserialize;

use crate::accept::Receipt;
use crate::answer::ok;
use crate::extract::{JsonBody, NoQuery, read_item};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::translate::lease::{leased, params};
use crate::translate::settle;

/// Leases jobs, waiting for them if asked to.
///
/// If the client goes away while the poll is parked, this future is dropped,
/// and with it the poll: it is given nothing. If the answer certainly did not
/// leave, the jobs are released, unless a repeat of the poll can ask for them.
#[utoipa::path(
    post,
    operation_id = "leaseJobs",
    path = "/v1/leases",
    tag = "Workers",
    request_body = wire::LeaseRequest<'static>,
    responses(
        (
            status = 200,
            description = "Jobs, each under its lease; none if there were none until the wait was over",
            body = Leased<'static>,
        ),
    ),
)]
pub(crate) async fn lease(State(app): State<AppState>, _: NoQuery, body: JsonBody) -> Answer {
    let params = params(body.read()?, app.config().token.as_ref())?;
    let can_be_repeated = params.poll.is_some();
    let jobs = app.engine().lease(params).await?;
    let told = jobs.iter().map(leased).collect::<Result<_, _>>()?;
    let mut answer = ok(&Leased { jobs: told });
    // Not before it is told: a job that cannot be must not be handed out again and again at no cost.
    if !can_be_repeated && !jobs.is_empty() {
        answer.extensions_mut().insert(release_unless_sent(&app, &jobs));
    }
    Ok(answer)
}

/// Gives the jobs back, at no cost to them, if the answer certainly did not leave.
fn release_unless_sent(app: &AppState, jobs: &[LeasedJob]) -> Receipt {
    let release = |job: &LeasedJob| {
        let token = job.attempt()?.token;
        Some(SettleOp { id: job.job.id, token, action: SettleAction::End(End::Release) })
    };
    let ops: Vec<SettleOp> = jobs.iter().filter_map(release).collect();
    let app = app.clone();
    Receipt::new(move || {
        // Outside a runtime the process is ending: the leases run out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Should it fail, the leases run out.
                if let Err(error) = app.engine().settle(ops).await {
                    tracing::debug!(%error, "jobs of an answer that was not delivered were not released");
                }
            });
        }
    })
}

/// Says what became of leased jobs.
#[utoipa::path(
    post,
    operation_id = "settleJobs",
    path = "/v1/leases/settle",
    tag = "Workers",
    request_body = SettleRequest<'static>,
    responses((status = 200, description = "One result per op, in order", body = Settled<'static>)),
)]
pub(crate) async fn settle(State(app): State<AppState>, _: NoQuery, body: JsonBody) -> Answer {
    let ops = read_ops(body.text(), &body.bytes)?;
    let mut sound = Vec::with_capacity(ops.len());
    let mut places: Vec<Result<(), Failure>> = Vec::with_capacity(ops.len());
    for op in ops {
        places.push(op.map(|op| sound.push(op)));
    }
    let mut outcomes =
        if sound.is_empty() { Vec::new().into_iter() } else { app.engine().settle(sound).await?.into_iter() };
    let draining = app.is_draining();
    let told = |place: Result<(), Failure>| -> SettleResult<'static> {
        match place.map(|()| outcomes.next()) {
            Ok(Some(Ok(settled))) => settle::done(&settled, draining),
            Ok(Some(Err(refusal))) => settle::refused(refusal.into(), draining),
            Ok(None) => settle::refused(Failure::internal("the store gave no outcome"), draining),
            Err(failure) => settle::refused(failure, draining),
        }
    };
    Ok(ok(&Settled { results: places.into_iter().map(told).collect() }))
}

/// Reads the operations. What is wrong with one is told of that one only.
fn read_ops(text: &str, body: &Bytes) -> Result<Vec<Result<SettleOp, Failure>>, Failure> {
    let translate = |op: wire::SettleOp<'_>| settle::op(op, body);
    if let Ok(request) = read::<SettleRequest<'_>>(text) {
        return Ok(request.ops.into_iter().map(translate).collect());
    }
    // Something is wrong somewhere: one by one.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct RawRequest<'a> {
        #[serde(borrow)]
        ops: Vec<&'a RawValue>,
    }
    let request: RawRequest<'_> = read(text)?;
    Ok(request.ops.into_iter().map(|op| translate(read_item(op)?)).collect())
}
