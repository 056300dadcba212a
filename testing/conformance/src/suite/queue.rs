//! Queues and their settings.

use onefold_core::{
    Backoff, DeletedQueue, End, QueueCounts, QueuePatch, QueueSettings, Rate, Refusal, State, Waiting,
};

use crate::{
    Build, Harness, Lease, call, complete, days, fail, fail_for, fail_for_good, hours, job, keyed, ms, queue,
    secs, snooze,
};

fn paused(paused: bool) -> QueuePatch {
    QueuePatch { paused: Some(paused), ..QueuePatch::default() }
}

fn concurrency(limit: Option<u32>) -> QueuePatch {
    QueuePatch { concurrency: Some(limit), ..QueuePatch::default() }
}

/// States: nothing is leased from a paused queue; its jobs say why they wait; running ones go on;
/// other queues do not care.
pub async fn nothing_is_leased_from_a_paused_queue(h: &mut dyn Harness) {
    let running = h.add("q", job()).await;
    let lease = h.take("q").await;
    let id = h.add("q", job()).await;
    h.set("q", paused(true)).await;
    assert!(h.nothing_to_lease("q").await);
    assert_eq!(h.view(id).await.waiting, Some(Waiting::Paused));
    h.extend(lease, secs(30)).await.unwrap();
    assert_eq!(h.end(lease, complete()).await, State::Completed);
    assert_eq!(h.state(running).await, State::Completed);
    h.add("other", job()).await;
    h.take("other").await;
    h.reopen_after_crash().await;
    assert!(h.nothing_to_lease("q").await, "paused over a crash");
    h.set("q", paused(false)).await;
    assert_eq!(h.view(id).await.waiting, None);
    assert_eq!(h.take("q").await.id, id);
}

/// Words: a queue is made by any setting too, and a pause holds for jobs added later.
pub async fn a_setting_makes_the_queue(h: &mut dyn Harness) {
    let view = h.set("q", paused(true)).await;
    assert_eq!((view.name, view.settings.paused, view.counts), (queue("q"), true, QueueCounts::default()));
    h.add("q", job()).await;
    assert!(h.nothing_to_lease("q").await);
}

/// Queues: at most `concurrency` jobs run at once, within one call and over many; every end of an
/// attempt frees its slot.
pub async fn concurrency_bounds_running_jobs(h: &mut dyn Harness) {
    h.set("q", concurrency(Some(2))).await;
    h.add_all("q", vec![job(); 9]).await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 2);
    let ends = [complete(), fail_for(hours(1)), fail_for_good(), snooze(hours(1))];
    for end in ends {
        assert!(h.nothing_to_lease("q").await);
        assert_eq!(h.counts("q").await.running, 2);
        let running = running(h).await;
        h.end(running[0], end).await;
        assert_eq!(h.lease_ids("q", 9).await.len(), 1);
    }
    let leases = running(h).await;
    h.force_cancel(leases[0].id).await.unwrap();
    assert_eq!(h.lease_ids("q", 9).await.len(), 1);
    h.pass(secs(30)).await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 2);
}

async fn running(h: &mut dyn Harness) -> Vec<Lease> {
    let params = onefold_core::ListParams {
        filter: onefold_core::JobFilter { states: vec![State::Running], ..Default::default() },
        limit: 100,
        before: None,
    };
    let page = h.engine().list(params).await.unwrap();
    let lease = |job: &onefold_core::Job| Lease { id: job.id, token: job.attempt.as_ref().unwrap().token };
    page.jobs.iter().map(|summary| lease(&summary.job)).collect()
}

/// Queues: a lower limit than what runs lets nothing new start; jobs say why they wait; a crash
/// changes nothing.
pub async fn a_lower_limit_lets_nothing_new_start(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 4]).await;
    assert_eq!(h.lease_ids("q", 3).await.len(), 3);
    h.set("q", concurrency(Some(2))).await;
    let waiting = h.add("q", job()).await;
    assert_eq!(h.view(waiting).await.waiting, Some(Waiting::Concurrency));
    h.reopen_after_crash().await;
    for running_now in [3, 2] {
        assert!(h.nothing_to_lease("q").await);
        assert_eq!(h.counts("q").await.running, running_now);
        let lease = running(h).await[0];
        h.end(lease, complete()).await;
    }
    assert_eq!(h.lease_ids("q", 9).await.len(), 1);
    h.set("q", concurrency(None)).await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 1);
}

/// Queues: the settings are the defaults of jobs that do not say; what a job says wins; a change
/// counts for jobs accepted later.
pub async fn settings_are_defaults_for_jobs_that_do_not_say(h: &mut dyn Harness) {
    let before = h.add("q", keyed("before", "x")).await;
    h.set(
        "q",
        QueuePatch {
            max_attempts: Some(Some(2)),
            backoff: Some(Some(Backoff::Fixed(secs(7)))),
            dedup_window: Some(Some(hours(1))),
            ..QueuePatch::default()
        },
    )
    .await;
    let plain = h.add("q", keyed("plain", "x")).await;
    let own = keyed("own", "x").max_attempts(5).backoff(Backoff::Fixed(secs(1))).window(hours(2));
    let own = h.add("q", own).await;
    let expected = [(before, 20, days(7)), (plain, 2, hours(1)), (own, 5, hours(2))];
    for ((id, max_attempts, window), text) in expected.into_iter().zip(["before", "plain", "own"]) {
        assert_eq!(h.view(id).await.job.max_attempts, max_attempts);
        let until = h.holder("q", text).await.unwrap().until;
        assert_eq!(until, h.now().saturating_add(window), "{text}");
    }
    h.world().dice.load(Some(0));
    for (id, wait) in [(before, ms(2_500)), (plain, secs(7)), (own, secs(1))] {
        assert_eq!(h.work("q", fail()).await, id);
        assert_eq!(h.view(id).await.job.run_at, h.now().saturating_add(wait));
    }
}

/// Queues: a change leaves alone what it does not name, and can put each setting back to its
/// default; settings are durable (I1).
pub async fn a_change_leaves_the_rest_alone(h: &mut dyn Harness) {
    let all = QueueSettings {
        paused: true,
        concurrency: Some(3),
        rate: Some(Rate { limit: 4, per: secs(2) }),
        group_head: Some(onefold_core::GroupHead::Skip),
        on_dead: Some(onefold_core::OnDead::Block),
        max_attempts: Some(4),
        backoff: Some(Backoff::Fixed(secs(5))),
        dedup_window: Some(secs(6)),
        retain_completed: Some(secs(7)),
        retain_cancelled: Some(secs(8)),
        retain_dead: Some(secs(9)),
    };
    let everything = QueuePatch {
        paused: Some(true),
        concurrency: Some(all.concurrency),
        rate: Some(all.rate),
        group_head: Some(all.group_head),
        on_dead: Some(all.on_dead),
        max_attempts: Some(all.max_attempts),
        backoff: Some(all.backoff.clone()),
        dedup_window: Some(all.dedup_window),
        retain_completed: Some(all.retain_completed),
        retain_cancelled: Some(all.retain_cancelled),
        retain_dead: Some(all.retain_dead),
    };
    assert_eq!(h.set("q", everything).await.settings, all);
    assert_eq!(h.set("q", QueuePatch::default()).await.settings, all);
    h.reopen_after_crash().await;
    let view = h.engine().queue(queue("q")).await.unwrap().unwrap();
    assert_eq!(view.settings, all);
    let back = QueuePatch { on_dead: Some(None), rate: Some(None), backoff: Some(None), ..concurrency(None) };
    let expected = QueueSettings { on_dead: None, rate: None, backoff: None, concurrency: None, ..all };
    assert_eq!(h.set("q", back).await.settings, expected);
}

/// I2: a queue with unfinished jobs is deleted only with `force`; an unknown one is refused.
pub async fn i2_a_queue_with_unfinished_jobs_needs_force(h: &mut dyn Harness) {
    assert_eq!(h.engine().delete_queue(queue("q"), true).await.unwrap(), Err(Refusal::QueueNotFound));
    let done = h.add("q", keyed("done", "x")).await;
    h.work("q", complete()).await;
    let running = h.add("q", keyed("running", "x")).await;
    let lease = h.take("q").await;
    let delayed = h.add("q", keyed("delayed", "x").after(hours(1))).await;
    let refused = h.engine().delete_queue(queue("q"), false).await.unwrap();
    assert_eq!(refused, Err(Refusal::QueueNotEmpty { unfinished: 2 }));
    assert_eq!(h.counts("q").await.accepted, 3);
    let deleted = h.engine().delete_queue(queue("q"), true).await.unwrap();
    assert_eq!(deleted, Ok(DeletedQueue { jobs: 3 }));
    h.reopen_after_crash().await;
    for id in [done, running, delayed] {
        assert_eq!(h.find(id).await, None);
    }
    assert_eq!(h.engine().queue(queue("q")).await.unwrap(), None);
    assert_eq!(h.try_end(lease, complete()).await, Err(Refusal::JobNotFound));
    assert_eq!(h.pass(hours(1)).await.due, 0);
    for text in ["done", "running", "delayed"] {
        assert_eq!(h.holder("q", text).await, None);
        h.add("q", keyed(text, "y")).await;
    }
    assert_eq!(h.counts("q").await.accepted, 3, "a new queue of the same name counts anew");
}

/// Queues: one whose jobs are all finished is deleted without force, and its settings with it.
pub async fn an_idle_queue_is_deleted_with_its_settings(h: &mut dyn Harness) {
    h.set("q", QueuePatch { max_attempts: Some(Some(2)), ..QueuePatch::default() }).await;
    h.add("q", job()).await;
    h.work("q", complete()).await;
    assert_eq!(h.engine().delete_queue(queue("q"), false).await.unwrap(), Ok(DeletedQueue { jobs: 1 }));
    let id = h.add("q", job()).await;
    assert_eq!(h.view(id).await.job.max_attempts, 20);
}

/// Queues: all are listed by name, each with its counts and the age of its oldest available job.
pub async fn queues_are_listed_by_name(h: &mut dyn Harness) {
    assert!(h.engine().queues().await.unwrap().is_empty());
    for name in ["b", "a-1", "B", "a", "_"] {
        h.add(name, job()).await;
    }
    let queues = h.engine().queues().await.unwrap();
    let names: Vec<_> = queues.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, ["B", "_", "a", "a-1", "b"]);
    for view in queues {
        assert_eq!(h.engine().queue(view.name.clone()).await.unwrap(), Some(view));
    }
}

/// API: the oldest available job's acceptance is told, whatever its priority and though its queue is
/// paused; a job behind the head of its group is not in line yet.
pub async fn the_oldest_available_job_is_told(h: &mut dyn Harness) {
    let oldest =
        async |h: &mut dyn Harness| h.engine().queue(queue("q")).await.unwrap().unwrap().oldest_available;
    let first = h.now();
    h.add("q", job().priority(5)).await;
    h.wait(secs(1));
    let second = h.now();
    h.add("q", job()).await;
    assert_eq!(oldest(h).await, Some(first));
    h.set("q", paused(true)).await;
    assert_eq!(oldest(h).await, Some(first));
    h.set("q", paused(false)).await;
    h.lease_by(call("q")).await;
    assert_eq!(oldest(h).await, Some(first));
    let lease = h.take("q").await;
    assert_eq!(oldest(h).await, None);
    let other = running(h).await[0];
    h.end(other, End::Release).await;
    h.end(lease, complete()).await;
    assert_eq!(oldest(h).await, Some(second));
    h.end(h.take("q").await, complete()).await;
    h.add_all("q", vec![job().group("g"); 2]).await;
    h.take("q").await;
    assert_eq!(oldest(h).await, None);
}
