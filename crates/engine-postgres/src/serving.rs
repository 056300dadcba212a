//! What a node does beside its callers' operations: begins to serve, ticks, parks calls.

use std::sync::Arc;

use onefold_core::promise::Resolver;
use onefold_core::{DurationMs, EngineError, EngineResult, LeaseParams, LeasedJob, Ticked, limits};

use crate::engine::Lease;
use crate::lanes::Lanes;
use crate::local::{Parked, Reading};
use crate::node::{Node, Verdict, commit};
use crate::ops::lease::Given;
use crate::ops::tick;
use crate::{ops, params, schedules, sql};

/// How long a reading of the database's clock may take to be one.
const READING_WITHIN: DurationMs = DurationMs::from_ms(500);
/// When to tick again if what is due could not be had.
const A_MOMENT: DurationMs = DurationMs::from_ms(100);

/// Raises tokens, and gives live leases their full length if nobody served for a while.
pub(crate) async fn begin_to_serve(node: &Arc<Node>) -> EngineResult<()> {
    node.raise_tokens().await?;
    if node_seen(node).await?.nobody_served {
        node.renew_leases().await?;
    }
    schedules::follow_tz(node).await
}

/// What a node finds as it says that it serves.
struct Seen {
    /// Nobody did for too long.
    nobody_served: bool,
    /// The clock was stepped since it last said so.
    clock_stepped: bool,
}

async fn node_seen(node: &Node) -> EngineResult<Seen> {
    let name = &node.name;
    let gap = i64::try_from(node.serve_gap.as_millis()).unwrap_or(i64::MAX);
    let before = node.clock.monotonic();
    let (nobody_served, now) = commit!(node, |work| async {
        let rows = work.rows(sql::NODE_SEEN, params![name.clone(), gap]).await?;
        Ok((rows.first().is_some_and(|row| row.try_get(0).unwrap_or(true)), work.now))
    })?;
    let monotonic = node.clock.monotonic();
    // A reading that took so long says nothing about steps.
    let is_sharp = monotonic.saturating_sub(before) < READING_WITHIN;
    Ok(Seen { nobody_served, clock_stepped: is_sharp && node.local.stepped(&Reading { now, monotonic }) })
}

/// Does what is due, hands out what became leasable, ends the waits that are over.
pub(crate) async fn one_tick(node: &Arc<Node>) -> EngineResult<Ticked> {
    let Seen { nobody_served, clock_stepped } = node_seen(node).await?;
    node.local.forget_due();
    if clock_stepped || nobody_served {
        node.renew_leases().await?;
    } else {
        node.renew_left().await?;
    }
    let retires = node.local.is_time_to_retire(node.clock.monotonic(), node.retention_slack);
    let (schedules, done) = schedules::evaluate_beside(node, retires).await?;
    let mut swept = commit!(node, |work| tick::sweep(work))?.more;
    swept |= commit!(node, |work| ops::effects::retire(work))?.more;
    if retires {
        swept |= commit!(node, |work| tick::old_keys(work))?.more;
    }
    if retires && (done.more || swept) {
        node.local.retire_again();
    }
    node.serve_once().await;
    node.local.end_waits(node.clock.monotonic());
    let (due, now) = commit!(node, |work| async { Ok((tick::next_due(work).await?, work.now)) })?;
    let a_minute = now.saturating_add(limits::WAIT_MAX);
    let found = match due.map_or(a_minute, |due| due.min(a_minute)) {
        _ if done.more || swept || schedules.more => now,
        // Whoever is at what is due is not done with it yet.
        due if due <= now && done.due + done.expired + done.purged + schedules.ticks == 0 => {
            now.saturating_add(A_MOMENT)
        }
        due => due,
    };
    let next = node.local.ticked(found, node.clock.as_ref());
    let tick::Done { due, expired, purged, .. } = done;
    Ok(Ticked { next, due, ticks: schedules.ticks, expired, purged, clock_stepped })
}

/// Leases now, or parks the call.
pub(crate) async fn lease_or_park(
    node: &Arc<Node>,
    leases: &Arc<Lanes<Lease>>,
    params: LeaseParams,
    answer: Resolver<Vec<LeasedJob>>,
) -> EngineResult<()> {
    node.local.open()?;
    // The repeat of a poll waits for the poll.
    let _alone = match params.poll {
        Some(poll) => Some(node.poll_lock(poll).await),
        None => None,
    };
    if node.local.is_draining() {
        let call = &params;
        let held = match params.poll {
            Some(_) => commit!(node, |work| ops::lease::held(work, call))?,
            None => Vec::new(),
        };
        // Whoever it was first given to has it.
        let _ = answer.resolve(held);
        return Ok(());
    }
    if let Some(poll) = params.poll {
        node.local.end_parked(poll);
    }
    let given = leases.call(Lease(params.clone())).await.ok_or(EngineError::Closed)??;
    let leased = match given {
        Given::Held(held) => {
            let _ = answer.resolve(held);
            return Ok(());
        }
        Given::New(leased) => leased,
    };
    if leased.is_empty() && !params.wait.is_zero() {
        let until = node.clock.monotonic().saturating_add(params.wait);
        let queues = params.queues.iter().cloned().collect();
        node.local.park(Parked { params, until, in_doubt: false, answer }, node.clock.as_ref());
        // What became leasable between the look and the parking has told nobody.
        node.hint(&queues);
        return Ok(());
    }
    if let Err(unwanted) = answer.resolve(leased) {
        node.release(unwanted).await;
    }
    Ok(())
}
