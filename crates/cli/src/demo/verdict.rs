//! Which promises were kept, judged from what happened.

use std::collections::{BTreeMap, HashMap};

use onefold_core::{DeadReason, JobId, Outcome, State};
use onefold_wire::{ErrorCode, Problem, QueueCounts};
use serde::Serialize;

use super::books::{Books, OrderTold};
use super::orders::QUEUE;
use super::print::grouped;
use super::receiver::Ledgers;
use super::survey::{History, Poison, Row};
use super::ticks::Ticks;
use super::worker;
use crate::failure::Failure;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cast {
    pub(super) orders: u32,
    pub(super) seed: u64,
    pub(super) naive_only: bool,
}

/// SIGKILLs.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Kills {
    pub(super) workers: u64,
    pub(super) servers: u64,
}

/// What was there when the server had been killed and started again.
#[derive(Debug)]
pub(super) struct Restart {
    /// Acknowledged before.
    pub(super) acknowledged: u64,
    /// Jobs of them that were not there as they should be.
    pub(super) missing: u64,
    pub(super) highest_token_before: u64,
    pub(super) token_after: u64,
}

/// Everything there is to judge by.
pub(super) struct Evidence<'a> {
    pub(super) cast: Cast,
    pub(super) kills: Kills,
    pub(super) restarts: &'a [Restart],
    pub(super) books: &'a Books,
    pub(super) rows: &'a [Row],
    /// Of every job that ran more than once, is in a group, or was acked too late.
    pub(super) histories: &'a HashMap<JobId, History>,
    pub(super) counts: &'a BTreeMap<String, QueueCounts>,
    pub(super) ledgers: &'a Ledgers,
    pub(super) poison: &'a Poison,
    pub(super) ticks: &'a Ticks,
    /// How another order under a key in use was refused.
    pub(super) reused: Option<&'a Problem>,
}

/// What the demo shows.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    pub(super) orders: u32,
    pub(super) seed: u64,
    pub(super) sigkills: Kills,
    pub(super) naive: Column,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) onefold: Option<Column>,
    pub(super) invariants: Vec<Verdict>,
    pub(super) why: Vec<Why>,
}

/// What became of the orders, one way or the other.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    pub(super) adds_sent: u64,
    pub(super) orders_accepted: u64,
    pub(super) deliveries: u64,
    pub(super) customers_charged_twice: u64,
    pub(super) customers_never_charged: u64,
}

/// Whether a promise was kept.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) pass: bool,
    pub(super) detail: String,
}

/// Why a job ran twice.
#[derive(Debug, Serialize)]
pub(super) struct Why {
    pub(super) job: JobId,
    pub(super) because: String,
}

impl Seen {
    /// Whether every promise was kept and every customer charged once, by Onefold's way or, if that is all there
    /// is, by the naive one.
    pub(super) fn is_sound(&self) -> bool {
        let column = self.onefold.as_ref().unwrap_or(&self.naive);
        let once = column.customers_charged_twice == 0 && column.customers_never_charged == 0;
        once && self.invariants.iter().all(|verdict| verdict.pass)
    }

    /// What to say if not.
    pub(super) fn complaint(&self, seed: u64) -> Failure {
        let again = format!("run it again with --seed {seed} --keep and report what it says");
        let broken: Vec<&str> = self.invariants.iter().filter(|v| !v.pass).map(|v| v.id).collect();
        if !broken.is_empty() {
            return Failure::failed(format!("{} broken: {again}", broken.join(", ")));
        }
        let column = self.onefold.as_ref().unwrap_or(&self.naive);
        let (twice, never) = (column.customers_charged_twice, column.customers_never_charged);
        let charged = format!("{} customers were charged twice and {} never", grouped(twice), grouped(never));
        match self.onefold {
            None => Failure::failed(format!(
                "{charged}: the naive handler sends no idempotency key; run the demo without --naive-only to see \
                 what one does"
            )),
            Some(_) => Failure::failed(format!("{charged}, with an idempotency key: {again}")),
        }
    }
}

/// Judges.
pub(super) fn judge(evidence: &Evidence<'_>) -> Seen {
    let Evidence { cast, books, rows, ledgers, .. } = *evidence;
    let column = |charges: &HashMap<u32, u32>| Column {
        adds_sent: books.adds,
        orders_accepted: rows.len() as u64,
        deliveries: rows.iter().map(|row| u64::from(row.attempts)).sum(),
        customers_charged_twice: charges.values().filter(|charges| **charges > 1).count() as u64,
        customers_never_charged: (0..cast.orders).filter(|order| !charges.contains_key(order)).count() as u64,
    };
    Seen {
        orders: cast.orders,
        seed: cast.seed,
        sigkills: evidence.kills,
        naive: column(&ledgers.naive),
        onefold: (!cast.naive_only).then(|| column(&ledgers.keyed)),
        invariants: vec![
            durable(evidence),
            conserved(evidence),
            one_job_per_key(evidence),
            one_holder(evidence),
            stale_acks(evidence),
            idempotent_finish(evidence),
            in_order(evidence),
            one_tick(evidence),
            never_silent(evidence),
            receivers_know(evidence),
        ],
        why: whys(evidence),
    }
}

fn durable(evidence: &Evidence<'_>) -> Verdict {
    let missing: u64 = evidence.restarts.iter().map(|restart| restart.missing).sum();
    let writes = evidence.restarts.last().map_or(0, |restart| restart.acknowledged);
    let restarts = evidence.restarts.len();
    let detail = match missing {
        0 => format!(
            "{} writes were acknowledged before {restarts} SIGKILLs of the server; all were there afterwards",
            grouped(writes)
        ),
        _ => format!(
            "after a SIGKILL of the server {} jobs were not as had been acknowledged",
            grouped(missing)
        ),
    };
    Verdict { id: "I1", name: "durable", pass: missing == 0 && restarts > 0, detail }
}

fn conserved(evidence: &Evidence<'_>) -> Verdict {
    let sum = |c: &QueueCounts| {
        c.scheduled + c.available + c.running + c.retrying + c.completed + c.dead + c.cancelled + c.purged
    };
    let conserved = evidence.counts.values().all(|counts| counts.accepted == sum(counts));
    let orders = evidence.counts.get(QUEUE).copied().unwrap_or_default();
    let told = evidence.books.orders.len() as u64;
    let as_told = orders.accepted == told
        && orders.accepted == evidence.rows.len() as u64
        && evidence.rows.iter().all(|row| evidence.books.jobs.contains_key(&row.id));
    let all = evidence.counts.values().fold(QueueCounts::default(), |all, one| QueueCounts {
        accepted: all.accepted + one.accepted,
        completed: all.completed + one.completed,
        dead: all.dead + one.dead,
        ..all
    });
    let detail = format!(
        "{} accepted = {} completed + {} dead; of the {} orders producers were told of, {} are there",
        grouped(all.accepted),
        grouped(all.completed),
        grouped(all.dead),
        grouped(told),
        grouped(orders.accepted),
    );
    Verdict { id: "I2", name: "conservation", pass: conserved && as_told, detail }
}

fn one_job_per_key(evidence: &Evidence<'_>) -> Verdict {
    let books = evidence.books;
    let first = books.orders.get(&0).map(|order| order.id.to_string());
    let refused = evidence.reused.is_some_and(|problem| {
        problem.error_code() == Some(ErrorCode::KeyReused) && problem.existing_id == first
    });
    let lost = match books.adds_again {
        0 => String::new(),
        again => format!(" ({} were sent again, the first answer was lost)", grouped(again)),
    };
    let mismatch = match refused {
        true => "another order under a used key was refused",
        false => "BUT another order under a used key was not refused as key-reused, naming the job",
    };
    let detail = match books.two_jobs {
        0 => format!("{} repeats answered with the first job's id{lost}; {mismatch}", grouped(books.repeats)),
        two => format!("{} adds were answered with another job than the first", grouped(two)),
    };
    let pass = books.two_jobs == 0 && refused && books.repeats >= books.adds - books.orders.len() as u64;
    Verdict { id: "I3", name: "one job per key", pass, detail }
}

fn one_holder(evidence: &Evidence<'_>) -> Verdict {
    let books = evidence.books;
    let grows = |tokens: &[(u32, u64)]| {
        let mut tokens = tokens.to_vec();
        tokens.sort_unstable();
        tokens.windows(2).all(|pair| matches!(pair, [before, after] if before.1 < after.1))
    };
    let of_history = |history: &History| {
        history.attempts.iter().map(|attempt| (attempt.number, attempt.token)).collect::<Vec<_>>()
    };
    let per_job = books.jobs.values().all(|job| grows(&job.leases))
        && evidence.histories.values().all(|history| grows(&of_history(history)));
    let over_restarts =
        evidence.restarts.iter().all(|restart| restart.token_after > restart.highest_token_before);
    let completed_twice: u64 = books.jobs.values().map(|job| job.completed_again).sum();
    let detail = match (books.tokens_twice, completed_twice) {
        (0, 0) if per_job && over_restarts => format!(
            "{} fencing tokens, none twice, larger for every lease of a job and after each of {} restarts",
            grouped(books.leases),
            evidence.restarts.len()
        ),
        (0, 0) => "fencing tokens went back".to_owned(),
        (twice, completed) => format!(
            "{} fencing tokens were handed out twice, {} jobs completed under two",
            grouped(twice),
            grouped(completed)
        ),
    };
    let pass = per_job && over_restarts && books.tokens_twice == 0 && completed_twice == 0;
    Verdict { id: "I4", name: "one holder", pass, detail }
}

fn stale_acks(evidence: &Evidence<'_>) -> Verdict {
    let refused = &evidence.books.refused;
    let told: u64 = refused.values().sum();
    let in_history = |((id, token), count): (&(JobId, u64), &u64)| {
        let attempts = evidence.histories.get(id).map(|history| &history.attempts);
        let attempt = attempts.and_then(|attempts| attempts.iter().find(|attempt| attempt.token == *token));
        attempt.is_some_and(|attempt| {
            attempt.late_successes >= *count && attempt.outcome == Outcome::LeaseLost.as_str()
        })
    };
    let unseen = refused.iter().filter(|refused| !in_history(*refused)).count() as u64;
    let detail = match (told, unseen) {
        (0, _) => "no worker acked too late, so nothing was shown".to_owned(),
        (_, 0) => format!(
            "{} acks of workers that had been stopped past their lease got lease-lost and are in the history",
            grouped(told)
        ),
        _ => format!("{} refused acks are not in the history", grouped(unseen)),
    };
    Verdict { id: "I5", name: "stale acks refused", pass: told > 0 && unseen == 0, detail }
}

fn idempotent_finish(evidence: &Evidence<'_>) -> Verdict {
    let (repeated, differently) = evidence.books.repeated;
    let lost = match evidence.books.acks_again {
        0 => String::new(),
        again => format!(", and {} whose first answer was lost", grouped(again)),
    };
    let detail = match differently {
        0 => format!("{} acks were repeated{lost}; each got the first answer", grouped(repeated)),
        _ => format!("{} repeated acks got another answer than the first time", grouped(differently)),
    };
    Verdict { id: "I6", name: "idempotent finish", pass: repeated > 0 && differently == 0, detail }
}

fn in_order(evidence: &Evidence<'_>) -> Verdict {
    let orders: HashMap<JobId, &OrderTold> =
        evidence.books.orders.values().map(|order| (order.id, order)).collect();
    let mut groups: BTreeMap<&str, Vec<Mate<'_>>> = BTreeMap::new();
    for row in evidence.rows {
        if let Some(group) = &row.group {
            let (told, history) = (orders.get(&row.id).copied(), evidence.histories.get(&row.id));
            groups.entry(group).or_default().push(Mate { told, history });
        }
    }
    let jobs: usize = groups.values().map(Vec::len).sum();
    let (mut together, mut late) = (0, 0);
    for mates in groups.values_mut() {
        mates.sort_by_key(|mate| mate.history.and_then(first_token));
        let apart = |pair: &&[Mate<'_>]| match pair {
            [Mate { history: Some(before), .. }, Mate { history: Some(after), .. }] => {
                is_before(before, after)
            }
            _ => false,
        };
        together += mates.windows(2).filter(|pair| !apart(pair)).count();
        let overtaken = |(place, late): &(usize, &Mate<'_>)| {
            let sooner = mates.iter().take(*place).filter_map(|mate| mate.told);
            late.told.is_none_or(|late| sooner.into_iter().any(|sooner| late.is_before(sooner)))
        };
        late += mates.iter().enumerate().filter(overtaken).count();
    }
    let detail = match (together, late) {
        (0, 0) => format!(
            "{jobs} jobs of {} groups were leased one at a time, in order of acceptance",
            groups.len()
        ),
        (0, _) => format!("{late} jobs of a group were leased after one that was accepted later"),
        _ => format!("{together} jobs of a group were leased before the one before them had ended"),
    };
    let shown = jobs > groups.len() && !groups.is_empty();
    Verdict { id: "I8", name: "order", pass: together == 0 && late == 0 && shown, detail }
}

/// A job of a group: when it was accepted, and what became of it.
struct Mate<'a> {
    told: Option<&'a OrderTold>,
    history: Option<&'a History>,
}

fn first_token(history: &History) -> Option<u64> {
    history.attempts.iter().map(|attempt| attempt.token).min()
}

/// Whether a job had ended before another one was leased for the first time.
fn is_before(before: &History, after: &History) -> bool {
    let last = before.attempts.iter().map(|attempt| attempt.token).max();
    let first = first_token(after);
    let started = after.attempts.iter().map(|attempt| attempt.started_at).min();
    last.is_some() && last < first && before.finished_at.is_some() && before.finished_at <= started
}

fn one_tick(evidence: &Evidence<'_>) -> Verdict {
    let Ticks { due, jobs, dropped } = evidence.ticks;
    let twice = jobs.values().filter(|jobs| **jobs > 1).count();
    let without = due.iter().filter(|tick| !jobs.contains_key(tick)).count() as u64;
    let strange = jobs.keys().filter(|tick| !due.contains(tick)).count();
    let detail = match (twice, without == *dropped, strange) {
        (0, true, 0) if without == 0 => format!(
            "a schedule ticked {} times, each second, over {} SIGKILLs of the server; each tick has one job",
            grouped(due.len() as u64),
            evidence.kills.servers
        ),
        (0, true, 0) => format!(
            "{} ticks of a schedule have one job each; {} were told as dropped",
            grouped(jobs.len() as u64),
            grouped(without)
        ),
        _ => format!(
            "of {} ticks {twice} have several jobs, {without} have none, {strange} never were",
            due.len()
        ),
    };
    let pass = twice == 0 && without == *dropped && strange == 0 && !jobs.is_empty();
    Verdict { id: "I9", name: "one tick", pass, detail }
}

fn never_silent(evidence: &Evidence<'_>) -> Verdict {
    let Poison { history, event, counted } = evidence.poison;
    let attempts = DeadReason::Attempts.as_str();
    let dead = history.state == State::Dead.as_str() && history.reason.as_deref() == Some(attempts);
    let told = event.as_deref() == Some(attempts);
    let others = evidence.rows.iter().filter(|row| row.state != State::Completed.as_str()).count();
    let detail = match (dead, told, counted, others) {
        (true, true, true, 0) => {
            format!("an order nobody can read is dead ({attempts}); an event told it, and a metric counts it")
        }
        (.., 1..) => format!("{others} orders were not completed"),
        _ => format!(
            "an order nobody can read is {} ({}); told by an event: {told}; counted by a metric: {counted}",
            history.state,
            history.reason.as_deref().unwrap_or("for no reason"),
        ),
    };
    Verdict { id: "I10", name: "never silent", pass: dead && told && *counted && others == 0, detail }
}

fn receivers_know(evidence: &Evidence<'_>) -> Verdict {
    let (leases, without) = (evidence.books.leases, evidence.books.without_retry_until);
    let detail = match without {
        0 => format!("retry_until came with each of {} deliveries, the same for each job", grouped(leases)),
        _ => format!(
            "{} of {} deliveries came without a steady retry_until",
            grouped(without),
            grouped(leases)
        ),
    };
    Verdict { id: "I11", name: "receivers know", pass: leases > 0 && without == 0, detail }
}

/// One job that ran again because its worker was killed, and one because it was stopped.
fn whys(evidence: &Evidence<'_>) -> Vec<Why> {
    let killed = first_told(evidence, &evidence.books.killed_after_charging, "killed after charging");
    let stopped =
        first_told(evidence, &evidence.books.stopped_after_charging, "stopped past its lease after charging");
    killed.into_iter().chain(stopped).collect()
}

fn first_told(evidence: &Evidence<'_>, struck: &HashMap<JobId, (u32, u32)>, what: &str) -> Option<Why> {
    let mut struck: Vec<(&JobId, &(u32, u32))> = struck.iter().collect();
    // The plainest first: those that ran just twice.
    struck.sort_by_key(|(id, _)| (evidence.histories.get(id).map_or(usize::MAX, |h| h.attempts.len()), **id));
    struck.into_iter().find_map(|(id, (pid, number))| {
        let history = evidence.histories.get(id)?;
        let attempt = history.attempts.iter().find(|attempt| attempt.number == *number)?;
        let is_it = attempt.worker == worker::name(*pid) && attempt.outcome == Outcome::LeaseLost.as_str();
        let last = history.attempts.last().filter(|last| is_it && last.number > *number)?;
        let late = match attempt.late_successes {
            0 => "",
            _ => ", its late ack was refused",
        };
        let replayed = history.result.pointer("/keyed/replayed").and_then(serde_json::Value::as_bool);
        let then = match replayed {
            Some(true) => "replayed the stored result".to_owned(),
            Some(false) => "charged for the first time".to_owned(),
            None => "charged again".to_owned(),
        };
        let because = format!(
            "attempt {number} ({}) {what}{late}; attempt {} ({}) {then}",
            attempt.worker, last.number, last.worker
        );
        Some(Why { job: *id, because })
    })
}

#[cfg(test)]
mod tests;
