//! Nodes tell each other in which queues something may have become leasable: `NOTIFY`, on a connection that is only for
//! that.
//!
//! It is never part of a transaction that does something else: PostgreSQL lets only one transaction at a time commit a
//! `NOTIFY`. Nothing here is needed to be right: what is lost is found by the next look around.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use onefold_core::QueueName;
use tokio::sync::Notify;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Notification};

use crate::address;
use crate::connect::{Hosts, NoConnection};
use crate::error::told;
use crate::node::Node;
use crate::sql::for_schema;
use crate::{OpenError, Tls};

const NOTIFY: &str = include_str!("../sql/store/notify.sql");
/// Nobody waits for what is told to be durable.
const SESSION: &str = "SET synchronous_commit = off; SET client_min_messages = warning";
/// What is to be told meanwhile is told together.
const BETWEEN_TELLINGS: Duration = Duration::from_millis(20);
/// Before a connection is tried again.
const BETWEEN_CONNECTIONS: Duration = Duration::from_secs(1);
/// PostgreSQL takes less than 8,000 bytes.
const LONGEST: usize = 7_900;

/// A direct connection for what nodes tell each other, beside a pooler that gives each transaction another one.
#[derive(Debug, Clone)]
pub struct Listener {
    pub(crate) server: tokio_postgres::Config,
    pub(crate) tls: Tls,
}

impl Listener {
    /// One to this server. Over TLS any certificate is taken; [`Listener::parse`] knows more.
    pub fn direct(server: tokio_postgres::Config) -> Listener {
        let tls = Tls::anybody(&server);
        Listener { server, tls }
    }

    /// One to the server of a URL or of `key=value` words.
    ///
    /// # Errors
    /// As for [`PostgresConfig::parse`](crate::PostgresConfig::parse).
    pub fn parse(text: &str) -> Result<Listener, OpenError> {
        let (server, tls) = address::parse(text)?;
        Ok(Listener { server, tls })
    }
}

/// What other nodes have not been told yet.
#[derive(Default)]
pub(crate) struct News {
    queues: Mutex<BTreeSet<QueueName>>,
    there: Notify,
}

impl News {
    /// Something may have become leasable in these.
    pub(crate) fn add(&self, queues: &BTreeSet<QueueName>) {
        if !queues.is_empty() {
            self.queues.lock().unwrap_or_else(PoisonError::into_inner).extend(queues.iter().cloned());
            self.there.notify_one();
        }
    }

    async fn take(&self) -> BTreeSet<QueueName> {
        self.there.notified().await;
        std::mem::take(&mut *self.queues.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells and listens for as long as the node lives.
pub(crate) async fn keep_in_touch(node: Arc<Node>, listener: Listener) {
    let mut fails = false;
    loop {
        let ended = Arc::new(Notify::new());
        match begin(&node, &listener, &ended).await {
            Ok((client, channel)) => {
                fails = false;
                // What was told while nobody listened.
                node.hint_all();
                tokio::select! {
                    () = ended.notified() => {}
                    error = tell(&node, &client, &channel) => {
                        tracing::debug!(error = told(&error), "other nodes could not be told");
                    }
                }
            }
            Err(error) if !std::mem::replace(&mut fails, true) => {
                tracing::warn!(%error, "cannot listen to other nodes: they are heard of within a second until that works");
            }
            Err(_) => {}
        }
        if node.local.open().is_err() {
            return;
        }
        tokio::time::sleep(BETWEEN_CONNECTIONS).await;
    }
}

async fn begin(
    node: &Arc<Node>,
    listener: &Listener,
    ended: &Arc<Notify>,
) -> Result<(Client, String), NoConnection> {
    let (hearing, over) = (Arc::clone(node), Arc::clone(ended));
    let hear = move |heard: Option<Notification>| match heard {
        Some(notification) => hear(&hearing, notification.payload()),
        None => over.notify_one(),
    };
    let (pool, runtime) = (&node.pool.options, &node.runtime);
    let schema = pool.schema.as_str();
    let hosts = Hosts::of(&listener.server, &listener.tls, pool.connect_within);
    let client = hosts.connect(runtime, hear).await?.client;
    client.batch_execute(SESSION).await?;
    let channel = client.query_typed("SELECT 'onefold_' || md5($1)", &[(&schema, Type::TEXT)]).await?;
    let channel: String = channel.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    client.batch_execute(&format!("LISTEN {channel}")).await?;
    Ok((client, channel))
}

/// Returns once it cannot tell any more.
async fn tell(node: &Node, client: &Client, channel: &str) -> tokio_postgres::Error {
    let notify = for_schema(NOTIFY, &node.pool.options.schema);
    loop {
        let payload = said(&node.name, &node.local.news.take().await);
        let name = &node.name;
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&channel, Type::TEXT), (&payload, Type::TEXT), (name, Type::TEXT)];
        if let Err(error) = client.query_typed(&notify, &parameters).await {
            return error;
        }
        tokio::time::sleep(BETWEEN_TELLINGS).await;
    }
}

/// The name of the node and of the queues, one a line; of none if they are too many.
fn said(node: &str, queues: &BTreeSet<QueueName>) -> String {
    let mut said = node.to_owned();
    for queue in queues {
        said.push('\n');
        said.push_str(queue.as_str());
    }
    if said.len() > LONGEST { node.to_owned() } else { said }
}

fn hear(node: &Node, said: &str) {
    let mut lines = said.lines();
    if lines.next() == Some(&node.name) {
        return;
    }
    let queues: BTreeSet<QueueName> = lines.filter_map(|name| QueueName::new(name).ok()).collect();
    match queues.is_empty() {
        true => node.hint_all(),
        false => node.hint(&queues),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PostgreSQL refuses what is longer, and would refuse it for ever.
    #[test]
    fn what_is_too_long_to_say_is_said_of_all_queues() {
        let queues =
            |count: usize| (0..count).map(|n| QueueName::new(format!("{n:0128}")).unwrap()).collect();
        assert_eq!(said("n", &queues(2)).lines().count(), 3);
        assert_eq!(said("n", &queues(61)).lines().count(), 62);
        assert_eq!(said("n", &queues(62)), "n");
        assert!(said("n", &queues(61)).len() < 8_000);
    }
}
