//! `on_duplicate: replace`, a debounce.

use onefold_core::{Added, Backoff, EvidenceKind, JobStatus, NewJob, OnDuplicate, Refusal, State};

use crate::{Build, Harness, Lease, complete, days, fail_for, group, hours, keyed, ms, secs};

fn replacing(content: &str) -> NewJob {
    keyed("k", content).on_duplicate(OnDuplicate::Replace)
}

/// Dedup options: while the job is not started, `replace` replaces everything but id, key and group.
pub async fn replace_changes_everything_but_id_key_and_group(h: &mut dyn Harness) {
    let id = h.add("q", replacing("old").kind("old").group("g").label("old").max_attempts(1)).await;
    h.wait(secs(1));
    let mut new = replacing("new").kind("new").group("other").label("new").max_attempts(3).priority(-1);
    new = new.backoff(Backoff::Fixed(ms(7))).timeout(secs(8)).retain(days(3)).window(days(2)).after(secs(5));
    new.spec.headers = vec![("h".into(), "new".into())];
    let run_at = h.now().saturating_add(secs(5));
    let answer = h.repeat("q", new.clone()).await;
    let expected = Added {
        id,
        status: JobStatus::Known(State::Scheduled),
        run_at: Some(run_at),
        duplicate: true,
        replaced: Some(true),
    };
    assert_eq!(answer, expected);
    let view = h.view(id).await;
    new.spec.group = Some(group("g"));
    assert_eq!(view.spec, new.spec);
    assert_eq!((view.job.max_attempts, view.job.priority, view.job.run_at), (3, -1, run_at));
    assert!(view.evidence.iter().any(|e| e.kind == EvidenceKind::Replaced));
    let until = view.job.created_at().saturating_add(days(2));
    assert_eq!(h.holder("q", "k").await.unwrap().until, until, "the window still counts from acceptance");
    assert_eq!(h.counts("q").await.accepted, 1);
    h.pass(secs(5)).await;
    assert_eq!(h.take_full("q").await.spec, new.spec);
}

/// Dedup options: a replace may move a waiting job to later and back to now.
pub async fn replace_moves_the_time_both_ways(h: &mut dyn Harness) {
    let id = h.add("q", replacing("1")).await;
    h.repeat("q", replacing("2").after(hours(1))).await;
    assert_eq!(h.state(id).await, State::Scheduled);
    assert!(h.nothing_to_lease("q").await);
    assert_eq!(h.repeat("q", replacing("3")).await.status, JobStatus::Known(State::Available));
    let leased = h.take_full("q").await;
    assert_eq!((leased.job.id, leased.spec), (id, replacing("3").spec));
}

/// Dedup options: once started, `replace` answers like `return`, saying that nothing was replaced.
pub async fn replace_leaves_a_started_job_alone(h: &mut dyn Harness) {
    let id = h.add("q", replacing("old").retain(secs(1))).await;
    let lease = h.take("q").await;
    let steps: [(State, Option<_>); 3] =
        [(State::Running, None), (State::Retrying, Some(fail_for(secs(1)))), (State::Completed, None)];
    for (state, end) in steps {
        if let Some(end) = end {
            h.end(lease, end).await;
        } else if state == State::Completed {
            h.pass(secs(1)).await;
            h.work("q", complete()).await;
        }
        let answer = h.repeat("q", replacing("new").after(hours(1))).await;
        assert_eq!((answer.id, answer.status, answer.replaced), (id, JobStatus::Known(state), Some(false)));
        assert_eq!(h.view(id).await.spec, replacing("old").retain(secs(1)).spec);
    }
    h.pass(secs(1)).await;
    let answer = h.repeat("q", replacing("new")).await;
    assert_eq!((answer.id, answer.status, answer.replaced), (id, JobStatus::Purged, Some(false)));
}

/// Dedup options: a job given back or put off has started and is not replaced.
pub async fn replace_leaves_a_released_job_alone(h: &mut dyn Harness) {
    h.add("q", replacing("old")).await;
    let lease = h.take("q").await;
    h.end(lease, onefold_core::End::Release).await;
    assert_eq!(h.repeat("q", replacing("new")).await.replaced, Some(false));
    assert_eq!(h.take_full("q").await.spec, replacing("old").spec);
}

/// Dedup options: `version` refuses older ones; the same and newer ones replace.
pub async fn replace_refuses_older_versions(h: &mut dyn Harness) {
    let existing = h.add("q", replacing("v5").version(5)).await;
    assert_eq!(h.repeat("q", replacing("v7").version(7)).await.replaced, Some(true));
    for old in [5, 6] {
        let refused = h.try_add("q", replacing("old").version(old)).await;
        assert_eq!(refused, Err(Refusal::VersionStale { existing }));
    }
    assert_eq!(h.view(existing).await.spec, replacing("v7").version(7).spec);
    assert_eq!(h.repeat("q", replacing("v7 again").version(7)).await.replaced, Some(true));
    assert_eq!(h.repeat("q", replacing("v8").version(8)).await.replaced, Some(true));
    assert_eq!(h.view(existing).await.spec.payload, replacing("v8").spec.payload);
    h.take("q").await;
    let refused = h.try_add("q", replacing("old").version(7)).await;
    assert_eq!(refused, Err(Refusal::VersionStale { existing }), "started or not");
    assert_eq!(h.repeat("q", replacing("v9").version(9)).await.replaced, Some(false));
}

/// Dedup options: `max_delay` bounds a rolling delay, counted from acceptance.
pub async fn max_delay_bounds_a_rolling_delay(h: &mut dyn Harness) {
    let rolling = |content: &str| replacing(content).after(secs(10)).max_delay(secs(25));
    let accepted = h.now();
    let id = h.add("q", rolling("0")).await;
    for (n, run_after) in [(1, 15), (2, 20), (3, 25), (4, 25)] {
        h.pass(secs(5)).await;
        let answer = h.repeat("q", rolling(&n.to_string())).await;
        assert_eq!(answer.run_at, Some(accepted.saturating_add(secs(run_after))), "replace {n}");
    }
    h.pass(secs(5)).await;
    let leased = h.take_full("q").await;
    assert_eq!((leased.job.id, leased.spec.payload), (id, rolling("4").spec.payload));
}

/// Dedup options: under `replace` a mismatch is not asked; from then on the new content is the
/// key's fingerprint.
pub async fn replace_makes_the_new_content_the_fingerprint(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("k", "old")).await;
    h.repeat("q", replacing("new")).await;
    assert_eq!(h.try_add("q", keyed("k", "old")).await, Err(Refusal::KeyReused { existing }));
    assert_eq!(h.repeat("q", keyed("k", "new")).await.id, existing);
}

/// I8: a replaced job keeps its place in its group.
pub async fn i8_a_replaced_job_keeps_its_place_in_its_group(h: &mut dyn Harness) {
    let first = h.add("q", replacing("1").group("g")).await;
    let second = h.add("q", keyed("k2", "2").group("g").priority(-5)).await;
    h.repeat("q", replacing("1b")).await;
    let lease: Lease = h.take("q").await;
    assert_eq!(lease.id, first);
    h.end(lease, complete()).await;
    assert_eq!(h.take("q").await.id, second);
}

/// I1: a replace survives a crash whole: content, time, key.
pub async fn i1_a_replace_survives_a_crash(h: &mut dyn Harness) {
    let existing = h.add("q", replacing("old").after(secs(5))).await;
    h.repeat("q", replacing("new").after(secs(50)).version(3)).await;
    let before = h.view(existing).await;
    h.reopen_after_crash().await;
    assert_eq!(h.view(existing).await, before);
    let refused = h.try_add("q", replacing("older").version(2)).await;
    assert_eq!(refused, Err(Refusal::VersionStale { existing }));
    assert_eq!(h.pass(secs(49)).await.due, 0);
    assert_eq!(h.pass(secs(1)).await.due, 1);
}
