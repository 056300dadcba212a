//! Stopping a worker: running handlers finish, waiting jobs are given back, nothing is lost and
//! nothing costs an attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use onefold::{HandlerError, Job, Onefold, State, Worker};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let onefold = Onefold::in_memory();
    let pages = onefold.queue::<u32>("pages");
    // Four jobs that finish soon after they are told of the shutdown, one that would take for ever.
    let mut ids = Vec::new();
    for pages_to_print in [1, 2, 3, 4, u32::MAX, 6, 7, 8, 9, 10] {
        ids.push(pages.add(pages_to_print).await?.id);
    }

    let started = Arc::new(AtomicUsize::new(0));
    let handlers = Arc::clone(&started);
    let worker = Worker::new(&onefold)
        .queue("pages")
        .concurrency(5)
        .prefetch(10)
        .grace(Duration::from_secs(2))
        .handle(move |job: Job<u32>, ctx| {
            let handlers = Arc::clone(&handlers);
            async move {
                handlers.fetch_add(1, Ordering::SeqCst);
                ctx.shutting_down().await;
                if job.payload == u32::MAX {
                    // Leaves word for whoever goes on, and gives the job back.
                    ctx.checkpoint(&"page 17").await?;
                    return Err(HandlerError::release());
                }
                Ok(job.payload)
            }
        });

    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run_until(async {
        let _ = stopped.await;
    }));
    // A real program waits for a signal here; this one until the worker has all it can hold and do.
    while started.load(Ordering::SeqCst) < 5
        || pages.info().await?.is_none_or(|queue| queue.counts.running < 10)
    {
        tokio::task::yield_now().await;
    }
    let _ = stop.send(());
    let report = running.await??;

    println!("{report:?}");
    // Whoever ran has finished, everybody else was given back: nobody was lost or charged for it.
    assert_eq!((report.leased, report.completed + report.released, report.lost), (10, 10, 0));
    assert!(report.completed >= 4 && report.released >= 1);
    for (place, id) in ids.into_iter().enumerate() {
        let job = onefold.get(id).await?.ok_or("the job is gone")?;
        let left = matches!(job.state, State::Completed | State::Available);
        assert!(left && (place != 4 || job.state == State::Available), "{id} is {}", job.state);
        assert_eq!((job.failures, job.lost_leases), (0, 0), "{id}");
    }
    Ok(())
}
