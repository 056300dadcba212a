//! Where a row stands in its table, for as long as it is locked and not changed.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// A `tid`, in the form in which it is sent: block and place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace([u8; 6]);

impl<'r> FromSql<'r> for RowPlace {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<RowPlace, Box<dyn Error + Sync + Send>> {
        Ok(RowPlace(raw.try_into()?))
    }

    accepts!(TID);
}

impl ToSql for RowPlace {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(TID);

    to_sql_checked!();
}
