//! A producer: sends every order once, and again until there is an answer.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use onefold_core::{Clock, JobId, Timestamp};
use onefold_runtime::SystemClock;
use onefold_wire::{AddOutcome, Added, AddedMany, ErrorCode, NewJob};
use tokio::task::JoinSet;
use tokio::time::interval;

use super::orders::{Order, QUEUE, shuffled};
use super::report::{self, Report};
use super::server_at;
use crate::client::{Answer, CallError, Client};
use crate::config::ServerUrl;
use crate::failure::Failure;

/// How fast orders come, at the most.
const PER_ORDER: Duration = Duration::from_micros(1_200);
/// How many at once the producer has under way that sends one by one.
const LANES: usize = 4;
/// How many the other sends in one array.
const ARRAY: usize = 25;
/// Before a call is made again.
pub(super) const AGAIN: Duration = Duration::from_millis(20);

/// One of the two producers.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProducerArgs {
    #[arg(long)]
    server: ServerUrl,
    #[arg(long)]
    orders: u32,
    #[arg(long)]
    seed: u64,
    /// Sends arrays
    #[arg(long)]
    arrays: bool,
}

pub(super) async fn run(args: ProducerArgs) -> Result<(), Failure> {
    let client = server_at(args.server.clone())?;
    let orders = shuffled(args.orders, args.seed);
    let (lanes, chunk) = if args.arrays { (1, ARRAY) } else { (LANES, 1) };
    let mut pace = JoinSet::new();
    let orders = Arc::new(orders);
    for lane in 0..lanes {
        let (client, orders, total) = (client.clone(), Arc::clone(&orders), args.orders);
        pace.spawn(async move {
            let count = u32::try_from(lanes * chunk).unwrap_or(1);
            let mut beat = interval(PER_ORDER * count);
            for chunk in orders.chunks(chunk).skip(lane).step_by(lanes) {
                beat.tick().await;
                match chunk {
                    [order] => send_one(&client, *order, total).await?,
                    _ => send_array(&client, chunk, total).await?,
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(lane) = pace.join_next().await {
        lane.map_err(Failure::failed)??;
    }
    Report::Sent.tell()
}

async fn send_one(client: &Client, number: u32, total: u32) -> Result<(), Failure> {
    let order = Order::number(number);
    let payload = order.payload()?;
    let sent = SystemClock::new().now();
    let (answer, again) = post_until_answered(client, &path(), &order.job(&payload, total)).await?;
    note(number, &answer.read::<Added<'_>>()?, again, sent)
}

async fn send_array(client: &Client, numbers: &[u32], total: u32) -> Result<(), Failure> {
    let orders: Vec<Order> = numbers.iter().map(|number| Order::number(*number)).collect();
    let payloads = orders.iter().map(Order::payload).collect::<Result<Vec<_>, _>>()?;
    let jobs: Vec<NewJob<'_>> =
        orders.iter().zip(&payloads).map(|(order, payload)| order.job(payload, total)).collect();
    let sent = SystemClock::new().now();
    let (answer, again) = post_until_settled(client, &path(), &jobs, |answer| {
        let added: AddedMany<'_> = answer.read()?;
        let waits = |outcome: &AddOutcome<'_>| matches!(outcome, AddOutcome::Refused { error } if error.code == ErrorCode::KeyInProgress.as_str());
        Ok(!added.jobs.iter().any(waits))
    })
    .await?;
    let added: AddedMany<'_> = answer.read()?;
    for (number, outcome) in numbers.iter().zip(&added.jobs) {
        match outcome {
            AddOutcome::Added(added) => note(*number, added, again, sent)?,
            AddOutcome::Refused { error } => {
                return Err(Failure::failed(format!("order {number} was refused: {}", error.detail)));
            }
        }
    }
    Ok(())
}

fn path() -> String {
    format!("/v1/queues/{QUEUE}/jobs")
}

fn note(order: u32, added: &Added<'_>, again: bool, sent: Timestamp) -> Result<(), Failure> {
    let id: JobId = added.id.parse().map_err(|_| Failure::failed(format!("{} is not an id", added.id)))?;
    let (duplicate, answered) = (added.duplicate, SystemClock::new().now());
    Report::Added(report::Added { order, id, duplicate, again, sent, answered }).tell()
}

/// Posts until there is an answer: what became of a request whose connection died is not known, and sending it
/// again with the same keys or tokens is safe. Says whether it had to.
pub(super) async fn post_until_answered(
    client: &Client,
    path: &str,
    body: &impl serde::Serialize,
) -> Result<(Answer, bool), Failure> {
    post_until_settled(client, path, body, |_| Ok(true)).await
}

/// The same, until the answer is final for all of it: a server that was killed may leave a transaction behind that holds keys
/// or jobs for another moment.
pub(super) async fn post_until_settled(
    client: &Client,
    path: &str,
    body: &impl serde::Serialize,
    is_final: impl Fn(&Answer) -> Result<bool, Failure>,
) -> Result<(Answer, bool), Failure> {
    let mut again = false;
    loop {
        match client.post(path, body).await {
            Ok(answer) if is_final(&answer)? => return Ok((answer, again)),
            Ok(_) => {
                again = true;
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) if error.may_pass() => {
                again |= matches!(error, CallError::Lost { .. });
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
