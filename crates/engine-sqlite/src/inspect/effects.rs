//! Effects, looked into.

use rusqlite::Connection;

use super::check::{Check, Checked, readable};
use crate::error::StoreResult;
use crate::rows;

/// Every effect can be read, and the job whose step it is is there.
pub(super) fn check(conn: &Connection, checked: &mut Checked) -> StoreResult<()> {
    let mut stmt = conn.prepare(include_str!("../../sql/effect_scan.sql"))?;
    let mut found = stmt.query([])?;
    while let Some(row) = found.next()? {
        let has_job: bool = row.get(6)?;
        match readable(rows::read_effect(row))? {
            Err(damage) => checked.tell(Check::Rows, || damage),
            Ok(effect) if !has_job => {
                let told = || format!("the effect {:?} belongs to a job that is gone", effect.key);
                checked.tell(Check::Rows, told);
            }
            Ok(_) => {}
        }
    }
    Ok(())
}
