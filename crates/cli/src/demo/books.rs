//! What the processes of the demo were told, kept by the demo, which is never killed.

use std::collections::{HashMap, HashSet};

use onefold_core::{JobId, Timestamp};

use super::report::{Added, Leased, Outcome, Settled};

/// Nobody is struck over a job that runs for the third time: a job that took one worker after the other with it would rightly
/// end as a crash loop, and some leases are lost to servers that are killed.
const STRUCK_BEFORE_ATTEMPT: u32 = 3;

/// Everything that was reported.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Adds that were answered.
    pub(super) adds: u64,
    /// Of them: those whose first answer was lost.
    pub(super) adds_again: u64,
    /// Of them: those answered with a job that was there already.
    pub(super) repeats: u64,
    /// Of them: those answered with another job than before, or as new a second time.
    pub(super) two_jobs: u64,
    /// The job of each order.
    pub(super) orders: HashMap<u32, OrderTold>,
    /// What was told of each job.
    pub(super) jobs: HashMap<JobId, JobTold>,
    /// Leases that were handed out and arrived.
    pub(super) leases: u64,
    /// Of them: those without `retry_until`, or with another one than the job had before.
    pub(super) without_retry_until: u64,
    /// Of them: those with a token somebody had before.
    pub(super) tokens_twice: u64,
    tokens: HashSet<u64>,
    pub(super) highest_token: u64,
    /// Charges the receiver confirmed.
    pub(super) charges: u64,
    /// Acks that were accepted.
    pub(super) acks: u64,
    /// Of them: those whose first answer was lost.
    pub(super) acks_again: u64,
    /// Acks that were said again on purpose, and those of them that were answered differently.
    pub(super) repeated: (u64, u64),
    /// Acks that were refused because of their token, by it.
    pub(super) refused: HashMap<(JobId, u64), u64>,
    /// What each worker that lives holds.
    held: HashMap<u32, Vec<Held>>,
    /// What each worker that was killed had charged and not acked.
    pub(super) killed_after_charging: HashMap<JobId, (u32, u32)>,
    /// What each worker that was stopped had charged and not acked.
    pub(super) stopped_after_charging: HashMap<JobId, (u32, u32)>,
}

#[derive(Debug)]
pub(super) struct OrderTold {
    pub(super) id: JobId,
    new: bool,
    /// It was accepted between these two.
    sent: Timestamp,
    answered: Timestamp,
}

impl OrderTold {
    /// Whether it was accepted before the other one was even sent. Of two that were accepted at the same time no order is
    /// promised.
    pub(super) fn is_before(&self, other: &OrderTold) -> bool {
        self.answered < other.sent
    }
}

/// What had been told at some moment.
#[derive(Debug)]
pub(super) struct SoFar {
    pub(super) jobs: HashMap<JobId, JobTold>,
    pub(super) acknowledged: u64,
    pub(super) highest_token: u64,
}

/// What was told of a job.
#[derive(Debug, Default, Clone)]
pub(super) struct JobTold {
    /// Its leases: attempt, token.
    pub(super) leases: Vec<(u32, u64)>,
    retry_until: Option<String>,
    /// The token of the ack that was accepted.
    pub(super) completed: Option<u64>,
    /// Acks that were accepted under other tokens.
    pub(super) completed_again: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    id: JobId,
    attempt: u32,
    token: u64,
    charged: bool,
}

impl Books {
    pub(super) fn added(&mut self, added: &Added) {
        let Added { order, id, duplicate, again, sent, answered } = *added;
        self.adds += 1;
        self.adds_again += u64::from(again);
        self.repeats += u64::from(duplicate);
        self.jobs.entry(id).or_default();
        let told = self.orders.entry(order).or_insert(OrderTold { id, new: false, sent, answered });
        // The answer to a repeat may be heard before that to the first.
        self.two_jobs += u64::from(told.id != id || (told.new && !duplicate));
        told.new |= !duplicate;
        (told.sent, told.answered) = (told.sent.min(sent), told.answered.min(answered));
    }

    pub(super) fn leased(&mut self, worker: u32, leases: Vec<Leased>) {
        let held = self.held.entry(worker).or_default();
        for Leased { id, attempt, token, retry_until } in leases {
            self.leases += 1;
            self.tokens_twice += u64::from(!self.tokens.insert(token));
            self.highest_token = self.highest_token.max(token);
            let job = self.jobs.entry(id).or_default();
            job.leases.push((attempt, token));
            let same = job.retry_until.is_none() || job.retry_until == retry_until;
            self.without_retry_until += u64::from(retry_until.is_none() || !same);
            job.retry_until = retry_until;
            held.push(Held { id, attempt, token, charged: false });
        }
    }

    pub(super) fn charged(&mut self, worker: u32, token: u64) {
        self.charges += 1;
        let held = self.held.entry(worker).or_default();
        held.iter_mut().filter(|held| held.token == token).for_each(|held| held.charged = true);
    }

    /// The tokens of this worker that are still to be charged.
    pub(super) fn uncharged(&self, worker: u32) -> usize {
        self.held.get(&worker).map_or(0, |held| held.iter().filter(|held| !held.charged).count())
    }

    /// Whether this worker holds a job that took others with it often enough.
    pub(super) fn suffered_enough(&self, worker: u32) -> bool {
        let mut held = self.held.get(&worker).into_iter().flatten();
        held.any(|held| held.attempt >= STRUCK_BEFORE_ATTEMPT)
    }

    /// The jobs this worker holds.
    pub(super) fn held(&self, worker: u32) -> HashSet<JobId> {
        self.held.get(&worker).into_iter().flatten().map(|held| held.id).collect()
    }

    pub(super) fn settled(&mut self, worker: u32, results: &[Settled], again: bool) {
        if let Some(held) = self.held.get_mut(&worker) {
            held.retain(|held| results.iter().all(|result| result.token != held.token));
        }
        self.acks_again += if again { results.len() as u64 } else { 0 };
        for Settled { id, token, outcome } in results {
            let job = self.jobs.entry(*id).or_default();
            match outcome {
                Outcome::Completed => {
                    self.acks += 1;
                    job.completed_again += u64::from(job.completed.is_some_and(|before| before != *token));
                    job.completed = Some(*token);
                }
                Outcome::Failed => self.acks += 1,
                Outcome::LeaseLost => *self.refused.entry((*id, *token)).or_default() += 1,
            }
        }
    }

    pub(super) fn repeated(&mut self, ends: u64, differently: u64) {
        self.repeated.0 += ends;
        self.repeated.1 += differently;
    }

    /// The worker was killed. What it held is nobody's until the lease is over.
    pub(super) fn killed(&mut self, worker: u32) {
        let charged = self.charged_and_not_acked(worker);
        self.killed_after_charging.extend(charged);
        self.held.remove(&worker);
    }

    /// The worker was stopped.
    pub(super) fn stopped(&mut self, worker: u32) {
        let charged = self.charged_and_not_acked(worker);
        self.stopped_after_charging.extend(charged);
    }

    fn charged_and_not_acked(&self, worker: u32) -> Vec<(JobId, (u32, u32))> {
        let held = self.held.get(&worker).into_iter().flatten();
        held.filter(|held| held.charged).map(|held| (held.id, (worker, held.attempt))).collect()
    }

    /// What was told until now.
    pub(super) fn so_far(&self) -> SoFar {
        SoFar {
            jobs: self.jobs.clone(),
            acknowledged: self.acknowledged(),
            highest_token: self.highest_token,
        }
    }

    /// Everything that was acknowledged and must be there whatever is killed: adds, leases, acks.
    pub(super) fn acknowledged(&self) -> u64 {
        self.adds + self.leases + self.acks
    }
}

#[cfg(test)]
mod tests {
    use onefold_core::{Seq, Timestamp};

    use super::*;

    fn id(nth: u64) -> JobId {
        JobId::new(Timestamp::EPOCH, Seq::new(nth).unwrap())
    }

    fn lease(job: u64, attempt: u32, token: u64) -> Leased {
        Leased { id: id(job), attempt, token, retry_until: Some("2026-11-28T00:00:00Z".to_owned()) }
    }

    fn add(order: u32, job: u64, duplicate: bool) -> Added {
        let (sent, answered) = (Timestamp::EPOCH, Timestamp::EPOCH);
        Added { order, id: id(job), duplicate, again: false, sent, answered }
    }

    #[test]
    fn an_order_with_two_jobs_is_noticed() {
        let mut books = Books::default();
        books.added(&add(1, 1, true));
        books.added(&add(1, 1, false));
        assert_eq!((books.repeats, books.two_jobs), (1, 0), "answers may be heard in any order");
        books.added(&add(1, 2, true));
        assert_eq!(books.two_jobs, 1);
        books.added(&add(1, 1, false));
        assert_eq!(books.two_jobs, 2, "new a second time");
    }

    #[test]
    fn a_token_that_was_there_before_and_a_missing_retry_until_are_noticed() {
        let mut books = Books::default();
        books.leased(1, vec![lease(1, 1, 10), lease(2, 1, 11)]);
        assert_eq!((books.tokens_twice, books.without_retry_until, books.highest_token), (0, 0, 11));
        books.leased(2, vec![lease(1, 2, 11)]);
        books.leased(2, vec![Leased { retry_until: None, ..lease(3, 1, 12) }]);
        books.leased(2, vec![Leased { retry_until: Some("later".to_owned()), ..lease(2, 2, 13) }]);
        assert_eq!((books.tokens_twice, books.without_retry_until), (1, 2));
    }

    #[test]
    fn what_a_killed_worker_had_charged_and_not_acked_is_known() {
        let mut books = Books::default();
        books.leased(1, vec![lease(1, 1, 10), lease(2, 1, 11), lease(3, 1, 12)]);
        books.charged(1, 10);
        books.charged(1, 11);
        let acked = Settled { id: id(1), token: 10, outcome: Outcome::Completed };
        books.settled(1, &[acked], false);
        assert_eq!((books.uncharged(1), books.held(1).len()), (1, 2));
        books.killed(1);
        assert_eq!(books.killed_after_charging, HashMap::from([(id(2), (1, 1))]));
        assert_eq!(books.held(1).len(), 0);
    }

    /// Who was accepted when is known from the first answer and the first sending, whoever had them.
    #[test]
    fn acceptance_is_between_the_first_sending_and_the_first_answer() {
        let at = |ms| Timestamp::from_unix_ms(ms).unwrap();
        let mut books = Books::default();
        let mut tell = |order: u32, sent, answered| {
            books.added(&Added { sent: at(sent), answered: at(answered), ..add(order, order.into(), true) });
        };
        tell(1, 30, 40);
        tell(1, 10, 50);
        tell(2, 40, 60);
        tell(3, 41, 60);
        assert!(books.orders[&1].is_before(&books.orders[&3]));
        assert!(!books.orders[&1].is_before(&books.orders[&2]), "perhaps at the same time");
        assert!(!books.orders[&3].is_before(&books.orders[&1]));
    }

    /// Else a few jobs would be struck again and again when kills are late, until they are rightly given up as a crash loop.
    #[test]
    fn a_job_that_took_two_workers_with_it_takes_no_third() {
        let mut books = Books::default();
        books.leased(1, vec![lease(1, 2, 10)]);
        assert!(!books.suffered_enough(1));
        books.leased(1, vec![lease(2, 3, 11), lease(3, 1, 12)]);
        assert!(books.suffered_enough(1));
        let acked = Settled { id: id(2), token: 11, outcome: Outcome::Completed };
        books.settled(1, &[acked], false);
        assert!(!books.suffered_enough(1), "it holds it no more");
    }

    #[test]
    fn a_job_completed_under_two_tokens_is_noticed() {
        let mut books = Books::default();
        let ack = |token| Settled { id: id(1), token, outcome: Outcome::Completed };
        books.settled(1, &[ack(10), ack(10)], false);
        assert_eq!(books.jobs[&id(1)].completed_again, 0);
        books.settled(2, &[ack(11)], false);
        assert_eq!(books.jobs[&id(1)].completed_again, 1);
    }
}
