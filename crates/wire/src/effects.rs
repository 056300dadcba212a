//! Effects: named steps of jobs and other keyed operations whose outcome is recorded once.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{LateWrites, Span, Text, present};

/// `POST /v1/effects/{scope}/begin`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BeginEffect<'a> {
    /// Which effect of the scope: 1 to 255 characters.
    #[serde(borrow)]
    pub key: Text<'a>,
    /// Compared with that of the first begin; that there is none is compared, too.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Text<'a>>,
    /// How long its lease is: 100 ms to 1 h; 30 s unless given. A job's effect has none of its own.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Span<'a>>,
    /// What is done if nobody knows how an execution ended: `at_least_once` (default) or `at_most_once`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Text<'a>>,
    /// How long the receiver remembers the key, from the first begin: afterwards an unfinished effect is never executed
    /// again.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key_valid_for: Option<Span<'a>>,
    /// How long it is kept after its end: 7 days unless given. A job's effect is kept with its job.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span<'a>>,
    /// The job whose step it is.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub job: Option<EffectJob<'a>>,
    /// Makes a repeat of the call safe: while the effect is executed it is answered as before. At most 64 bytes.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub begin_id: Option<Text<'a>>,
}

/// A job, as the holder of its lease names it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EffectJob<'a> {
    /// The job.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Its lease.
    pub fencing_token: u64,
}

/// `200` of a begin.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BegunEffect<'a> {
    /// `execute`: it is yours to execute; `completed`: it was done before.
    #[serde(borrow)]
    pub state: Text<'a>,
    /// `execute`: to be given with commit, extend and release, and handed on to whoever is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<u64>,
    /// `completed`: what was committed, byte for byte; `null` also if nothing was.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub result: Option<&'a RawValue>,
    /// `execute`: something that is likely to be a mistake.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Text<'a>>,
}

/// `POST /v1/effects/{scope}/commit`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CommitEffect<'a> {
    /// Which effect of the scope.
    #[serde(borrow)]
    pub key: Text<'a>,
    /// The token it was begun under.
    pub fencing_token: u64,
    /// What is replayed from now on: any JSON up to 1 MiB.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub result: Option<&'a RawValue>,
}

/// `POST /v1/effects/{scope}/extend`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExtendEffect<'a> {
    /// Which effect of the scope.
    #[serde(borrow)]
    pub key: Text<'a>,
    /// The token it was begun under.
    pub fencing_token: u64,
    /// It runs this long from now: 100 ms to 1 h; 30 s unless given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Span<'a>>,
}

/// `POST /v1/effects/{scope}/release`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReleaseEffect<'a> {
    /// Which effect of the scope.
    #[serde(borrow)]
    pub key: Text<'a>,
    /// The token it was begun under.
    pub fencing_token: u64,
    /// `not_applied` (default): it certainly did not happen; `unknown`: it may have.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Text<'a>>,
}

/// `POST /v1/effects/{scope}/resolve`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResolveEffect<'a> {
    /// Which effect of the scope.
    #[serde(borrow)]
    pub key: Text<'a>,
    /// `completed`: it happened; `released`: it did not, and the next begin executes it.
    #[serde(borrow)]
    pub outcome: Text<'a>,
    /// Who found out, and how; kept with the effect.
    #[serde(borrow)]
    pub note: Text<'a>,
    /// `completed`: what is replayed from now on.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub result: Option<&'a RawValue>,
}

/// `200` of a commit, extend, release or resolve.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EffectStanding<'a> {
    /// `executing`, `completed`, `released` or `indeterminate`; for a repeat that of the first answer.
    #[serde(borrow)]
    pub state: Text<'a>,
    /// Until when its lease runs, if it has one of its own.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Text<'a>>,
}

/// An effect. In lists, and with its job, without `result`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Effect<'a> {
    /// What its key is unique in; of a job's step usually the job's id.
    #[serde(borrow)]
    pub scope: Text<'a>,
    /// Which effect of the scope.
    #[serde(borrow)]
    pub key: Text<'a>,
    /// The job whose step it is.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Text<'a>>,
    /// `executing`, `completed`, `released` or `indeterminate`.
    #[serde(borrow)]
    pub state: Text<'a>,
    /// `at_least_once` or `at_most_once`.
    #[serde(borrow)]
    pub policy: Text<'a>,
    /// The token of its latest execution.
    pub fencing_token: u64,
    /// The attempt of its job that executed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When the first execution began that may have had its effect, or the latest.
    #[serde(borrow)]
    pub first_begun_at: Text<'a>,
    /// When the latest execution began.
    #[serde(borrow)]
    pub begun_at: Text<'a>,
    /// When it was committed, released or became indeterminate.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Text<'a>>,
    /// Until when its lease runs, or ran, if it has one of its own.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Text<'a>>,
    /// Until when its receiver knows the key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key_valid_until: Option<Text<'a>>,
    /// An execution may have had its effect, and nobody knows.
    #[serde(default)]
    pub in_doubt: bool,
    /// How often it was given out to be executed.
    pub executions: u32,
    /// How often a later attempt of its job was given the stored result.
    #[serde(default)]
    pub replays: u32,
    /// Writes that came with an old token.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub late_writes: Option<LateWrites<'a>>,
    /// What somebody found out about it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<EffectResolution<'a>>,
    /// What was committed, byte for byte.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value, required = false))]
    pub result: Option<&'a RawValue>,
}

/// What somebody found out about an indeterminate effect.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EffectResolution<'a> {
    /// `completed` or `released`.
    #[serde(borrow)]
    pub outcome: Text<'a>,
    /// Who found out, and how.
    #[serde(borrow)]
    pub note: Text<'a>,
    /// When.
    #[serde(borrow)]
    pub at: Text<'a>,
}

/// A page of effects, by scope and key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EffectList<'a> {
    /// The effects. There may be fewer than asked for, even none, and still more to come.
    #[serde(borrow)]
    pub effects: Vec<Effect<'a>>,
    /// For the next page, with the same filters; absent at the end.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Text<'a>>,
}
