use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn every(every: &str, anchor: &str) -> Pattern {
    Pattern::Every(Interval::new(every.parse().unwrap(), at(anchor)).unwrap())
}

fn shown(timing: &Timing, after: &str, count: usize) -> Vec<String> {
    timing.ticks_after(at(after)).take(count).map(|tick| tick.at().to_string()).collect()
}

#[test]
fn an_interval_counts_from_its_anchor_in_both_directions() {
    let timing = Timing::new(every("90s", "2026-01-01T00:00:10Z"), None, None).unwrap();
    let expected = ["2025-12-31T23:58:40.000Z", "2026-01-01T00:00:10.000Z", "2026-01-01T00:01:40.000Z"];
    assert_eq!(shown(&timing, "2025-12-31T23:57:10Z", 3), expected);
    assert_eq!(timing.latest_until(at("2026-01-01T00:00:09.999Z")).unwrap().at(), at(expected[0]));
    assert_eq!(timing.latest_until(at(expected[1])).unwrap().at(), at(expected[1]));
}

#[test]
fn an_interval_is_at_least_a_second() {
    let anchor = Timestamp::EPOCH;
    assert!(Interval::new(Interval::MIN, anchor).is_ok());
    assert!(Interval::new(DurationMs::MAX, anchor).is_ok());
    for short in [0, 1, 999] {
        let refused = Interval::new(DurationMs::from_ms(short), anchor);
        assert_eq!(refused, Err(InvalidInterval::TooShort), "{short}");
    }
}

#[test]
fn start_and_end_are_both_included() {
    let (start, end) = (at("2026-01-02T00:00:00Z"), at("2026-01-04T00:00:00Z"));
    let timing = Timing::new(Pattern::cron("@daily", None).unwrap(), Some(start), Some(end)).unwrap();
    let expected = ["2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z", "2026-01-04T00:00:00.000Z"];
    assert_eq!(shown(&timing, "2020-01-01T00:00:00Z", 9), expected);
    assert_eq!(timing.next_after(end), None);
    assert_eq!(timing.latest_until(Timestamp::MAX).unwrap().at(), end);
    assert_eq!(timing.latest_until(start).unwrap().at(), start);
    assert_eq!(timing.latest_until(at("2026-01-01T23:59:59Z")), None);
}

#[test]
fn a_timing_without_a_tick_is_refused() {
    let daily = || Pattern::cron("@daily", None).unwrap();
    let [noon, evening] = ["2026-01-01T12:00:00Z", "2026-01-01T18:00:00Z"].map(at);
    assert_eq!(Timing::new(daily(), Some(noon), Some(evening)), Err(InvalidTiming::NeverTicks));
    assert_eq!(Timing::new(daily(), Some(evening), Some(noon)), Err(InvalidTiming::NeverTicks));
    assert_eq!(Timing::new(daily(), Some(Timestamp::MAX), None), Err(InvalidTiming::NeverTicks));
    assert!(Timing::new(daily(), None, Some(Timestamp::EPOCH)).is_ok());
}

#[test]
fn a_zone_may_stand_before_the_expression() {
    let berlin: Zone = "Europe/Berlin".parse().unwrap();
    let beside = Pattern::cron("0 9 * * *", Some(berlin.clone())).unwrap();
    for text in [
        "CRON_TZ=Europe/Berlin 0 9 * * *",
        "TZ=europe/berlin\t0 9 * * *",
        " CRON_TZ=Europe/Berlin  0 9 * * * ",
    ] {
        assert_eq!(Pattern::cron(text, None).unwrap(), beside, "{text}");
    }
    assert_eq!(Pattern::cron("CRON_TZ=Europe/Berlin 0 9 * * *", Some(berlin)).unwrap(), beside);
    let refused = |text: &str, zone| Pattern::cron(text, zone).unwrap_err();
    assert_eq!(refused("CRON_TZ=Europe/Berlin 0 9 * * *", Some(Zone::UTC)), InvalidTiming::TwoZones);
    assert_eq!(refused("CRON_TZ=Mars/Olympus 0 9 * * *", None), InvalidZone::Unknown.into());
    assert_eq!(refused("CRON_TZ= 0 9 * * *", None), InvalidZone::Unknown.into());
    assert_eq!(refused("CRON_TZ=UTC", None), InvalidCron::FieldCount { found: 0 }.into());
}

#[test]
fn a_zone_is_a_name_of_the_database_and_nothing_else() {
    for name in ["UTC", "utc", "Europe/Berlin", "america/argentina/BUENOS_AIRES", "Etc/GMT-14"] {
        assert!(name.parse::<Zone>().unwrap().name().eq_ignore_ascii_case(name), "{name}");
    }
    let long = "a/".repeat(1 << 20);
    for name in
        ["", " ", "Berlin", "CEDT", "+02:00", "Etc/Unknown", "../../etc/passwd", "local", "Ｕtc", "\0", &long]
    {
        assert_eq!(name.parse::<Zone>(), Err(InvalidZone::Unknown), "{name}");
    }
    assert!(tz_version_is_a_release(crate::schedule::tz_database_version()));
}

fn tz_version_is_a_release(version: &str) -> bool {
    version.len() == 5
        && version.starts_with("20")
        && version.ends_with(|last: char| last.is_ascii_lowercase())
}

#[test]
fn a_moment_is_shown_by_the_clock_of_the_zone() {
    for (zone, expected) in [
        ("UTC", "2026-07-01T12:00:00+00:00"),
        ("America/New_York", "2026-07-01T08:00:00-04:00"),
        ("Asia/Kathmandu", "2026-07-01T17:45:00+05:45"),
        ("America/St_Johns", "2026-07-01T09:30:00-02:30"),
    ] {
        let shown = zone.parse::<Zone>().unwrap().show(at("2026-07-01T12:00:00.750Z"));
        assert_eq!((shown.as_str(), at(&shown)), (expected, at("2026-07-01T12:00:00Z")), "{zone}");
    }
    assert_eq!(Zone::UTC.show(Timestamp::MAX), Timestamp::MAX.to_string());
}

#[test]
fn a_timing_survives_json_and_is_checked_when_it_is_read() {
    for json in [
        r#"{"cron":"30 2 * * *","timezone":"Europe/Berlin"}"#,
        r#"{"cron":"@daily","timezone":"UTC","start":"2026-01-01T00:00:00.000Z","end":"2027-01-01T00:00:00.000Z"}"#,
        r#"{"every":"1m30s","anchor":"2026-01-01T00:00:00.000Z"}"#,
    ] {
        let timing: Timing = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&timing).unwrap(), json);
    }
    for (json, reason) in [
        (r#"{}"#, "give cron or every"),
        (r#"{"cron":"@daily","every":"90s"}"#, "give cron or every"),
        (r#"{"every":"90s"}"#, "give anchor"),
        (r#"{"cron":"@daily","anchor":"2026-01-01T00:00:00Z"}"#, "give anchor"),
        (r#"{"every":"999ms","anchor":"2026-01-01T00:00:00Z"}"#, "at least 1s"),
        (r#"{"cron":"0 0 30 2 *"}"#, "write L"),
        (r#"{"cron":"@daily","timezone":"CEDT"}"#, "write an IANA name"),
        (r#"{"cron":"@daily","end":"1969-01-01T00:00:00Z"}"#, "1970"),
        (r#"{"cron":"@daily","start":"2027-01-02T00:00:00Z","end":"2027-01-01T00:00:00Z"}"#, "move end"),
        (r#"{"cron":"@daily","seconds":1}"#, "unknown field"),
    ] {
        let error = serde_json::from_str::<Timing>(json).unwrap_err().to_string();
        assert!(error.contains(reason), "{json}: {error}");
    }
}

/// T-09: the end of 32-bit seconds is a day like others, and the end of the calendar is an end.
#[test]
fn the_ends_of_time_are_no_surprise() {
    let timing = Timing::new(Pattern::cron("*/5 * * * *", None).unwrap(), None, None).unwrap();
    let expected = ["2038-01-19T03:15:00.000Z", "2038-01-19T03:20:00.000Z"];
    assert_eq!(shown(&timing, "2038-01-19T03:14:07Z", 2), expected);
    for zone in ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "America/New_York"] {
        for cron in ["* * * * *", "59 23 31 12 *"] {
            let timing = Timing::new(Pattern::cron(cron, zone.parse().ok()).unwrap(), None, None).unwrap();
            assert_eq!(timing.next_after(Timestamp::MAX), None);
            assert_eq!(
                timing.latest_until(Timestamp::EPOCH).filter(|tick| tick.at() > Timestamp::EPOCH),
                None
            );
            let last = timing.latest_until(Timestamp::MAX).unwrap().at();
            assert!(last.to_string().starts_with("999"), "{zone} {cron}: {last}");
        }
    }
    let slow =
        Timing::new(Pattern::Every(Interval::new(DurationMs::MAX, Timestamp::EPOCH).unwrap()), None, None);
    assert_eq!(slow.unwrap().next_after(Timestamp::MAX), None);
}

proptest! {
    /// Every tick is the next after all moments since the one before it, and the latest until all moments before the next.
    #[test]
    fn ticks_are_the_same_from_wherever_they_are_asked_for(
        pattern in prop_oneof![
            ((1..100_000_u64), 0..1_000_000_000_000_i64).prop_map(|(seconds, anchor)| Pattern::Every(
                Interval::new(DurationMs::from_ms(seconds * 1000), Timestamp::from_unix_ms(anchor).unwrap()).unwrap()
            )),
            (prop::sample::select(vec!["* * * * *", "7/13 * * * *", "0 0,12 * * *", "30 1,2,3 * * *", "0 0 LW * *", "0 */5 * * 1#1"]),
             prop::sample::select(vec!["UTC", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]))
                .prop_map(|(cron, zone)| Pattern::cron(cron, zone.parse().ok()).unwrap()),
        ],
        from in 1_000_000_000_000..2_000_000_000_000_i64,
        between in 0.0..1.0_f64,
    ) {
        let timing = Timing::new(pattern, None, None).unwrap();
        let ticks: Vec<Tick> = timing.ticks_after(Timestamp::from_unix_ms(from).unwrap()).take(8).collect();
        for pair in ticks.windows(2) {
            let (one, other) = (pair[0].at().as_unix_ms(), pair[1].at().as_unix_ms());
            prop_assert!(one < other);
            let inside = Timestamp::from_unix_ms(one + ((other - one) as f64 * between) as i64).unwrap();
            prop_assert_eq!(timing.next_after(inside), Some(pair[1]));
            prop_assert_eq!(timing.latest_until(inside), Some(pair[0]));
            prop_assert_eq!(timing.before(pair[1]), Some(pair[0]));
        }
    }
}
