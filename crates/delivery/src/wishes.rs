//! What a target says about when to come back: `Retry-After` and rate-limit headers. All of it is hostile input.

use std::time::UNIX_EPOCH;

use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use onefold_core::{DurationMs, Timestamp, limits};

/// Headers of one name that are looked at.
const LINES_MAX: usize = 4;
/// Above this a number of seconds until a reset is a point in time since 1970, as some services write it.
const UNIX_SECONDS_FROM: u64 = 1_000_000_000;
/// Above this it is one in milliseconds.
const UNIX_MS_FROM: u64 = 1_000_000_000_000;

/// How long `Retry-After` asks to wait from `now` on, at most [`limits::RETRY_AFTER_MAX`].
///
/// Whole seconds or an HTTP date. A date gone by asks for no wait; what is neither is as if absent; of several the
/// longest counts.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<DurationMs> {
    let lines = headers.get_all(RETRY_AFTER).iter().take(LINES_MAX);
    lines.filter_map(|value| seconds(value).or_else(|| date(value, now))).max()
}

/// How long the target's rate limit asks to wait, if it says that nothing is left of it.
///
/// Read are `RateLimit` (of the IETF drafts, new and old form), `RateLimit-Remaining` with `RateLimit-Reset`, and the
/// same with `X-` before or a dash in `Rate-Limit`.
pub fn rate_limit(headers: &HeaderMap, now: Timestamp) -> Option<DurationMs> {
    let structured = headers.get_all("ratelimit").iter().take(LINES_MAX).filter_map(exhausted_item).max();
    let pairs = ["ratelimit", "x-ratelimit", "x-rate-limit"].into_iter().filter_map(|prefix| {
        let number = |what: &str| headers.get(format!("{prefix}-{what}")).and_then(digits);
        let left = number("remaining")?;
        (left == 0).then(|| number("reset")).flatten()
    });
    structured.into_iter().chain(pairs).map(|reset| until_reset(reset, now)).max()
}

fn until_reset(reset: u64, now: Timestamp) -> DurationMs {
    let now_ms = now.as_unix_ms().unsigned_abs();
    let ms = match reset {
        UNIX_MS_FROM.. => reset.saturating_sub(now_ms),
        UNIX_SECONDS_FROM.. => reset.saturating_mul(1000).saturating_sub(now_ms),
        _ => reset.saturating_mul(1000),
    };
    DurationMs::from_ms(ms).min(limits::RETRY_AFTER_MAX)
}

/// The seconds until the reset of the quota that is used up, in a `RateLimit` header: `"default";r=0;t=30` or
/// `limit=10, remaining=0, reset=30`.
fn exhausted_item(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let parameter = |item: &str, name: &str| {
        let found = item.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        found.and_then(number)
    };
    let items = || text.split(',').map(str::trim);
    let new_form =
        items().filter(|item| parameter(item, "r") == Some(0)).filter_map(|item| parameter(item, "t")).max();
    let old_form = || {
        let of = |name: &str| items().find_map(|item| parameter(item, name));
        (of("remaining") == Some(0)).then(|| of("reset")).flatten()
    };
    new_form.or_else(old_form)
}

fn seconds(value: &HeaderValue) -> Option<DurationMs> {
    let seconds = digits(value)?;
    Some(DurationMs::from_ms(seconds.saturating_mul(1000)).min(limits::RETRY_AFTER_MAX))
}

fn digits(value: &HeaderValue) -> Option<u64> {
    number(value.to_str().ok()?)
}

/// A number of digits only; one too large for the type is the largest.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn date(value: &HeaderValue, now: Timestamp) -> Option<DurationMs> {
    let then = httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()?;
    // Before 1970 is before now.
    let then_ms = then.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let wait_ms = then_ms.saturating_sub(u128::from(now.as_unix_ms().unsigned_abs()));
    Some(DurationMs::from_ms(u64::try_from(wait_ms).unwrap_or(u64::MAX)).min(limits::RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400_000;

    fn now() -> Timestamp {
        "2026-11-21T09:30:00Z".parse().unwrap()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn wait(values: &[&str]) -> Option<u64> {
        let lines: Vec<(&str, &str)> = values.iter().map(|value| ("retry-after", *value)).collect();
        retry_after(&headers(&lines), now()).map(DurationMs::as_ms)
    }

    #[test]
    fn w_08_retry_after_is_clamped_whatever_it_says() {
        for (value, expected) in [
            ("0", Some(0)),
            ("1", Some(1_000)),
            (" 120 ", Some(120_000)),
            ("007", Some(7_000)),
            ("3600", Some(3_600_000)),
            ("86400", Some(DAY)),
            ("86401", Some(DAY)),
            ("18446744073709551615", Some(DAY)),
            ("99999999999999999999999999999999", Some(DAY)),
            ("Sat, 21 Nov 2026 09:30:10 GMT", Some(10_000)),
            ("Saturday, 21-Nov-26 09:30:10 GMT", Some(10_000)),
            ("Sat Nov 21 09:30:10 2026", Some(10_000)),
            ("Sat, 21 Nov 2026 09:29:59 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(DAY)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e309", None),
            ("NaN", None),
            ("inf", None),
            ("0x10", None),
            ("1 2", None),
            ("120, 30", None),
            ("soon", None),
            ("2026-11-21T09:30:10Z", None),
            ("Sat, 32 Nov 2026 09:30:10 GMT", None),
            ("Sat, 21 Nov 10000 09:30:10 GMT", None),
        ] {
            assert_eq!(wait(&[value]), expected, "{value:?}");
        }
        let mut raw = HeaderMap::new();
        raw.insert("retry-after", HeaderValue::from_bytes(b"\xd9\xa3").unwrap());
        assert_eq!(retry_after(&raw, now()), None);
    }

    #[test]
    fn of_several_the_longest_counts() {
        assert_eq!(wait(&["1", "60", "x", "30"]), Some(60_000));
        assert_eq!(wait(&["x", "-5"]), None);
        assert_eq!(wait(&["1", "1", "1", "1", "60"]), Some(1_000), "no more than four are looked at");
    }

    #[test]
    fn a_used_up_rate_limit_says_how_long() {
        let limit =
            |lines: &[(&'static str, &str)]| rate_limit(&headers(lines), now()).map(DurationMs::as_ms);
        for (lines, expected) in [
            (&[("ratelimit", "\"default\";r=0;t=30")][..], Some(30_000)),
            (&[("ratelimit", "\"a\";r=5;t=60, \"b\";r=0;t=7")], Some(7_000)),
            (&[("ratelimit", "\"a\";r=5;t=60")], None),
            (&[("ratelimit", "limit=10, remaining=0, reset=50")], Some(50_000)),
            (&[("ratelimit", "limit=10, remaining=1, reset=50")], None),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "9")], Some(9_000)),
            (&[("ratelimit-remaining", "1"), ("ratelimit-reset", "9")], None),
            (&[("ratelimit-remaining", "0")], None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795253460")], Some(60_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795253460000")], Some(60_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795253300")], Some(0)),
            (&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "5")], Some(5_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99999999999999999999")], Some(DAY)),
            (&[("x-ratelimit-remaining", "-1"), ("x-ratelimit-reset", "5")], None),
            (&[("ratelimit", ";;=,,r=0;t=;r=")], None),
        ] {
            assert_eq!(limit(lines), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_clamped_and_nothing_panics(value in "[ -~]{0,40}", other in "[0-9]{0,30}") {
            let lines = [("retry-after", value.as_str()), ("ratelimit", &value), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &other)];
            let headers = headers(&lines);
            for wish in [retry_after(&headers, now()), rate_limit(&headers, now())].into_iter().flatten() {
                prop_assert!(wish <= limits::RETRY_AFTER_MAX);
            }
        }
    }
}
