//! Effects: begin, commit, extend, release, resolve, and looking at them.

use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use onefold_core::{
    EffectAction, EffectDone, EffectName, EffectOp, EffectRefusal, EffectScope, Key, ListEffects, limits,
};
use onefold_wire::{self as wire, EffectList, ErrorCode, Text};

use crate::answer::ok;
use crate::cursor::{Cursor, Mark};
use crate::extract::{InPath, JsonBody, NoQuery, Query, key};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::translate::effect;

async fn done(app: &AppState, scope: &str, text: &str, action: EffectAction) -> Result<EffectDone, Failure> {
    let name = EffectName { scope: effect::scope(scope)?, key: key(text)? };
    let outcome = app.engine().effects(vec![EffectOp { name, action }]).await?.pop();
    Ok(outcome.ok_or_else(|| Failure::internal("the store gave no outcome"))??)
}

/// Asks whether an effect is to be executed.
#[utoipa::path(
    post,
    operation_id = "beginEffect",
    path = "/v1/effects/{scope}/begin",
    tag = "Effects",
    params(("scope" = String, Path, description = "What the key is unique in, percent-encoded: a job's id, or any name")),
    request_body = wire::BeginEffect<'static>,
    responses(
        (status = 200, description = "Execute it, or its stored result", body = wire::BegunEffect<'static>),
        (status = 409, description = "In progress, indeterminate, or the lease is gone", body = wire::Problem),
        (status = 422, description = "The key was used for something else", body = wire::Problem),
    ),
)]
pub(crate) async fn begin(
    State(app): State<AppState>,
    InPath(scope): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let given: wire::BeginEffect<'_> = body.read()?;
    let text = given.key.clone();
    let done = done(&app, &scope, &text, effect::begin(given)?).await?;
    if let EffectDone::Execute { forgotten_early: Some(early), .. } = &done {
        tracing::warn!(
            scope, key = &*text, key_valid_until = %early.key_valid_until, retry_until = %early.retry_until,
            "an effect's receiver forgets its key while the job may still be tried"
        );
    }
    Ok(ok(&effect::begun(&done)?))
}

/// Says that an effect is done, and with what result.
#[utoipa::path(
    post,
    operation_id = "commitEffect",
    path = "/v1/effects/{scope}/commit",
    tag = "Effects",
    params(("scope" = String, Path, description = "As begun")),
    request_body = wire::CommitEffect<'static>,
    responses((status = 200, description = "Where it stands", body = wire::EffectStanding<'static>)),
)]
pub(crate) async fn commit(
    State(app): State<AppState>,
    InPath(scope): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let given: wire::CommitEffect<'_> = body.read()?;
    let action = effect::commit(&given, &body.bytes)?;
    Ok(ok(&effect::standing(&done(&app, &scope, &given.key, action).await?)?))
}

/// Extends the lease of an effect that has one of its own.
#[utoipa::path(
    post,
    operation_id = "extendEffect",
    path = "/v1/effects/{scope}/extend",
    tag = "Effects",
    params(("scope" = String, Path, description = "As begun")),
    request_body = wire::ExtendEffect<'static>,
    responses((status = 200, description = "Where it stands", body = wire::EffectStanding<'static>)),
)]
pub(crate) async fn extend(
    State(app): State<AppState>,
    InPath(scope): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let given: wire::ExtendEffect<'_> = body.read()?;
    Ok(ok(&effect::standing(&done(&app, &scope, &given.key, effect::extend(&given)?).await?)?))
}

/// Gives an effect back that was not executed, or nobody knows.
#[utoipa::path(
    post,
    operation_id = "releaseEffect",
    path = "/v1/effects/{scope}/release",
    tag = "Effects",
    params(("scope" = String, Path, description = "As begun")),
    request_body = wire::ReleaseEffect<'static>,
    responses((status = 200, description = "Where it stands", body = wire::EffectStanding<'static>)),
)]
pub(crate) async fn release(
    State(app): State<AppState>,
    InPath(scope): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let given: wire::ReleaseEffect<'_> = body.read()?;
    Ok(ok(&effect::standing(&done(&app, &scope, &given.key, effect::release(&given)?).await?)?))
}

/// Says what became of an indeterminate effect. For operators and reconcilers.
#[utoipa::path(
    post,
    operation_id = "resolveEffect",
    path = "/v1/effects/{scope}/resolve",
    tag = "Effects",
    params(("scope" = String, Path, description = "As begun")),
    request_body = wire::ResolveEffect<'static>,
    responses((status = 200, description = "Where it stands", body = wire::EffectStanding<'static>)),
)]
pub(crate) async fn resolve(
    State(app): State<AppState>,
    InPath(scope): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let given: wire::ResolveEffect<'_> = body.read()?;
    let action = effect::resolve(&given, &body.bytes)?;
    Ok(ok(&effect::standing(&done(&app, &scope, &given.key, action).await?)?))
}

/// One effect, with its result.
#[utoipa::path(
    get,
    operation_id = "getEffect",
    path = "/v1/effects/{scope}/{key}",
    tag = "Effects",
    params(
        ("scope" = String, Path, description = "As begun"),
        ("key" = String, Path, description = "As begun"),
    ),
    responses((status = 200, description = "Everything about it", body = wire::Effect<'static>)),
)]
pub(crate) async fn get(
    State(app): State<AppState>,
    InPath((scope, text)): InPath<(String, String)>,
    _: NoQuery,
) -> Answer {
    let name = EffectName { scope: effect::scope(&scope)?, key: key(&text)? };
    let found = app.engine().effect(name).await?.ok_or(EffectRefusal::NotFound)?;
    Ok(ok(&effect::view(&found)?))
}

/// Effects by scope and key.
#[utoipa::path(
    get,
    operation_id = "listEffects",
    path = "/v1/effects",
    tag = "Effects",
    params(
        ("scope" = Option<String>, Query, description = "In this scope"),
        ("state" = Option<String>, Query, description = "In one of these states, repeated or with commas"),
        ("cursor" = Option<String>, Query, description = "Of the page before, with the same filters"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 unless given"),
    ),
    responses((status = 200, description = "By scope and key, without results", body = EffectList<'static>)),
)]
pub(crate) async fn list(State(app): State<AppState>, mut query: Query) -> Answer {
    let limit = query.one("limit")?;
    let cursor = query.one("cursor")?;
    let mark = Cursor::mark(query.pairs());
    let scope = query.one("scope")?.map(|text| effect::scope(&text)).transpose()?;
    let states = query.list("state").iter().map(|word| effect::state(word)).collect::<Result<_, _>>()?;
    query.finish()?;
    let limit = match limit.map(|limit| limit.parse::<u32>()) {
        None => limits::LIST_JOBS_DEFAULT,
        Some(Ok(limit)) if (1..=limits::LIST_EFFECTS_MAX).contains(&limit) => limit,
        Some(_) => {
            let why = format!("this is 1 to {}", limits::LIST_EFFECTS_MAX);
            return Err(Failure::field(ErrorCode::InvalidField, "limit", why));
        }
    };
    let after = cursor.map(|cursor| read_cursor(&cursor, mark)).transpose()?;
    let page = app.engine().list_effects(ListEffects { scope, states, limit, after }).await?;
    let effects = page.effects.iter().map(effect::view).collect::<Result<_, _>>()?;
    let cursor = page.next.map(|next| Text::from(write_cursor(&next, mark)));
    Ok(ok(&EffectList { effects, cursor }))
}

/// Neither a scope nor a key has control characters.
const BETWEEN: char = '\0';

fn write_cursor(next: &EffectName, mark: Mark) -> String {
    let name = format!("{}{BETWEEN}{}", next.scope, next.key);
    BASE64_URL_SAFE_NO_PAD.encode([&mark.bytes()[..], name.as_bytes()].concat())
}

fn read_cursor(cursor: &str, mark: Mark) -> Result<EffectName, Failure> {
    let refuse = |why: &str| Failure::field(ErrorCode::InvalidCursor, "cursor", why);
    let unreadable = || refuse("this is not a cursor: use the one of the page before, unchanged");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| unreadable())?;
    let (given, name) = bytes.split_first_chunk::<8>().ok_or_else(unreadable)?;
    if *given != mark.bytes() {
        return Err(refuse(
            "this cursor belongs to a list with other filters: use the same ones, or start again",
        ));
    }
    let (scope, key) =
        std::str::from_utf8(name).ok().and_then(|n| n.split_once(BETWEEN)).ok_or_else(unreadable)?;
    let name = EffectScope::new(scope).ok().zip(Key::new(key).ok());
    name.map(|(scope, key)| EffectName { scope, key }).ok_or_else(unreadable)
}
