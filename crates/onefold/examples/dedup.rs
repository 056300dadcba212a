//! One job per key: repeats, mistakes, debouncing.

use std::time::Duration;

use onefold::{Dedup, Error, Onefold, Refusal};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Invoice {
    order: u32,
    cents: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let onefold = Onefold::in_memory();
    let invoices = onefold.queue::<Invoice>("invoices");

    // A producer that does not know whether its first call arrived simply repeats it.
    let first = invoices.add_unique("order-7", Invoice { order: 7, cents: 500 }).await?;
    let again = invoices.add_unique("order-7", Invoice { order: 7, cents: 500 }).await?;
    println!("{} and again {}, duplicate: {}", first.id, again.id, again.duplicate);
    assert!(!first.duplicate && again.duplicate);
    assert_eq!(first.id, again.id);

    // The same key for something else is a mistake, and is told as one.
    let reused = invoices.add_unique("order-7", Invoice { order: 7, cents: 999 }).await;
    assert_eq!(reused, Err(Error::Refused(Refusal::KeyReused { existing: first.id })));
    if let Err(error) = reused {
        println!("{}: {error}", error.code());
    }

    // Racing producers get one job between them.
    let racing = (0..100).map(|_| {
        let invoices = invoices.clone();
        tokio::spawn(async move { invoices.add_unique("order-8", Invoice { order: 8, cents: 1 }).await })
    });
    let mut ids = Vec::new();
    for add in racing.collect::<Vec<_>>() {
        ids.push(add.await??.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);

    // Debounce: each change replaces the job that waits, which still runs within a minute.
    let index = onefold.queue::<String>("reindex");
    let debounce = || Dedup::new().replace().max_delay(Duration::from_secs(60));
    let mut last = None;
    for text in ["draft", "better", "final"] {
        let delay = Duration::from_secs(10);
        last = Some(index.add(text.to_owned()).key("page-1").dedup(debounce()).delay(delay).await?);
    }
    let job = onefold.get(last.ok_or("nothing was added")?.id).await?.ok_or("the job is gone")?;
    println!("one job of three: {}", String::from_utf8_lossy(job.payload.bytes()));
    assert_eq!(job.payload.bytes(), b"\"final\"");
    assert_eq!(job.duplicates, 2);
    Ok(())
}
