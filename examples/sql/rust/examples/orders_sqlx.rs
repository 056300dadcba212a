//! Orders with sqlx: the order and its job in one transaction, then the shipment and the job's completion in one.
//!
//! ```sh
//! cargo run --example orders_sqlx place 17                          # prints the job's id
//! cargo run --example orders_sqlx ship job_01… 1882419200000001     # ships what a worker leased
//! ```
//!
//! The database is that of PGHOST, PGUSER, PGDATABASE and their like.

use std::error::Error;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

async fn place(tx: &mut Transaction<'_, Postgres>, order: i32) -> Result<String, sqlx::Error> {
    sqlx::query("INSERT INTO orders (id) VALUES ($1)").bind(order).execute(&mut **tx).await?;
    sqlx::query_scalar("SELECT onefold.add('shipping', $1::json, $2::jsonb)->>'id'")
        .bind(serde_json::json!({ "order_id": order }).to_string())
        .bind(serde_json::json!({ "key": format!("ship-{order}") }).to_string())
        .fetch_one(&mut **tx)
        .await
}

async fn ship(tx: &mut Transaction<'_, Postgres>, job: &str, token: i64) -> Result<String, sqlx::Error> {
    sqlx::query("INSERT INTO shipments (job) VALUES ($1)").bind(job).execute(&mut **tx).await?;
    sqlx::query_scalar("SELECT onefold.complete($1, $2, '{\"parcels\": 1}')->>'state'")
        .bind(job)
        .bind(token)
        .fetch_one(&mut **tx)
        .await
}

/// Whether transactions were in each other's way: then the whole of it is run again.
fn again(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "40001" || code == "40P01")
}

async fn run(client: &mut PgConnection, words: &[&str]) -> Result<String, Box<dyn Error>> {
    for attempt in 1.. {
        let mut tx = client.begin().await?;
        let done = match words {
            ["place", order] => place(&mut tx, order.parse()?).await,
            ["ship", job, token] => ship(&mut tx, job, token.parse()?).await,
            _ => return Err("place ORDER, or ship JOB TOKEN".into()),
        };
        let done = match done {
            Ok(done) => tx.commit().await.map(|()| done),
            Err(error) => tx.rollback().await.and(Err(error)),
        };
        match done {
            Err(error) if again(&error) && attempt < 5 => {}
            done => return Ok(done?),
        }
    }
    unreachable!("the loop has no other end")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut client = PgConnection::connect_with(&PgConnectOptions::new()).await?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // OF001: the lease is lost, another worker has the job. The shipment was rolled back.
    println!("{}", run(&mut client, &words).await?);
    Ok(())
}
