//! The inbox: a step's rows are written once in databases that are not the store's, and tokens are compared (I5, I7). For
//! PostgreSQL see `postgres/inbox.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use onefold::inbox::{Claim, SQLITE, claim_in_sqlite};
use onefold::rusqlite::{Connection, TransactionBehavior};
use onefold::{FencingToken, JobId};

const JOB: &str = "job_01a1fe047dc070008000000000000007";

fn job() -> JobId {
    JOB.parse().unwrap()
}

fn token(number: u64) -> FencingToken {
    FencingToken::new(number).unwrap()
}

fn done(result: &str) -> Claim {
    Claim::Done(Some(result.to_owned()))
}

/// I7: what was committed is told to every later attempt; what was rolled back is to be done. I5: an older attempt is refused,
/// at this step and at others.
#[test]
fn sqlite_writes_once_and_refuses_the_stale() {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = Connection::open(dir.path().join("mine.db")).unwrap();
    conn.execute_batch(SQLITE.create).unwrap();
    conn.execute_batch(SQLITE.create).unwrap();
    let mut claim = |number: u64, step: &str, result: &str, commits: bool| {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let claim = claim_in_sqlite(&tx, job(), token(number), step, Some(result)).unwrap();
        if commits {
            tx.commit().unwrap()
        } else {
            tx.rollback().unwrap()
        }
        claim
    };
    assert_eq!(claim(1, "book", "a", false), Claim::New);
    assert_eq!(claim(2, "book", "b", true), Claim::New);
    assert_eq!(claim(2, "book", "c", true), done("b"));
    assert_eq!(claim(4, "book", "d", true), done("b"));
    for step in ["book", "other"] {
        assert_eq!(claim(3, step, "e", true), Claim::Stale, "{step}");
    }
    assert_eq!(claim(4, "other", "f", true), Claim::New);
    assert_eq!(claim_in_sqlite(&conn, job(), token(5), "none", None).unwrap(), Claim::New);
    assert_eq!(claim_in_sqlite(&conn, job(), token(5), "none", Some("x")).unwrap(), Claim::Done(None));
}
