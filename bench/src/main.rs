//! Measurements of Onefold, each beside the floor of the same disk in the same run.
//! `cargo run --release -p onefold-bench -- --help`

mod deliveries;
mod engine;
mod floor;
mod http;
mod postgres;
mod process;
mod schedules;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    about = "Measures Onefold beside the floor of this disk: what one append and one fdatasync a batch would do"
)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Whole lives of jobs through the embedded engine: keyed add, lease, complete, by producers and workers side by side.
    Engine(engine::Args),
    /// Adds over HTTP, beside a bare handler.
    Http(http::Args),
    /// On PostgreSQL, in turn with pg-boss and graphile-worker.
    Postgres(postgres::Args),
    /// On PostgreSQL, a million waiting jobs beside a transaction that is held open.
    Xmin(postgres::xmin::Args),
    /// What idle schedules cost, and how soon jobs that fall due at once are all leased.
    Schedules(schedules::Args),
    #[command(hide = true)]
    PostgresNode { plan: String },
    /// Deliveries to URLs, beside a bare client, with a million pending, and beside a target that hangs.
    Deliveries(deliveries::Args),
    #[command(hide = true)]
    BareReceiver,
    #[command(hide = true)]
    BareServer,
    /// Only the floor.
    Floor(floor::Args),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Args::parse().what {
        What::Engine(args) => engine::run(&args),
        What::Http(args) => http::run(&args).map_err(|error| error as Box<dyn std::error::Error>),
        What::Postgres(args) => postgres::run(&args).map_err(|error| error as Box<dyn std::error::Error>),
        What::Xmin(args) => postgres::xmin::run(&args).map_err(|error| error as Box<dyn std::error::Error>),
        What::Schedules(args) => schedules::run(&args).map_err(|error| error as Box<dyn std::error::Error>),
        What::PostgresNode { plan } => {
            postgres::run_node(&plan).map_err(|error| error as Box<dyn std::error::Error>)
        }
        What::Deliveries(args) => deliveries::run(&args).map_err(|error| error as Box<dyn std::error::Error>),
        What::BareReceiver => {
            deliveries::bare_receiver().map_err(|error| error as Box<dyn std::error::Error>)
        }
        What::BareServer => http::bare_server().map_err(|error| error as Box<dyn std::error::Error>),
        What::Floor(args) => {
            floor::run(&args)?;
            Ok(())
        }
    }
}
