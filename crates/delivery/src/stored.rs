//! An answer as it is kept: as the result of the job it completed, and with the attempt.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onefold_core::{Exchange, ExchangeTiming, HttpTarget};
use serde::Serialize;

use crate::{Answer, Report};

/// Bytes of the headers of an answer that are kept, names and values together.
const HEADERS_KEPT: usize = 8 * 1024;

/// The result of a delivered job.
#[derive(Debug, Serialize)]
pub(crate) struct StoredAnswer {
    status: u16,
    /// In the order of the answer; a name may come again.
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Instead of `body`, if that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// Bytes of the body that came; more than are kept if it was cut.
    body_bytes: u64,
}

impl StoredAnswer {
    pub(crate) fn of(answer: &Answer) -> StoredAnswer {
        let mut left = HEADERS_KEPT;
        let mut headers = Vec::new();
        for (name, value) in &answer.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else { continue };
            left = rest;
            headers.push((name.as_str().to_owned(), value));
        }
        let (body, body_base64) = match text(answer) {
            Some(text) => (Some(text.to_owned()), None),
            None => (None, Some(BASE64_STANDARD.encode(&answer.body))),
        };
        StoredAnswer {
            status: answer.status.as_u16(),
            headers,
            body,
            body_base64,
            body_bytes: answer.body_bytes,
        }
    }
}

/// The body as text; a character that was cut in two at its end is left out.
fn text(answer: &Answer) -> Option<&str> {
    match std::str::from_utf8(&answer.body) {
        Ok(text) => Some(text),
        Err(error) if answer.is_cut() && error.error_len().is_none() => {
            answer.body.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok())
        }
        Err(_) => None,
    }
}

/// What is kept of a delivery with its attempt. The body of a job that completed is its result, and not kept twice.
pub(crate) fn exchange(target: &HttpTarget, report: &Report, completed: bool) -> Exchange {
    let answer = report.answer().map(StoredAnswer::of);
    let (status, body_bytes) =
        (answer.as_ref().map(|a| a.status), answer.as_ref().map_or(0, |a| a.body_bytes));
    let (headers, body, body_base64) = answer.map(|a| (a.headers, a.body, a.body_base64)).unwrap_or_default();
    let timing = &report.timing;
    Exchange {
        method: target.method.as_str().to_owned(),
        url: target.url.as_str().to_owned(),
        address: report.connection.map(|connection| connection.address.to_string()),
        reused: report.connection.is_some_and(|connection| connection.reused),
        dials: report
            .dials
            .iter()
            .map(|(address, why)| (address.to_string(), why.code().to_owned()))
            .collect(),
        status,
        headers,
        body: body.filter(|_| !completed),
        body_base64: body_base64.filter(|_| !completed),
        body_bytes,
        failure: report.failure().map(|failure| failure.code().to_owned()),
        timing: ExchangeTiming {
            dns: timing.dns.as_ms(),
            connect: timing.connect.as_ms(),
            tls: timing.tls.as_ms(),
            head: timing.head.as_ms(),
            body: timing.body.as_ms(),
            total: timing.total.as_ms(),
        },
    }
}
