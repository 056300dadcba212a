//! A queue as the writer knows it, and as it is stored.

use std::sync::Arc;

use onefold_core::{QueueCounts, QueueName, QueueSettings, Starts, Timestamp};

use crate::error::{StoreError, StoreResult};

/// A queue as the writer knows it.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) name: QueueName,
    pub(crate) settings: Arc<QueueSettings>,
    pub(crate) counts: QueueCounts,
    /// For its rate.
    pub(crate) starts: Starts,
}

impl Queue {
    /// Its columns: settings, counts and starts.
    pub(crate) fn stored(&self) -> StoreResult<(String, String, String)> {
        let cannot = |_| StoreError::corrupt("a queue's settings cannot be written".to_owned());
        let settings = serde_json::to_string(self.settings.as_ref()).map_err(cannot)?;
        let counts = serde_json::to_string(&self.counts).map_err(cannot)?;
        let starts = serde_json::to_string(&self.starts).map_err(cannot)?;
        Ok((settings, counts, starts))
    }

    /// Whether its pause and its limit let something start.
    pub(crate) fn is_open(&self) -> bool {
        let full = self.settings.concurrency.is_some_and(|limit| self.counts.running >= u64::from(limit));
        !self.settings.paused && !full
    }

    /// Until when its rate lets nothing start.
    pub(crate) fn full_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.settings.rate.and_then(|rate| self.starts.full_until(rate, now))
    }
}
