//! A worker of the runs: `onefold-effects-worker KIND PLACE LEDGER WAY`.

use onefold_effects::{Store, Way, worker};

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), &'static str> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, place, ledger, way] = words.as_slice() else { return Err("KIND PLACE LEDGER WAY") };
    let store = Store::parse(kind, place).ok_or("no such store")?;
    let ledger = ledger.parse().map_err(|_| "no such address")?;
    worker::work(&store, ledger, Way::parse(way).ok_or("no such way")?).await;
    Ok(())
}
