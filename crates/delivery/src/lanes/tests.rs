use onefold_core::SeededEntropy;
use proptest::prelude::*;

use super::*;

type Names = Lanes<&'static str, u32>;

const WELL: LaneNews = LaneNews { health: Health::Well, pause: None };
const UNWELL: LaneNews = LaneNews { health: Health::Unwell, pause: None };

fn lanes(slots: u32, per_lane: u32) -> Names {
    let limits = LaneLimits { slots, per_lane, waiting_per_lane: 1000, breaker: BreakerLimits::default() };
    Lanes::new(limits, Arc::new(SeededEntropy::new(1)))
}

fn ms(ms: u64) -> DurationMs {
    DurationMs::from_ms(ms)
}

const START: DurationMs = DurationMs::from_ms(1_000_000);

fn fill(lanes: &mut Names, lane: &'static str, count: u32) {
    for n in 0..count {
        lanes.offer(lane, n, START).unwrap();
    }
}

/// Starts all that can start.
fn start_all(lanes: &mut Names, now: DurationMs) -> Vec<Started<&'static str, u32>> {
    std::iter::from_fn(|| lanes.start(now)).collect()
}

fn run(lanes: &mut Names, news: LaneNews, now: DurationMs) -> Option<&'static str> {
    let started = lanes.start(now)?;
    lanes.finish(&started.lane, started.pass, news, now);
    Some(started.lane)
}

/// Fails until the breaker opens; until when it rests.
fn break_it(lanes: &mut Names, now: DurationMs) -> DurationMs {
    for _ in 0..20 {
        match lanes.view(&"a", now).unwrap().state {
            LaneState::Resting(until) => return until,
            _ => assert!(run(lanes, UNWELL, now).is_some()),
        }
    }
    panic!("the breaker did not open");
}

#[test]
fn w_09_a_lane_that_hangs_holds_only_its_own_slots() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "hung", 900);
    let hung = start_all(&mut lanes, START);
    assert_eq!(hung.len(), 10, "its slots and no more");
    for name in ["b", "c", "d"] {
        fill(&mut lanes, name, 300);
    }
    let others = start_all(&mut lanes, START);
    assert_eq!(others.len(), 30);
    // None of the hung ones ends; the others go through all the same, and the hung lane is never looked at.
    let mut done = 0;
    let mut running = others;
    while let Some(started) = running.pop() {
        lanes.finish(&started.lane, started.pass, WELL, START);
        done += 1;
        assert!(!lanes.turns.contains(&"hung"));
        running.extend(start_all(&mut lanes, START));
    }
    assert_eq!(done, 900);
    assert_eq!(
        lanes.view(&"hung", START).unwrap(),
        LaneView { state: LaneState::Open, running: 10, waiting: 890 }
    );
}

#[test]
fn no_lane_holds_more_than_a_tenth_of_all_slots() {
    for (slots, asked, expected) in
        [(100, 10, 10), (100, 50, 10), (100, 3, 3), (20, 10, 2), (5, 10, 1), (1, 1, 1)]
    {
        let mut lanes = lanes(slots, asked);
        fill(&mut lanes, "a", 200);
        assert_eq!(start_all(&mut lanes, START).len(), expected, "{slots} {asked}");
    }
}

#[test]
fn all_lanes_together_hold_no_more_than_there_are_slots() {
    let mut lanes = lanes(20, 10);
    let names: [&'static str; 15] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"];
    for name in names {
        fill(&mut lanes, name, 5);
    }
    let mut started = start_all(&mut lanes, START);
    assert_eq!((started.len(), lanes.running()), (20, 20));
    let one = started.pop().unwrap();
    lanes.finish(&one.lane, one.pass, WELL, START);
    assert_eq!(start_all(&mut lanes, START).len(), 1);
}

#[test]
fn lanes_take_turns_however_much_waits_in_one() {
    let mut lanes = lanes(10, 1);
    fill(&mut lanes, "a", 500);
    fill(&mut lanes, "b", 5);
    fill(&mut lanes, "c", 5);
    let order: Vec<&str> = (0..12).map(|_| run(&mut lanes, WELL, START).unwrap()).collect();
    assert_eq!(order, ["a", "b", "c", "a", "b", "c", "a", "b", "c", "a", "b", "c"]);
}

#[test]
fn within_a_lane_first_come_is_first_served() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 10);
    let items: Vec<u32> = start_all(&mut lanes, START).into_iter().map(|started| started.item).collect();
    assert_eq!(items, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_full_lane_gives_back_what_is_offered() {
    let limits = LaneLimits { waiting_per_lane: 2, ..LaneLimits::default() };
    let mut lanes: Names = Lanes::new(limits, Arc::new(SeededEntropy::new(1)));
    fill(&mut lanes, "a", 2);
    assert_eq!(lanes.room(&"a", START), 0);
    assert_eq!(lanes.offer("a", 7, START), Err(7));
    assert_eq!((lanes.room(&"b", START), lanes.offer("b", 7, START)), (2, Ok(())));
}

#[test]
fn w_11_an_open_breaker_starts_nothing_and_says_until_when() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 100);
    for _ in 0..9 {
        run(&mut lanes, UNWELL, START);
    }
    assert_eq!(lanes.view(&"a", START).unwrap().state, LaneState::Open, "nine failures are borne");
    run(&mut lanes, UNWELL, START);
    let LaneState::Resting(until) = lanes.view(&"a", START).unwrap().state else { panic!("ten are not") };
    let rest = until.saturating_sub(START).as_ms();
    assert!((15_000..=30_000).contains(&rest), "{rest}");
    assert!(lanes.start(until.saturating_sub(ms(1))).is_none());
    assert_eq!((lanes.wake_at(), lanes.room(&"a", START)), (Some(until), 0));
    assert_eq!(lanes.waiting(), 90, "nothing was spent on finding out");
    assert!(lanes.start(until).is_some());
}

#[test]
fn one_success_in_between_keeps_a_breaker_closed() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 100);
    for _ in 0..5 {
        for _ in 0..9 {
            run(&mut lanes, UNWELL, START);
        }
        run(&mut lanes, WELL, START);
    }
    assert_eq!(lanes.view(&"a", START).unwrap().state, LaneState::Open);
}

#[test]
fn after_a_rest_one_delivery_asks_and_the_others_wait_for_it() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 100);
    let until = break_it(&mut lanes, START);
    let probe = lanes.start(until).unwrap();
    assert_eq!(lanes.view(&"a", until).unwrap().state, LaneState::Probing);
    assert!(lanes.start(until.saturating_add(ms(3_600_000))).is_none(), "one, however long it takes");
    lanes.finish(&"a", probe.pass, UNWELL, until);
    let LaneState::Resting(again) = lanes.view(&"a", until).unwrap().state else { panic!("it did not work") };
    let rest = again.saturating_sub(until).as_ms();
    assert!((30_000..=60_000).contains(&rest), "twice as long: {rest}");
}

#[test]
fn rests_grow_to_ten_minutes_and_no_further() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 1000);
    let mut now = START;
    for _ in 0..70 {
        now = break_it(&mut lanes, now);
        run(&mut lanes, UNWELL, now);
    }
    let LaneState::Resting(until) = lanes.view(&"a", now).unwrap().state else { panic!() };
    assert!((300_000..=600_000).contains(&until.saturating_sub(now).as_ms()));
}

#[test]
fn w_10_a_target_that_recovers_gets_its_backlog_step_by_step() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 1000);
    let now = break_it(&mut lanes, START);
    assert_eq!(run(&mut lanes, WELL, now), Some("a"), "the probe");
    let mut widths = Vec::new();
    for _ in 0..6 {
        let started = start_all(&mut lanes, now);
        widths.push(started.len());
        for started in started {
            lanes.finish(&started.lane, started.pass, WELL, now);
        }
    }
    assert_eq!(widths, [1, 2, 4, 8, 10, 10]);
    for _ in 0..9 {
        run(&mut lanes, UNWELL, now);
    }
    assert_eq!(lanes.view(&"a", now).unwrap().state, LaneState::Open, "it has recovered");
}

#[test]
fn w_10_a_target_that_fails_while_it_recovers_rests_longer() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 1000);
    let now = break_it(&mut lanes, START);
    run(&mut lanes, WELL, now);
    run(&mut lanes, UNWELL, now);
    run(&mut lanes, UNWELL, now);
    assert_eq!(lanes.view(&"a", now).unwrap().state, LaneState::Open);
    run(&mut lanes, UNWELL, now);
    let LaneState::Resting(until) = lanes.view(&"a", now).unwrap().state else {
        panic!("three are enough now")
    };
    assert!(until.saturating_sub(now).as_ms() >= 30_000, "the second rest");
}

#[test]
fn what_started_before_the_breaker_opened_says_nothing_about_after() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 100);
    let mut early = start_all(&mut lanes, START);
    let late = early.pop().unwrap();
    let later = early.pop().unwrap();
    for started in early {
        lanes.finish(&"a", started.pass, UNWELL, START);
    }
    let until = break_it(&mut lanes, START);
    lanes.finish(&"a", late.pass, UNWELL, until.saturating_sub(ms(1)));
    assert_eq!(
        lanes.view(&"a", START).unwrap().state,
        LaneState::Resting(until),
        "its rest is not prolonged"
    );
    let probe = lanes.start(until).unwrap();
    lanes.finish(&"a", later.pass, WELL, until);
    assert_eq!(lanes.view(&"a", until).unwrap().state, LaneState::Probing, "the probe decides");
    lanes.finish(&"a", probe.pass, WELL, until);
    assert_eq!(lanes.view(&"a", until).unwrap().state, LaneState::Open);
    assert_eq!(lanes.running(), 0);
}

#[test]
fn a_probe_that_learned_nothing_is_followed_by_another() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 100);
    let until = break_it(&mut lanes, START);
    run(&mut lanes, LaneNews { health: Health::Unknown, pause: None }, until);
    assert!(lanes.start(until).is_some());
}

#[test]
fn w_08_a_pause_holds_the_whole_lane_and_no_other() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 10);
    fill(&mut lanes, "b", 1);
    let pause = |seconds: u64| LaneNews { health: Health::Well, pause: Some(ms(seconds * 1000)) };
    run(&mut lanes, pause(60), START);
    assert_eq!(start_all(&mut lanes, START).iter().map(|started| started.lane).collect::<Vec<_>>(), ["b"]);
    let until = START.saturating_add(ms(60_000));
    assert_eq!(lanes.view(&"a", START).unwrap().state, LaneState::Paused(until));
    assert_eq!(lanes.wake_at(), Some(until));
    assert!(lanes.start(until.saturating_sub(ms(1))).is_none());
    let first = lanes.start(until).unwrap();
    let second = lanes.start(until).unwrap();
    lanes.finish(&"a", first.pass, pause(60), until);
    lanes.finish(&"a", second.pass, pause(1), until);
    let longer = until.saturating_add(ms(60_000));
    assert_eq!(lanes.view(&"a", until).unwrap().state, LaneState::Paused(longer), "the longer wish counts");
}

#[test]
fn w_07_a_target_that_is_gone_is_parked_until_resumed() {
    let mut lanes = lanes(100, 10);
    fill(&mut lanes, "a", 10);
    let gone = LaneNews { health: Health::Gone, pause: None };
    let (first, second) = (lanes.start(START).unwrap(), lanes.start(START).unwrap());
    assert!(lanes.finish(&"a", first.pass, gone, START), "worth an event");
    assert!(!lanes.finish(&"a", second.pass, gone, START), "only one");
    let never = ms(u64::MAX);
    assert!(lanes.start(never).is_none());
    assert_eq!((lanes.view(&"a", never).unwrap().state, lanes.wake_at()), (LaneState::Parked, None));
    assert_eq!(lanes.waiting(), 8);
    lanes.resume(&"a", START);
    assert_eq!(start_all(&mut lanes, START).len(), 8);
    lanes.park("b");
    fill(&mut lanes, "b", 1);
    assert!(lanes.start(START).is_none());
    assert_eq!(lanes.take_waiting(&"b"), [0]);
}

#[test]
fn lanes_without_anything_to_remember_are_forgotten() {
    let mut lanes = lanes(100, 10);
    for name in ["done", "broken", "parked", "paused", "waiting"] {
        fill(&mut lanes, name, 1);
    }
    while let Some(started) = lanes.start(START) {
        let news = match started.lane {
            "parked" => LaneNews { health: Health::Gone, pause: None },
            "paused" => LaneNews { health: Health::Well, pause: Some(ms(1000)) },
            _ => WELL,
        };
        lanes.finish(&started.lane, started.pass, news, START);
    }
    for _ in 0..10 {
        fill(&mut lanes, "broken", 1);
        run(&mut lanes, UNWELL, START);
    }
    fill(&mut lanes, "waiting", 1);
    lanes.forget_idle(START);
    assert_eq!(lanes.len(), 4);
    lanes.forget_idle(START.saturating_add(ms(1000)));
    assert_eq!(lanes.len(), 3);
    lanes.forget_idle(START.saturating_add(ms(700_000)));
    assert_eq!(lanes.len(), 2, "parked and waiting stay");
}

#[derive(Debug, Clone)]
enum Step {
    Offer(usize),
    Start,
    Finish(usize, u8),
    Pass(u64),
    Park(usize),
    Resume(usize),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize).prop_map(Step::Offer),
        4 => Just(Step::Start),
        4 => (0..8_usize, 0..6_u8).prop_map(|(which, how)| Step::Finish(which, how)),
        1 => prop_oneof![0..2_000_u64, 0..700_000_u64].prop_map(Step::Pass),
        1 => (0..4_usize).prop_map(Step::Park),
        1 => (0..4_usize).prop_map(Step::Resume),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    /// Slots are never overdrawn, nothing is lost or started twice, and whatever can start does: nothing that waits in
    /// an open lane with room is left behind.
    #[test]
    fn slots_and_items_are_conserved(steps in proptest::collection::vec(step(), 0..200)) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mut lanes = lanes(20, 2);
        let (mut now, mut offered, mut ended) = (START, 0_u32, 0_u32);
        let mut running: Vec<Started<&'static str, u32>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for step in steps {
            match step {
                Step::Offer(lane) => {
                    lanes.offer(NAMES[lane], offered, now).unwrap();
                    offered += 1;
                }
                Step::Start => match lanes.start(now) {
                    Some(started) => {
                        prop_assert!(seen.insert(started.item));
                        running.push(started);
                    }
                    None if running.len() < 20 => {
                        for name in NAMES {
                            let Some(view) = lanes.view(&name, now) else { continue };
                            let idle = view.running == 0 && view.waiting > 0;
                            prop_assert!(!(idle && view.state == LaneState::Open), "{name} was left behind: {view:?}");
                        }
                    }
                    None => {}
                },
                Step::Finish(which, how) if !running.is_empty() => {
                    let started = running.swap_remove(which % running.len());
                    let news = match how {
                        0 => LaneNews { health: Health::Gone, pause: None },
                        1 => LaneNews { health: Health::Unknown, pause: Some(ms(1000)) },
                        2 => WELL,
                        _ => UNWELL,
                    };
                    lanes.finish(&started.lane, started.pass, news, now);
                    ended += 1;
                }
                Step::Finish(..) => {}
                Step::Pass(by) => now = now.saturating_add(ms(by)),
                Step::Park(lane) => lanes.park(NAMES[lane]),
                Step::Resume(lane) => lanes.resume(&NAMES[lane], now),
                Step::Forget => lanes.forget_idle(now),
            }
            prop_assert_eq!(lanes.running() as usize, running.len());
            prop_assert_eq!(lanes.waiting() + running.len() + ended as usize, offered as usize);
            for name in NAMES {
                prop_assert!(running.iter().filter(|started| started.lane == name).count() <= 2);
            }
        }
    }
}
