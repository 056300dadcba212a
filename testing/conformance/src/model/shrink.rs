//! Shortening a list of operations that fails (delta debugging, Zeller 1999).

use super::ops::Op;
use super::run::Failure;

/// Lists played at the most.
const PLAYS: usize = 600;
/// A failure that takes long to show counts as this many.
const SLOW_PLAY: usize = 40;

/// The shortest list found that still fails, and how. `play` tells whether a list fails.
pub(super) fn shrink(
    mut ops: Vec<Op>,
    mut failure: Failure,
    play: impl Fn(&[Op]) -> Option<Failure>,
) -> (Vec<Op>, Failure) {
    let mut plays = 0;
    let mut chunk = ops.len() / 2;
    while chunk > 0 {
        let mut start = 0;
        while start < ops.len() && plays < PLAYS {
            let mut fewer = ops.clone();
            fewer.drain(start..(start + chunk).min(ops.len()));
            plays += 1;
            match play(&fewer) {
                Some(again) => {
                    plays += if again.slow { SLOW_PLAY } else { 0 };
                    fewer.truncate(again.step + 1);
                    (ops, failure) = (fewer, again);
                }
                None => start += chunk,
            }
        }
        chunk = if plays < PLAYS { chunk / 2 } else { 0 };
    }
    (ops, failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secs;

    #[test]
    fn only_what_is_needed_to_fail_is_left() {
        let ops: Vec<Op> = (0..100).map(|n| Op::Pass(secs(n))).collect();
        let needed = [Op::Pass(secs(17)), Op::Pass(secs(80))];
        let play = |ops: &[Op]| {
            let last = ops.iter().rposition(|op| *op == needed[1])?;
            let first = ops[..last].contains(&needed[0]);
            first.then(|| Failure { step: last, what: "both".into(), slow: false })
        };
        let failure = play(&ops).unwrap();
        assert_eq!(shrink(ops, failure, play).0, needed);
    }
}
