//! The identity of a request: an `Idempotency-Key` beside a different key.

use onefold_core::{FreeOn, JobStatus, Refusal};

use crate::{Build, Harness, complete, days, keyed, ms};

/// Dedup options: a request seen before is answered with its job for 24 h, even when its key was
/// freed meanwhile; another request with that key gets a new job.
pub async fn a_request_is_answered_from_its_record(h: &mut dyn Harness) {
    let asked = |request: &str| keyed("k", "x").free_on(FreeOn::DONE).request(request, "k+x");
    let first = h.add("q", asked("r1")).await;
    assert_eq!(h.repeat("q", asked("r1")).await.id, first);
    h.work("q", complete()).await;
    assert_eq!(h.repeat("q", asked("r1")).await.id, first);
    let second = h.add("q", asked("r2")).await;
    assert_ne!(second, first);
    assert_eq!(h.repeat("q", asked("r1")).await.id, first);
}

/// Dedup options: the same identity for another request is refused, naming the first job.
pub async fn a_request_identity_is_not_reused_for_another_request(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("k", "x").request("r", "first")).await;
    let refused = h.try_add("q", keyed("other", "y").request("r", "second")).await;
    assert_eq!(refused, Err(Refusal::KeyReused { existing }));
    assert_eq!(h.counts("q").await.accepted, 1);
    assert_eq!(h.holder("q", "other").await, None);
}

/// Dedup options: inside an atomic batch, too, the job that is named is the one the request was answered with.
pub async fn a_request_repeated_in_an_atomic_batch_names_its_job(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("k", "x")).await;
    let jobs = vec![keyed("k", "x").request("r", "first"), keyed("other", "y").request("r", "second")];
    let refused = h.add_atomic("q", jobs).await;
    assert_eq!(refused, [Err(Refusal::AtomicBatch { item: 1 }), Err(Refusal::KeyReused { existing })]);
}

/// Dedup options: a request is remembered for 24 h, to the millisecond.
pub async fn a_request_is_remembered_for_a_day(h: &mut dyn Harness) {
    let asked = || keyed("k", "x").free_on(FreeOn::DONE).request("r", "k+x");
    let first = h.add("q", asked()).await;
    h.work("q", complete()).await;
    h.pass(ms(24 * 3_600_000 - 1)).await;
    assert_eq!(h.repeat("q", asked()).await.id, first);
    h.pass(ms(1)).await;
    assert_ne!(h.add("q", asked()).await, first);
}

/// Dedup options, I1: a request's record survives a crash and the purge of its job.
pub async fn i1_a_request_is_remembered_over_a_crash(h: &mut dyn Harness) {
    let asked = || keyed("k", "x").free_on(FreeOn::DONE).retain(ms(1)).request("r", "k+x");
    let first = h.add("q", asked()).await;
    h.work("q", complete()).await;
    h.pass(ms(1)).await;
    h.reopen_after_crash().await;
    let repeat = h.repeat("q", asked()).await;
    assert_eq!((repeat.id, repeat.status), (first, JobStatus::Purged));
}

/// Words: requests and keys are different spaces, and both belong to their queue.
pub async fn requests_and_keys_do_not_meet(h: &mut dyn Harness) {
    let first = h.add("q", keyed("a", "x").request("b", "1")).await;
    let second = h.add("q", keyed("b", "y").request("a", "2")).await;
    assert_ne!(first, second);
    assert_eq!(h.holder("q", "b").await.unwrap().job, second);
    let elsewhere = h.add("other", keyed("a", "x").request("b", "1")).await;
    assert_ne!(elsewhere, first);
}

/// Dedup options: a refused request leaves no record: once it can succeed, it does.
pub async fn a_refused_request_leaves_no_record(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("k", "x").window(ms(0))).await;
    let asked = || keyed("k", "y").request("r", "k+y");
    assert_eq!(h.try_add("q", asked()).await, Err(Refusal::KeyReused { existing }));
    h.work("q", complete()).await;
    assert_ne!(h.add("q", asked()).await, existing);
}

/// Dedup options: a request that met an existing job is answered with that job again, for its 24 h.
pub async fn a_request_remembers_the_job_it_met(h: &mut dyn Harness) {
    let first = h.add("q", keyed("k", "x").window(ms(0))).await;
    let asked = || keyed("k", "x").request("r", "k+x");
    assert_eq!(h.repeat("q", asked()).await.id, first);
    h.work("q", complete()).await;
    assert_eq!(h.repeat("q", asked()).await.id, first);
    h.pass(days(1)).await;
    assert_ne!(h.add("q", asked()).await, first);
}
