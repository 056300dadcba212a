//! Rolling the operations of a case.

use onefold_core::{DurationMs, EffectPolicy, Entropy, Rate, ReleaseOutcome, ResolveOutcome, SeededEntropy};

use super::ops::{Act, Beginning, Call, Change, Item, Op, Pick, Rhythm, Scope, Touch, What, Write};
use crate::{days, hours, ms, secs};

pub(super) const QUEUES: u8 = 3;
pub(super) const KEYS: u8 = 4;
pub(super) const SETTINGS: u8 = 2;
pub(super) const FREE_SCOPES: u8 = 2;
pub(super) const STEPS: u8 = 2;
const SCHEDULES: u8 = 3;

/// Times at and around every limit there is.
const SPANS: [DurationMs; 16] = [
    ms(0),
    ms(1),
    ms(999),
    secs(1),
    secs(5),
    ms(29_999),
    secs(30),
    secs(60),
    secs(600),
    secs(900),
    hours(1),
    hours(6),
    ms(86_399_999),
    days(1),
    days(7),
    days(31),
];

/// The operations of the case with this seed.
pub(super) fn ops(seed: u64, count: usize) -> Vec<Op> {
    let roll = Roll(SeededEntropy::new(seed));
    let mut ops = Vec::new();
    while ops.len() < count {
        match roll.below(200) {
            0 => ops.extend(roll.crash_loop()),
            _ => ops.push(roll.op()),
        }
    }
    ops
}

struct Roll(SeededEntropy);

impl Roll {
    fn below(&self, n: u64) -> u64 {
        self.0.up_to(n - 1)
    }

    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn maybe<T>(&self, one_in: u64, value: impl FnOnce(&Roll) -> T) -> Option<T> {
        self.one_in(one_in).then(|| value(self))
    }

    fn byte(&self, below: u8) -> u8 {
        self.below(u64::from(below)) as u8
    }

    fn pick(&self) -> Pick {
        Pick(self.below(1 << 16) as u16)
    }

    fn queue(&self) -> u8 {
        // Mostly one queue, so that things meet.
        if self.one_in(3) { self.byte(QUEUES) } else { 0 }
    }

    fn span(&self) -> DurationMs {
        SPANS[self.below(SPANS.len() as u64) as usize]
    }

    /// Short spans are likelier: after long ones little is left to happen.
    fn short(&self) -> DurationMs {
        SPANS[self.below(9) as usize]
    }

    fn rate_span(&self) -> DurationMs {
        [ms(100), secs(1), secs(30), hours(1)][self.below(4) as usize]
    }

    fn lease_span(&self) -> DurationMs {
        [ms(100), secs(1), secs(30), secs(60), hours(1)][self.below(5) as usize]
    }

    fn priority(&self) -> i16 {
        [0, 0, 0, 1, -1, i16::MAX, i16::MIN][self.below(7) as usize]
    }

    fn item(&self) -> Item {
        let keyed = self.one_in(2);
        let replace = keyed && self.one_in(4);
        Item {
            key: keyed.then(|| self.byte(KEYS)),
            content: if self.one_in(5) { self.byte(2) } else { 0 },
            request: self.maybe(12, |roll| roll.byte(3)),
            delay: self.maybe(4, Roll::short),
            priority: self.priority(),
            group: self.maybe(3, |roll| roll.byte(2)),
            max_attempts: self.maybe(3, |roll| 1 + roll.below(3) as u32),
            backoff: self.maybe(4, |roll| roll.byte(3)),
            timeout: self.maybe(5, Roll::lease_span),
            retain: self.maybe(4, Roll::short),
            window: self.maybe(2, Roll::span),
            free_on: if self.one_in(3) { self.byte(8) } else { 0 },
            on_duplicate: if replace { 2 } else { self.maybe(6, |_| 1).unwrap_or(0) },
            return_mismatch: self.one_in(5),
            version: self.maybe(2, |roll| roll.below(4)).filter(|_| replace),
            max_delay: self.maybe(3, Roll::short).filter(|_| replace),
        }
    }

    fn call(&self) -> Call {
        let queues = (0..=self.below(3)).map(|_| self.queue()).collect();
        Call {
            queues,
            max: [1, 1, 2, 3, 10][self.below(5) as usize],
            lease: self.lease_span(),
            fair: self.one_in(4),
            poll: self.maybe(4, |roll| 1 + roll.below(3)),
        }
    }

    fn write(&self) -> Write {
        let what = match self.below(14) {
            0..=3 => What::Complete(self.maybe(2, |roll| roll.byte(2))),
            4 => What::Fail { retry_in: self.maybe(3, Roll::short) },
            5 => What::Die,
            6 => What::Snooze(self.span()),
            7..=8 => What::Release,
            9..=10 => What::Extend(self.lease_span()),
            11 => What::Progress(self.byte(100)),
            12 => What::Checkpoint(self.byte(10)),
            _ => What::Log(self.byte(10)),
        };
        Write { lease: self.pick(), crossed: self.maybe(15, Roll::pick), what }
    }

    fn touch(&self) -> Touch {
        let token = self.pick();
        let scope = match self.below(10) {
            0..=2 => Scope::Free(self.byte(FREE_SCOPES)),
            // Under another job's lease, or an earlier one's.
            3 => Scope::Step(self.pick()),
            _ => Scope::Step(token),
        };
        let act = match self.below(16) {
            0..=6 => Act::Begin(self.beginning()),
            7..=10 => Act::Commit(self.maybe(2, |roll| roll.byte(2))),
            11 => Act::Extend(self.lease_span()),
            12..=13 => Act::Release(ReleaseOutcome::ALL[self.below(2) as usize]),
            _ => Act::Resolve(ResolveOutcome::ALL[self.below(2) as usize]),
        };
        Touch { scope, key: self.byte(STEPS), token, act }
    }

    fn beginning(&self) -> Beginning {
        Beginning {
            policy: if self.one_in(3) { EffectPolicy::AtMostOnce } else { EffectPolicy::AtLeastOnce },
            fingerprint: self.maybe(12, |roll| roll.byte(2)),
            lease: self.lease_span(),
            ttl: self.short(),
            key_valid_for: self.maybe(4, |roll| roll.short().saturating_add(ms(1))),
            call: self.maybe(3, |roll| roll.below(3)),
        }
    }

    fn change(&self) -> Change {
        match self.below(10) {
            0 => Change::Pause(true),
            1 => Change::Pause(false),
            2 => Change::Concurrency(self.maybe(2, |roll| 1 + roll.below(3) as u32)),
            3 => Change::Skip(self.maybe(2, |roll| roll.one_in(2))),
            4 => Change::Block(self.maybe(2, |roll| roll.one_in(2))),
            5 => Change::MaxAttempts(self.maybe(2, |roll| 1 + roll.below(4) as u32)),
            6 => Change::Backoff(self.maybe(2, |roll| roll.byte(3))),
            7 => Change::Window(self.maybe(2, Roll::span)),
            8 => Change::Rate(
                self.maybe(3, |roll| Rate { limit: 1 + roll.below(4) as u32, per: roll.rate_span() }),
            ),
            _ => Change::Retain(self.byte(3), self.maybe(2, Roll::span)),
        }
    }

    /// A worker that takes what there is and dies, again and again.
    fn crash_loop(&self) -> Vec<Op> {
        let queues = vec![self.queue()];
        let call = Call { queues, max: 10, lease: ms(100), fair: false, poll: None };
        let rounds = 5 + self.below(4);
        (0..rounds).flat_map(|_| [Op::Lease(call.clone()), Op::Pass(secs(1))]).collect()
    }

    fn rhythm(&self) -> Rhythm {
        let Item { content, priority, group, max_attempts, backoff, timeout, retain, .. } = self.item();
        let job =
            Item { content, priority, group, max_attempts, backoff, timeout, retain, ..Item::default() };
        Rhythm {
            timing: self.byte(5),
            ends: self.maybe(5, |roll| roll.span().saturating_add(days(2))),
            queue: self.queue(),
            missed: self.byte(3),
            overlap: self.byte(3),
            job,
        }
    }

    fn step(&self) -> i64 {
        let sizes = [1_000, 3_000, 3_000, 600_000, 600_000, 3_600_000, 86_400_000, 30 * 86_400_000];
        let size = sizes[self.below(8) as usize];
        if self.one_in(2) { size } else { -size }
    }

    fn op(&self) -> Op {
        match self.below(150) {
            0..=21 => Op::Add {
                queue: self.queue(),
                jobs: (0..=self.below(4)).map(|_| self.item()).collect(),
                atomic: self.one_in(5),
            },
            22..=41 => Op::Lease(self.call()),
            42..=66 => Op::Settle((0..=self.below(3)).map(|_| self.write()).collect()),
            67..=76 => Op::Pass(if self.one_in(8) { self.span() } else { self.short() }),
            77..=79 => Op::Wait(self.short()),
            80..=84 => Op::Cancel(self.pick(), self.one_in(3)),
            85..=89 => Op::Retry(self.pick(), self.one_in(2)),
            90..=91 => Op::Redrive {
                queue: self.queue(),
                cancelled: self.one_in(2),
                limit: [1, 2, 100][self.below(3) as usize],
                accept: self.one_in(2),
            },
            92..=95 => Op::Edit {
                job: self.pick(),
                run_in_ms: self.maybe(2, |roll| roll.short().as_ms() as i64 - 2_000),
                priority: self.maybe(2, Roll::priority),
                label: self.maybe(2, |roll| roll.byte(3)),
            },
            96..=98 => Op::Delete(self.pick()),
            99..=103 => Op::Set(self.queue(), self.change()),
            104 => Op::DeleteQueue(self.queue(), self.one_in(2)),
            105..=106 => Op::ReleaseKey(self.queue(), self.byte(KEYS)),
            107 => Op::Put(self.byte(SETTINGS), self.below(2)),
            108..=112 => Op::Park { call: self.call(), wait: self.short().saturating_add(ms(1)) },
            113 => Op::Unpark(self.pick()),
            114..=115 => Op::Step(self.step()),
            116..=117 => Op::Crash,
            118..=119 => Op::Reopen,
            120..=124 => Op::PutSchedule(self.byte(SCHEDULES), self.rhythm()),
            125..=126 => Op::PauseSchedule(self.byte(SCHEDULES), self.one_in(2)),
            127..=128 => Op::RunSchedule(self.byte(SCHEDULES)),
            129 => Op::DeleteSchedule(self.byte(SCHEDULES)),
            _ => Op::Effects((0..=self.below(3)).map(|_| self.touch()).collect()),
        }
    }
}
