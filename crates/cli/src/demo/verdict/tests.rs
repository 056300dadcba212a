//! A demo that passes whatever happens would be worth nothing: each promise, broken, is a FAIL.

use onefold_core::{DurationMs, Seq, Timestamp};
use onefold_wire::ErrorCode;

use super::super::report::{Added, Leased, Outcome as Answer, Settled};
use super::super::survey::AttemptSeen;
use super::*;

/// Everything a demo of four orders saw; the first two are in a group, the last one's worker was stopped.
struct Scene {
    cast: Cast,
    restarts: Vec<Restart>,
    books: Books,
    rows: Vec<Row>,
    histories: HashMap<JobId, History>,
    counts: BTreeMap<String, QueueCounts>,
    ledgers: Ledgers,
    poison: Poison,
    ticks: Ticks,
    reused: Option<Problem>,
}

fn id(order: u64) -> JobId {
    JobId::new(Timestamp::EPOCH, Seq::new(order + 1).unwrap())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_ms(second * 1000).unwrap()
}

/// An add of this order, some time after those before it.
fn added(order: u32, id: JobId, duplicate: bool) -> Added {
    let sent = at(i64::from(order) * 2);
    Added {
        order,
        id,
        duplicate,
        again: false,
        sent,
        answered: sent.saturating_add(DurationMs::from_ms(1000)),
    }
}

fn attempt(number: u32, token: u64, outcome: Outcome, late_successes: u64) -> AttemptSeen {
    let worker = worker::name(number);
    let started_at = at(token as i64);
    AttemptSeen { number, token, worker, started_at, outcome: outcome.as_str().to_owned(), late_successes }
}

fn completed(attempts: Vec<AttemptSeen>, finished: i64) -> History {
    let result = serde_json::json!({"keyed": {"charge": 1, "replayed": attempts.len() > 1}});
    let state = State::Completed.as_str().to_owned();
    History { state, reason: None, finished_at: Some(at(finished)), attempts, result }
}

fn leased(order: u64, attempt: u32, token: u64) -> Leased {
    Leased { id: id(order), attempt, token, retry_until: Some("2026-11-28T00:00:00Z".to_owned()) }
}

fn acked(order: u64, token: u64, outcome: Answer) -> Settled {
    Settled { id: id(order), token, outcome }
}

impl Scene {
    fn good() -> Scene {
        let mut books = Books::default();
        for order in 0..4_u32 {
            books.added(&added(order, id(order.into()), false));
            books.added(&added(order, id(order.into()), true));
        }
        books.leased(1, (0..4).map(|order| leased(order, 1, 10 + order)).collect());
        books.charged(1, 13);
        books.stopped(1);
        books.leased(2, vec![leased(3, 2, 14)]);
        books.settled(2, &[acked(3, 14, Answer::Completed)], false);
        let late = acked(3, 13, Answer::LeaseLost);
        let in_time = (0..3).map(|order| acked(order, 10 + order, Answer::Completed));
        books.settled(1, &in_time.chain([late]).collect::<Vec<_>>(), false);
        books.repeated(4, 0);
        let row = |order: u32| Row {
            id: id(order.into()),
            state: State::Completed.as_str().to_owned(),
            attempts: if order == 3 { 2 } else { 1 },
            group: (order < 2).then(|| "household-1".to_owned()),
        };
        let once = |token: u64| completed(vec![attempt(1, token, Outcome::Completed, 0)], token as i64);
        let twice = vec![attempt(1, 13, Outcome::LeaseLost, 1), attempt(2, 14, Outcome::Completed, 0)];
        let charges = |twice: u32| HashMap::from([(0, 1), (1, 1), (2, 1), (3, twice)]);
        let dead = DeadReason::Attempts.as_str().to_owned();
        let poisoned = History {
            state: State::Dead.as_str().to_owned(),
            reason: Some(dead.clone()),
            ..completed(Vec::new(), 20)
        };
        let mut reused = Problem::new(ErrorCode::KeyReused, "another order");
        reused.existing_id = Some(id(0).to_string());
        Scene {
            cast: Cast { orders: 4, seed: 1, naive_only: false },
            restarts: vec![Restart {
                acknowledged: 9,
                missing: 0,
                highest_token_before: 13,
                token_after: 100,
            }],
            books,
            rows: (0..4).map(row).collect(),
            histories: HashMap::from([(id(0), once(10)), (id(1), once(11)), (id(3), completed(twice, 15))]),
            counts: BTreeMap::from([(
                QUEUE.to_owned(),
                QueueCounts { accepted: 4, completed: 4, ..QueueCounts::default() },
            )]),
            ledgers: Ledgers { naive: charges(2), keyed: charges(1) },
            poison: Poison { history: poisoned, event: Some(dead), counted: true },
            ticks: Ticks {
                due: (1..=3).map(at).collect(),
                jobs: (1..=3).map(|second| (at(second), 1)).collect(),
                dropped: 0,
            },
            reused: Some(reused),
        }
    }

    /// The two orders of the group were leased the other way round.
    fn turned_round(&mut self) {
        let (first, second) =
            (self.histories.remove(&id(0)).unwrap(), self.histories.remove(&id(1)).unwrap());
        self.histories.extend([(id(0), second), (id(1), first)]);
    }

    fn seen(&self) -> Seen {
        judge(&Evidence {
            cast: self.cast,
            kills: Kills { workers: 0, servers: 1 },
            restarts: &self.restarts,
            books: &self.books,
            rows: &self.rows,
            histories: &self.histories,
            counts: &self.counts,
            ledgers: &self.ledgers,
            poison: &self.poison,
            ticks: &self.ticks,
            reused: self.reused.as_ref(),
        })
    }
}

/// The promises that are broken after `change`.
fn broken(change: impl FnOnce(&mut Scene)) -> Vec<&'static str> {
    let mut scene = Scene::good();
    change(&mut scene);
    let seen = scene.seen();
    let broken: Vec<&'static str> =
        seen.invariants.iter().filter(|verdict| !verdict.pass).map(|verdict| verdict.id).collect();
    assert_eq!(seen.is_sound(), broken.is_empty());
    broken
}

#[test]
fn a_good_run_passes_and_is_explained() {
    let seen = Scene::good().seen();
    let failed: Vec<&Verdict> = seen.invariants.iter().filter(|verdict| !verdict.pass).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let ids: Vec<&str> = seen.invariants.iter().map(|verdict| verdict.id).collect();
    assert_eq!(ids, ["I1", "I2", "I3", "I4", "I5", "I6", "I8", "I9", "I10", "I11"]);
    assert_eq!((seen.naive.customers_charged_twice, seen.naive.deliveries), (1, 5));
    assert_eq!(seen.onefold.unwrap().customers_charged_twice, 0);
    let [why] = &seen.why[..] else { panic!("{:?}", seen.why) };
    assert_eq!(
        why.because,
        "attempt 1 (worker 1) stopped past its lease after charging, its late ack was refused; attempt 2 (worker 2) \
         replayed the stored result"
    );
}

#[test]
fn each_broken_promise_is_told_by_its_number() {
    assert_eq!(broken(|scene| scene.restarts[0].missing = 1), ["I1"]);
    assert_eq!(broken(|scene| scene.restarts.clear()), ["I1"], "nothing was shown");
    let orders =
        |scene: &mut Scene, change: fn(&mut QueueCounts)| change(scene.counts.get_mut(QUEUE).unwrap());
    assert_eq!(broken(|scene| orders(scene, |counts| counts.completed = 3)), ["I2"]);
    assert_eq!(broken(|scene| orders(scene, |counts| (counts.accepted, counts.completed) = (5, 5))), ["I2"]);
    assert_eq!(broken(|scene| scene.books.added(&added(2, id(9), true))), ["I3"]);
    assert_eq!(broken(|scene| scene.reused = None), ["I3"]);
    assert_eq!(broken(|scene| scene.restarts[0].token_after = 13), ["I4"]);
    assert_eq!(broken(|scene| scene.books.leased(9, vec![leased(2, 2, 11)])), ["I4"]);
    assert_eq!(
        broken(|scene| scene.books.settled(9, &[acked(2, 99, Answer::Completed)], false)),
        ["I4"],
        "completed under two tokens"
    );
    let last =
        |scene: &mut Scene, late| scene.histories.get_mut(&id(3)).unwrap().attempts[0].late_successes = late;
    assert_eq!(broken(|scene| last(scene, 0)), ["I5"]);
    assert_eq!(broken(|scene| scene.books.refused.clear()), ["I5"], "nothing was shown");
    assert_eq!(broken(|scene| scene.books.repeated(8, 1)), ["I6"]);
    assert_eq!(broken(|scene| scene.books.repeated = (0, 0)), ["I6"], "nothing was shown");
    let first =
        |scene: &mut Scene, ended| scene.histories.get_mut(&id(0)).unwrap().finished_at = Some(at(ended));
    assert_eq!(broken(|scene| first(scene, 12)), ["I8"]);
    assert_eq!(broken(|scene| scene.turned_round()), ["I8"], "leased after one that was accepted later");
    assert_eq!(
        broken(|scene| scene.rows.iter_mut().for_each(|row| row.group = None)),
        ["I8"],
        "nothing was shown"
    );
    assert_eq!(
        broken(|scene| {
            let _ = scene.ticks.jobs.insert(at(2), 2);
        }),
        ["I9"],
        "two jobs"
    );
    assert_eq!(
        broken(|scene| {
            let _ = scene.ticks.jobs.remove(&at(2));
        }),
        ["I9"],
        "no job, and nobody said so"
    );
    assert_eq!(
        broken(|scene| {
            let _ = scene.ticks.jobs.insert(at(9), 1);
        }),
        ["I9"],
        "no such tick"
    );
    assert_eq!(broken(|scene| scene.ticks.jobs.clear()), ["I9"], "nothing was shown");
    assert_eq!(broken(|scene| scene.poison.event = None), ["I10"]);
    assert_eq!(broken(|scene| scene.poison.counted = false), ["I10"]);
    assert_eq!(broken(|scene| scene.poison.history.reason = None), ["I10"]);
    assert_eq!(broken(|scene| scene.rows[2].state = State::Dead.as_str().to_owned()), ["I10"]);
    let silent = Leased { retry_until: None, ..leased(2, 2, 15) };
    assert_eq!(broken(|scene| scene.books.leased(9, vec![silent])), ["I11"]);
}

/// I8: of two that were accepted at the same time none has to be the first, whatever their ids are: over several nodes an
/// id may be smaller than another one although its job stands behind it.
#[test]
fn of_orders_accepted_at_the_same_time_any_may_be_the_first() {
    let mut scene = Scene::good();
    scene.turned_round();
    scene.books.added(&Added { sent: at(0), ..added(1, id(1), true) });
    let failed: Vec<&'static str> =
        scene.seen().invariants.iter().filter(|verdict| !verdict.pass).map(|verdict| verdict.id).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// The two ways a customer can be wronged, and neither is hidden by nine PASSes.
#[test]
fn a_customer_charged_twice_or_never_is_not_sound() {
    let mut scene = Scene::good();
    scene.ledgers.keyed.insert(0, 2);
    assert!(!scene.seen().is_sound());
    let mut scene = Scene::good();
    scene.ledgers.keyed.remove(&0);
    assert!(!scene.seen().is_sound());
    let mut scene = Scene::good();
    scene.cast.naive_only = true;
    let seen = scene.seen();
    assert!(seen.onefold.is_none() && !seen.is_sound());
}
