//! Where the jobs are kept, and how their handler goes about it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use onefold::{Embedded, Onefold, Postgres};

/// A store, as a worker is told of it on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// A directory, to be opened by the worker itself.
    Embedded(PathBuf),
    /// A database.
    Postgres(String),
    /// A server on a directory.
    Server(SocketAddr, PathBuf),
}

impl Store {
    /// Reads the words of [`Store::words`].
    pub fn parse(kind: &str, place: &str) -> Option<Store> {
        match kind {
            "embedded" => Some(Store::Embedded(place.into())),
            "postgres" => Some(Store::Postgres(place.to_owned())),
            "server" => Some(Store::Server(place.parse().ok()?, PathBuf::new())),
            _ => None,
        }
    }

    /// What a worker is told.
    pub fn words(&self) -> [String; 2] {
        match self {
            Store::Embedded(path) => ["embedded".to_owned(), path.display().to_string()],
            Store::Postgres(address) => ["postgres".to_owned(), address.clone()],
            Store::Server(address, _) => ["server".to_owned(), address.to_string()],
        }
    }

    /// How many processes may work at once.
    pub fn workers(&self) -> usize {
        match self {
            Store::Embedded(_) => 1,
            Store::Postgres(_) | Store::Server(..) => 2,
        }
    }

    /// How long leases are: as short as it allows, so that they are soon lost.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(match self {
            Store::Embedded(_) => 400,
            Store::Postgres(_) | Store::Server(..) => 1_000,
        })
    }

    /// Opens it with an engine at hand, for whoever has it alone: the director, between rounds.
    pub async fn engine(&self) -> Onefold {
        match self {
            Store::Embedded(path) | Store::Server(_, path) => Onefold::open(path).await.unwrap(),
            Store::Postgres(address) => Onefold::postgres(address).await.unwrap(),
        }
    }
}

/// A store as a worker has it open.
#[derive(Clone)]
pub(crate) enum Open {
    /// See [`Store`].
    Embedded(Embedded),
    /// See [`Store`].
    Postgres(Postgres, std::sync::Arc<tokio::sync::Mutex<tokio_postgres::Client>>),
    /// See [`Store`].
    Server(Onefold),
}

impl Open {
    /// Opens one.
    pub(crate) async fn open(store: &Store) -> Open {
        match store {
            Store::Embedded(path) => Open::Embedded(Embedded::open(path).await.unwrap()),
            Store::Postgres(address) => {
                let config = onefold::PostgresConfig::parse(address).unwrap();
                let (client, connection) =
                    tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let client = std::sync::Arc::new(tokio::sync::Mutex::new(client));
                Open::Postgres(Postgres::open(config).await.unwrap(), client)
            }
            Store::Server(address, _) => {
                Open::Server(Onefold::connect(&format!("http://{address}"), None).unwrap())
            }
        }
    }

    /// What all have in common.
    pub(crate) fn onefold(&self) -> &Onefold {
        match self {
            Open::Embedded(store) => store,
            Open::Postgres(store, _) => store,
            Open::Server(store) => store,
        }
    }
}

/// How a handler sees to it that its effects happen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As Onefold offers: `ctx.once`, `commit_with`, `once_in`.
    Once,
    /// Not at all.
    Plain,
    /// A marker, set before the work: whoever finds it skips the work.
    MarkerFirst,
    /// A marker, set after the work: whoever finds none does it.
    MarkerAfter,
}

impl Way {
    /// All of them, with their words.
    pub const ALL: [(Way, &'static str); 4] = [
        (Way::Once, "once"),
        (Way::Plain, "plain"),
        (Way::MarkerFirst, "marker-first"),
        (Way::MarkerAfter, "marker-after"),
    ];

    /// By its word.
    pub fn parse(word: &str) -> Option<Way> {
        Way::ALL.into_iter().find(|(_, name)| *name == word).map(|(way, _)| way)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        Way::ALL.into_iter().find(|(way, _)| *way == self).map_or("", |(_, word)| word)
    }
}
