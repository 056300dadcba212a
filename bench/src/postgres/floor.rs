//! The floor: one table, a bare row a job, nothing else.

use std::time::Instant;

use futures_util::future::try_join_all;
use tokio_postgres::Client;

use super::Failure;
use super::server::Server;

/// Rows a second.
pub(super) struct Floors {
    pub(super) single: f64,
    pub(super) array: f64,
}

pub(super) async fn measure(server: &Server, seconds: f64) -> Result<Floors, Failure> {
    server.database("floor").await?;
    let client = server.client("floor").await?;
    client
        .batch_execute("CREATE TABLE jobs (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, payload json)")
        .await?;
    let floors = Floors {
        single: insert(server, 64, 1, seconds).await?,
        array: insert(server, 16, 50, seconds).await?,
    };
    drop(client);
    server.drop_database("floor").await?;
    Ok(floors)
}

#[allow(clippy::disallowed_methods, reason = "a measurement")]
async fn insert(server: &Server, connections: usize, rows: usize, seconds: f64) -> Result<f64, Failure> {
    let clients = try_join_all((0..connections).map(|_| server.client("floor"))).await?;
    let text = serde_json::to_string(&serde_json::json!({ "text": "x".repeat(189) }))?;
    let texts = vec![text; rows];
    let started = Instant::now();
    let one = |client: Client| {
        let texts = &texts;
        async move {
            let insert = client
                .prepare("INSERT INTO jobs (payload) SELECT text::json FROM unnest($1::text[]) AS u (text)")
                .await?;
            let mut done = 0;
            while started.elapsed().as_secs_f64() < seconds {
                client.execute(&insert, &[texts]).await?;
                done += rows;
            }
            Ok::<usize, Failure>(done)
        }
    };
    let done: usize = try_join_all(clients.into_iter().map(one)).await?.into_iter().sum();
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
