//! Which jobs are meant.

use std::fmt::Display;
use std::str::FromStr;

use onefold_core::JobFilter;
use onefold_wire::{ErrorCode, RedriveFilter};

use super::{state, time};
use crate::extract::Query;
use crate::failure::Failure;

/// The filters of a list.
pub(crate) fn from_query(query: &mut Query) -> Result<JobFilter, Failure> {
    let states = query.list("state").iter().map(|word| state("state", word)).collect::<Result<_, _>>()?;
    Ok(JobFilter {
        queue: one(query, "queue", ErrorCode::InvalidQueueName)?,
        states,
        kind: one(query, "kind", ErrorCode::InvalidField)?,
        label: one(query, "label", ErrorCode::InvalidField)?,
        key: one(query, "key", ErrorCode::InvalidKey)?,
        group: one(query, "group", ErrorCode::InvalidField)?,
        since: one(query, "since", ErrorCode::InvalidTime)?,
        until: one(query, "until", ErrorCode::InvalidTime)?,
    })
}

fn one<T: FromStr<Err: Display>>(
    query: &mut Query,
    name: &'static str,
    code: ErrorCode,
) -> Result<Option<T>, Failure> {
    let given = query.one(name)?;
    given.map(|text| text.parse()).transpose().map_err(|why| Failure::field(code, name, why))
}

/// The filters of a redrive.
pub(crate) fn from_redrive(given: RedriveFilter<'_>) -> Result<JobFilter, Failure> {
    let invalid = ErrorCode::InvalidField;
    Ok(JobFilter {
        kind: super::text("filter.kind", invalid, given.kind)?,
        label: super::text("filter.label", invalid, given.label)?,
        key: super::text("filter.key", ErrorCode::InvalidKey, given.key)?,
        group: super::text("filter.group", invalid, given.group)?,
        since: given.since.map(|at| time("filter.since", &at)).transpose()?,
        until: given.until.map(|at| time("filter.until", &at)).transpose()?,
        ..JobFilter::default()
    })
}
