//! Figures for Prometheus, in the OpenMetrics text format.

use std::fmt;

use axum::body::Body;
use axum::extract::State;
use http::StatusCode;
use onefold_core::{QueueCounts, QueueView, State as JobState, StoreStats, Timestamp};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::accept::{AcceptStats, CloseReason};
use crate::answer::plain;
use crate::failure::{Answer, Failure};
use crate::state::AppState;

/// Figures for Prometheus.
#[utoipa::path(
    get,
    operation_id = "getMetrics",
    path = "/metrics",
    tag = "Server",
    responses(
        (
            status = 200,
            description = "OpenMetrics text",
            body = String,
            content_type = "application/openmetrics-text",
        ),
    ),
)]
pub(crate) async fn metrics(State(app): State<AppState>) -> Answer {
    let snapshot = Snapshot {
        queues: labelled(app.engine().queues().await?, app.config().metrics_queues_max),
        store: app.engine().stats().await?,
        now: app.clock().now(),
        clock_steps: app.health().clock_steps,
        connections: Connections::of(app.connections()),
    };
    let mut registry = Registry::with_prefix("onefold");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Failure::internal(error.to_string()))?;
    Ok(plain(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", Body::from(text)))
}

/// A queue as far as metrics tell of it.
#[derive(Debug)]
struct Figures {
    /// Its name, or [`OTHERS`].
    label: String,
    counts: QueueCounts,
    oldest_available: Option<Timestamp>,
}

/// The label of all queues that get none of their own; no queue can be called that.
const OTHERS: &str = "(others)";

/// The largest queues by themselves and the rest as one: a label each for thousands would drown the
/// reader of the metrics.
fn labelled(mut queues: Vec<QueueView>, max: usize) -> Vec<Figures> {
    if queues.len() > max {
        // Stable, so that queues of one size keep their order by name.
        queues.sort_by_key(|queue| std::cmp::Reverse((queue.counts.unfinished(), queue.counts.accepted)));
    }
    let mut figures: Vec<Figures> = Vec::with_capacity(queues.len().min(max + 1));
    for queue in queues {
        let QueueView { name, counts, oldest_available, .. } = queue;
        if figures.len() < max {
            figures.push(Figures { label: name.to_string(), counts, oldest_available });
            continue;
        }
        if figures.len() == max {
            figures.push(Figures {
                label: OTHERS.to_owned(),
                counts: QueueCounts::default(),
                oldest_available: None,
            });
        }
        if let Some(others) = figures.last_mut() {
            add(&mut others.counts, &counts);
            others.oldest_available = [others.oldest_available, oldest_available].into_iter().flatten().min();
        }
    }
    figures
}

fn add(sum: &mut QueueCounts, more: &QueueCounts) {
    let QueueCounts {
        accepted,
        scheduled,
        available,
        running,
        retrying,
        completed,
        dead,
        cancelled,
        purged_retention,
        purged_deleted,
        duplicates,
        mismatches,
        late_writes,
    } = more;
    sum.accepted += accepted;
    sum.scheduled += scheduled;
    sum.available += available;
    sum.running += running;
    sum.retrying += retrying;
    sum.completed += completed;
    sum.dead += dead;
    sum.cancelled += cancelled;
    sum.purged_retention += purged_retention;
    sum.purged_deleted += purged_deleted;
    sum.duplicates += duplicates;
    sum.mismatches += mismatches;
    sum.late_writes += late_writes;
}

#[derive(Debug)]
struct Connections {
    open: u64,
    accepted: u64,
    accept_errors: u64,
    slow_bodies: u64,
    closed: Vec<(CloseReason, u64)>,
}

impl Connections {
    fn of(stats: &AcceptStats) -> Connections {
        Connections {
            open: stats.open(),
            accepted: stats.accepted(),
            accept_errors: stats.accept_errors(),
            slow_bodies: stats.slow_bodies(),
            closed: CloseReason::ALL.iter().map(|reason| (*reason, stats.closed(*reason))).collect(),
        }
    }
}

/// Everything at one moment.
#[derive(Debug)]
struct Snapshot {
    queues: Vec<Figures>,
    store: StoreStats,
    now: Timestamp,
    clock_steps: u64,
    connections: Connections,
}

impl prometheus_client::collector::Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_queues(&mut encoder)?;
        self.encode_store(&mut encoder)?;
        self.encode_connections(&mut encoder)
    }
}

impl Snapshot {
    fn encode_queues(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut jobs =
            to.encode_descriptor("jobs", "Jobs now, by queue and state", None, MetricType::Gauge)?;
        for queue in &self.queues {
            for state in JobState::ALL {
                let labels = [("queue", queue.label.as_str()), ("state", state.as_str())];
                ConstGauge::new(queue.counts.of(*state)).encode(jobs.encode_family(&labels)?)?;
            }
        }
        let help = "Seconds since the oldest available job was accepted, by queue";
        let mut ages = to.encode_descriptor("oldest_available_age_seconds", help, None, MetricType::Gauge)?;
        for queue in &self.queues {
            let age = queue.oldest_available.map_or(0, |oldest| self.now.since(oldest).as_ms());
            ConstGauge::new(age as f64 / 1000.0)
                .encode(ages.encode_family(&[("queue", queue.label.as_str())])?)?;
        }
        type Count = fn(&QueueCounts) -> u64;
        let counters: [(&str, &str, Count); 6] = [
            ("jobs_accepted", "Jobs accepted", |counts| counts.accepted),
            ("jobs_retired", "Jobs deleted because their retention was over", |counts| {
                counts.purged_retention
            }),
            ("jobs_deleted", "Jobs deleted by request", |counts| counts.purged_deleted),
            ("duplicate_adds", "Adds answered with an earlier job", |counts| counts.duplicates),
            ("mismatched_adds", "Adds refused because of a different fingerprint", |counts| {
                counts.mismatches
            }),
            ("late_writes", "Writes refused because of an old fencing token", |counts| counts.late_writes),
        ];
        for (name, help, count) in counters {
            let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            for queue in &self.queues {
                let labels = [("queue", queue.label.as_str())];
                ConstCounter::new(count(&queue.counts)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_store(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let store = &self.store;
        let help = "Attempts ended since the server started, by outcome";
        let mut attempts = to.encode_descriptor("attempts", help, None, MetricType::Counter)?;
        for (outcome, count) in &store.attempts {
            let labels = [("outcome", outcome.as_str())];
            ConstCounter::new(*count).encode(attempts.encode_family(&labels)?)?;
        }
        counter(to, "commits", "Durable commits", store.commits)?;
        counter(to, "committed_ops", "Operations in durable commits", store.committed_ops)?;
        let seconds = |micros: u64| micros as f64 / 1_000_000.0;
        let commits = Histogram {
            sum: seconds(store.commit_micros_sum),
            buckets: store
                .commit_micros
                .iter()
                .map(|(bound, count)| (bound_of(*bound, seconds), *count))
                .collect(),
        };
        histogram(to, "commit_duration_seconds", "How long commits took, fsync included", &commits)?;
        let batches = Histogram {
            sum: store.committed_ops as f64,
            buckets: store
                .batch_sizes
                .iter()
                .map(|(bound, count)| (bound_of(*bound, |size| size as f64), *count))
                .collect(),
        };
        histogram(to, "commit_batch_ops", "Operations a commit took together", &batches)?;
        gauge(to, "parked_polls", "Polls that wait for a job", store.parked_polls)?;
        gauge(to, "keys", "Dedup keys held", store.keys)?;
        gauge(to, "keys_in_memory", "Dedup keys held in memory", store.keys_in_memory)?;
        gauge(to, "store_file_bytes", "Size of the store's files", store.file_bytes)?;
        gauge(to, "store_wal_bytes", "Size of the write-ahead log", store.wal_bytes)?;
        gauge(
            to,
            "store_disk_full",
            "1 while adding is refused because the disk is full",
            u64::from(store.disk_full),
        )?;
        counter(to, "clock_steps", "Steps of the wall clock that were noticed", self.clock_steps)
    }

    fn encode_connections(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let connections = &self.connections;
        gauge(to, "http_connections_open", "Connections open now", connections.open)?;
        counter(to, "http_connections", "Connections accepted", connections.accepted)?;
        counter(
            to,
            "http_accept_errors",
            "Times no connection could be accepted",
            connections.accept_errors,
        )?;
        counter(to, "http_slow_bodies", "Bodies that came too slowly", connections.slow_bodies)?;
        let help = "Connections closed, by reason";
        let mut closed = to.encode_descriptor("http_connections_closed", help, None, MetricType::Counter)?;
        for (reason, count) in &connections.closed {
            ConstCounter::new(*count).encode(closed.encode_family(&[("reason", reason.as_str())])?)?;
        }
        Ok(())
    }
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(to.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(to.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn histogram(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &Histogram) -> fmt::Result {
    value.encode(to.encode_descriptor(name, help, None, MetricType::Histogram)?)
}

/// The last bucket of an engine has no bound.
fn bound_of(bound: u64, unit: impl Fn(u64) -> f64) -> f64 {
    if bound == u64::MAX { f64::INFINITY } else { unit(bound) }
}

/// A histogram counted elsewhere.
struct Histogram {
    sum: f64,
    /// Upper bound and how many fell into it but no smaller one; the last takes the rest.
    buckets: Vec<(f64, u64)>,
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let count = self.buckets.iter().map(|(_, count)| count).sum();
        // The encoder adds them up. A reader insists on a last one without a bound.
        let mut buckets = self.buckets.clone();
        if buckets.last().is_none_or(|(bound, _)| bound.is_finite()) {
            buckets.push((f64::INFINITY, 0));
        }
        encoder.encode_histogram::<NoLabelSet>(self.sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
