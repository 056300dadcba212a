//! A durable queue in one file: add a job, run it, read its result.
//!
//! `cargo run -p onefold --example quickstart` keeps its jobs in `./onefold-data`; run it again
//! and the queue is still there.

use std::time::Duration;

use onefold::{Job, Onefold, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Greeting {
    name: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let onefold = Onefold::open("onefold-data").await?;

    // Once this returns, the job is on disk.
    let greetings = onefold.queue::<Greeting>("greetings");
    let added = greetings.add(Greeting { name: "Ada".to_owned() }).await?;
    println!("added {}", added.id);

    // A worker runs until it is told to stop: here, once the result is there.
    let worker = Worker::new(&onefold)
        .queue("greetings")
        .handle(|job: Job<Greeting>, _ctx| async move { Ok(format!("Hello, {}!", job.payload.name)) });
    let mut result = None;
    worker
        .run_until(async {
            result = onefold.result::<String>(added.id, Duration::from_secs(30)).await.ok().flatten();
        })
        .await?;

    println!("{result:?}");
    assert_eq!(result.as_deref(), Some("Hello, Ada!"));
    onefold.close().await?;
    Ok(())
}
