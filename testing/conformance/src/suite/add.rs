//! Adding jobs.

use bytes::Bytes;
use onefold_core::{Added, FreeOn, JobStatus, NewJob, Payload, Refusal, State, TraceParent, When};

use crate::{Build, Harness, complete, days, job, keyed, ms, queue, secs};

/// Add: a job without a time is available at once, and the answer says so.
pub async fn a_new_job_is_available_at_once(h: &mut dyn Harness) {
    let added = h.try_add("q", job().content("hello")).await.unwrap();
    let expected = Added {
        id: added.id,
        status: JobStatus::Known(State::Available),
        run_at: Some(h.now()),
        duplicate: false,
        replaced: None,
    };
    assert_eq!(added, expected);
    let view = h.view(added.id).await;
    assert_eq!((view.job.state, &view.job.queue, view.waiting), (State::Available, &queue("q"), None));
    assert_eq!((view.job.created_at(), view.job.run_at), (h.now(), h.now()));
    assert_eq!((view.attempts.len(), view.job.attempts(), view.job.finished_at), (0, 0, None));
    assert_eq!(view.spec, job().content("hello").spec);
    let counts = h.counts("q").await;
    assert_eq!((counts.accepted, counts.available), (1, 1));
}

/// Add: a delayed job is scheduled and not leased before its time, and available from then on.
pub async fn a_delayed_job_waits_for_its_time(h: &mut dyn Harness) {
    let added = h.try_add("q", job().after(secs(10))).await.unwrap();
    assert_eq!(added.status, JobStatus::Known(State::Scheduled));
    assert_eq!(added.run_at, Some(h.now().saturating_add(secs(10))));
    let ticked = h.pass(ms(9_999)).await;
    assert_eq!(ticked.due, 0);
    assert!(h.nothing_to_lease("q").await);
    let ticked = h.pass(ms(1)).await;
    assert_eq!(ticked.due, 1);
    assert_eq!(h.state(added.id).await, State::Available);
    assert_eq!(h.take("q").await.id, added.id);
}

/// Add: a time that has passed means now; a time to come is kept to the millisecond.
pub async fn a_time_in_the_past_means_now(h: &mut dyn Harness) {
    let at = |when| NewJob { when: When::At(when), ..job() };
    let past = h.try_add("q", at(h.now().saturating_sub(days(1)))).await.unwrap();
    assert_eq!((past.status, past.run_at), (JobStatus::Known(State::Available), Some(h.now())));
    let future = h.now().saturating_add(ms(1));
    let coming = h.try_add("q", at(future)).await.unwrap();
    assert_eq!((coming.status, coming.run_at), (JobStatus::Known(State::Scheduled), Some(future)));
}

/// Add: a batch has one outcome for each item, in order; a refused item does not touch its
/// neighbours.
pub async fn a_batch_answers_each_item_in_order(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("k", "old")).await;
    let batch = vec![job().content("1"), keyed("k", "new"), keyed("k", "old"), job().content("4")];
    let outcomes = h.add_all("q", batch).await;
    assert_eq!(outcomes.len(), 4);
    assert_eq!(outcomes[1], Err(Refusal::KeyReused { existing }));
    let repeat = outcomes[2].as_ref().unwrap();
    assert_eq!((repeat.id, repeat.duplicate), (existing, true));
    for (place, content) in [(0, "1"), (3, "4")] {
        let added = outcomes[place].as_ref().unwrap();
        assert!(!added.duplicate);
        assert_eq!(h.view(added.id).await.spec, job().content(content).spec);
    }
    assert_eq!(h.counts("q").await.accepted, 3);
}

/// Add, I3: an atomic batch with a refusal adds nothing, claims no key, and says which item it was.
pub async fn an_atomic_batch_adds_all_or_none(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("taken", "old")).await;
    let before = h.counts("q").await;
    let batch = vec![keyed("free", "1"), keyed("taken", "new"), job()];
    let outcomes = h.add_atomic("q", batch).await;
    let other = || Err(Refusal::AtomicBatch { item: 1 });
    assert_eq!(outcomes, [other(), Err(Refusal::KeyReused { existing }), other()]);
    let after = h.counts("q").await;
    assert_eq!((after.accepted, after.available), (before.accepted, before.available));
    assert_eq!(h.holder("q", "free").await, None);
    assert_eq!(h.take("q").await.id, existing);
    assert!(h.nothing_to_lease("q").await);

    let outcomes = h.add_atomic("q", vec![keyed("free", "1"), keyed("free", "1"), job()]).await;
    let ids: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().id).collect();
    assert_eq!(ids[0], ids[1], "the second item repeats the first");
    assert_eq!(h.counts("q").await.accepted, 3);
}

/// Words: an id carries the time of acceptance, grows in order of acceptance, and is never given
/// again, not even after its job was deleted and the store was opened again.
pub async fn ids_are_never_given_again(h: &mut dyn Harness) {
    let outcomes = h.add_all("q", vec![job(), job()]).await;
    let ids: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().id).collect();
    assert!(ids[0].seq() < ids[1].seq());
    assert_eq!(ids[1].accepted_unix_ms(), h.now().as_unix_ms());
    h.cancel(ids[1]).await.unwrap();
    h.delete(ids[1]).await.unwrap();
    for _ in 0..2 {
        let next = h.add("q", job()).await;
        assert!(next.seq() > ids[1].seq(), "{next} after {}", ids[1]);
        h.cancel(next).await.unwrap();
        h.delete(next).await.unwrap();
        h.reopen_after_crash().await;
        let after = h.add("q", job()).await;
        assert!(after.seq() > next.seq(), "{after} after {next}");
    }
}

/// I1: what was accepted is there after a crash, whole.
pub async fn i1_accepted_jobs_survive_a_crash(h: &mut dyn Harness) {
    let full = keyed("k", "x").group("g").priority(-3).label("red").free_on(FreeOn::DONE);
    let ids = [h.add("q", job()).await, h.add("q", full).await, h.add("other", job().after(secs(60))).await];
    let mut before = Vec::new();
    for id in ids {
        before.push(h.view(id).await);
    }
    h.reopen_after_crash().await;
    for view in before {
        assert_eq!(h.view(view.job.id).await, view);
    }
    assert_eq!(h.counts("q").await.accepted, 2);
    assert_eq!(h.pass(secs(60)).await.due, 1);
}

/// Words: what is delivered is the bytes that were sent, and everything else as it was given.
pub async fn everything_given_is_delivered_unchanged(h: &mut dyn Harness) {
    let payloads = [
        Payload::Absent,
        Payload::Json(Bytes::from_static(b"{ \"b\" : 1.0,\n\t\"a\": [ ] }")),
        Payload::Raw {
            bytes: Bytes::from((0..=255).collect::<Vec<u8>>()),
            content_type: "image/x-any".into(),
        },
        Payload::Raw { bytes: Bytes::new(), content_type: "text/plain; charset=utf-8".into() },
    ];
    for payload in payloads {
        let mut new = job().kind("mail").label("a").label("ä b").group("g").timeout(secs(9)).retain(days(2));
        new.spec.payload = payload;
        new.spec.headers = vec![("X-One".into(), "1".into()), ("x-one".into(), String::new())];
        new.spec.traceparent =
            Some(TraceParent::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap());
        let id = h.add("q", new.clone()).await;
        assert_eq!(h.view(id).await.spec, new.spec);
        let leased = h.take_full("q").await;
        assert_eq!((leased.job.id, &leased.spec), (id, &new.spec));
        h.end((&leased).into(), complete()).await;
    }
}

/// Words: a queue is made by its first add; leasing from an unknown queue is an empty answer and
/// makes none.
pub async fn the_first_add_makes_the_queue(h: &mut dyn Harness) {
    assert!(h.nothing_to_lease("q").await);
    assert_eq!(h.engine().queue(queue("q")).await.unwrap(), None);
    h.add("q", job()).await;
    assert!(h.engine().queue(queue("q")).await.unwrap().is_some());
}

/// I3: without a key nothing is a repeat, however alike.
pub async fn jobs_without_a_key_are_never_repeats(h: &mut dyn Harness) {
    let first = h.add("q", job().content("same")).await;
    let second = h.add("q", job().content("same")).await;
    assert_ne!(first, second);
    assert_eq!(h.counts("q").await.duplicates, 0);
}
