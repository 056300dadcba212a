//! Looking jobs up.

use onefold_core::{JobFilter, JobId, JobPage, ListParams, Payload, State, Waiting};

use crate::{Build, Harness, complete, fail_for_good, group, hours, job, key, keyed, kind, label, ms, queue};

async fn page(h: &dyn Harness, params: ListParams) -> JobPage {
    h.engine().list(params).await.unwrap()
}

/// Follows cursors to the end; a page may be short and still have one.
async fn all(h: &dyn Harness, filter: JobFilter, limit: u32) -> Vec<JobId> {
    let mut ids = Vec::new();
    let mut before = None;
    loop {
        let page = page(h, ListParams { filter: filter.clone(), limit, before }).await;
        assert!(page.jobs.len() <= limit as usize);
        ids.extend(page.jobs.iter().map(|summary| summary.job.id));
        assert!(page.next.is_none() || page.next != before, "a cursor that does not move");
        before = page.next;
        if before.is_none() {
            return ids;
        }
    }
}

/// API: newest first; pages follow each other without gap or repeat, whatever their size, though
/// jobs are added meanwhile.
pub async fn pages_follow_each_other(h: &mut dyn Harness) {
    let mut ids = Vec::new();
    for n in 0..23 {
        ids.push(h.add(if n % 2 == 0 { "a" } else { "b" }, job()).await);
    }
    ids.reverse();
    for limit in [1, 2, 7, 23, 100] {
        assert_eq!(all(h, JobFilter::default(), limit).await, ids, "pages of {limit}");
    }
    let first = page(h, ListParams { limit: 10, ..ListParams::default() }).await;
    h.add("a", job()).await;
    let rest = ListParams { limit: 100, before: first.next, ..ListParams::default() };
    let rest: Vec<_> = page(h, rest).await.jobs.iter().map(|summary| summary.job.id).collect();
    assert_eq!(rest, ids[10..]);
}

/// API: each condition filters, and together they all must hold.
pub async fn every_condition_filters(h: &mut dyn Harness) {
    let mail = h.add("q", keyed("k", "x").kind("mail").label("red").label("big").group("g")).await;
    h.wait(ms(1));
    let middle = h.now();
    let sms = h.add("q", job().kind("sms").label("red")).await;
    h.wait(ms(1));
    let elsewhere = h.add("other", keyed("k", "x").kind("mail")).await;
    h.work("q", complete()).await;
    h.work("q", fail_for_good()).await;
    let any = JobFilter::default;
    let cases = [
        (any(), vec![elsewhere, sms, mail]),
        (JobFilter { queue: Some(queue("q")), ..any() }, vec![sms, mail]),
        (JobFilter { queue: Some(queue("unknown")), ..any() }, vec![]),
        (JobFilter { states: vec![State::Completed], ..any() }, vec![mail]),
        (JobFilter { states: vec![State::Completed, State::Dead], ..any() }, vec![sms, mail]),
        (JobFilter { states: vec![State::Running], ..any() }, vec![]),
        (JobFilter { kind: Some(kind("mail")), ..any() }, vec![elsewhere, mail]),
        (JobFilter { label: Some(label("red")), ..any() }, vec![sms, mail]),
        (JobFilter { label: Some(label("big")), ..any() }, vec![mail]),
        (JobFilter { key: Some(key("k")), ..any() }, vec![elsewhere, mail]),
        (JobFilter { key: Some(key("K")), ..any() }, vec![]),
        (JobFilter { group: Some(group("g")), ..any() }, vec![mail]),
        (JobFilter { since: Some(middle), ..any() }, vec![elsewhere, sms]),
        (JobFilter { until: Some(middle), ..any() }, vec![mail]),
        (JobFilter { since: Some(middle), queue: Some(queue("q")), ..any() }, vec![sms]),
        (JobFilter { kind: Some(kind("mail")), states: vec![State::Available], ..any() }, vec![elsewhere]),
    ];
    for (filter, expected) in cases {
        assert_eq!(all(h, filter.clone(), 2).await, expected, "{filter:?}");
    }
    h.reopen_after_crash().await;
    assert_eq!(all(h, JobFilter { label: Some(label("red")), ..any() }, 100).await, [sms, mail]);
}

/// API: an item says where its job stands and what was asked for, without the payload.
pub async fn an_item_leaves_the_payload_out(h: &mut dyn Harness) {
    let first = h.add("q", keyed("k", "x").group("g").kind("mail")).await;
    let behind = h.add("q", job().group("g").after(hours(0))).await;
    h.take("q").await;
    let listed = page(h, ListParams { limit: 9, ..ListParams::default() }).await.jobs;
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].job.id, listed[0].waiting), (behind, Some(Waiting::Group)));
    let view = h.view(first).await;
    let mut spec = view.spec;
    assert_ne!(spec.payload, Payload::Absent);
    spec.payload = Payload::Absent;
    assert_eq!((&listed[1].job, &listed[1].spec), (&view.job, &spec));
}

/// API: an empty store and an unknown queue have an empty page without a cursor.
pub async fn nothing_is_an_empty_page(h: &mut dyn Harness) {
    let none = page(h, ListParams { limit: 9, ..ListParams::default() }).await;
    assert_eq!(none, JobPage::default());
    h.add("q", job()).await;
    let filter = JobFilter { queue: Some(queue("unknown")), ..JobFilter::default() };
    assert!(all(h, filter, 9).await.is_empty());
    assert_eq!(h.engine().queue(queue("unknown")).await.unwrap(), None, "looking makes no queue");
}
