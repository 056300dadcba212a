//! What was asked for.

use std::sync::Arc;

use bytes::Bytes;
use onefold_core::{
    Backoff, Dedup, DurationMs, Fingerprint, FreeOn, Group, HttpTarget, JobSpec, Key, Kind, Label, Lane,
    OnDuplicate, OnMismatch, Payload, Target, TraceParent,
};
use serde::{Deserialize, Serialize};

use tokio_postgres::Row;

use super::{Coded, Columns, duration, duration_code};
use crate::error::{Outcome, corrupt};
use crate::params;
use crate::pool::Params;

/// What few jobs have.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct Extra {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceParent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Arc<HttpTarget>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_success: Option<Arc<HttpTarget>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_failure: Option<Arc<HttpTarget>>,
}

const ABSENT: i16 = 0;
const JSON: i16 = 1;
const RAW: i16 = 2;

fn json<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}

fn from_json<T: for<'d> Deserialize<'d>>(text: &str, what: &str) -> Outcome<T> {
    serde_json::from_str(text).map_err(|error| corrupt(&format!("the {what} of a job: {error}")))
}

fn name<T, E>(
    text: Option<String>,
    parse: impl FnOnce(String) -> Result<T, E>,
    what: &str,
) -> Outcome<Option<T>> {
    text.map(parse).transpose().map_err(|_| corrupt(&format!("a {what} of a job that is none")))
}

/// Reads a spec whose payload is loaded apart. Also tells the size of the payload.
pub(super) fn read(columns: &mut Columns<'_>) -> Outcome<(JobSpec, usize)> {
    let kind = name(columns.take()?, Kind::new, "kind")?;
    let key = name(columns.take()?, Key::new, "key")?;
    let fingerprint: Option<&[u8]> = columns.take()?;
    let fingerprint = fingerprint.map(Fingerprint::from_bytes).transpose();
    let fingerprint = fingerprint.map_err(|_| corrupt("a fingerprint that is none"))?;
    let dedup = Dedup {
        window: duration(columns.take()?)?,
        free_on: FreeOn::from_bits(columns.take::<i16>()? as u8),
        on_duplicate: OnDuplicate::of(columns.take()?)?,
        on_mismatch: OnMismatch::of(columns.take()?)?,
        version: columns.take::<Option<i64>>()?.map(i64::cast_unsigned),
        max_delay: columns.take::<Option<i64>>()?.map(duration).transpose()?,
    };
    let group = name(columns.take()?, Group::new, "group")?;
    let backoff: Option<&str> = columns.take()?;
    let backoff = backoff.map(|text| from_json::<Backoff>(text, "backoff")).transpose()?;
    let timeout = columns.take::<Option<i64>>()?.map(duration).transpose()?;
    let labels: Option<&str> = columns.take()?;
    let labels = labels.map(|text| from_json::<Vec<Label>>(text, "labels")).transpose()?.unwrap_or_default();
    let retain = columns.take::<Option<i64>>()?.map(duration).transpose()?;
    let extra: Option<&str> = columns.take()?;
    let extra = extra.map(|text| from_json::<Extra>(text, "headers")).transpose()?.unwrap_or_default();
    let payload = match columns.take::<i16>()? {
        ABSENT => Payload::Absent,
        JSON => Payload::Json(Bytes::new()),
        RAW => Payload::Raw { bytes: Bytes::new(), content_type: extra.content_type.unwrap_or_default() },
        _ => return Err(corrupt("a payload in a form this program does not know")),
    };
    let payload_bytes = columns.take::<i32>()? as usize;
    let spec = JobSpec {
        kind,
        payload,
        key,
        fingerprint,
        dedup,
        group,
        backoff,
        timeout,
        target: extra.target.map_or(Target::Pull, Target::Http),
        on_success: extra.on_success,
        on_failure: extra.on_failure,
        headers: extra.headers,
        labels,
        retain,
        traceparent: extra.traceparent,
    };
    Ok((spec, payload_bytes))
}

/// Puts the bytes of a payload into the form that was read.
pub(crate) fn fill(payload: &mut Payload, loaded: Option<Vec<u8>>) {
    let loaded = Bytes::from(loaded.unwrap_or_default());
    match payload {
        Payload::Absent => {}
        Payload::Json(bytes) | Payload::Raw { bytes, .. } => *bytes = loaded,
    }
}

pub(crate) fn labels_json(labels: &[Label]) -> Option<String> {
    if labels.is_empty() { None } else { json(&labels) }
}

/// Reads a spec that was loaded apart, with its payload if it is there.
pub(crate) fn read_spec(row: &Row) -> Outcome<LoadedSpec> {
    let mut columns = Columns::of(row);
    let seq = columns.take()?;
    let (mut spec, payload_bytes) = read(&mut columns)?;
    let payload: Option<&[u8]> = columns.take()?;
    if let Some(payload) = payload {
        fill(&mut spec.payload, Some(payload.to_vec()));
    }
    Ok(LoadedSpec { seq, spec, payload_bytes, has_payload: payload.is_some() || payload_bytes == 0 })
}

/// A spec with the size of its payload.
#[derive(Default)]
pub(crate) struct LoadedSpec {
    pub(crate) seq: i64,
    pub(crate) spec: JobSpec,
    pub(crate) payload_bytes: usize,
    pub(crate) has_payload: bool,
}

/// Whether it is delivered, or its end is told.
fn goes_out(spec: &JobSpec) -> bool {
    spec.target != Target::Pull || spec.on_success.is_some() || spec.on_failure.is_some()
}

/// The number of a lane, which fits.
pub(crate) fn lane_code(lane: Lane) -> i32 {
    i32::try_from(lane.get()).unwrap_or(i32::MAX)
}

/// Whether the end of an attempt needs nothing of it.
pub(crate) fn is_plain_for_ends(spec: &JobSpec) -> bool {
    let has_times = spec.backoff.is_some() || spec.timeout.is_some() || spec.retain.is_some();
    spec.group.is_none() && !has_times && !goes_out(spec) && spec.dedup.free_on == FreeOn::default()
}

/// Whether a spec has nothing but a payload, a kind and a key.
pub(crate) fn is_plain(spec: &JobSpec) -> bool {
    let has_form = !matches!(spec.payload, Payload::Raw { .. });
    let has_names = spec.group.is_some() || !spec.labels.is_empty() || !spec.headers.is_empty();
    let has_times = spec.backoff.is_some() || spec.timeout.is_some() || spec.retain.is_some();
    has_form
        && !has_names
        && !has_times
        && !goes_out(spec)
        && spec.traceparent.is_none()
        && spec.dedup == Dedup::default()
}

/// The columns of plain specs.
pub(crate) fn plain_spec_columns(specs: &[(i64, &JobSpec)]) -> Params {
    fn column<T>(specs: &[(i64, &JobSpec)], value: impl Fn(&JobSpec) -> T) -> Vec<T> {
        specs.iter().map(|(_, spec)| value(spec)).collect()
    }
    let dedup = Dedup::default();
    params![
        duration_code(dedup.window),
        i16::from(dedup.free_on.bits()),
        dedup.on_duplicate.code(),
        dedup.on_mismatch.code(),
        specs.iter().map(|(seq, _)| *seq).collect::<Vec<i64>>(),
        column(specs, |s| s.kind.as_ref().map(|kind| kind.as_str().to_owned())),
        column(specs, |s| s.key.as_ref().map(|key| key.as_str().to_owned())),
        column(specs, |s| s.fingerprint.as_ref().map(|f| f.as_bytes().to_vec())),
        column(specs, form),
        column(specs, payload),
    ]
}

fn form(spec: &JobSpec) -> i16 {
    match spec.payload {
        Payload::Absent => ABSENT,
        Payload::Json(_) => JSON,
        Payload::Raw { .. } => RAW,
    }
}

fn payload(spec: &JobSpec) -> Option<Vec<u8>> {
    match &spec.payload {
        Payload::Absent => None,
        Payload::Json(bytes) | Payload::Raw { bytes, .. } => Some(bytes.to_vec()),
    }
}

/// The columns of specs: `with_names` also those that never change, key and group.
pub(crate) fn spec_columns(specs: &[(i64, &JobSpec)], with_names: bool) -> Params {
    fn column<T>(specs: &[(i64, &JobSpec)], value: impl Fn(&JobSpec) -> T) -> Vec<T> {
        specs.iter().map(|(_, spec)| value(spec)).collect()
    }
    let extra = |spec: &JobSpec| {
        let content_type = match &spec.payload {
            Payload::Raw { content_type, .. } => Some(content_type.clone()),
            Payload::Absent | Payload::Json(_) => None,
        };
        let extra = Extra {
            headers: spec.headers.clone(),
            content_type,
            traceparent: spec.traceparent.clone(),
            target: match &spec.target {
                Target::Pull => None,
                Target::Http(target) => Some(Arc::clone(target)),
            },
            on_success: spec.on_success.clone(),
            on_failure: spec.on_failure.clone(),
        };
        if extra == Extra::default() { None } else { json(&extra) }
    };
    let text = |name: Option<&str>| name.map(str::to_owned);
    let ms = |duration: Option<DurationMs>| duration.map(duration_code);
    let mut all = params![
        specs.iter().map(|(seq, _)| *seq).collect::<Vec<i64>>(),
        column(specs, |s| text(s.kind.as_ref().map(Kind::as_str))),
    ];
    if with_names {
        all.extend(params![column(specs, |s| text(s.key.as_ref().map(Key::as_str)))]);
    }
    all.extend(params![
        column(specs, |s| s.fingerprint.as_ref().map(|f| f.as_bytes().to_vec())),
        column(specs, |s| duration_code(s.dedup.window)),
        column(specs, |s| i16::from(s.dedup.free_on.bits())),
        column(specs, |s| s.dedup.on_duplicate.code()),
        column(specs, |s| s.dedup.on_mismatch.code()),
        column(specs, |s| s.dedup.version.map(u64::cast_signed)),
        column(specs, |s| ms(s.dedup.max_delay)),
    ]);
    if with_names {
        all.extend(params![column(specs, |s| text(s.group.as_ref().map(Group::as_str)))]);
    }
    all.extend(params![
        column(specs, |s| s.backoff.as_ref().and_then(json)),
        column(specs, |s| ms(s.timeout)),
        column(specs, |s| labels_json(&s.labels)),
        column(specs, |s| ms(s.retain)),
        column(specs, extra),
        column(specs, form),
        column(specs, payload),
        column(specs, |s| lane_code(s.target.lane())),
    ]);
    all
}
