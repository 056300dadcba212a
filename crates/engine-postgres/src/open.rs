//! How to open a store.

use std::sync::Arc;
use std::time::Duration;

use onefold_core::{Clock, DurationMs, Entropy};
use thiserror::Error;

use crate::{Listener, Tls, address};

/// Where the store is.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// The server and the database: `host=a,b target_session_attrs=read-write` works, and so does a URL.
    pub server: tokio_postgres::Config,
    /// How TLS is spoken, if it is.
    pub tls: Tls,
    /// The schema, by any name. It is ours alone.
    pub schema: String,
    /// There is a pooler between us and the server that gives each transaction another connection (PgBouncer in
    /// transaction mode): nothing is kept in sessions, at some cost.
    pub transaction_pooler: bool,
    /// Where nodes tell each other what became leasable. Without it, that is the server itself, or, behind a transaction
    /// pooler, nowhere: then a job of another node is handed out to parked calls within `look_around`.
    pub listen: Option<Listener>,
    /// Connections at the most.
    pub connections: usize,
    /// How long a connection may take to come about.
    pub connect_within: Duration,
    /// How long an operation waits for a connection of the pool before it is refused as busy.
    pub lend_within: Duration,
    /// How long an operation waits for a row that somebody's open transaction holds before it is refused as busy.
    pub lock_wait: Duration,
}

impl PostgresConfig {
    /// The defaults with this server. Over TLS any certificate is taken; [`PostgresConfig::parse`] knows more.
    pub fn new(server: tokio_postgres::Config) -> PostgresConfig {
        let tls = Tls::anybody(&server);
        PostgresConfig {
            server,
            tls,
            schema: "onefold".to_owned(),
            transaction_pooler: false,
            listen: None,
            connections: 16,
            connect_within: Duration::from_secs(5),
            lend_within: Duration::from_secs(10),
            lock_wait: Duration::from_secs(2),
        }
    }

    /// The defaults with the server of a URL or of `key=value` words, as libpq reads them. `sslmode` is `disable`,
    /// `prefer` (the default), `require`, `verify-ca` or `verify-full`; `sslrootcert` is a file of certificates, or
    /// `system`.
    ///
    /// # Errors
    /// [`OpenError::Config`] if it is neither, [`OpenError::Tls`] if the file is of no use.
    pub fn parse(text: &str) -> Result<PostgresConfig, OpenError> {
        let (server, tls) = address::parse(text)?;
        Ok(PostgresConfig { tls, ..PostgresConfig::new(server) })
    }
}

impl PostgresConfig {
    /// Where the store is, without whose it is: `host:port/database`, as many hosts as there are.
    pub fn place(&self) -> String {
        use tokio_postgres::config::Host;
        let ports = self.server.get_ports();
        let port = |nth: usize| ports.get(nth).or(ports.first()).copied().unwrap_or(5432);
        let named = self.server.get_hosts().iter().enumerate().map(|(nth, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(nth)),
            Host::Unix(path) => format!("{}:{}", path.display(), port(nth)),
        });
        let bare = self.server.get_hostaddrs().iter().enumerate();
        let bare = bare.map(|(nth, address)| std::net::SocketAddr::new(*address, port(nth)).to_string());
        let hosts: Vec<String> = match self.server.get_hosts() {
            [] => bare.collect(),
            _ => named.collect(),
        };
        let database = self.server.get_dbname().or(self.server.get_user()).unwrap_or_default();
        format!("{}/{database}", hosts.join(","))
    }
}

/// Whose time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// The database's, which all nodes share.
    Database,
    /// The clock's of [`Options`]: for tests.
    Clock,
}

/// How to open it.
#[derive(Clone)]
pub struct Options {
    /// For waits and steps of the clock, by its monotonic side; for everything under [`Time::Clock`].
    pub clock: Arc<dyn Clock>,
    /// Where jitter comes from.
    pub entropy: Arc<dyn Entropy>,
    /// Whose time counts.
    pub time: Time,
    /// How often this node looks for what others did: the longest a lost hint can cost.
    pub look_around: Duration,
    /// After so long without a node that ticks, live leases get their full length again.
    pub serve_gap: Duration,
    /// How much later than due finished jobs, and keys nobody holds, may be deleted.
    pub retention_slack: DurationMs,
}

impl Options {
    /// The defaults with these clocks and this randomness.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Options {
        let (look_around, serve_gap) = (Duration::from_secs(1), Duration::from_secs(5));
        let retention_slack = DurationMs::from_ms(10_000);
        Options { clock, entropy, time: Time::Database, look_around, serve_gap, retention_slack }
    }
}

/// Why a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Not a URL, and no `key=value` words either.
    #[error("not a PostgreSQL address: {0}; write postgres://user@host/database or host=... dbname=...")]
    Config(String),
    /// There is no server, or it takes nobody in just now.
    #[error("cannot reach the PostgreSQL server: {0}; check host and port, and whether it is up")]
    Unreachable(String),
    /// TLS did not come about: the server's certificate is not one to trust, or ours cannot be read.
    #[error("no TLS with the PostgreSQL server: {0}; check sslmode and sslrootcert of its address")]
    Tls(String),
    /// Wrong user or password.
    #[error("the PostgreSQL server refused the credentials: {0}; check user and password, and pg_hba.conf")]
    Credentials(String),
    /// No such database.
    #[error("there is no such database: {0}; create it first")]
    NoDatabase(String),
    /// The role may not do what is needed.
    #[error(
        "the role may not do this: {0}; run `onefold migrate` as the owner and grant the role the schema's tables, sequences and functions"
    )]
    Privileges(String),
    /// A standby, or a server that takes no writes.
    #[error("the database is read-only: {0}; connect to the primary, with target_session_attrs=read-write")]
    ReadOnly(String),
    /// Older than we support.
    #[error("PostgreSQL {major} is too old; 14 or newer is needed")]
    TooOld {
        /// Its major version.
        major: i32,
    },
    /// Texts could not be stored as they are.
    #[error(
        "the database is encoded in {0}; use one in UTF8 (CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0)"
    )]
    Encoding(String),
    /// There is something in the schema, and it is not ours.
    #[error("the schema {schema} holds tables that are not Onefold's; choose another with --postgres-schema")]
    Foreign {
        /// Its name.
        schema: String,
    },
    /// There is a part of a store.
    #[error(
        "the schema {schema} is not as any version left it: {why}; restore the database, or drop the schema if nothing in it is wanted"
    )]
    Torn {
        /// Its name.
        schema: String,
        /// The server's words.
        why: String,
    },
    /// An older schema: it is not changed without being asked.
    #[error("the schema is of version {found}, this program needs {needed}; run `onefold migrate`")]
    Older {
        /// What is there.
        found: i32,
        /// What is needed.
        needed: i32,
    },
    /// A newer schema.
    #[error(
        "the schema is of version {found}, newer than the {known} this program knows; run a newer onefold"
    )]
    Newer {
        /// What is there.
        found: i32,
        /// What this program knows.
        known: i32,
    },
    /// Called outside a tokio runtime.
    #[error("opening a PostgreSQL store needs a tokio runtime with I/O and time enabled")]
    NoRuntime,
    /// Anything else the server said.
    #[error("the PostgreSQL store cannot be opened: {0}")]
    Failed(String),
}

impl OpenError {
    /// Whether the same may go well a little later: the server is not up yet, or is still a standby.
    pub fn may_pass(&self) -> bool {
        matches!(self, OpenError::Unreachable(_) | OpenError::ReadOnly(_))
    }
}
