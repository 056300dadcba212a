//! A schedule that ticks each second, whatever is killed, and what became of its ticks.

use std::collections::BTreeMap;

use onefold_core::schedule::{Interval, Pattern, Schedule, Tick, Timing};
use onefold_core::{DurationMs, Timestamp};
use onefold_wire::{self as wire, LeaseRequest, Leased, NewSchedule, SettleOp, SettleRequest, Settled, Span};

use crate::client::Client;
use crate::failure::Failure;
use crate::time::given;

/// Where its jobs go, and what it is called.
pub(super) const QUEUE: &str = "ticks";
const SECOND: DurationMs = DurationMs::from_ms(1_000);
/// Jobs leased with one call.
const LEASED: u32 = 1_000;

/// What became of the ticks.
#[derive(Debug)]
pub(super) struct Ticks {
    /// Those there were, from the making of the schedule to its last.
    pub(super) due: Vec<Timestamp>,
    /// Jobs of each tick that was ever delivered.
    pub(super) jobs: BTreeMap<Timestamp, u32>,
    /// Those the schedule says it dropped.
    pub(super) dropped: u64,
}

fn timing() -> Result<Timing, Failure> {
    let interval =
        Interval::new(SECOND, Timestamp::EPOCH).map_err(|error| Failure::failed(error.to_string()))?;
    Timing::new(Pattern::Every(interval), None, None).map_err(|error| Failure::failed(error.to_string()))
}

/// Makes the schedule. Each of its ticks wants a job, however late somebody comes to look.
pub(super) async fn begin(client: &Client) -> Result<(), Failure> {
    let schedule = NewSchedule {
        every: Some(Span::from(SECOND.to_string())),
        queue: QUEUE.into(),
        missed: Some("all".into()),
        ..NewSchedule::default()
    };
    client.put(&format!("/v1/schedules/{QUEUE}"), &schedule).await?;
    Ok(())
}

/// Ends it, and works on what it added.
pub(super) async fn end(client: &Client) -> Result<Ticks, Failure> {
    let answer = client.post_bytes(&format!("/v1/schedules/{QUEUE}/pause"), "{}".into()).await?;
    let schedule: wire::Schedule<'_> = answer.read()?;
    let last = schedule.last_tick.as_deref().map(given).unwrap_or(Timestamp::EPOCH);
    let timing = timing()?;
    let ticks = timing.ticks_after(given(&schedule.created_at)).map(Tick::at);
    let due = ticks.take_while(|tick| *tick <= last).collect();
    let mut jobs: BTreeMap<Timestamp, u32> = BTreeMap::new();
    loop {
        let request = LeaseRequest {
            queues: vec![QUEUE.into()],
            max: Some(LEASED),
            worker: Some("demo".into()),
            ..LeaseRequest::default()
        };
        let answer = client.post("/v1/leases", &request).await?;
        let leased: Leased<'_> = answer.read()?;
        if leased.jobs.is_empty() {
            break;
        }
        for job in &leased.jobs {
            let headers = job.headers.iter().flat_map(|headers| &headers.0);
            let mut tick = headers.filter(|(name, _)| &**name == Schedule::TICK_HEADER);
            let (_, at) = tick.next().ok_or_else(|| Failure::failed("a job of a schedule names no tick"))?;
            *jobs.entry(given(at)).or_default() += 1;
        }
        let complete =
            |job: &wire::LeasedJob<'_>| SettleOp::complete(job.id.to_string(), job.fencing_token, None);
        let ops = leased.jobs.iter().map(complete).collect();
        let answer = client.post("/v1/leases/settle", &SettleRequest { ops }).await?;
        let settled: Settled<'_> = answer.read()?;
        if settled.results.iter().any(|result| !result.ok) {
            return Err(Failure::failed("a job that was just leased cannot be completed"));
        }
    }
    Ok(Ticks { due, jobs, dropped: schedule.ticks.missed + schedule.ticks.overlapped })
}
