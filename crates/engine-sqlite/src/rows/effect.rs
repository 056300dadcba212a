//! Effects, as they are stored: the record as JSON, its result apart.

use bytes::Bytes;
use onefold_core::{Effect, EffectState};
use rusqlite::{Row, Statement};

use super::{Checksum, bad, int, opt_bytes, opt_int};
use crate::error::{StoreError, StoreResult};

fn state_code(state: EffectState) -> i64 {
    match state {
        EffectState::Executing => 1,
        EffectState::Completed => 2,
        EffectState::Released => 3,
        EffectState::Indeterminate => 4,
    }
}

fn crc(scope: &[u8], key: &[u8], value: &[u8]) -> i64 {
    Checksum::new().bytes(Some(scope)).bytes(Some(key)).bytes(Some(value)).finish()
}

fn stored(effect: &Effect) -> StoreResult<(String, i64, Option<i64>)> {
    let record = serde_json::to_string(effect).map_err(|_| bad("effect"))?;
    let crc = crc(effect.scope.as_str().as_bytes(), effect.key.as_str().as_bytes(), record.as_bytes());
    Ok((record, crc, effect.due_at().map(|at| at.as_unix_ms())))
}

/// Writes all of an effect, with `effect_put`.
pub(crate) fn write_effect(stmt: &mut Statement<'_>, effect: &Effect) -> StoreResult<()> {
    let (record, record_crc, due) = stored(effect)?;
    let (scope, key) = (effect.scope.as_str(), effect.key.as_str());
    let job = effect.job.map(|id| id.seq().get() as i64);
    let result = effect.result.as_deref();
    let result_crc = result.map(|result| crc(scope.as_bytes(), key.as_bytes(), result));
    stmt.execute((scope, key, job, state_code(effect.state), due, record, record_crc, result, result_crc))?;
    Ok(())
}

/// Writes an effect whose result is as it was, with `effect_update`.
pub(crate) fn update_effect(stmt: &mut Statement<'_>, effect: &Effect) -> StoreResult<()> {
    let (record, crc, due) = stored(effect)?;
    let columns = (effect.scope.as_str(), effect.key.as_str(), state_code(effect.state), due, record, crc);
    stmt.execute(columns)?;
    Ok(())
}

fn damaged(key: &[u8]) -> StoreError {
    StoreError::corrupt(format!("the effect {:?} does not match its checksum", String::from_utf8_lossy(key)))
}

/// Reads an effect without its result: scope, key, record, crc.
pub(crate) fn listed_effect(row: &Row<'_>) -> StoreResult<Effect> {
    let (scope, key) = (opt_bytes(row, 0)?.unwrap_or_default(), opt_bytes(row, 1)?.unwrap_or_default());
    let record = opt_bytes(row, 2)?.unwrap_or_default();
    if crc(scope, key, record) != int(row, 3)? {
        return Err(damaged(key));
    }
    serde_json::from_slice(record).map_err(|_| bad("effect"))
}

/// Reads an effect: scope, key, record, crc, result, result's crc.
pub(crate) fn read_effect(row: &Row<'_>) -> StoreResult<Effect> {
    let mut effect = listed_effect(row)?;
    if let Some(result) = opt_bytes(row, 4)? {
        let (scope, key) = (effect.scope.as_str().as_bytes(), effect.key.as_str().as_bytes());
        if Some(crc(scope, key, result)) != opt_int(row, 5)? {
            return Err(damaged(key));
        }
        effect.result = Some(Bytes::copy_from_slice(result));
    }
    Ok(effect)
}
