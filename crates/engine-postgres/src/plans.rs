//! Every statement finds its rows by their keys, whatever the planner believes about the tables.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

#[path = "../../../testing/conformance/tests/postgres_support/server.rs"]
mod server;

use tokio_postgres::NoTls;

use crate::pool::{SESSION, types_of};
use crate::sql::{FILES, Statements};
use crate::{PostgresConfig, migrate};

/// Statements that walk a whole table on purpose, or from its start up to a limit.
const WALKS: &[&str] = &[
    "events/ends",
    "groups/dirty_queues",
    "groups/take_dirty",
    "jobs/list",
    "lease/running",
    "queues/drop_leases",
    "jobs/list_end",
    "queues/all",
    "queues/counts",
    "queues/fold_counts",
    "queues/bury",
    "queues/drop_timers",
    "queues/jobs_of",
    "queues/recount",
    "schedules/other_tz",
    "store/node_seen",
    "store/server",
    "store/server_known",
    "store/nodes_forgotten",
    "tick/next_due",
    "tick/old_events",
    "tick/old_groups",
];

/// Statements that find queues: those are few, and while there are none either of their two keys is taken.
const OF_QUEUES: &[&str] = &[
    "jobs/load",
    "queues/lock",
    "queues/of_jobs",
    "queues/of_names",
    "queues/of_numbers",
    "queues/set",
    "queues/starts",
    "tick/opened_rates",
];

/// ADR 0014, on tables nothing is known about: nothing is read from end to end, and no row is looked for among all
/// those of its namespace.
#[tokio::test]
async fn no_plan_depends_on_statistics() {
    let config = PostgresConfig {
        schema: format!("plans {}", std::process::id()),
        ..PostgresConfig::new(server::config())
    };
    migrate(&config).await.unwrap();
    let (client, connection) = config.server.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SESSION).await.unwrap();
    let statements = Statements::new(&config.schema);
    let mut bad = Vec::new();
    // As a young store has them, and as one that was empty when it was last looked at.
    for state in ["new", "empty"] {
        if state == "empty" {
            client.batch_execute("DEALLOCATE ALL").await.unwrap();
            client.batch_execute("VACUUM ANALYZE").await.unwrap();
        }
        for (number, (file, text)) in FILES.iter().zip(statements.all()).enumerate() {
            if text.contains("LOCK TABLE") || WALKS.contains(file) {
                continue;
            }
            client.batch_execute(&format!("PREPARE p{number} AS {text}")).await.unwrap();
            let nulls = vec!["NULL"; types_of(text).len()].join(", ");
            let call = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
            let plan = client.simple_query(&format!("EXPLAIN EXECUTE p{number}{call}")).await.unwrap();
            for message in plan {
                let tokio_postgres::SimpleQueryMessage::Row(row) = message else { continue };
                let line = row.get(0).unwrap().trim();
                let whole = line.contains("Seq Scan on")
                    && !line.contains("Seq Scan on pg_")
                    && !line.contains("_seq");
                let is_of_queues = state == "empty" && OF_QUEUES.contains(file);
                if whole || line == "Index Cond: (ns = 0)" && !is_of_queues {
                    bad.push(format!("{file}, {state} tables: {line}"));
                }
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
