//! Reading effects, beside the writer and in it.

use onefold_core::{Effect, EffectName, EffectPage, EffectState, ListEffects, Seq, limits};
use rusqlite::{Connection, Statement};

use crate::error::StoreResult;
use crate::rows;

/// Rows a page of a list reads at a time.
const PAGE_ROWS: u32 = 512;

/// One effect, with its result.
pub(crate) fn effect(conn: &Connection, name: &EffectName) -> StoreResult<Option<Effect>> {
    select(&mut *conn.prepare_cached(include_str!("../sql/effect_select.sql"))?, name)
}

/// One effect, with its result, by `effect_select`.
pub(crate) fn select(stmt: &mut Statement<'_>, name: &EffectName) -> StoreResult<Option<Effect>> {
    let mut found = stmt.query((name.scope.as_str(), name.key.as_str()))?;
    found.next()?.map(rows::read_effect).transpose()
}

/// The effects of a job, by `effects_of_job`.
pub(crate) fn of_job(stmt: &mut Statement<'_>, seq: Seq) -> StoreResult<Vec<Effect>> {
    let mut effects = Vec::new();
    let mut found = stmt.query((seq.get() as i64, limits::EFFECTS_SHOWN_MAX))?;
    while let Some(row) = found.next()? {
        effects.push(rows::listed_effect(row)?);
    }
    Ok(effects)
}

/// A page of effects by scope and key, looking at a bounded number of rows.
pub(crate) fn list_effects(conn: &Connection, params: &ListEffects) -> StoreResult<EffectPage> {
    let conn = conn.unchecked_transaction()?;
    let mut stmt = if params.states == [EffectState::Indeterminate] {
        conn.prepare_cached(include_str!("../sql/effect_page_unclear.sql"))?
    } else {
        conn.prepare_cached(include_str!("../sql/effect_page.sql"))?
    };
    let mut page = EffectPage::default();
    let mut after = match (&params.after, &params.scope) {
        (Some(name), _) => (name.scope.as_str().to_owned(), name.key.as_str().to_owned()),
        // No key is empty: all of the scope come after this.
        (None, Some(scope)) => (scope.as_str().to_owned(), String::new()),
        (None, None) => (String::new(), String::new()),
    };
    let mut last: Option<EffectName> = None;
    let mut scanned = 0;
    loop {
        let mut found = stmt.query((&after.0, &after.1, PAGE_ROWS))?;
        let mut rows_read = 0;
        while let Some(row) = found.next()? {
            let effect = rows::listed_effect(row)?;
            if params.scope.as_ref().is_some_and(|scope| *scope != effect.scope) {
                return Ok(page);
            }
            if page.effects.len() as u32 >= params.limit || scanned >= limits::LIST_ROWS_SCANNED_MAX {
                page.next = last;
                return Ok(page);
            }
            (rows_read, scanned) = (rows_read + 1, scanned + 1);
            last = Some(effect.name());
            after = (effect.scope.as_str().to_owned(), effect.key.as_str().to_owned());
            if params.states.is_empty() || params.states.contains(&effect.state) {
                page.effects.push(effect);
            }
        }
        if rows_read < PAGE_ROWS {
            return Ok(page);
        }
    }
}
