//! The inbox in a PostgreSQL database that is not the store's (I5, I7).

use onefold::inbox::{Claim, POSTGRES, claim_in_postgres};
use onefold::{FencingToken, JobId};
use onefold_test_postgres::{DATABASE, Server, THROW_AWAY, USER};

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

async fn connect(server: &Server) -> tokio_postgres::Client {
    let address = format!("host={} user={USER} dbname={DATABASE}", server.directory().display());
    let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// I7: what was committed is told to every later attempt; what was rolled back is to be done. I5: an older attempt is refused,
/// at this step and at others.
#[tokio::test]
async fn postgres_writes_once_and_refuses_the_stale() {
    let server = Server::start(THROW_AWAY);
    let mut client = connect(&server).await;
    client.batch_execute(POSTGRES.create).await.unwrap();
    client.batch_execute(POSTGRES.create).await.unwrap();
    let mut claim = async |number: u64, step: &str, result: &str, commits: bool| {
        let tx = client.transaction().await.unwrap();
        let claim = claim_in_postgres(&tx, job(), token(number), step, Some(result)).await.unwrap();
        if commits {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        claim
    };
    assert_eq!(claim(1, "book", "a", false).await, Claim::New);
    assert_eq!(claim(2, "book", "b", true).await, Claim::New);
    assert_eq!(claim(2, "book", "c", true).await, done("b"));
    assert_eq!(claim(4, "book", "d", true).await, done("b"));
    for step in ["book", "other"] {
        assert_eq!(claim(3, step, "e", true).await, Claim::Stale, "{step}");
    }
    assert_eq!(claim(4, "other", "f", true).await, Claim::New);
}

/// I7: of two attempts at the same step at once the second waits for the first, whichever commits.
#[tokio::test]
async fn postgres_lets_the_second_wait_for_the_first() {
    let server = Server::start(THROW_AWAY);
    let (mut first, mut second) = (connect(&server).await, connect(&server).await);
    first.batch_execute(POSTGRES.create).await.unwrap();
    for (step, commits, told) in [("kept", true, done("a")), ("rolled back", false, Claim::New)] {
        let tx = first.transaction().await.unwrap();
        assert_eq!(claim_in_postgres(&tx, job(), token(1), step, Some("a")).await.unwrap(), Claim::New);
        let waits = async {
            let tx = second.transaction().await.unwrap();
            let claim = claim_in_postgres(&tx, job(), token(1), step, Some("b")).await.unwrap();
            tx.commit().await.unwrap();
            claim
        };
        let ends = async {
            let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            while server.psql(blocked) == "0" {
                tokio::task::yield_now().await;
            }
            if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
        };
        assert_eq!(tokio::join!(waits, ends).0, told, "{step}");
    }
}
