//! Changing jobs that have not started.

use onefold_core::{EvidenceKind, JobEdit, JobId, Refusal, Seq, State};

use crate::{Build, Harness, complete, hours, job, label, secs};

/// Edit: time, priority and labels of a job that has not started; what is not named stays.
pub async fn a_waiting_job_can_be_changed(h: &mut dyn Harness) {
    let id = h.add("q", job().content("x").label("a").priority(3)).await;
    h.wait(secs(1));
    let later = h.now().saturating_add(hours(1));
    let edit = JobEdit { run_at: Some(later), ..JobEdit::default() };
    let view = h.engine().edit(id, edit).await.unwrap().unwrap();
    assert_eq!((view.job.state, view.job.run_at, view.job.priority), (State::Scheduled, later, 3));
    assert_eq!(view.spec, job().content("x").label("a").spec);
    let edit = JobEdit { priority: Some(-9), labels: Some(vec![label("b")]), ..JobEdit::default() };
    let view = h.engine().edit(id, edit).await.unwrap().unwrap();
    assert_eq!((view.job.state, view.job.run_at, view.job.priority), (State::Scheduled, later, -9));
    assert_eq!(view.spec.labels, [label("b")]);
    assert_eq!(view.evidence.iter().filter(|e| e.kind == EvidenceKind::Edited).count(), 2);
    h.reopen_after_crash().await;
    assert_eq!(h.view(id).await, view);
    assert_eq!(h.pass(hours(1)).await.due, 1);
}

/// Edit: a time that has passed makes the job available now; a later one takes it back.
pub async fn an_edit_moves_the_time_both_ways(h: &mut dyn Harness) {
    let id = h.add("q", job().after(hours(1))).await;
    let now = JobEdit { run_at: Some(h.now().saturating_sub(hours(1))), ..JobEdit::default() };
    let view = h.engine().edit(id, now.clone()).await.unwrap().unwrap();
    assert_eq!(view.job.state, State::Available);
    let later = JobEdit { run_at: Some(h.now().saturating_add(secs(5))), ..JobEdit::default() };
    h.engine().edit(id, later).await.unwrap().unwrap();
    assert!(h.nothing_to_lease("q").await);
    h.engine().edit(id, now).await.unwrap().unwrap();
    assert_eq!(h.take("q").await.id, id);
}

/// Edit: a new priority counts for the next lease.
pub async fn a_new_priority_counts_at_once(h: &mut dyn Harness) {
    let ids = [h.add("q", job()).await, h.add("q", job()).await, h.add("q", job()).await];
    for (id, priority) in [(ids[2], -1), (ids[0], 1)] {
        let edit = JobEdit { priority: Some(priority), ..JobEdit::default() };
        h.engine().edit(id, edit).await.unwrap().unwrap();
    }
    assert_eq!(h.lease_ids("q", 9).await, [ids[2], ids[1], ids[0]]);
}

/// Edit: a job that has started, even if it was given back, and an unknown one are refused.
pub async fn a_started_job_is_left_alone(h: &mut dyn Harness) {
    let edit = || JobEdit { priority: Some(1), ..JobEdit::default() };
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    let refused = h.engine().edit(id, edit()).await.unwrap();
    assert_eq!(refused, Err(Refusal::JobStarted { state: State::Running }));
    h.end(lease, onefold_core::End::Release).await;
    let refused = h.engine().edit(id, edit()).await.unwrap();
    assert_eq!(refused, Err(Refusal::JobStarted { state: State::Available }));
    h.work("q", complete()).await;
    let refused = h.engine().edit(id, edit()).await.unwrap();
    assert_eq!(refused, Err(Refusal::JobStarted { state: State::Completed }));
    assert_eq!(h.view(id).await.job.priority, 0);
    let unknown = JobId::new(h.now(), Seq::new(77_777).unwrap());
    assert_eq!(h.engine().edit(unknown, edit()).await.unwrap(), Err(Refusal::JobNotFound));
}
