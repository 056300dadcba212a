//! What a handler can say and do: fail and be tried again, leave a checkpoint, hand on an
//! idempotency key, fail for good.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onefold::{Backoff, DurationMs, HandlerError, Job, NewJob, Onefold, State, Worker};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    id: u32,
    cents: u32,
}

/// A payment service that remembers idempotency keys, and sometimes does not answer although it
/// has charged.
#[derive(Default)]
struct Payments {
    charged: BTreeSet<String>,
    calls: u32,
}

impl Payments {
    fn charge(&mut self, key: String, _cents: u32) -> Result<(), String> {
        self.calls += 1;
        self.charged.insert(key);
        if self.calls.is_multiple_of(3) { Err("the connection was reset".to_owned()) } else { Ok(()) }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let onefold = Onefold::in_memory();
    let orders = onefold.queue::<Order>("orders");
    let no_wait = Backoff::Fixed(DurationMs::from_ms(1));
    let order = |id, cents| NewJob::new(Order { id, cents }).backoff(no_wait.clone());
    let paid = orders.add_many((1..=20).map(|id| order(id, 500))).await?;
    let free = orders.add(Order { id: 21, cents: 0 }).await?;

    let payments = Arc::new(Mutex::new(Payments::default()));
    let service = Arc::clone(&payments);
    let worker = Worker::new(&onefold).queue("orders").concurrency(4).handle(move |job: Job<Order>, ctx| {
        let service = Arc::clone(&service);
        async move {
            let Order { id, cents } = job.payload;
            if cents == 0 {
                return Err(HandlerError::permanent(format!("order {id} costs nothing")).kind("free"));
            }
            ctx.progress_with(50, "charging")?;
            // The same key in every attempt: however often this runs, the customer pays once.
            let charged =
                service.lock().map_err(|_| "poisoned")?.charge(ctx.idempotency_key("charge"), cents);
            // `?` makes any error a failure that is tried again.
            charged?;
            Ok(id)
        }
    });

    let report = worker
        .run_until(async {
            for job in paid.iter().flatten().chain([&free]) {
                // The free order has no result, but is waited for all the same.
                let _ = onefold.result::<u32>(job.id, Duration::from_secs(30)).await;
            }
        })
        .await?;
    println!("{report:?}");

    let (calls, charged) = {
        let payments = payments.lock().map_err(|_| "poisoned")?;
        (payments.calls, payments.charged.len())
    };
    println!("{calls} calls charged {charged} customers");
    assert!(calls > 20, "some calls failed after they had charged");
    assert_eq!(charged, 20, "and yet everybody paid once");
    assert_eq!(report.failed, u64::from(calls) - 20 + 1);

    let dead = onefold.get(free.id).await?.ok_or("the job is gone")?;
    assert_eq!(dead.state, State::Dead);
    assert_eq!(dead.error.and_then(|error| error.kind).as_deref(), Some("free"));
    Ok(())
}
