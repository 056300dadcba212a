//! Orders with tokio-postgres: the order and its job in one transaction, then the shipment and the job's completion in one.
//!
//! ```sh
//! export DATABASE_URL='host=localhost user=app dbname=shop'
//! cargo run --example orders_tokio_postgres place 17                          # prints the job's id
//! cargo run --example orders_tokio_postgres ship job_01… 1882419200000001     # ships what a worker leased
//! ```

use std::error::Error;

use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, Transaction};

async fn place(tx: &Transaction<'_>, order: i32) -> Result<String, tokio_postgres::Error> {
    tx.execute("INSERT INTO orders (id) VALUES ($1)", &[&order]).await?;
    let (payload, opts) = (json!({ "order_id": order }), json!({ "key": format!("ship-{order}") }));
    let row = tx.query_one("SELECT onefold.add('shipping', $1, $2)", &[&payload, &opts]).await?;
    Ok(row.get::<_, Value>(0)["id"].as_str().unwrap_or_default().to_owned())
}

async fn ship(tx: &Transaction<'_>, job: &str, token: i64) -> Result<String, tokio_postgres::Error> {
    tx.execute("INSERT INTO shipments (job) VALUES ($1)", &[&job]).await?;
    let row = tx
        .query_one("SELECT onefold.complete($1, $2, $3)", &[&job, &token, &json!({ "parcels": 1 })])
        .await?;
    Ok(row.get::<_, Value>(0)["state"].as_str().unwrap_or_default().to_owned())
}

/// Whether transactions were in each other's way: then the whole of it is run again.
fn again(error: &tokio_postgres::Error) -> bool {
    let asks_for_it = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| asks_for_it.contains(code))
}

async fn run(client: &mut Client, words: &[&str]) -> Result<String, Box<dyn Error>> {
    for attempt in 1.. {
        let tx = client.transaction().await?;
        let done = match words {
            ["place", order] => place(&tx, order.parse()?).await,
            ["ship", job, token] => ship(&tx, job, token.parse()?).await,
            _ => return Err("place ORDER, or ship JOB TOKEN".into()),
        };
        let done = match done {
            Ok(done) => tx.commit().await.map(|()| done),
            Err(error) => Err(error),
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
    let (mut client, connection) = tokio_postgres::connect(&std::env::var("DATABASE_URL")?, NoTls).await?;
    tokio::spawn(connection);
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // OF001: the lease is lost, another worker has the job. The shipment was rolled back.
    println!("{}", run(&mut client, &words).await?);
    Ok(())
}
