//! A look at a store from outside, beside whoever serves it: what an operator should know. Nothing is changed.

use onefold_core::Timestamp;
use tokio::runtime::Handle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::migrate::{self, version};
use crate::sql::for_schema;
use crate::{OpenError, PostgresConfig};

const SERVER: &str = include_str!("../sql/inspect/server.sql");
const SETTINGS: &str = include_str!("../sql/inspect/settings.sql");
pub(crate) const STANDBY: &str = include_str!("../sql/inspect/standby.sql");
const HORIZON: &str = include_str!("../sql/inspect/horizon.sql");
const TABLES: &str = include_str!("../sql/inspect/tables.sql");
const STORE: &str = include_str!("../sql/inspect/store.sql");

/// A connection that looks.
pub struct Inspector {
    client: Client,
    schema: String,
}

/// The server as a whole.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Its version, in its own words.
    pub version: String,
    /// Its clock.
    pub now: Timestamp,
    /// Whether it shows us what others do.
    pub shows_others: bool,
    /// Connections there can be for those who are not superusers.
    pub connections_max: i64,
    /// Connections there are.
    pub connections: i64,
    /// Of these, those of our role.
    pub connections_ours: i64,
    /// Transactions since the oldest row that is not frozen, of some two thousand million there can be.
    pub xid_age: i64,
}

/// Whether what is acknowledged is on another machine, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standby {
    /// It is: commits wait for a standby, and there is one.
    Synchronous,
    /// Commits wait for a standby, and none of those they wait for is there.
    Missing,
    /// Commits wait for no standby.
    None,
    /// Commits wait for a standby; the server does not show us whether there is one.
    Hidden,
}

/// Who holds back what may be cleaned up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderKind {
    /// A session, by its process.
    Session {
        /// For `pg_terminate_backend`.
        pid: i32,
    },
    /// A replication slot.
    Slot,
    /// A transaction that was prepared and neither committed nor rolled back.
    Prepared,
    /// A standby that says what its own readers need.
    Standby,
}

/// See [`HolderKind`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What it is.
    pub kind: HolderKind,
    /// Its application, slot or transaction.
    pub name: String,
    /// What it is doing.
    pub state: String,
    /// For so many seconds; 0 if it has no start.
    pub seconds: i64,
    /// How many transactions have begun since.
    pub age: i64,
}

/// A table of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    /// Its name.
    pub name: String,
    /// Rows, as the server counts.
    pub live: i64,
    /// Rows that are gone and still there.
    pub dead: i64,
    /// Its size, without indexes.
    pub bytes: i64,
    /// Of its indexes.
    pub index_bytes: i64,
    /// Since it was last vacuumed.
    pub vacuumed_seconds_ago: Option<i64>,
    /// About what it would need at the least; `None` if the server has not analyzed it.
    pub needed_bytes: Option<i64>,
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFacts {
    /// Nodes that ticked within ten seconds.
    pub nodes: i64,
    /// Since any node did.
    pub served_seconds_ago: Option<i64>,
    /// Queues whose jobs do not add up (I2).
    pub unbalanced: i64,
    /// Leases with a token that is still to be handed out (I4).
    pub tokens_ahead: i64,
    /// Queues.
    pub queues: i64,
}

impl Inspector {
    /// Connects to the server of a store; it may have no store yet.
    ///
    /// # Errors
    /// [`OpenError`], with what to do about it.
    pub async fn connect(config: &PostgresConfig) -> Result<Inspector, OpenError> {
        let runtime = Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        let client = migrate::client(config, &runtime).await?;
        Ok(Inspector { client, schema: config.schema.clone() })
    }

    /// The version of its schema, if there is one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn schema_version(&self) -> Result<Option<i32>, OpenError> {
        version(&self.client, &self.schema).await
    }

    async fn rows(
        &self,
        text: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, OpenError> {
        Ok(self.client.query_typed(&for_schema(text, &self.schema), parameters).await?)
    }

    async fn row(&self, text: &str) -> Result<Row, OpenError> {
        let row = self.rows(text, &[]).await?.pop();
        row.ok_or_else(|| OpenError::Failed("the server says nothing".to_owned()))
    }

    /// The server as a whole.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn server(&self) -> Result<ServerFacts, OpenError> {
        let row = self.row(SERVER).await?;
        Ok(ServerFacts {
            version: row.try_get(0)?,
            now: Timestamp::from_unix_ms(row.try_get(1)?).unwrap_or(Timestamp::EPOCH),
            shows_others: row.try_get(2)?,
            connections_max: i64::from(row.try_get::<_, i32>(3)?),
            connections: row.try_get(4)?,
            connections_ours: row.try_get(5)?,
            xid_age: row.try_get(6)?,
        })
    }

    /// Settings in force for us that matter, by name.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn settings(&self) -> Result<Vec<(String, String)>, OpenError> {
        let rows = self.rows(SETTINGS, &[]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Whether there is a synchronous standby.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn standby(&self) -> Result<Standby, OpenError> {
        Ok(standby(&self.row(STANDBY).await?)?)
    }

    /// Those who hold back most, worst first, five at the most.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn holders(&self) -> Result<Vec<Holder>, OpenError> {
        let rows = self.rows(HORIZON, &[]).await?;
        rows.iter()
            .map(|row| {
                let kind = match row.try_get::<_, i32>(0)? {
                    0 => HolderKind::Session { pid: row.try_get::<_, Option<i32>>(1)?.unwrap_or(0) },
                    1 => HolderKind::Slot,
                    2 => HolderKind::Prepared,
                    _ => HolderKind::Standby,
                };
                let text = |place| row.try_get::<_, Option<String>>(place).map(Option::unwrap_or_default);
                Ok(Holder {
                    kind,
                    name: text(2)?,
                    state: text(3)?,
                    seconds: row.try_get(4)?,
                    age: row.try_get::<_, Option<i64>>(5)?.unwrap_or(0),
                })
            })
            .collect()
    }

    /// The tables of the store, the largest first.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn tables(&self) -> Result<Vec<TableFacts>, OpenError> {
        let rows = self.rows(TABLES, &[(&self.schema, Type::TEXT)]).await?;
        rows.iter()
            .map(|row| {
                let is_known: bool = row.try_get(7)?;
                let needed: i64 = row.try_get(6)?;
                Ok(TableFacts {
                    name: row.try_get(0)?,
                    live: row.try_get(1)?,
                    dead: row.try_get(2)?,
                    bytes: row.try_get(3)?,
                    index_bytes: row.try_get(4)?,
                    vacuumed_seconds_ago: row.try_get(5)?,
                    needed_bytes: is_known.then_some(needed),
                })
            })
            .collect()
    }

    /// What is in the store, whose schema has to be there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn store(&self) -> Result<StoreFacts, OpenError> {
        let row = self.row(STORE).await?;
        Ok(StoreFacts {
            nodes: row.try_get(0)?,
            served_seconds_ago: row.try_get(1)?,
            unbalanced: row.try_get(2)?,
            tokens_ahead: row.try_get(3)?,
            queues: row.try_get(4)?,
        })
    }
}

/// Reads what [`STANDBY`] tells.
pub(crate) fn standby(row: &Row) -> Result<Standby, tokio_postgres::Error> {
    let (names, synchronous, shown): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let shows_others: bool = row.try_get(3)?;
    Ok(match (names.trim().is_empty(), synchronous) {
        (true, _) => Standby::None,
        (false, 1..) => Standby::Synchronous,
        (false, _) if shown > 0 || shows_others => Standby::Missing,
        (false, _) => Standby::Hidden,
    })
}
