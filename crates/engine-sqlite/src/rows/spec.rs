//! What was asked for, as it is stored.

use std::sync::Arc;

use bytes::Bytes;
use onefold_core::{
    Backoff, Dedup, DurationMs, Group, HttpTarget, JobSpec, Key, Kind, Label, OnDuplicate, OnMismatch,
    Payload, Seq, Target, TraceParent,
};
use rusqlite::{Row, Statement};
use serde::{Deserialize, Serialize};

use super::{Checksum, bad, corrupt, fingerprint_of, int, opt_bytes, text};
use crate::error::StoreResult;

/// What else a caller may ask for, where it differs from the defaults.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct SpecOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup: Option<Dedup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<DurationMs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Arc<HttpTarget>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_success: Option<Arc<HttpTarget>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_failure: Option<Arc<HttpTarget>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retain: Option<DurationMs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceParent>,
}

fn options_of(spec: &JobSpec) -> StoreResult<Option<String>> {
    let dedup_is_default = spec.dedup.on_duplicate == OnDuplicate::Return
        && spec.dedup.on_mismatch == OnMismatch::Reject
        && spec.dedup == Dedup::default();
    let options = SpecOptions {
        dedup: (!dedup_is_default).then(|| spec.dedup.clone()),
        fingerprint: None,
        backoff: spec.backoff.clone(),
        timeout: spec.timeout,
        target: match &spec.target {
            Target::Pull => None,
            Target::Http(target) => Some(Arc::clone(target)),
        },
        on_success: spec.on_success.clone(),
        on_failure: spec.on_failure.clone(),
        headers: spec.headers.clone(),
        labels: spec.labels.clone(),
        retain: spec.retain,
        traceparent: spec.traceparent.clone(),
    };
    if options == SpecOptions::default() {
        return Ok(None);
    }
    serde_json::to_string(&options).map(Some).map_err(|_| bad("job"))
}

fn spec_crc(
    seq: i64,
    texts: [Option<&[u8]>; 4],
    form: i64,
    options: Option<&[u8]>,
    fingerprint: Option<&[u8]>,
    payload: Option<&[u8]>,
) -> i64 {
    let mut sum = Checksum::new();
    sum.int(Some(seq)).int(Some(form));
    for value in texts {
        sum.bytes(value);
    }
    sum.bytes(options).bytes(fingerprint);
    let payload = payload.map_or(0, |payload| crc32fast::hash(payload).wrapping_add(1));
    sum.int(Some(i64::from(payload))).finish()
}

/// Writes what was asked for with `spec_insert`.
pub(crate) fn write_spec(stmt: &mut Statement<'_>, seq: Seq, spec: &JobSpec) -> StoreResult<()> {
    let seq = seq.get() as i64;
    let (form, content_type, payload) = match &spec.payload {
        Payload::Absent => (0, None, None),
        Payload::Json(bytes) => (1, None, Some(&bytes[..])),
        Payload::Raw { bytes, content_type } => (2, Some(content_type.as_str()), Some(&bytes[..])),
    };
    let options = options_of(spec)?;
    let kind = spec.kind.as_ref().map(Kind::as_str);
    let key = spec.key.as_ref().map(Key::as_str);
    let group = spec.group.as_ref().map(Group::as_str);
    let fingerprint = spec.fingerprint.as_ref().map(|fingerprint| &fingerprint.as_bytes()[..]);
    let texts = [kind, key, group, content_type].map(|text| text.map(str::as_bytes));
    let crc = spec_crc(seq, texts, form, options.as_deref().map(str::as_bytes), fingerprint, payload);
    stmt.raw_bind_parameter(1, seq)?;
    stmt.raw_bind_parameter(2, kind)?;
    stmt.raw_bind_parameter(3, key)?;
    stmt.raw_bind_parameter(4, group)?;
    stmt.raw_bind_parameter(5, form)?;
    stmt.raw_bind_parameter(6, content_type)?;
    stmt.raw_bind_parameter(7, options.as_deref())?;
    stmt.raw_bind_parameter(8, fingerprint)?;
    stmt.raw_bind_parameter(9, payload)?;
    stmt.raw_bind_parameter(10, crc)?;
    stmt.raw_execute()?;
    Ok(())
}

/// Reads a spec selected by `spec_select`.
pub(crate) fn read_spec(row: &Row<'_>) -> StoreResult<JobSpec> {
    let seq = int(row, 0)?;
    let [kind, key, group] = [opt_bytes(row, 1)?, opt_bytes(row, 2)?, opt_bytes(row, 3)?];
    let form = int(row, 4)?;
    let (content_type, options, fingerprint) = (opt_bytes(row, 5)?, opt_bytes(row, 6)?, opt_bytes(row, 7)?);
    let payload = opt_bytes(row, 8)?;
    if spec_crc(seq, [kind, key, group, content_type], form, options, fingerprint, payload) != int(row, 9)? {
        return Err(corrupt("what was asked for", seq));
    }
    let options: SpecOptions = match options {
        Some(json) => serde_json::from_slice(json).map_err(|_| bad("job"))?,
        None => SpecOptions::default(),
    };
    let payload = payload.map(Bytes::copy_from_slice).unwrap_or_default();
    let payload = match form {
        0 => Payload::Absent,
        1 => Payload::Json(payload),
        2 => {
            Payload::Raw { bytes: payload, content_type: text(content_type.unwrap_or_default())?.to_owned() }
        }
        _ => return Err(bad("payload form")),
    };
    Ok(JobSpec {
        kind: kind.map(text).transpose()?.map(Kind::new).transpose().map_err(|_| bad("kind"))?,
        payload,
        key: key.map(text).transpose()?.map(Key::new).transpose().map_err(|_| bad("key"))?,
        fingerprint: fingerprint.map(fingerprint_of).transpose()?,
        dedup: options.dedup.unwrap_or_default(),
        group: group.map(text).transpose()?.map(Group::new).transpose().map_err(|_| bad("group"))?,
        backoff: options.backoff,
        timeout: options.timeout,
        target: options.target.map_or(Target::Pull, Target::Http),
        on_success: options.on_success,
        on_failure: options.on_failure,
        headers: options.headers,
        labels: options.labels,
        retain: options.retain,
        traceparent: options.traceparent,
    })
}
