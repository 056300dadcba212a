//! Jobs that are delivered over HTTP: the other side of the same queues.

use std::collections::HashMap;
use std::sync::Arc;

use onefold_core::{
    DeliveryParams, DurationMs, End, Exchange, ExchangeTiming, GroupHead, HttpTarget, JobId, Lane,
    LeaseParams, LeasedJob, NewJob, OnDuplicate, QueuePatch, Refusal, SettleAction, State, Target,
    TargetHeaders, TargetMethod, TargetUrl, Waiting, WorkerName, limits,
};

use crate::{
    Build, Harness, Lease, asked, call, complete, every, fail_for, job, keyed, ms, secs, snooze, template,
};

fn target(url: &str) -> Arc<HttpTarget> {
    Arc::new(HttpTarget::post(TargetUrl::parse(url).expect("a URL")))
}

/// To be delivered to the host `name`.
fn to(name: &str) -> NewJob {
    aimed(job(), name)
}

fn aimed(mut job: NewJob, name: &str) -> NewJob {
    job.spec.target = Target::Http(target(&format!("https://{name}.example/hook")));
    job
}

fn lane(name: &str) -> Lane {
    target(&format!("https://{name}.example/")).lane()
}

fn ask(max: u32) -> DeliveryParams {
    DeliveryParams {
        max,
        per_lane: max,
        room: HashMap::new(),
        lease: limits::LEASE_DEFAULT,
        worker: WorkerName::new("d").expect("a worker name"),
    }
}

async fn lease(h: &dyn Harness, params: DeliveryParams) -> Vec<LeasedJob> {
    h.engine().lease_deliveries(params).await.unwrap()
}

async fn ids(h: &dyn Harness, params: DeliveryParams) -> Vec<JobId> {
    lease(h, params).await.iter().map(|leased| leased.job.id).collect()
}

async fn one(h: &dyn Harness) -> Lease {
    let leased = lease(h, ask(1)).await;
    Lease::from(leased.first().expect("a delivery to lease"))
}

/// HTTP targets: what workers lease is never delivered, and the other way round, whatever becomes of a job in between.
pub async fn each_side_gets_only_its_own(h: &mut dyn Harness) {
    let pull = h.add("q", job()).await;
    let http = h.add("q", to("a")).await;
    assert_eq!(ids(h, ask(9)).await, [http]);
    assert_eq!(h.lease_ids("q", 9).await, [pull]);
    let mut token = h.view(http).await.job.attempt.unwrap().token;
    for end in [End::Release, fail_for(secs(1)), snooze(secs(1))] {
        h.end(Lease { id: http, token }, end).await;
        h.pass(secs(1)).await;
        assert!(h.nothing_to_lease("q").await);
        token = one(h).await.token;
    }
    h.pass(limits::LEASE_DEFAULT).await;
    assert!(h.view(http).await.job.lost_leases > 0);
    assert!(!h.lease_ids("q", 9).await.contains(&http));
    h.force_cancel(http).await.unwrap();
    h.retry(http).await.unwrap();
    assert!(!h.lease_ids("q", 9).await.contains(&http));
    assert_eq!(one(h).await.id, http);
}

/// Schedules: the job of a schedule may be one that is delivered, and its tick goes with it.
pub async fn a_schedules_job_may_be_delivered(h: &mut dyn Harness) {
    let mut new = asked(every(secs(60), h.now()));
    new.job = template(aimed(job(), "a"));
    h.put_schedule("s", new).await;
    h.pass(secs(60)).await;
    let leased = lease(h, ask(9)).await;
    let [delivery] = leased.as_slice() else { panic!("{leased:?}") };
    assert_eq!(delivery.spec.target, aimed(job(), "a").spec.target);
    assert_eq!(h.ticks_of("q").await.len(), 1);
    assert!(h.nothing_to_lease("q").await);
}

/// I1: a target is kept and handed out as it was given.
pub async fn i1_a_target_is_handed_out_unchanged(h: &mut dyn Harness) {
    let mut given = to("a");
    let full = HttpTarget {
        url: TargetUrl::parse("http://[2001:db8::1]:8080/a?b=c%20d").unwrap(),
        method: TargetMethod::Put,
        headers: TargetHeaders::parse(&[("x-shop", "7"), ("authorization", "Bearer é")]).unwrap(),
        timeout: Some(secs(7)),
    };
    given.spec.target = Target::Http(Arc::new(full));
    given.spec.on_success = Some(target("https://ok.example/?x"));
    given.spec.on_failure = Some(target("https://bad.example/"));
    let id = h.add("q", given.clone()).await;
    let many: Vec<NewJob> = (0..40).map(|_| given.clone()).collect();
    h.add_all("q", many).await;
    if h.flags().reopen {
        h.reopen_after_crash().await;
    }
    assert_eq!(h.view(id).await.spec, given.spec);
    let leased = lease(h, ask(41)).await;
    assert_eq!(leased.len(), 41);
    assert!(leased.iter().all(|leased| leased.spec == given.spec));
}

/// HTTP targets: whoever delivers says how many of each lane it can take; a lane without room stands in nobody's way, however many
/// wait in it, and they cost no attempt.
pub async fn a_lane_gives_no_more_than_its_room(h: &mut dyn Harness) {
    let crowd = h.add_all("q", (0..150).map(|_| to("hung")).collect()).await;
    let behind = h.add("q", to("b")).await;
    let elsewhere = h.add("r", to("c")).await;
    let full = |room| DeliveryParams { room: [(lane("hung"), room)].into(), ..ask(50) };
    let mut got = ids(h, full(0)).await;
    got.sort_unstable();
    assert_eq!(got, [behind, elsewhere]);
    assert_eq!(ids(h, full(0)).await, []);
    let of_crowd: Vec<JobId> = crowd.into_iter().map(|added| added.unwrap().id).collect();
    assert!(h.view(of_crowd[0]).await.attempts.is_empty());
    assert_eq!(ids(h, full(3)).await, of_crowd[..3]);
    assert_eq!(ids(h, DeliveryParams { per_lane: 2, ..ask(50) }).await, of_crowd[3..5]);
    // One that is named may have more than the others.
    assert_eq!(ids(h, DeliveryParams { per_lane: 2, ..full(7) }).await, of_crowd[5..12]);
    assert_eq!(ids(h, ask(4)).await.len(), 4, "no more than asked for");
}

/// HTTP targets: lanes and queues take turns, and nobody waits behind a longer line.
pub async fn lanes_take_turns(h: &mut dyn Harness) {
    h.add_all("q", (0..30).map(|_| to("a")).collect()).await;
    h.add_all("r", (0..30).map(|_| to("a")).collect()).await;
    let mut late = vec![h.add("q", to("b")).await, h.add("r", to("c")).await, h.add("s", to("a")).await];
    let mut first = Vec::new();
    for _ in 0..5 {
        first.extend(ids(h, ask(1)).await);
    }
    assert_eq!(first.len(), 5);
    late.retain(|id| !first.contains(id));
    assert_eq!(late, [], "each of five lines had a turn in five calls");
}

/// HTTP targets: within a line, lower priorities run first, then older ones.
pub async fn a_line_is_in_order_of_priority(h: &mut dyn Harness) {
    let third = h.add("q", to("a")).await;
    let last = h.add("q", to("a").priority(5)).await;
    let first = h.add("q", to("a").priority(-1)).await;
    let fourth = h.add("q", to("a")).await;
    let second = h.add("q", to("a").priority(-1)).await;
    assert_eq!(ids(h, ask(9)).await, [first, second, third, fourth, last]);
}

/// HTTP targets: pauses and limits of a queue hold for both sides together.
pub async fn pause_and_concurrency_hold_for_both_sides(h: &mut dyn Harness) {
    let paused = |paused| QueuePatch { paused: Some(paused), ..QueuePatch::default() };
    let http = h.add("q", to("a")).await;
    let other = h.add("r", to("a")).await;
    h.set("q", paused(true)).await;
    assert_eq!(h.view(http).await.waiting, Some(Waiting::Paused));
    assert_eq!(ids(h, ask(9)).await, [other]);
    h.set("q", QueuePatch { concurrency: Some(Some(2)), ..paused(false) }).await;
    let pull = h.add("q", job()).await;
    h.add_all("q", vec![to("a"), to("b"), job()]).await;
    assert_eq!(h.take("q").await.id, pull);
    let leased = lease(h, ask(9)).await;
    assert_eq!(leased.len(), 1, "two may run, whoever runs them");
    assert!(h.nothing_to_lease("q").await && lease(h, ask(9)).await.is_empty());
    h.end((&leased[0]).into(), complete()).await;
    assert_eq!(lease(h, ask(9)).await.len(), 1);
}

/// I8: a group goes over both sides.
pub async fn i8_a_group_goes_over_both_sides(h: &mut dyn Harness) {
    let first = h.add("q", to("a").group("g")).await;
    let second = h.add("q", job().group("g")).await;
    let third = h.add("q", to("b").group("g")).await;
    assert!(h.nothing_to_lease("q").await);
    assert_eq!(h.view(third).await.waiting, Some(Waiting::Group));
    let lease_of_first = one(h).await;
    assert_eq!(lease_of_first.id, first);
    assert_eq!(ids(h, ask(9)).await, []);
    h.end(lease_of_first, complete()).await;
    assert_eq!(ids(h, ask(9)).await, []);
    let lease_of_second = h.take("q").await;
    assert_eq!(lease_of_second.id, second);
    h.end(lease_of_second, complete()).await;
    assert_eq!(one(h).await.id, third);
    h.set("s", QueuePatch { group_head: Some(Some(GroupHead::Skip)), ..QueuePatch::default() }).await;
    h.add("s", to("a").group("g").after(secs(9))).await;
    let passes = h.add("s", to("a").group("g")).await;
    assert_eq!(one(h).await.id, passes);
}

/// Dedup options: a replace may aim a job elsewhere, or at workers, and there it is then leased.
pub async fn a_replaced_job_stands_in_another_line(h: &mut dyn Harness) {
    let replacing = |name: Option<&str>, group: Option<&str>| {
        let mut new = keyed("k", name.unwrap_or("pull")).on_duplicate(OnDuplicate::Replace);
        new.spec.group = group.map(crate::group);
        name.map_or(new.clone(), |name| aimed(new, name))
    };
    let without = |name: &str| DeliveryParams { room: [(lane(name), 0)].into(), ..ask(9) };
    for (queue, group) in [("q", None), ("g", Some("g"))] {
        let id = h.add(queue, replacing(Some("a"), group)).await;
        assert_eq!(ids(h, without("a")).await, []);
        h.repeat(queue, replacing(Some("b"), group)).await;
        assert_eq!(ids(h, without("b")).await, []);
        h.repeat(queue, replacing(None, group)).await;
        assert_eq!(ids(h, ask(9)).await, []);
        assert_eq!(h.view(id).await.spec.target, Target::Pull);
        h.repeat(queue, replacing(Some("c"), group)).await;
        assert!(h.nothing_to_lease(queue).await);
        assert_eq!(ids(h, ask(9)).await, [id]);
    }
}

/// I3: method and URL of the target are part of what a key stands for; its headers are not.
pub async fn i3_a_key_stands_for_one_target(h: &mut dyn Harness) {
    let at = |change: &dyn Fn(&mut HttpTarget)| {
        let mut job = job();
        let mut target = HttpTarget::post(TargetUrl::parse("https://a.example/1").unwrap());
        change(&mut target);
        (job.spec.key, job.spec.target) = (Some(crate::key("k")), Target::Http(Arc::new(target)));
        job.spec.read_payload().unwrap();
        job
    };
    let id = h.add("q", at(&|_| {})).await;
    assert_eq!(h.repeat("q", at(&|t| t.timeout = Some(ms(1)))).await.id, id);
    assert_eq!(h.repeat("q", at(&|t| t.headers = TargetHeaders::parse(&[("a", "b")]).unwrap())).await.id, id);
    let reused = Err(Refusal::KeyReused { existing: id });
    let url = TargetUrl::parse("https://a.example/2").unwrap();
    assert_eq!(h.try_add("q", at(&|t| t.url = url.clone())).await, reused);
    assert_eq!(h.try_add("q", at(&|t| t.method = TargetMethod::Put)).await, reused);
    let mut pull = job();
    pull.spec.key = Some(crate::key("k"));
    pull.spec.read_payload().unwrap();
    assert_eq!(h.try_add("q", pull).await, reused);
}

/// Budgets: the hard limit of an attempt is the deadline of a delivery and a margin, unless the job says its own.
pub async fn the_hard_limit_is_the_deadline_and_a_margin(h: &mut dyn Harness) {
    let default = limits::DELIVERY_TIMEOUT.saturating_add(limits::DELIVERY_MARGIN);
    let own = secs(5).saturating_add(limits::DELIVERY_MARGIN);
    let mut short = to("a");
    short.spec.target = Target::Http(Arc::new(HttpTarget {
        timeout: Some(secs(5)),
        ..(*target("https://a.example/")).clone()
    }));
    let cases: [(NewJob, DurationMs); 3] =
        [(to("a"), default), (short, own), (to("a").timeout(secs(3)), secs(3))];
    for (job, limit) in cases {
        let id = h.add("q", job).await;
        let lease = one(h).await;
        let attempt = h.view(id).await.job.attempt.unwrap();
        assert_eq!(attempt.deadline.since(attempt.started_at), limit);
        h.end(lease, complete()).await;
    }
    let id = h.add("q", to("a").timeout(secs(3))).await;
    one(h).await;
    h.pass(secs(3)).await;
    assert_eq!(h.state(id).await, State::Retrying);
}

/// HTTP targets: whoever waits for deliveries hears of one, also of one whose time came or whose way was cleared; a hint that was
/// missed is given at once.
pub async fn whoever_delivers_hears_of_it(h: &mut dyn Harness) {
    let engine = h.engine();
    let mut seen = 0;
    for step in 0..4 {
        match step {
            0 => drop(h.add("q", to("a")).await),
            1 => {
                h.add("q", to("a").after(secs(2))).await;
                assert_eq!(ids(h, ask(9)).await.len(), 1);
                h.pass(secs(2)).await;
            }
            2 => {
                h.set("q", QueuePatch { paused: Some(true), ..QueuePatch::default() }).await;
                assert_eq!(ids(h, ask(9)).await, []);
                h.set("q", QueuePatch { paused: Some(false), ..QueuePatch::default() }).await;
            }
            _ => {
                h.end(one(h).await, End::Release).await;
            }
        }
        let next = engine.deliveries_after(seen).await;
        assert!(next > seen, "{step}");
        seen = next;
    }
    assert_eq!(ids(h, ask(9)).await.len(), 1);
}

/// HTTP targets: a store that drains hands out nothing, to nobody.
pub async fn a_draining_store_hands_out_no_deliveries(h: &mut dyn Harness) {
    h.add("q", to("a")).await;
    h.engine().drain().await.unwrap();
    assert_eq!(ids(h, ask(9)).await, []);
    let waits = LeaseParams { wait: secs(1), ..call("q") };
    assert_eq!(h.lease_by(waits).await, []);
}

/// I10: a delivery whose last moment to start has passed is not handed out, but dead.
pub async fn i10_no_delivery_starts_after_retry_until(h: &mut dyn Harness) {
    let id = h.add("q", to("a").max_attempts(1_000)).await;
    let lease = one(h).await;
    h.end(lease, End::Release).await;
    let until = h.view(id).await.job.retry_until.unwrap();
    h.wait(until.since(h.now()).saturating_add(ms(1)));
    assert_eq!(ids(h, ask(9)).await, []);
    assert_eq!(h.state(id).await, State::Dead);
}

/// HTTP targets: of each end of a job somebody is told once, by a job of its own in the same queue: of success and of failure,
/// also of jobs that workers run, and again after a redrive.
pub async fn each_end_is_told_once(h: &mut dyn Harness) {
    let asking = |mut new: NewJob| {
        new.spec.on_success = Some(target("https://ok.example/"));
        new.spec.on_failure = Some(target("https://bad.example/"));
        new
    };
    let told = async |h: &dyn Harness| {
        let leased = lease(h, ask(9)).await;
        assert_eq!(leased.len(), 1, "{leased:?}");
        h.end((&leased[0]).into(), complete()).await;
        let text: serde_json::Value = serde_json::from_slice(leased[0].spec.payload.bytes()).unwrap();
        let url = leased[0].spec.target.http().unwrap().url.to_string();
        let word = |name: &str| text[name].as_str().unwrap_or_default().to_owned();
        (word("job_id"), word("state"), word("reason"), text["result"].clone(), url)
    };
    let none = serde_json::Value::Null;
    let (ok, bad) = ("https://ok.example/".to_owned(), "https://bad.example/".to_owned());
    let id = h.add("q", asking(job())).await;
    h.end(h.take("q").await, crate::complete_with("[1.50]")).await;
    let result = serde_json::json!([1.5]);
    assert_eq!(told(h).await, (id.to_string(), "completed".into(), String::new(), result, ok));
    let id = h.add_dead("q", asking(job())).await;
    let expected = (id.to_string(), "dead".into(), "permanent".into(), none.clone(), bad.clone());
    assert_eq!(told(h).await, expected);
    h.retry(id).await.unwrap();
    h.end(h.take("q").await, crate::fail_for_good()).await;
    assert_eq!(told(h).await, expected, "each end is told");
    let id = h.add("q", asking(job())).await;
    h.cancel(id).await.unwrap();
    assert_eq!(told(h).await, (id.to_string(), "cancelled".into(), String::new(), none, bad));
    h.add("q", job()).await;
    h.end(h.take("q").await, complete()).await;
    assert_eq!(ids(h, ask(9)).await, []);
    assert_eq!(h.counts("q").await.accepted, 8);
}

/// HTTP targets: what was sent where and what came back is kept with its attempt, also when others follow (I1).
pub async fn i1_an_exchange_is_kept_with_its_attempt(h: &mut dyn Harness) {
    let exchange = |status| Exchange {
        method: "POST".into(),
        url: "https://a.example/".into(),
        address: Some("192.0.2.1:443".into()),
        reused: true,
        dials: vec![("[2001:db8::1]:443".into(), "connect-refused".into())],
        status: Some(status),
        headers: vec![("a".into(), "b".into())],
        body: Some("x".repeat(16 * 1024)),
        body_base64: None,
        body_bytes: 20_000,
        failure: None,
        timing: ExchangeTiming { total: 7, ..ExchangeTiming::default() },
    };
    let id = h.add("q", to("a")).await;
    for status in [500, 200] {
        let lease = one(h).await;
        h.settle(lease, SettleAction::Exchange(Box::new(exchange(status)))).await.unwrap();
        let end = if status == 200 { complete() } else { fail_for(secs(1)) };
        h.end(lease, end).await;
        h.pass(secs(1)).await;
    }
    if h.flags().reopen {
        h.reopen_after_crash().await;
    }
    let kept: Vec<_> = h.view(id).await.attempts.into_iter().map(|a| *a.exchange.unwrap()).collect();
    assert_eq!(kept, [exchange(500), exchange(200)]);
}
