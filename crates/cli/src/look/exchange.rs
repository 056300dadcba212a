//! HTTP deliveries of a job: what was sent where, what came back, and how long each part of it took.

use onefold_wire::{Attempt, Exchange, ExchangeTiming, Job};

use crate::table::cut;

/// Most characters of an answer's body, or of one of its headers, that are shown; `--json` shows all that is kept.
const ANSWER: usize = 400;

/// Headers of an answer that say why it was so, or until when.
const TELLING: [&str; 4] = ["content-type", "location", "retry-after", "server"];

/// Some lines for each attempt that was an HTTP delivery. What a target answered stands in quotes.
pub(super) fn deliveries(job: &Job<'_>) -> Vec<String> {
    let attempts = job.attempts.as_deref().unwrap_or_default();
    let made = attempts.iter().filter_map(|attempt| Some((attempt, attempt.exchange.as_deref()?)));
    made.flat_map(|(attempt, exchange)| delivery(attempt, exchange)).collect()
}

fn delivery(attempt: &Attempt<'_>, exchange: &Exchange<'_>) -> Vec<String> {
    let mut lines = vec![format!(
        "Attempt {}: {} {}{}: {}",
        attempt.number,
        exchange.method,
        exchange.url,
        connection(exchange),
        came_back(exchange)
    )];
    let mut more = |line: String| lines.push(format!("  {line}"));
    more(took(&exchange.timing_ms));
    for (address, why) in &exchange.dials {
        more(format!("no connection to {address}: {why}"));
    }
    for (name, value) in exchange.headers.iter().filter(|(name, _)| TELLING.contains(&&**name)) {
        more(format!("{name}: {}", quoted(value)));
    }
    let bytes = exchange.body_bytes;
    match (&exchange.body, &exchange.body_base64) {
        (Some(text), _) if !text.is_empty() => more(format!("{bytes} bytes: {}", quoted(text))),
        (None, Some(_)) => more(format!("{bytes} bytes that are no text")),
        _ => {}
    }
    lines
}

fn connection(exchange: &Exchange<'_>) -> String {
    let kept = if exchange.reused { ", a kept connection" } else { "" };
    exchange.address.as_ref().map(|address| format!(" to {address}{kept}")).unwrap_or_default()
}

fn came_back(exchange: &Exchange<'_>) -> String {
    let answered = exchange.status.map(|status| format!("answered {status}"));
    match (answered, &exchange.failure) {
        (Some(answered), None) => answered,
        (Some(answered), Some(failure)) => format!("{answered}, but not wholly: {failure}"),
        (None, Some(failure)) => format!("no answer: {failure}"),
        (None, None) => "no answer".to_owned(),
    }
}

fn took(timing: &ExchangeTiming) -> String {
    let parts = [
        ("lookup", timing.dns),
        ("connect", timing.connect),
        ("tls", timing.tls),
        ("head", timing.head),
        ("body", timing.body),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(_, ms)| *ms > 0).map(|(part, ms)| format!("{part} {ms}")).collect();
    match parts.is_empty() {
        true => format!("in {} ms", timing.total),
        false => format!("in {} ms: {}", timing.total, parts.join(", ")),
    }
}

/// A stranger's words, on one line and without what a terminal would obey.
fn quoted(text: &str) -> String {
    format!("{:?}", cut(text, ANSWER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(exchange: &str) -> Vec<String> {
        let text = format!(
            r#"{{"id":"job_1","queue":"q","state":"retrying","priority":0,"created_at":"2026-11-21T09:00:00.000Z",
            "run_at":"2026-11-21T09:00:00.000Z","attempt":1,"failures":1,"lost_leases":0,"max_attempts":20,"duplicates":0,
            "mismatches":0,"attempts":[{{"number":1,"fencing_token":7,"worker":"w","started_at":"2026-11-21T09:00:01.000Z",
            "lease_until":"2026-11-21T09:00:31.000Z","exchange":{{"method":"POST","url":"http://a.example/x",{exchange}}}}}]}}"#
        );
        deliveries(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn an_attempt_tells_where_it_went_what_came_and_how_long_it_took() {
        let told = told(
            r#""address":"192.0.2.7:80","reused":false,"dials":[["[2001:db8::1]:80","connect-refused"]],"status":503,
            "headers":[["retry-after","7"],["x-secret","s"]],"body":"no paper","body_bytes":8,
            "timing_ms":{"dns":1,"connect":2,"tls":0,"head":30,"body":0,"total":33}"#,
        );
        assert_eq!(
            told,
            [
                "Attempt 1: POST http://a.example/x to 192.0.2.7:80: answered 503",
                "  in 33 ms: lookup 1, connect 2, head 30",
                "  no connection to [2001:db8::1]:80: connect-refused",
                "  retry-after: \"7\"",
                "  8 bytes: \"no paper\"",
            ]
        );
    }

    #[test]
    fn what_did_not_come_is_told_by_its_code() {
        let rest = r#""reused":true,"body_bytes":0,"timing_ms":{"dns":0,"connect":0,"tls":0,"head":0,"body":0,"total":5}"#;
        let without = told(&format!(r#""failure":"dns-failed",{rest}"#));
        assert_eq!(without, ["Attempt 1: POST http://a.example/x: no answer: dns-failed", "  in 5 ms"]);
        let begun =
            told(&format!(r#""address":"192.0.2.7:80","status":200,"failure":"timeout-body",{rest}"#));
        let first = "Attempt 1: POST http://a.example/x to 192.0.2.7:80, a kept connection: answered 200, but not wholly: \
                     timeout-body";
        assert_eq!(begun[0], first);
    }

    /// W-24: what a target answers cannot write on the terminal of who looks.
    #[test]
    fn w_24_an_answer_cannot_speak_to_the_terminal() {
        let told = told(
            r#""reused":false,"status":500,"headers":[["server","\u001b[2J"]],"body":"\u001b]0;owned\u0007\r\nAttempt 2: fine\u009b",
            "body_bytes":30,"timing_ms":{"dns":0,"connect":0,"tls":0,"head":0,"body":0,"total":0}"#,
        );
        assert!(told.iter().all(|line| !line.chars().any(char::is_control)), "{told:?}");
        assert!(told.iter().all(|line| !line.trim_start().starts_with("Attempt 2")), "{told:?}");
    }
}
