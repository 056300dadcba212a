//! Jobs in a transaction of the user's own, by the schema's SQL functions: added, or their attempts ended, together with
//! the user's rows or not at all.
//!
//! Whatever is refused here fails that transaction, as any SQL error does: roll it back. [`UserTxError::Again`] asks for
//! the same transaction once more from its beginning. Durability is that of the transaction. The same functions are there
//! for every language and library: `docs/guide/sql.md`.

use onefold_core::{
    Added, Dedup, DurationMs, FencingToken, JobError, JobId, JobSpec, JobStatus, NewJob, Payload, QueueName,
    Refusal, State, When,
};
use serde_json::{Map, Value, json};
use thiserror::Error;
pub use tokio_postgres::GenericClient;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{ToSql, Type};

use crate::sql::quoted;

/// Why a function failed, and the user's transaction with it.
#[derive(Debug, Error)]
pub enum UserTxError {
    /// Refused for the reason that the server would give, too.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// What was asked for cannot be: the stable code, what is wrong, and what to do about it.
    #[error("{message}; {hint}")]
    Invalid {
        /// The code, as in `docs/errors`.
        code: String,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Transactions were in each other's way (40001, 40P01): roll back, and run the whole transaction again.
    #[error("transactions were in each other's way: {0}; roll back and run the whole transaction again")]
    Again(String),
    /// A job that cannot be added in a user's own transaction.
    #[error("the identity of a request is for the HTTP API; give the job a key")]
    RequestIdentity,
    /// A function of another version said what this program does not understand.
    #[error("the schema's functions are not those this program knows: {0}; run `onefold migrate`")]
    Strange(String),
    /// Anything else the database said.
    #[error("{0}")]
    Database(#[source] tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for UserTxError {
    fn from(error: tokio_postgres::Error) -> UserTxError {
        match error.as_db_error() {
            Some(told) => of_db(told).unwrap_or(UserTxError::Database(error)),
            None => UserTxError::Database(error),
        }
    }
}

/// What an error of ours, or one that asks for another try, means.
fn of_db(told: &DbError) -> Option<UserTxError> {
    let state = told.code();
    if *state == SqlState::T_R_SERIALIZATION_FAILURE || *state == SqlState::T_R_DEADLOCK_DETECTED {
        return Some(UserTxError::Again(told.message().to_owned()));
    }
    if !state.code().starts_with("OF") {
        return None;
    }
    let detail: Value = serde_json::from_str(told.detail().unwrap_or("{}")).unwrap_or(Value::Null);
    let text = |name: &str| detail.get(name).and_then(Value::as_str);
    let existing = || text("existing_id").and_then(|id| id.parse::<JobId>().ok());
    let now = || text("state").and_then(State::parse);
    let refusal = match state.code() {
        "OF001" => now().map(|state| Refusal::LeaseLost { state }),
        "OF002" => Some(Refusal::JobNotFound),
        "OF003" => now().map(|state| Refusal::JobFinished { state }),
        "OF004" => Some(Refusal::JobInProgress),
        "OF010" => existing().map(|existing| Refusal::KeyReused { existing }),
        "OF011" => existing().map(|existing| Refusal::DuplicateKey { existing }),
        "OF012" => existing().map(|existing| Refusal::VersionStale { existing }),
        "OF013" => Some(Refusal::KeyInProgress),
        _ => None,
    };
    Some(refusal.map_or_else(
        || UserTxError::Invalid {
            code: text("code").unwrap_or(state.code()).to_owned(),
            message: told.message().to_owned(),
            hint: told.hint().unwrap_or_default().to_owned(),
        },
        UserTxError::Refused,
    ))
}

/// Adds a job. `schema` is the store's.
///
/// # Errors
/// [`UserTxError`]: the transaction has failed.
pub async fn add<C: GenericClient + Sync>(
    client: &C,
    schema: &str,
    queue: &QueueName,
    job: &NewJob,
) -> Result<Added, UserTxError> {
    if job.request.is_some() {
        return Err(UserTxError::RequestIdentity);
    }
    let opts = Value::Object(options(job)).to_string();
    let name = quoted(schema);
    let (queue, opts): (&(dyn ToSql + Sync), &(dyn ToSql + Sync)) = (&queue.as_str(), &opts);
    let text = match &job.spec.payload {
        Payload::Raw { bytes, .. } => {
            let call = format!("SELECT {name}.add_bytes($1, $2, $3::jsonb)::text");
            let params = [(queue, Type::TEXT), (&bytes.as_ref(), Type::BYTEA), (opts, Type::TEXT)];
            answer(client, &call, &params).await?
        }
        Payload::Absent | Payload::Json(_) => {
            let json = match &job.spec.payload {
                Payload::Json(bytes) => Some(utf8(bytes)?),
                Payload::Absent | Payload::Raw { .. } => None,
            };
            let call = format!("SELECT {name}.add($1, $2::json, $3::jsonb)::text");
            answer(client, &call, &[(queue, Type::TEXT), (&json, Type::TEXT), (opts, Type::TEXT)]).await?
        }
    };
    let strange = || UserTxError::Strange(text.to_string());
    let of = |name: &str| text.get(name);
    let words = |name: &str| of(name).and_then(Value::as_str);
    Ok(Added {
        id: words("id").and_then(|id| id.parse().ok()).ok_or_else(strange)?,
        status: match words("state").ok_or_else(strange)? {
            "purged" => JobStatus::Purged,
            state => JobStatus::Known(State::parse(state).ok_or_else(strange)?),
        },
        run_at: words("run_at").map(|at| at.parse().map_err(|_| strange())).transpose()?,
        duplicate: of("duplicate").and_then(Value::as_bool).ok_or_else(strange)?,
        replaced: of("replaced").and_then(Value::as_bool),
    })
}

/// Completes an attempt; `result` is a JSON text. Gives the job's state.
///
/// # Errors
/// [`UserTxError`]: the transaction has failed. [`Refusal::LeaseLost`] if the token is not the current one.
pub async fn complete<C: GenericClient + Sync>(
    client: &C,
    schema: &str,
    id: JobId,
    token: FencingToken,
    result: Option<&[u8]>,
) -> Result<State, UserTxError> {
    let call = format!("SELECT {}.complete($1, $2, $3::json)::text", quoted(schema));
    let result = result.map(utf8).transpose()?;
    let (id, token) = (id.to_string(), token.get().cast_signed());
    state(&answer(client, &call, &[(&id, Type::TEXT), (&token, Type::INT8), (&result, Type::TEXT)]).await?)
}

/// Fails an attempt. Gives the job's state.
///
/// # Errors
/// Like [`complete`].
pub async fn fail<C: GenericClient + Sync>(
    client: &C,
    schema: &str,
    id: JobId,
    token: FencingToken,
    error: &JobError,
    retryable: bool,
    retry_in: Option<DurationMs>,
) -> Result<State, UserTxError> {
    let call = format!("SELECT {}.fail($1, $2, $3, $4::jsonb)::text", quoted(schema));
    let opts = json!({ "kind": error.kind, "retryable": retryable, "retry_in": retry_in }).to_string();
    let (id, token) = (id.to_string(), token.get().cast_signed());
    let params: [(&(dyn ToSql + Sync), Type); 4] =
        [(&id, Type::TEXT), (&token, Type::INT8), (&error.message, Type::TEXT), (&opts, Type::TEXT)];
    state(&answer(client, &call, &params).await?)
}

/// Puts a job off. Gives its state.
///
/// # Errors
/// Like [`complete`].
pub async fn snooze<C: GenericClient + Sync>(
    client: &C,
    schema: &str,
    id: JobId,
    token: FencingToken,
    delay: DurationMs,
) -> Result<State, UserTxError> {
    let call = format!("SELECT {}.snooze($1, $2, $3)::text", quoted(schema));
    let (id, token, delay) = (id.to_string(), token.get().cast_signed(), delay.to_string());
    state(&answer(client, &call, &[(&id, Type::TEXT), (&token, Type::INT8), (&delay, Type::TEXT)]).await?)
}

/// What [`once`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nobody has done it: write the rows, in this transaction.
    Execute,
    /// It was done; this is what was recorded with it: a JSON text.
    Done(String),
}

/// Records a step of a job in the transaction that writes its rows, unless it was recorded before; `result` is a JSON text.
/// With a token that is not the current one it is refused.
///
/// # Errors
/// Like [`complete`].
pub async fn once<C: GenericClient + Sync>(
    client: &C,
    schema: &str,
    id: JobId,
    token: FencingToken,
    step: &str,
    result: Option<&[u8]>,
) -> Result<Step, UserTxError> {
    let call = format!(
        "SELECT o ->> 'state', (o -> 'result')::text FROM {}.once($1, $2, $3, $4::json) o",
        quoted(schema)
    );
    let result = result.map(utf8).transpose()?;
    let (id, token) = (id.to_string(), token.get().cast_signed());
    let params: [(&(dyn ToSql + Sync), Type); 4] =
        [(&id, Type::TEXT), (&step, Type::TEXT), (&token, Type::INT8), (&result, Type::TEXT)];
    let rows = client.query_typed(&call, &params).await?;
    let row = rows.first().ok_or_else(|| UserTxError::Strange("no answer".to_owned()))?;
    match row.try_get(0)? {
        "execute" => Ok(Step::Execute),
        "completed" => {
            Ok(Step::Done(row.try_get::<_, Option<String>>(1)?.unwrap_or_else(|| "null".to_owned())))
        }
        other => Err(UserTxError::Strange(other.to_owned())),
    }
}

/// Cancels a job, or asks its holder to stop. Gives its state.
///
/// # Errors
/// [`UserTxError`]: the transaction has failed. [`Refusal::JobFinished`] if it is completed or dead.
pub async fn cancel<C: GenericClient + Sync>(
    client: &C,
    schema: &str,
    id: JobId,
    force: bool,
) -> Result<State, UserTxError> {
    let call = format!("SELECT {}.cancel($1, $2::jsonb)::text", quoted(schema));
    let (id, opts) = (id.to_string(), json!({ "force": force }).to_string());
    state(&answer(client, &call, &[(&id, Type::TEXT), (&opts, Type::TEXT)]).await?)
}

async fn answer<C: GenericClient + Sync>(
    client: &C,
    call: &str,
    params: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Value, UserTxError> {
    let rows = client.query_typed(call, params).await?;
    let text: &str = match rows.first() {
        Some(row) => row.try_get(0)?,
        None => return Err(UserTxError::Strange("no answer".to_owned())),
    };
    serde_json::from_str(text).map_err(|_| UserTxError::Strange(text.to_owned()))
}

fn state(answer: &Value) -> Result<State, UserTxError> {
    let state = answer.get("state").and_then(Value::as_str).and_then(State::parse);
    state.ok_or_else(|| UserTxError::Strange(answer.to_string()))
}

fn utf8(bytes: impl AsRef<[u8]>) -> Result<String, UserTxError> {
    String::from_utf8(bytes.as_ref().to_vec()).map_err(|_| UserTxError::Invalid {
        code: "invalid-utf8".to_owned(),
        message: "JSON must be UTF-8".to_owned(),
        hint: "send other bytes as a raw payload".to_owned(),
    })
}

/// The options of `add` that make this job.
fn options(job: &NewJob) -> Map<String, Value> {
    let JobSpec {
        kind,
        payload,
        key,
        fingerprint,
        dedup,
        group,
        backoff,
        timeout,
        target,
        on_success,
        on_failure,
        headers,
        labels,
        retain,
        traceparent,
    } = &job.spec;
    let mut opts = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            opts.insert(name.to_owned(), value);
        }
    };
    if let Payload::Raw { content_type, .. } = payload {
        put("content_type", json!(content_type));
    }
    put("kind", json!(kind));
    put("key", json!(key));
    put("fingerprint_hex", json!(fingerprint));
    put("dedup", dedup_options(dedup, job.window_given));
    put("group", json!(group));
    put("backoff", json!(backoff));
    put("timeout", json!(timeout));
    put("target", json!(target.http()));
    put("on_success", json!(on_success.as_deref()));
    put("on_failure", json!(on_failure.as_deref()));
    put("labels", json!(labels));
    put("retain", json!(retain));
    put("traceparent", json!(traceparent));
    put("max_attempts", json!(job.max_attempts));
    put("priority", json!(job.priority));
    if !headers.is_empty() {
        let headers: Map<String, Value> =
            headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        put("headers", Value::Object(headers));
    }
    match job.when {
        When::Now => {}
        When::After(delay) => put("delay", json!(delay)),
        When::At(at) => put("run_at", json!(at)),
    }
    opts
}

fn dedup_options(dedup: &Dedup, window_given: bool) -> Value {
    let ends = [
        (dedup.free_on.completed, "completed"),
        (dedup.free_on.dead, "dead"),
        (dedup.free_on.cancelled, "cancelled"),
    ];
    let free_on: Vec<&str> = ends.into_iter().filter(|(frees, _)| *frees).map(|(_, end)| end).collect();
    json!({
        "window": window_given.then_some(dedup.window),
        "free_on": free_on,
        "on_duplicate": dedup.on_duplicate,
        "on_mismatch": dedup.on_mismatch,
        "version": dedup.version,
        "max_delay": dedup.max_delay,
    })
}
