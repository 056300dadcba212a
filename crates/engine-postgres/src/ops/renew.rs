//! Giving live leases their full length again.

use onefold_core::{IllegalTransition, State, Timestamp, rules};

use crate::error::Outcome;
use crate::params;
use crate::sql;
use crate::work::Work;

/// Leases that were to be renewed.
pub(crate) struct Renewed {
    /// Where to go on, if there are more.
    pub(crate) next: Option<RenewedTo>,
    /// Those whose jobs are in somebody's open transaction.
    pub(crate) left: Vec<i64>,
}

/// How far live leases were given their full length again: those that were extended first, then the others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RenewedTo {
    /// Rows of `leases`, up to this job.
    Extended(i64),
    /// Rows of `watches`, up to this one.
    Watched(i64, i64),
}

/// Gives live leases their full length again: `Some` place to go on from while there are more.
pub(crate) async fn renew(work: &mut Work, after: RenewedTo) -> Outcome<Renewed> {
    const BATCH: i64 = 1_000;
    const WATCHES: i64 = 4;
    let mut seqs: Vec<i64> = Vec::new();
    let next = match after {
        RenewedTo::Extended(seq) => {
            let rows = work.rows(sql::ALL_LEASES, params![seq, BATCH]).await?;
            for row in &rows {
                seqs.push(row.try_get(0)?);
            }
            let last = seqs.last().filter(|_| seqs.len() as i64 == BATCH);
            Some(last.map_or(RenewedTo::Watched(i64::MIN, i64::MIN), |last| RenewedTo::Extended(*last)))
        }
        RenewedTo::Watched(check, id) => {
            let rows = work.rows(sql::ALL_WATCHES, params![check, id, WATCHES]).await?;
            let mut last = None;
            for row in &rows {
                last = Some(RenewedTo::Watched(row.try_get(0)?, row.try_get(1)?));
                seqs.extend(row.try_get::<_, Vec<i64>>(2)?);
            }
            last.filter(|_| rows.len() as i64 == WATCHES)
        }
    };
    let left = renew_these(work, seqs).await?;
    Ok(Renewed { next, left })
}

/// Gives these leases their full length again, as far as they are live. Gives those whose jobs are in somebody's open
/// transaction.
pub(crate) async fn renew_these(work: &mut Work, seqs: Vec<i64>) -> Outcome<Vec<i64>> {
    let rows = work.rows(sql::STILL_RUNNING, params![seqs]).await?;
    let seqs = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let free = work.load_free(seqs.clone()).await?;
    for seq in &free {
        if work.record(*seq).is_none_or(|record| record.job.state != State::Running) {
            continue;
        }
        let _ = work.change(*seq, |record, now: Timestamp, _| {
            let timeout = record.timeout();
            rules::renew_lease(&mut record.job, timeout, now);
            Ok::<_, IllegalTransition>(None)
        })?;
    }
    work.flush().await?;
    work.look_later(&free.iter().copied().collect::<Vec<_>>()).await?;
    Ok(seqs.into_iter().filter(|seq| !free.contains(seq)).collect())
}
