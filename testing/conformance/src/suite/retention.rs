//! Retention and deleting: the only ways out (I2).

use onefold_core::{EventKind, FreeOn, JobId, JobStatus, ListParams, QueuePatch, Refusal, Seq, State};

use crate::{Build, Harness, complete, days, fail_for, fail_for_good, hours, job, keyed, ms, secs};

/// Adds three jobs and ends them, one each way.
async fn one_of_each(h: &mut dyn Harness, retain: Option<u64>) -> [JobId; 3] {
    let new = || retain.map_or_else(job, |n| job().retain(secs(n)));
    let completed = h.add("q", new()).await;
    h.work("q", complete()).await;
    let cancelled = h.add("q", new()).await;
    h.cancel(cancelled).await.unwrap();
    let dead = h.add_dead("q", new()).await;
    [completed, cancelled, dead]
}

async fn there(h: &mut dyn Harness, ids: [JobId; 3]) -> [bool; 3] {
    [h.find(ids[0]).await.is_some(), h.find(ids[1]).await.is_some(), h.find(ids[2]).await.is_some()]
}

/// Defaults: completed jobs are kept 7 days, cancelled 30, dead 90, from their end, with all they
/// have; then they are purged and counted as such (I2).
pub async fn i2_finished_jobs_are_kept_and_then_purged(h: &mut dyn Harness) {
    let ids = one_of_each(h, None).await;
    let mut gone = 0;
    for (n, (days_more, id)) in [(7, ids[0]), (23, ids[1]), (60, ids[2])].into_iter().enumerate() {
        h.pass(days(days_more - 1)).await;
        assert_eq!(h.pass(ms(24 * 3_600_000 - 1)).await.purged, 0);
        assert_eq!(h.view(id).await.attempts.len(), usize::from(n != 1));
        assert_eq!(h.pass(ms(1)).await.purged, 1);
        assert_eq!(h.find(id).await, None);
        gone += 1;
        let counts = h.counts("q").await;
        assert_eq!((counts.accepted, counts.purged_retention), (3, gone));
        // The next boundary is a whole number of days from the start again.
    }
    assert_eq!(h.counts("q").await.purged_deleted, 0);
}

/// Retention: a job's own `retain` wins over its queue's retention, which wins over the default.
pub async fn retention_of_the_job_of_the_queue_of_the_house(h: &mut dyn Harness) {
    let kept = QueuePatch {
        retain_completed: Some(Some(secs(10))),
        retain_cancelled: Some(Some(secs(20))),
        retain_dead: Some(Some(secs(30))),
        ..QueuePatch::default()
    };
    h.set("q", kept).await;
    let of_the_queue = one_of_each(h, None).await;
    let of_the_job = one_of_each(h, Some(25)).await;
    for (seconds, queue_kept, job_kept) in [
        (9, [true, true, true], true),
        (10, [false, true, true], true),
        (19, [false, true, true], true),
        (20, [false, false, true], true),
        (24, [false, false, true], true),
        (25, [false, false, true], false),
        (29, [false, false, true], false),
        (30, [false, false, false], false),
    ] {
        let start = i64::from(seconds) * 1000 + crate::START_UNIX_MS;
        let wait = u64::try_from(start - h.now().as_unix_ms()).unwrap();
        h.pass(ms(wait)).await;
        assert_eq!(there(h, of_the_queue).await, queue_kept, "after {seconds} s");
        assert_eq!(there(h, of_the_job).await, [job_kept; 3], "after {seconds} s");
    }
}

/// Retention: retention is looked up when it is due: a change of the queue's counts for jobs that
/// are there.
pub async fn a_new_retention_counts_for_finished_jobs(h: &mut dyn Harness) {
    let ids = one_of_each(h, None).await;
    h.pass(hours(1)).await;
    let keep = |d| QueuePatch { retain_completed: Some(Some(d)), ..QueuePatch::default() };
    h.set("q", keep(secs(60))).await;
    assert_eq!(h.pass(secs(1)).await.purged, 1);
    assert_eq!(there(h, ids).await, [false, true, true]);
}

/// I10: unfinished jobs are never purged, however old.
pub async fn i10_unfinished_jobs_are_never_purged(h: &mut dyn Harness) {
    h.set("q", QueuePatch { paused: Some(true), ..QueuePatch::default() }).await;
    let available = h.add("q", job().retain(secs(1))).await;
    let scheduled = h.add("q", job().retain(secs(1)).after(days(500))).await;
    assert_eq!(h.pass(days(400)).await.purged, 0);
    assert_eq!(h.state(available).await, State::Available);
    assert_eq!(h.state(scheduled).await, State::Scheduled);
}

/// I3: a key outlives the row of its job, until its window is over.
pub async fn i3_a_key_outlives_the_row(h: &mut dyn Harness) {
    let id = h.add("q", keyed("k", "x").retain(secs(1)).window(hours(1))).await;
    h.work("q", complete()).await;
    h.pass(secs(1)).await;
    let held = h.holder("q", "k").await.unwrap();
    assert_eq!((held.job, held.status), (id, JobStatus::Purged));
    h.pass(ms(3_600_000 - 1_001)).await;
    assert!(h.holder("q", "k").await.is_some());
    h.pass(ms(1)).await;
    assert_eq!(h.holder("q", "k").await, None);
    h.add("q", keyed("k", "y")).await;
}

/// I2: delete takes finished jobs only, gives the last view, counts as deleted, has an event, and
/// leaves the key held.
pub async fn i2_delete_takes_finished_jobs_only(h: &mut dyn Harness) {
    let id = h.add("q", keyed("k", "x")).await;
    let refused = h.delete(id).await;
    assert_eq!(refused, Err(Refusal::JobNotFinished { state: State::Available }));
    let lease = h.take("q").await;
    assert_eq!(h.delete(id).await, Err(Refusal::JobNotFinished { state: State::Running }));
    h.end(lease, complete()).await;
    let before = h.view(id).await;
    let cursor = h.last_event().await;
    assert_eq!(h.delete(id).await, Ok(before));
    let events = h.events_since(cursor).await;
    assert_eq!(events.iter().map(|e| (e.kind, e.job)).collect::<Vec<_>>(), [(EventKind::Deleted, Some(id))]);
    assert_eq!(h.delete(id).await, Err(Refusal::JobNotFound));
    let counts = h.counts("q").await;
    assert_eq!((counts.accepted, counts.completed, counts.purged_deleted), (1, 0, 1));
    assert!(h.engine().list(ListParams { limit: 9, ..ListParams::default() }).await.unwrap().jobs.is_empty());
    assert_eq!(h.repeat("q", keyed("k", "x")).await.id, id);
    h.reopen_after_crash().await;
    assert_eq!(h.find(id).await, None);
    let unknown = JobId::new(h.now(), Seq::new(77_777).unwrap());
    assert_eq!(h.delete(unknown).await, Err(Refusal::JobNotFound));
}

/// I2: accepted = unfinished + completed + dead + cancelled + purged, at every step of a busy life
/// and over crashes (`counts` checks the sum each time).
pub async fn i2_nothing_leaves_by_another_way(h: &mut dyn Harness) {
    let free = || keyed("k", "x").free_on(FreeOn::DONE).retain(secs(90));
    for round in 0..20_u64 {
        h.add_all("q", vec![job(), job(), job().after(secs(round)), free(), free()]).await;
        let [first, second] = [h.take("q").await, h.take("q").await];
        h.end(first, complete()).await;
        h.end(second, if round % 2 == 0 { fail_for(secs(50)) } else { fail_for_good() }).await;
        h.counts("q").await;
        h.cancel(second.id).await.ok();
        h.counts("q").await;
        if round % 3 == 0 {
            h.delete(first.id).await.unwrap();
        }
        if round % 5 == 0 {
            h.reopen_after_crash().await;
        }
        h.counts("q").await;
        h.lease_ids("q", 1).await;
        h.pass(secs(20)).await;
        h.redrive("q").await;
        h.counts("q").await;
    }
    h.pass(days(8)).await;
    let counts = h.counts("q").await;
    assert!(counts.purged_retention > 0 && counts.purged_deleted == 7, "{counts:?}");
}
