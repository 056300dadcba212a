//! One job per key (I3).

use onefold_core::{
    Added, EvidenceKind, FreeOn, JobStatus, KeyView, OnDuplicate, OnMismatch, Refusal, State,
};

use crate::{Build, Harness, complete, fail_for_good, hours, key, keyed, ms, queue, secs};

fn known(state: State) -> JobStatus {
    JobStatus::Known(state)
}

/// I3: a repeat gets the first job's id, its current state and `duplicate: true`, and is counted.
pub async fn i3_a_repeat_gets_the_first_job(h: &mut dyn Harness) {
    let first = h.add("q", keyed("k", "x")).await;
    let run_at = Some(h.now());
    h.wait(secs(1));
    let repeat = h.repeat("q", keyed("k", "x").after(hours(1)).priority(7)).await;
    let expected =
        Added { id: first, status: known(State::Available), run_at, duplicate: true, replaced: None };
    assert_eq!(repeat, expected);
    h.take("q").await;
    assert_eq!(h.repeat("q", keyed("k", "x")).await.status, known(State::Running));
    let view = h.view(first).await;
    assert_eq!((view.job.duplicates, view.job.priority), (2, 0));
    let noted: Vec<_> = view.evidence.iter().map(|e| (e.kind, e.number, e.at)).collect();
    assert_eq!(noted, [(EvidenceKind::DuplicateAdd, 1, h.now()), (EvidenceKind::DuplicateAdd, 2, h.now())]);
    let counts = h.counts("q").await;
    assert_eq!((counts.accepted, counts.duplicates), (1, 2));
}

/// I3: a key is held until acceptance + window, to the millisecond, though its job ended earlier.
pub async fn i3_a_key_is_held_until_its_window_is_over(h: &mut dyn Harness) {
    let first = h.add("q", keyed("k", "x").window(hours(1))).await;
    h.work("q", complete()).await;
    h.pass(ms(3_599_999)).await;
    let repeat = h.repeat("q", keyed("k", "x")).await;
    assert_eq!((repeat.id, repeat.status), (first, known(State::Completed)));
    h.pass(ms(1)).await;
    assert_eq!(h.holder("q", "k").await, None);
    let second = h.add("q", keyed("k", "other")).await;
    assert_eq!(h.holder("q", "k").await.unwrap().job, second);
}

/// I3: the default window is seven days from acceptance.
pub async fn i3_the_default_window_is_seven_days(h: &mut dyn Harness) {
    h.add("q", keyed("k", "x")).await;
    h.work("q", complete()).await;
    h.pass(ms(7 * 24 * 3_600_000 - 1)).await;
    h.repeat("q", keyed("k", "x")).await;
    h.pass(ms(1)).await;
    h.add("q", keyed("k", "x")).await;
}

/// I3: a key is held beyond its window while its job is unfinished, and free once it ends.
pub async fn i3_an_unfinished_job_holds_its_key_beyond_the_window(h: &mut dyn Harness) {
    let first = h.add("q", keyed("k", "x").window(secs(1)).after(hours(2))).await;
    h.pass(hours(1)).await;
    assert_eq!(h.repeat("q", keyed("k", "x")).await.id, first);
    h.pass(hours(1)).await;
    let lease = h.take("q").await;
    assert_eq!(h.repeat("q", keyed("k", "x")).await.status, known(State::Running));
    h.end(lease, complete()).await;
    assert_ne!(h.add("q", keyed("k", "x")).await, first);
}

/// I3: a key belongs to its queue.
pub async fn i3_a_key_belongs_to_its_queue(h: &mut dyn Harness) {
    let first = h.add("q", keyed("k", "x")).await;
    assert_ne!(h.add("other", keyed("k", "y")).await, first);
    assert_eq!(h.holder("elsewhere", "k").await, None);
}

/// Words: keys are compared byte for byte, never normalised, folded or trimmed.
pub async fn keys_are_compared_byte_for_byte(h: &mut dyn Harness) {
    for text in ["é", "e\u{301}", "k", "K", " k", "k ", "𝐤", &"k".repeat(255), &"k".repeat(254)] {
        h.add("q", keyed(text, "x")).await;
        h.repeat("q", keyed(text, "x")).await;
    }
}

/// I3: another fingerprint is refused with `key-reused`, naming the job, which is not changed.
pub async fn i3_other_content_is_refused(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("k", "x")).await;
    let refused = h.try_add("q", keyed("k", "y")).await;
    assert_eq!(refused, Err(Refusal::KeyReused { existing }));
    let view = h.view(existing).await;
    assert_eq!(view.spec, keyed("k", "x").spec);
    assert_eq!((view.job.mismatches, view.job.duplicates), (1, 0));
    assert_eq!(view.evidence[0].kind, EvidenceKind::Mismatch);
    let counts = h.counts("q").await;
    assert_eq!((counts.accepted, counts.mismatches, counts.duplicates), (1, 1, 0));
}

/// I3: the fingerprint outlives the row: other content is refused after a purge too.
pub async fn i3_other_content_is_refused_after_a_purge(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("k", "x").retain(secs(1))).await;
    h.work("q", complete()).await;
    h.pass(secs(1)).await;
    assert_eq!(h.try_add("q", keyed("k", "y")).await, Err(Refusal::KeyReused { existing }));
}

/// Dedup options: `on_mismatch: return` answers with the first job whatever the content.
pub async fn on_mismatch_return_answers_with_the_first_job(h: &mut dyn Harness) {
    let first = h.add("q", keyed("k", "x")).await;
    assert_eq!(h.repeat("q", keyed("k", "y").on_mismatch(OnMismatch::Return)).await.id, first);
    assert_eq!(h.view(first).await.spec, keyed("k", "x").spec);
}

/// Dedup options: `on_duplicate: reject` refuses the repeat, naming the job; the caller of the
/// repeat chooses, not the first one.
pub async fn on_duplicate_reject_refuses_the_repeat(h: &mut dyn Harness) {
    let existing = h.add("q", keyed("k", "x").on_duplicate(OnDuplicate::Reject)).await;
    let refused = h.try_add("q", keyed("k", "x").on_duplicate(OnDuplicate::Reject)).await;
    assert_eq!(refused, Err(Refusal::DuplicateKey { existing }));
    let refused = h.try_add("q", keyed("k", "y").on_duplicate(OnDuplicate::Reject)).await;
    assert_eq!(refused, Err(Refusal::KeyReused { existing }));
    assert_eq!(h.repeat("q", keyed("k", "x")).await.id, existing);
}

/// I3: `free_on` frees the key at exactly the named ends; at the others it is held to the end of
/// its window.
pub async fn i3_free_on_frees_the_key_at_the_named_ends(h: &mut dyn Harness) {
    let ends = [State::Completed, State::Dead, State::Cancelled];
    for bits in 0..8 {
        let free_on = FreeOn::from_bits(bits);
        for end in ends {
            let text = format!("{bits}-{end}");
            let id = h.add("q", keyed(&text, "x").free_on(free_on)).await;
            match end {
                State::Completed => assert_eq!(h.work("q", complete()).await, id),
                State::Dead => assert_eq!(h.work("q", fail_for_good()).await, id),
                _ => drop(h.cancel(id).await.unwrap()),
            }
            let holder = h.holder("q", &text).await.map(|held| held.job);
            assert_eq!(holder.is_none(), free_on.frees(end), "{free_on:?} and {end}");
            let again = h.try_add("q", keyed(&text, "x")).await.unwrap();
            assert_eq!(again.duplicate, !free_on.frees(end), "{free_on:?} and {end}");
            if !again.duplicate {
                h.cancel(again.id).await.unwrap();
            }
        }
    }
}

/// I3: when a freed key was claimed again, the end of its earlier job does not free it.
pub async fn i3_only_the_holder_frees_the_key(h: &mut dyn Harness) {
    h.add("q", keyed("k", "x").free_on(FreeOn::DONE)).await;
    let old = h.take("q").await;
    h.engine().release_key(queue("q"), key("k")).await.unwrap();
    let new = h.add("q", keyed("k", "x").free_on(FreeOn::DONE)).await;
    h.end(old, complete()).await;
    assert_eq!(h.holder("q", "k").await.unwrap().job, new);
    assert_eq!(h.repeat("q", keyed("k", "x")).await.id, new);
}

/// I3: when the row is gone but the window is not, a repeat is told `purged` and the first id.
pub async fn i3_a_repeat_after_the_purge_says_so(h: &mut dyn Harness) {
    let by_retention = h.add("q", keyed("k", "x").retain(secs(5))).await;
    h.work("q", complete()).await;
    let by_delete = h.add("q", keyed("d", "x")).await;
    h.work("q", complete()).await;
    h.delete(by_delete).await.unwrap();
    h.pass(secs(5)).await;
    for (text, id) in [("k", by_retention), ("d", by_delete)] {
        assert_eq!(h.find(id).await, None);
        let expected = Added { id, status: JobStatus::Purged, run_at: None, duplicate: true, replaced: None };
        assert_eq!(h.repeat("q", keyed(text, "x")).await, expected);
        assert_eq!(h.holder("q", text).await.unwrap().status, JobStatus::Purged);
    }
}

/// Dedup options: a repeat inside one array duplicates the earlier item.
pub async fn a_repeat_inside_one_batch_duplicates_the_earlier_item(h: &mut dyn Harness) {
    let batch = vec![keyed("a", "x"), keyed("b", "x"), keyed("a", "x"), keyed("a", "y")];
    let outcomes = h.add_all("q", batch).await;
    let first = outcomes[0].as_ref().unwrap();
    let repeat = outcomes[2].as_ref().unwrap();
    assert_eq!((first.duplicate, repeat.duplicate, repeat.id), (false, true, first.id));
    assert_eq!(outcomes[3], Err(Refusal::KeyReused { existing: first.id }));
    assert_eq!(h.counts("q").await.accepted, 2);
}

/// I3: of a hundred adds at once with one key, one is new and the others are told its id.
pub async fn i3_a_race_of_a_hundred_adds_one_job(h: &mut dyn Harness) {
    for (text, delay) in [("now", secs(0)), ("later", secs(60))] {
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let engine = h.engine();
                let jobs = vec![keyed(text, "x").after(delay)];
                let params = onefold_core::AddParams { queue: queue("q"), jobs, atomic: false };
                tokio::spawn(async move { engine.add(params).await.unwrap().pop().unwrap().unwrap() })
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        assert_eq!(answers.iter().filter(|added| !added.duplicate).count(), 1);
        assert!(answers.iter().all(|added| added.id == answers[0].id));
    }
    assert_eq!(h.counts("q").await.accepted, 2);
}

/// I1, I3: a held key is held after a crash and after a clean restart, for immediate, delayed,
/// finished and purged jobs.
pub async fn i3_keys_are_held_over_a_restart(h: &mut dyn Harness) {
    let finished = h.add("q", keyed("finished", "x")).await;
    h.work("q", complete()).await;
    let purged = h.add("q", keyed("purged", "x").retain(secs(1))).await;
    h.work("q", complete()).await;
    h.pass(secs(1)).await;
    let delayed = h.add("q", keyed("delayed", "x").after(hours(1)).window(secs(0))).await;
    let immediate = h.add("q", keyed("immediate", "x")).await;
    for crash in [true, false] {
        if crash {
            h.reopen_after_crash().await;
        } else {
            h.reopen_cleanly().await;
        }
        let held =
            [("finished", finished), ("purged", purged), ("delayed", delayed), ("immediate", immediate)];
        for (text, id) in held {
            assert_eq!(h.repeat("q", keyed(text, "x")).await.id, id, "{text}");
            let refused = h.try_add("q", keyed(text, "y")).await;
            assert_eq!(refused, Err(Refusal::KeyReused { existing: id }), "{text}");
        }
    }
}

/// API: a key tells who holds it, where that job stands, until when and with which options.
pub async fn a_key_tells_who_holds_it(h: &mut dyn Harness) {
    let free_on = FreeOn { dead: true, ..FreeOn::default() };
    let id = h.add("q", keyed("k", "x").window(hours(5)).free_on(free_on)).await;
    let until = h.now().saturating_add(hours(5));
    h.take("q").await;
    let expected = KeyView { job: id, status: known(State::Running), until, free_on };
    assert_eq!(h.holder("q", "k").await, Some(expected));
    assert_eq!(h.holder("q", "unknown").await, None);
}

/// API: freeing a key by hand is audited, leaves its job alone, and lets the key be claimed anew.
pub async fn a_key_is_freed_by_hand_with_evidence(h: &mut dyn Harness) {
    let first = h.add("q", keyed("k", "x")).await;
    let was = h.engine().release_key(queue("q"), key("k")).await.unwrap().unwrap();
    assert_eq!(was.job, first);
    let view = h.view(first).await;
    assert_eq!((view.job.state, view.evidence[0].kind), (State::Available, EvidenceKind::KeyReleased));
    assert_eq!(h.holder("q", "k").await, None);
    assert_eq!(h.engine().release_key(queue("q"), key("k")).await.unwrap(), None);
    assert_eq!(h.engine().release_key(queue("nowhere"), key("k")).await.unwrap(), None);
    h.reopen_after_crash().await;
    assert_ne!(h.add("q", keyed("k", "y")).await, first);
}

/// I10: repeated evidence on one job is counted, with the first and last twenty kept.
pub async fn i10_repeated_evidence_keeps_the_first_and_last_twenty(h: &mut dyn Harness) {
    let id = h.add("q", keyed("k", "x")).await;
    for _ in 0..50 {
        h.wait(ms(1));
        h.repeat("q", keyed("k", "x")).await;
    }
    let view = h.view(id).await;
    assert_eq!(view.job.duplicates, 50);
    let kept: Vec<u32> = view.evidence.iter().map(|e| e.number).collect();
    let expected: Vec<u32> = (1..=20).chain(31..=50).collect();
    assert_eq!(kept, expected);
    assert_eq!(h.counts("q").await.duplicates, 50);
}
