//! `onefold migrate`: the schema of a store in PostgreSQL, made or brought forward.

use clap::Args;
use onefold_engine_postgres::{Migrating, SCHEMA_VERSION, migrate_told};
use serde::Serialize;

use crate::config::{Config, PostgresArgs};
use crate::failure::Failure;
use crate::output::{Output, note};

/// `onefold migrate`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    postgres: PostgresArgs,
}

#[derive(Serialize)]
struct MigratedJson<'a> {
    postgres: &'a str,
    schema: &'a str,
    from: i32,
    to: i32,
}

pub(crate) async fn migrate(args: MigrateArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let Some(settings) = config.postgres(args.postgres, None).map_err(Failure::usage)? else {
        return Err(Failure::usage(
            "which database? name it with --postgres or ONEFOLD_POSTGRES; a store in a directory is brought forward by \
             the server that opens it",
        ));
    };
    let (place, schema) = (settings.config.place(), &settings.config.schema);
    let migrated = migrate_told(&settings.config, |step| match step {
        Migrating::Waits => note("another program is migrating this schema: waiting for it"),
        Migrating::Applies(version) => note(&format!("applying version {version} of {SCHEMA_VERSION}")),
    });
    let migrated = migrated.await.map_err(Failure::failed)?;
    let (from, to) = (migrated.from, migrated.to);
    if output.json {
        return output.json(&MigratedJson { postgres: &place, schema, from, to });
    }
    output.line(match from {
        0 => format!("schema {schema} in {place} was made, version {to}"),
        from if from == to => {
            format!("schema {schema} in {place} is of version {to}: there is nothing to do")
        }
        from => format!("schema {schema} in {place} was brought from version {from} to {to}"),
    })
}
