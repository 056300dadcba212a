//! Who is killed when: drawn before the curtain rises, by how far the work is and not by the clock.

use std::collections::VecDeque;

use onefold_core::SeededEntropy;

use super::orders::below;

/// SIGKILLs of workers.
const WORKER_KILLS: u64 = 9;
/// SIGKILLs of the server.
const SERVER_KILLS: u64 = 5;
/// Workers that are stopped until their leases are gone, and then go on as if nothing had happened.
const PAUSES: u64 = 3;

/// What is still to come. Each kind has its marks in rising order.
#[derive(Debug)]
pub(super) struct Plan {
    /// By charges.
    pub(super) worker_kills: Marks,
    /// By charges.
    pub(super) pauses: Marks,
    /// By adds and charges together.
    pub(super) server_kills: Marks,
}

/// How far the work must be.
#[derive(Debug)]
pub(super) struct Marks(VecDeque<u64>);

impl Plan {
    pub(super) fn draw(seed: u64, orders: u32) -> Plan {
        let entropy = SeededEntropy::new(seed);
        let charges = u64::from(orders);
        Plan {
            worker_kills: Marks::draw(&entropy, WORKER_KILLS, charges),
            pauses: Marks::draw(&entropy, PAUSES, charges),
            server_kills: Marks::draw(&entropy, SERVER_KILLS, charges * 3),
        }
    }
}

impl Marks {
    /// One somewhere in each of `count` equal parts of the first nine tenths of `work`.
    fn draw(entropy: &SeededEntropy, count: u64, work: u64) -> Marks {
        let part = work * 9 / 10 / count;
        Marks((0..count).map(|nth| nth * part + 1 + below(entropy, part)).collect())
    }

    /// Whether one is due at `done`; it is not due again then.
    pub(super) fn is_due(&mut self, done: u64) -> bool {
        let due = self.0.front().is_some_and(|mark| *mark <= done);
        if due {
            self.0.pop_front();
        }
        due
    }

    /// One more, due at once.
    pub(super) fn again(&mut self) {
        self.0.push_front(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_and_another_one_another() {
        let plan = |seed| format!("{:?}", Plan::draw(seed, 5_000));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    /// A kill after the work is done would be counted and prove nothing.
    #[test]
    fn everybody_is_killed_before_the_work_is_done() {
        for seed in 0..100 {
            let mut plan = Plan::draw(seed, 100);
            let kills = (0..=90).filter(|done| plan.worker_kills.is_due(*done)).count();
            assert_eq!(kills as u64, WORKER_KILLS, "{seed}");
            assert!(plan.worker_kills.0.is_empty());
        }
    }
}
