//! The examples of the guide, run as they stand: a job added with the user's row, completed with the user's row, and
//! refused, row and all, when the lease is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kit::*;
use onefold_core::JobId;
use onefold_engine_postgres::PostgresConfig;
use tokio_postgres::Client;
use tokio_postgres::config::Host;

/// Where the examples stand.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sql")
}

/// A directory of this test's own.
fn room(name: &str) -> PathBuf {
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sql-examples").join(name);
    std::fs::create_dir_all(&room).unwrap();
    room
}

/// Runs a program that has to succeed, or says what is missing.
fn must(command: &mut Command, needs: &str) -> Output {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; this example needs {needs}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}\nthis example needs {needs}");
    output
}

/// A database of its own, since the examples call the schema `onefold`.
async fn shop(name: &str) -> (PostgresConfig, Client) {
    let database = format!("shop_{name}_{}", std::process::id());
    let owner = other(&config()).await;
    owner.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await.unwrap();
    owner.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    let mut config = PostgresConfig { schema: "onefold".to_owned(), ..config() };
    config.server.dbname(&database);
    let client = other(&config).await;
    client
        .batch_execute(
            "CREATE TABLE public.orders (id integer PRIMARY KEY); CREATE TABLE public.shipments (job text)",
        )
        .await
        .unwrap();
    (config, client)
}

/// The database as every client library looks for it.
fn environment(config: &PostgresConfig) -> Vec<(&'static str, String)> {
    let server = &config.server;
    let host = match server.get_hosts().first() {
        Some(Host::Unix(path)) => path.display().to_string(),
        Some(Host::Tcp(name)) => name.clone(),
        None => "localhost".to_owned(),
    };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    let (user, database) =
        (server.get_user().unwrap_or("postgres"), server.get_dbname().unwrap_or("postgres"));
    let password = server.get_password().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default();
    let url = format!("host='{host}' port={port} user='{user}' dbname='{database}' password='{password}'");
    vec![
        ("PGHOST", host),
        ("PGPORT", port.to_string()),
        ("PGUSER", user.to_owned()),
        ("PGDATABASE", database.to_owned()),
        ("PGPASSWORD", password),
        ("DATABASE_URL", url),
    ]
}

/// Places an order, ships it with a lease that is lost, and with the one that is not. `program` is given the words of the
/// guide.
async fn plays(name: &str, program: impl Fn(&[&str]) -> Command) {
    let (config, client) = shop(name).await;
    let node = node(&config).await;
    let run = |words: &[&str]| program(words).envs(environment(&config)).output().unwrap();
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let count = async |table: &str| -> i64 {
        client.query_one(&format!("SELECT count(*) FROM public.{table}"), &[]).await.unwrap().get(0)
    };
    let placed = run(&["place", "17"]);
    let id: JobId = said(&placed).parse().unwrap_or_else(|_| panic!("{name}: {placed:?}"));
    assert_eq!(count("orders").await, 1);
    let leased = lease(&node, "shipping", 1).await.pop().unwrap();
    assert_eq!(leased.job.id, id);
    let payload: serde_json::Value = serde_json::from_slice(leased.spec.payload.bytes()).unwrap();
    assert_eq!(payload, serde_json::json!({"order_id": 17}));
    let id = id.to_string();
    let lost = run(&["ship", &id, &(token_of(&leased) - 1).to_string()]);
    assert!(!lost.status.success(), "{name}: {lost:?}");
    let why = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(why.contains("OF001") || why.contains("lease-lost"), "{name}: {why}");
    assert_eq!(count("shipments").await, 0, "the shipment was rolled back");
    let shipped = run(&["ship", &id, &token_of(&leased).to_string()]);
    assert_eq!(said(&shipped), "completed", "{name}: {shipped:?}");
    assert_eq!(count("shipments").await, 1);
    let again = run(&["place", "17"]);
    assert!(!again.status.success(), "{name}: the order is there already: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql() {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let program = packaged.map(|version| version.path().join("bin/psql")).filter(|path| path.is_file()).max();
    let program = program.unwrap_or_else(|| "psql".into());
    must(Command::new(&program).arg("--version"), "psql: install the package postgresql-client");
    plays("psql", |words| {
        let mut command = Command::new(&program);
        command.arg("-XqAt");
        match words {
            ["place", order] => command.args(["-v", &format!("order={order}")]),
            ["ship", job, token] => {
                command.args(["-v", &format!("job={job}"), "-v", &format!("token={token}")])
            }
            _ => panic!("{words:?}"),
        };
        command.arg("-f").arg(sources().join("orders.sql"));
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_pg() {
    let room = room("node");
    for file in ["package.json", "orders.mjs"] {
        std::fs::copy(sources().join("node").join(file), room.join(file)).unwrap();
    }
    let install = ["install", "--no-audit", "--no-fund", "--no-package-lock"];
    must(Command::new("npm").args(install).current_dir(&room), "node 18, npm and the package `pg`");
    plays("node", |words| {
        let mut command = Command::new("node");
        command.arg(room.join("orders.mjs")).args(words);
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_with_psycopg() {
    let room = room("python");
    let needs = "python3 with venv (Debian: python3-venv) and the package `psycopg[binary]`";
    must(Command::new("python3").args(["-m", "venv", "."]).current_dir(&room), needs);
    let python = room.join("bin/python");
    must(Command::new(&python).args(["-m", "pip", "install", "-q", "psycopg[binary]"]), needs);
    plays("python", |words| {
        let mut command = Command::new(&python);
        command.arg(sources().join("python/orders.py")).args(words);
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_with_tokio_postgres_and_sqlx() {
    let room = room("rust");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--examples", "--manifest-path"]).arg(sources().join("rust/Cargo.toml"));
    must(build.env("CARGO_TARGET_DIR", &room), "cargo and the crates sqlx and tokio-postgres");
    for example in ["orders_tokio_postgres", "orders_sqlx"] {
        plays(example, |words| {
            let mut command = Command::new(room.join("debug/examples").join(example));
            command.args(words);
            command
        })
        .await;
    }
}
