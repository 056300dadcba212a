//! What the customers order.

use onefold_core::{Entropy, SeededEntropy};
use onefold_wire::{NewJob, RawValue};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where orders wait to be charged.
pub(super) const QUEUE: &str = "orders";
/// Where the order waits that nobody can charge.
pub(super) const POISON_QUEUE: &str = "refunds";
/// Groups whose orders are charged one after the other.
const GROUPS: u32 = 3;
/// Orders of each group.
const GROUP_SIZE: u32 = 20;

/// An order as it stands in a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) order: u32,
    pub(super) customer: String,
    pub(super) cents: u32,
}

impl Order {
    /// The order of this number: whoever sends it sends the same.
    pub(super) fn number(order: u32) -> Order {
        Order { order, customer: format!("customer-{order:05}"), cents: 500 + order * 37 % 9_500 }
    }

    /// Its dedup key.
    pub(super) fn key(&self) -> String {
        format!("order-{:05}", self.order)
    }

    pub(super) fn payload(&self) -> Result<Box<RawValue>, Failure> {
        serde_json::value::to_raw_value(self).map_err(Failure::failed)
    }

    /// Its job, one of `of`.
    pub(super) fn job<'a>(&self, payload: &'a RawValue, of: u32) -> NewJob<'a> {
        NewJob {
            kind: Some("charge".into()),
            payload: Some(payload),
            key: Some(self.key().into()),
            group: group(self.order, of).map(Into::into),
            ..NewJob::default()
        }
    }
}

/// The group of an order: a few, spread over all there are, are in one.
pub(super) fn group(order: u32, of: u32) -> Option<String> {
    let apart = (of / (GROUPS * GROUP_SIZE)).max(1);
    let nth = order / apart;
    (order.is_multiple_of(apart) && nth < GROUPS * GROUP_SIZE)
        .then(|| format!("household-{}", nth % GROUPS + 1))
}

/// All numbers below `count`, in an order of their own for each producer.
pub(super) fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let entropy = SeededEntropy::new(seed);
    let mut orders: Vec<u32> = (0..count).collect();
    for last in (1..orders.len()).rev() {
        orders.swap(last, below(&entropy, last as u64 + 1) as usize);
    }
    orders
}

/// A random number below `limit`.
pub(super) fn below(entropy: &SeededEntropy, limit: u64) -> u64 {
    entropy.next_u64() % limit.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_sent_once_by_each_producer_in_its_own_order() {
        let (mut one, mut other) = (shuffled(500, 1), shuffled(500, 2));
        assert_ne!(one, other);
        one.sort_unstable();
        other.sort_unstable();
        assert_eq!(one, (0..500).collect::<Vec<_>>());
        assert_eq!(one, other);
    }

    /// Else the line about order would tell of nothing.
    #[test]
    fn groups_have_the_same_size_however_many_orders_there_are() {
        for of in [100, 300, 5_000, 100_000] {
            let grouped: Vec<String> = (0..of).filter_map(|order| group(order, of)).collect();
            let wanted = if of < GROUPS * GROUP_SIZE { of } else { GROUPS * GROUP_SIZE };
            assert_eq!(grouped.len(), wanted as usize, "{of}");
            let first = grouped.iter().filter(|group| *group == "household-1").count();
            assert_eq!(first, wanted as usize / GROUPS as usize);
        }
    }
}
