//! Rates of queues: how many leases may begin now, counted under the queue's lock and so over all nodes.

use std::collections::BTreeMap;

use onefold_core::{Rate, Starts, limits};

use crate::error::{Outcome, corrupt};
use crate::params;
use crate::rows::QueueNumber;
use crate::sql;
use crate::work::Work;

/// Locks queues. What others leased before this was had did not begin after it: a time before theirs would be taken for a clock
/// that was set back.
pub(super) async fn lock(work: &mut Work, queues: Vec<QueueNumber>) -> Outcome<()> {
    for row in &work.rows(sql::LOCK_QUEUES, params![queues]).await? {
        if let Some(later) = work.tx.time_in(row, 1)? {
            work.now = work.now.max(later);
        }
    }
    Ok(())
}

/// What counts for the rates of these queues; queues of which nothing does are left out.
pub(super) async fn starts(
    work: &mut Work,
    queues: Vec<QueueNumber>,
) -> Outcome<BTreeMap<QueueNumber, Starts>> {
    let mut found = BTreeMap::new();
    if queues.is_empty() {
        return Ok(found);
    }
    for row in work.rows(sql::STARTS, params![queues]).await? {
        let starts = serde_json::from_str(row.try_get(1)?);
        found.insert(row.try_get(0)?, starts.map_err(|error| corrupt(&format!("starts: {error}")))?);
    }
    Ok(found)
}

/// Remembers what counts for a rate. Only under the queue's lock.
pub(super) async fn keep(work: &mut Work, queue: QueueNumber, rate: Rate, starts: &Starts) -> Outcome<()> {
    let text = serde_json::to_string(starts).map_err(|error| corrupt(&error.to_string()))?;
    let full_until = starts.full_until(rate, work.now);
    if let Some(until) = full_until {
        work.effects.due = Some(work.effects.due.map_or(until, |earlier| earlier.min(until)));
    }
    let last = starts.last().map_or(i64::MIN, |at| at.as_unix_ms());
    work.rows(sql::PUT_STARTS, params![queue, text, last, full_until.map(|at| at.as_unix_ms())]).await?;
    Ok(())
}

/// Has parked polls be looked at again where a rate has room for them since the last tick; what began in a future that
/// was taken back with the clock counts from now on.
pub(super) async fn open(work: &mut Work) -> Outcome<()> {
    let now = work.now.as_unix_ms();
    let rows = work.rows(sql::AHEAD_RATES, params![now]).await?;
    let ahead = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<QueueNumber>, _>>()?;
    if !ahead.is_empty() {
        lock(work, ahead.clone()).await?;
        let rows = work.rows(sql::QUEUES_BY_NUMBER, params![ahead.clone()]).await?;
        work.read_queues(&rows)?;
        for (queue, mut starts) in starts(work, ahead).await? {
            starts.settle(work.now);
            if let Some(rate) = work.queue(queue)?.settings.rate {
                keep(work, queue, rate, &starts).await?;
            }
        }
    }
    let since = work.now.saturating_sub(limits::WAIT_MAX).as_unix_ms();
    let rows = work.rows(sql::OPENED_RATES, params![since, now]).await?;
    for queue in work.read_queues(&rows)? {
        work.hint(queue);
    }
    Ok(())
}
