//! Reads docs/guide/schedules.md and checks every example in it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use onefold_core::schedule::{Cron, Missed, Settled, Tick, Timing, Zone};

const GUIDE: &str = include_str!("../../../docs/guide/schedules.md");

/// The lines of every block of one kind.
fn blocks(kind: &str) -> Vec<Vec<&'static str>> {
    let opening = format!("```{kind}\n");
    let blocks = GUIDE.split(&opening).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().lines().collect()).collect()
}

fn timing(json: &str) -> (Timing, Zone) {
    let timing: Timing = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    let zone = timing.zone().cloned().unwrap_or_default();
    (timing, zone)
}

#[test]
fn every_kind_of_example_is_read() {
    assert!(blocks("ticks").len() >= 13);
    assert!(blocks("refused").len() >= 3);
    assert!(blocks("missed").len() >= 2);
    // A test of the server puts it.
    assert_eq!(blocks("put").len(), 1);
    let all: usize = ["ticks", "refused", "missed", "put"].map(|kind| blocks(kind).len()).iter().sum();
    assert_eq!(GUIDE.matches("\n```").count(), 2 * all, "an example that no test reads");
}

#[test]
fn ticks_come_as_the_guide_says() {
    for block in blocks("ticks") {
        let [json, after, expected @ ..] = block.as_slice() else { panic!("{block:?}") };
        let (timing, zone) = timing(json);
        let after = after.strip_prefix("after ").unwrap().parse().unwrap();
        let ticks = timing
            .ticks_after(after)
            .map(|tick| zone.show(tick.at()))
            .chain(std::iter::repeat("never".to_owned()));
        assert_eq!(ticks.take(expected.len()).collect::<Vec<_>>(), expected, "{json}");
    }
}

#[test]
fn refusals_read_as_the_guide_says() {
    for block in blocks("refused") {
        let [cron, sentence] = block.as_slice() else { panic!("{block:?}") };
        assert_eq!(cron.parse::<Cron>().unwrap_err().to_string(), *sentence, "{cron}");
    }
}

#[test]
fn missed_ticks_become_what_the_guide_says() {
    for block in blocks("missed") {
        let [json, moments, policies @ ..] = block.as_slice() else { panic!("{block:?}") };
        let (timing, zone) = timing(json);
        let (settled, now) = moments.strip_prefix("settled ").unwrap().split_once(", now ").unwrap();
        let settled = Settled::up_to(settled.parse().unwrap());
        assert_eq!(policies.len(), Missed::ALL.len());
        for line in policies {
            let missed = Missed::parse(line.split(':').next().unwrap()).unwrap();
            let due = timing.due(missed, settled, now.parse().unwrap());
            let shown = |tick: &Tick| zone.show(tick.at());
            let runs = match due.run.as_slice() {
                [] => "nothing".to_owned(),
                [one] => shown(one),
                [first, .., last] => format!("{} to {}", shown(first), shown(last)),
            };
            let drops = due.dropped.map_or(0, |dropped| dropped.count);
            assert_eq!(*line, format!("{missed}: runs {runs}, drops {drops}"), "{json}");
        }
    }
}
