//! Where the demo keeps its orders: a directory that is thrown away, or a schema that is.

use std::path::{Path, PathBuf};

use onefold_engine_postgres::{PostgresConfig, drop_schema};

use super::crew::{Crew, Member};
use crate::config::PostgresUrl;
use crate::failure::Failure;
use crate::output::note;

/// Nodes that serve one database.
const NODES: usize = 2;

/// The store of the demo.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    Directory(PathBuf),
    Postgres { url: PostgresUrl, config: Box<PostgresConfig> },
}

impl Stage {
    pub(super) fn new(dir: &Path, postgres: Option<&PostgresUrl>, seed: u64) -> Result<Stage, Failure> {
        let Some(url) = postgres else { return Ok(Stage::Directory(dir.join("data"))) };
        let parsed = PostgresConfig::parse(url.reveal());
        let mut config = parsed.map_err(|error| Failure::usage(format!("--postgres: {error}")))?;
        config.schema = format!("onefold_demo_{}_{seed}", std::process::id());
        Ok(Stage::Postgres { url: url.clone(), config: Box::new(config) })
    }

    /// Servers there can be.
    pub(super) fn nodes(&self) -> usize {
        match self {
            Stage::Directory(_) => 1,
            Stage::Postgres { .. } => NODES,
        }
    }

    /// The database, if it is in one.
    pub(super) fn database(&self) -> Option<String> {
        match self {
            Stage::Directory(_) => None,
            Stage::Postgres { config, .. } => Some(config.place()),
        }
    }

    /// Starts a server on it, and waits until it serves.
    pub(super) async fn start_server(&self, crew: &Crew, listen: &str) -> Result<(Member, String), Failure> {
        let server = ["server", "--listen", listen, "--log", "warn"];
        match self {
            Stage::Directory(data) => {
                let data = data.to_string_lossy();
                crew.start_serving(&[&server[..], &["--data", &data]].concat(), &[]).await
            }
            Stage::Postgres { url, config } => {
                let variables =
                    [("ONEFOLD_POSTGRES", url.reveal()), ("ONEFOLD_POSTGRES_SCHEMA", &config.schema)];
                crew.start_serving(&server, &variables).await
            }
        }
    }

    /// Takes away what does not go with the directory, once nobody serves it any more.
    pub(super) async fn strike(self) {
        let Stage::Postgres { config, .. } = self else { return };
        if let Err(error) = drop_schema(&config).await {
            note(&format!("the schema {} could not be dropped, do it yourself: {error}", config.schema));
        }
    }

    /// Says where it is left.
    pub(super) fn tell_kept(&self, dir: &Path) {
        let logs = dir.display();
        match self {
            Stage::Directory(_) => {
                note(&format!("the server's data and what its processes logged are in {logs}"));
            }
            Stage::Postgres { config, .. } => note(&format!(
                "the servers' data is in the schema {} of {}; what their processes logged is in {logs}",
                config.schema,
                config.place()
            )),
        }
    }
}
