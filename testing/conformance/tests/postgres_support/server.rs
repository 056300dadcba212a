//! A PostgreSQL for tests: the one of `DATABASE_URL`, or one of our own that lives as long as the process of the tests.

#![allow(dead_code, reason = "each file of tests uses its part")]

use std::sync::LazyLock;

use onefold_test_postgres::{DATABASE, Server, THROW_AWAY, USER};
use tokio_postgres::Config;

enum Database {
    Given(Config),
    Ours(Server),
}

static ONE: LazyLock<Database> = LazyLock::new(|| match std::env::var("DATABASE_URL") {
    Ok(url) => Database::Given(url.parse().expect("DATABASE_URL is the URL of a PostgreSQL database")),
    Err(_) => Database::Ours(Server::start(THROW_AWAY)),
});

/// How to reach it.
pub(super) fn config() -> Config {
    match &*ONE {
        Database::Given(config) => config.clone(),
        Database::Ours(server) => {
            let mut config = Config::new();
            config.host_path(server.directory()).user(USER).dbname(DATABASE);
            config
        }
    }
}

/// Whether it goes away with us.
pub(super) fn is_ours() -> bool {
    matches!(&*ONE, Database::Ours(_))
}

/// Where the socket of a server of our own is.
pub(super) fn directory() -> Option<std::path::PathBuf> {
    match &*ONE {
        Database::Given(_) => None,
        Database::Ours(server) => Some(server.directory().to_owned()),
    }
}

/// How another process of a test reaches it.
pub(super) fn config_in(directory: &std::path::Path) -> Config {
    let mut config = Config::new();
    config.host_path(directory).user(USER).dbname(DATABASE);
    config
}
