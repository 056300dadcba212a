//! A step that happens once: the first attempt charges and then fails, the second is given the receipt.
//!
//! `cargo run -p onefold --example effects`

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onefold::{Context, EffectError, HandlerError, Job, Onefold, Worker};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    amount: u32,
}

/// Stands for an API elsewhere, which remembers idempotency keys.
async fn charge(charges: &AtomicU32, amount: u32, key: &str) -> Result<String, EffectError> {
    let number = charges.fetch_add(1, Ordering::SeqCst) + 1;
    Ok(format!("receipt {number} for {amount}, key {key}"))
}

async fn handler(charges: Arc<AtomicU32>, job: Job<Order>, ctx: Context) -> Result<String, HandlerError> {
    let key = ctx.idempotency_key("charge");
    let receipt: String =
        ctx.once("charge").run(|| async { charge(&charges, job.payload.amount, &key).await }).await?;
    if ctx.attempt() == 1 {
        return Err(HandlerError::retry_in(Duration::from_millis(10), "something else went wrong"));
    }
    Ok(receipt)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let onefold = Onefold::in_memory();
    let id = onefold.queue::<Order>("orders").add(Order { amount: 995 }).await?.id;
    let charges = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&charges);
    let worker = Worker::new(&onefold)
        .queue("orders")
        .handle(move |job: Job<Order>, ctx| handler(Arc::clone(&seen), job, ctx));
    let running = tokio::spawn(worker.run());
    let receipt: Option<String> = onefold.result(id, Duration::from_secs(30)).await?;
    running.abort();
    println!("{}", receipt.unwrap_or_default());
    println!("charged {} time", charges.load(Ordering::SeqCst));
    Ok(())
}
