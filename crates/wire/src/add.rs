//! Adding jobs.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Headers, Problem, Span, Text, present};

/// A job to add: `POST /v1/queues/{queue}/jobs`, alone or in an array.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewJob<'a> {
    /// What sort of work it is, 1 to 128 characters.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text<'a>>,
    /// Any JSON, `null` included. Delivered as the bytes that were sent.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub payload: Option<&'a RawValue>,
    /// Anything that is not JSON, in base64 (RFC 4648 section 4, padded). Not beside `payload`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<Text<'a>>,
    /// Media type of `payload_base64`; `application/octet-stream` if not given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Text<'a>>,
    /// The dedup key: 1 to 255 characters, unique in the queue while held.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<'a>>,
    /// Compared instead of the content when the key is used again, 1 to 255 characters.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Text<'a>>,
    /// What to do when the key is used again.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup<'a>>,
    /// Runs this long after acceptance. Not beside `run_at`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span<'a>>,
    /// Runs at this time (RFC 3339); at once if it has passed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Text<'a>>,
    /// Lower runs first; 0 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Jobs of one group run one at a time, in order of acceptance.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Text<'a>>,
    /// Not built yet: refused with `not-yet`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub flow_key: Option<&'a RawValue>,
    /// Failures and lost leases that end it: 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How long it waits after failures.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff<'a>>,
    /// Hard limit of one attempt.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span<'a>>,
    /// Where to deliver it, instead of having a worker lease it; refused with `no-deliverer` where nobody delivers.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target<'a>>,
    /// Told once it completed, by a job of its own; refused with `no-deliverer` where nobody delivers.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Target<'a>>,
    /// Told once it is dead or cancelled, by a job of its own; refused with `no-deliverer` where nobody delivers.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Target<'a>>,
    /// Headers handed on to the handler, at most 64 of 8 KiB.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers<'a>>,
    /// Words to find it by, at most 16 of 64 characters.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<Text<'a>>>,
    /// How long it is kept once finished, instead of the queue's retention.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<Span<'a>>,
    /// W3C trace context; the request's `traceparent` header unless given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Text<'a>>,
}

/// Where a job is delivered, or its end is told.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Target<'a> {
    /// `http://` or `https://`, without user and password.
    #[serde(borrow)]
    pub url: Text<'a>,
    /// `GET`, `HEAD`, `POST` (default), `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Text<'a>>,
    /// Sent with every delivery, at most 64 of 8 KiB.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers<'a>>,
    /// Deadline of one delivery, from looking its host up to the end of the answer; 30 s unless given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span<'a>>,
}

/// What happens when a key is used again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Dedup<'a> {
    /// How long the key is held from acceptance, even if the job ends earlier.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span<'a>>,
    /// Ends that free it earlier: `completed`, `dead`, `cancelled`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub free_on: Option<Vec<Text<'a>>>,
    /// `done`: every end frees it. Not beside `free_on`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Text<'a>>,
    /// `return` (default), `reject` or `replace`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub on_duplicate: Option<Text<'a>>,
    /// `reject` (default) or `return`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub on_mismatch: Option<Text<'a>>,
    /// Under `replace`: a smaller one than the job has is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Under `replace`: the job never moves later than acceptance + this.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<Span<'a>>,
}

/// How long a job waits after each failure.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", try_from = "BackoffMembers<'a>")]
pub enum Backoff<'a> {
    /// Doubling from `base` to `max`, half of it drawn.
    Exponential {
        /// After the first failure.
        #[serde(borrow)]
        base: Span<'a>,
        /// Never longer.
        max: Span<'a>,
    },
    /// Always the same.
    Fixed(Span<'a>),
    /// After the first, second, … failure; the last repeats.
    List(Vec<Span<'a>>),
    /// Milliseconds, computed from `retried`, when the job is accepted.
    Expression(Text<'a>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffMembers<'a> {
    #[serde(borrow)]
    exponential: Option<Exponential<'a>>,
    #[serde(borrow)]
    fixed: Option<Span<'a>>,
    #[serde(borrow)]
    list: Option<Vec<Span<'a>>>,
    #[serde(borrow)]
    expression: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exponential<'a> {
    #[serde(borrow)]
    base: Span<'a>,
    #[serde(borrow)]
    max: Span<'a>,
}

impl<'a> TryFrom<BackoffMembers<'a>> for Backoff<'a> {
    type Error = &'static str;

    fn try_from(members: BackoffMembers<'a>) -> Result<Backoff<'a>, &'static str> {
        match members {
            BackoffMembers { exponential: Some(e), fixed: None, list: None, expression: None } => {
                Ok(Backoff::Exponential { base: e.base, max: e.max })
            }
            BackoffMembers { exponential: None, fixed: Some(wait), list: None, expression: None } => {
                Ok(Backoff::Fixed(wait))
            }
            BackoffMembers { exponential: None, fixed: None, list: Some(waits), expression: None } => {
                Ok(Backoff::List(waits))
            }
            BackoffMembers { exponential: None, fixed: None, list: None, expression: Some(source) } => {
                Ok(Backoff::Expression(source))
            }
            _ => Err("give exactly one of exponential, fixed, list and expression"),
        }
    }
}

/// The answer to an add.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Added<'a> {
    /// The job, new or first.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Its current state; `purged` if it ended and was deleted.
    #[serde(borrow)]
    pub state: Text<'a>,
    /// When it may run; absent if it was purged.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Text<'a>>,
    /// It was there already.
    pub duplicate: bool,
    /// Under `replace`, for a duplicate: whether its content was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<bool>,
    /// The options in force, if any were given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Box<Dedup<'a>>>,
}

/// What became of one job of an array.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
#[serde(from = "AddOutcomeMembers<'a>")]
pub enum AddOutcome<'a> {
    /// It is there.
    Added(#[serde(borrow)] Added<'a>),
    /// It was refused; the others are not touched.
    Refused {
        /// Why.
        error: Box<Problem>,
    },
}

/// Both forms side by side: serde's untagged enums copy everything first.
#[derive(Deserialize)]
struct AddOutcomeMembers<'a> {
    error: Option<Box<Problem>>,
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    state: Text<'a>,
    #[serde(borrow, default)]
    run_at: Option<Text<'a>>,
    #[serde(default)]
    duplicate: bool,
    replaced: Option<bool>,
    #[serde(borrow, default)]
    dedup: Option<Box<Dedup<'a>>>,
}

impl<'a> From<AddOutcomeMembers<'a>> for AddOutcome<'a> {
    fn from(members: AddOutcomeMembers<'a>) -> AddOutcome<'a> {
        let AddOutcomeMembers { error, id, state, run_at, duplicate, replaced, dedup } = members;
        match error {
            Some(error) => AddOutcome::Refused { error },
            None => AddOutcome::Added(Added { id, state, run_at, duplicate, replaced, dedup }),
        }
    }
}

/// The answer to an array.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddedMany<'a> {
    /// One per job, in order.
    #[serde(borrow)]
    pub jobs: Vec<AddOutcome<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, SettleOp, SettleRequest, read};

    #[test]
    fn what_a_client_writes_the_server_reads() {
        let raw = serde_json::value::to_raw_value(&[1, 2]).unwrap();
        let job = NewJob {
            payload: Some(&raw),
            key: Some("k\n".into()),
            backoff: Some(Backoff::List(vec![Span::Ms(5), "1s".into()])),
            headers: Some(Headers(vec![("A".into(), "1".into())])),
            dedup: Some(Dedup { until: Some("done".into()), ..Dedup::default() }),
            ..NewJob::default()
        };
        let text = serde_json::to_string(&job).unwrap();
        let again: NewJob<'_> = read(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        let request = SettleRequest { ops: vec![SettleOp::complete("job_1", 7, Some(&raw))] };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"ops":[{"op":"complete","id":"job_1","fencing_token":7,"result":[1,2]}]}"#);
        assert_eq!(serde_json::to_string(&read::<SettleRequest<'_>>(&text).unwrap()).unwrap(), text);
    }

    #[test]
    fn a_null_payload_is_a_payload_and_other_nulls_are_absent() {
        let job: NewJob<'_> = read(r#"{"payload":null,"key":null}"#).unwrap();
        assert_eq!((job.payload.map(RawValue::get), job.key), (Some("null"), None));
        assert!(read::<NewJob<'_>>("{}").unwrap().payload.is_none());
    }

    #[test]
    fn a_backoff_has_exactly_one_form() {
        let bad = [r#"{"backoff":{}}"#, r#"{"backoff":{"fixed":1,"list":[1]}}"#, r#"{"backoff":[1]}"#];
        for json in bad {
            let error = read::<NewJob<'_>>(json).unwrap_err();
            assert!(matches!(error.fault, Fault::Invalid(_)), "{json}");
            assert_eq!(error.field(), "backoff", "{json}");
        }
        let error =
            read::<NewJob<'_>>(r#"{"backoff":{"exponential":{"base":1,"max":2,"min":0}}}"#).unwrap_err();
        assert_eq!(
            (error.fault.clone(), error.field()),
            (Fault::UnknownField, "backoff.exponential.min".into())
        );
    }

    #[test]
    fn both_outcomes_of_an_add_are_told_apart() {
        let text = r#"{"jobs":[{"id":"a","state":"available","run_at":"t","duplicate":true},{"error":{"type":"/errors/invalid-key","title":"","status":422,"detail":"","code":"invalid-key"}}]}"#;
        let answer: AddedMany<'_> = serde_json::from_str(text).unwrap();
        assert!(matches!(&answer.jobs[0], AddOutcome::Added(added) if added.duplicate && &*added.id == "a"));
        assert!(matches!(&answer.jobs[1], AddOutcome::Refused { error } if error.code == "invalid-key"));
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
    }
}
