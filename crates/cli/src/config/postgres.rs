//! A store in PostgreSQL: where it is, and how to talk to it.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use onefold_core::DurationMs;
use onefold_engine_postgres::{Listener, OpenError, PostgresConfig};
use thiserror::Error;

use super::{
    Config, ConfigError, POSTGRES, POSTGRES_CONNECTIONS, POSTGRES_LISTEN, POSTGRES_POOLER, POSTGRES_SCHEMA,
    POSTGRES_WAIT,
};

/// Connections of a pool at the most.
const CONNECTIONS_MAX: usize = 1_000;
/// How long `serve` waits for a database that is not there yet.
const WAIT: DurationMs = DurationMs::from_ms(30_000);

/// Which database, for what serves or looks after a store in PostgreSQL.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PostgresArgs {
    /// PostgreSQL database of the store, instead of a directory; better given as a variable, which other users cannot
    /// see, if it holds a password
    /// [env: ONEFOLD_POSTGRES] [file: postgres]
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<PostgresUrl>,
    /// Schema of the store in that database
    /// [env: ONEFOLD_POSTGRES_SCHEMA] [file: postgres_schema] [default: onefold]
    #[arg(long, value_name = "NAME")]
    pub(crate) postgres_schema: Option<Schema>,
    /// What the URL leads to: the server or a pooler that keeps sessions (session), or a pooler that gives each
    /// transaction another connection (transaction)
    /// [env: ONEFOLD_POSTGRES_POOLER] [file: postgres_pooler] [default: session]
    #[arg(long, value_name = "MODE")]
    pub(crate) postgres_pooler: Option<Pooler>,
}

/// How a server uses the database.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// Connections to the database at the most, 1 to 1000
    /// [env: ONEFOLD_POSTGRES_CONNECTIONS] [file: postgres_connections] [default: 16]
    #[arg(long, value_name = "COUNT")]
    pub(crate) postgres_connections: Option<Connections>,
    /// Way to the same database around a transaction pooler, on which nodes tell each other of new jobs; without it a
    /// waiting worker hears of another node's within a second
    /// [env: ONEFOLD_POSTGRES_LISTEN] [file: postgres_listen]
    #[arg(long, value_name = "URL")]
    pub(crate) postgres_listen: Option<PostgresUrl>,
    /// How long to wait at the start for a database that cannot be reached or takes no writes yet
    /// [env: ONEFOLD_POSTGRES_WAIT] [file: postgres_wait] [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) postgres_wait: Option<DurationMs>,
}

/// A store in PostgreSQL.
pub(crate) struct PostgresSettings {
    pub(crate) config: PostgresConfig,
    /// How long `serve` waits for it.
    pub(crate) wait: DurationMs,
}

impl Config {
    /// The store in PostgreSQL, if one is named.
    pub(crate) fn postgres(
        &self,
        args: PostgresArgs,
        node: Option<NodeArgs>,
    ) -> Result<Option<PostgresSettings>, ConfigError> {
        let Some((url, place)) = self.placed(&POSTGRES, args.postgres)? else { return Ok(None) };
        let mut config = PostgresConfig::parse(url.reveal()).map_err(|error| refused(place, &error))?;
        if let Some(schema) = self.pick(&POSTGRES_SCHEMA, args.postgres_schema)? {
            config.schema = schema.0;
        }
        config.transaction_pooler =
            self.pick(&POSTGRES_POOLER, args.postgres_pooler)? == Some(Pooler::Transaction);
        let mut wait = WAIT;
        if let Some(node) = node {
            if let Some(connections) = self.pick(&POSTGRES_CONNECTIONS, node.postgres_connections)? {
                config.connections = connections.0;
            }
            if let Some((url, place)) = self.placed(&POSTGRES_LISTEN, node.postgres_listen)? {
                config.listen = Some(Listener::parse(url.reveal()).map_err(|error| refused(place, &error))?);
            }
            wait = self.pick(&POSTGRES_WAIT, node.postgres_wait)?.unwrap_or(WAIT);
        }
        Ok(Some(PostgresSettings { config, wait }))
    }
}

fn refused(place: String, error: &OpenError) -> ConfigError {
    ConfigError::Value { place, what: error.to_string() }
}

/// The address of a database, which may hold a password. Never shown.
#[derive(Clone)]
pub(crate) struct PostgresUrl(String);

impl PostgresUrl {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for PostgresUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<PostgresUrl, Self::Err> {
        Ok(PostgresUrl(text.to_owned()))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl(…)")
    }
}

/// The name of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema(String);

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum InvalidSchema {
    #[error("the name of a schema is 1 to 63 bytes, without control characters")]
    Name,
    #[error("names that begin with pg_ are PostgreSQL's own: choose another schema")]
    System,
}

impl FromStr for Schema {
    type Err = InvalidSchema;

    fn from_str(text: &str) -> Result<Schema, InvalidSchema> {
        // PostgreSQL would cut a longer one off.
        if text.is_empty() || text.len() > 63 || text.chars().any(char::is_control) {
            return Err(InvalidSchema::Name);
        }
        if text.starts_with("pg_") || text == "information_schema" {
            return Err(InvalidSchema::System);
        }
        Ok(Schema(text.to_owned()))
    }
}

/// What stands between us and the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// A session is one connection to the server for as long as it lives.
    Session,
    /// Each transaction may have another one.
    Transaction,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("the pooler is either session or transaction")]
pub(crate) struct InvalidPooler;

impl FromStr for Pooler {
    type Err = InvalidPooler;

    fn from_str(text: &str) -> Result<Pooler, InvalidPooler> {
        match text {
            "session" => Ok(Pooler::Session),
            "transaction" => Ok(Pooler::Transaction),
            _ => Err(InvalidPooler),
        }
    }
}

/// A number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections(usize);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a node has 1 to {CONNECTIONS_MAX} connections to the database")]
pub(crate) struct InvalidConnections;

impl FromStr for Connections {
    type Err = InvalidConnections;

    fn from_str(text: &str) -> Result<Connections, InvalidConnections> {
        let number = text.parse().ok().filter(|number| (1..=CONNECTIONS_MAX).contains(number));
        number.map(Connections).ok_or(InvalidConnections)
    }
}
