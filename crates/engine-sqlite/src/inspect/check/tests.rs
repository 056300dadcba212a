use std::path::Path;
use std::sync::Arc;

use onefold_core::{
    AddParams, Engine, Fingerprint, JobSpec, Key, ManualClock, NewJob, QueueName, SeededEntropy, Seq,
};

use super::*;
use crate::{Options, SqliteEngine};

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_795_253_400_000).unwrap()
}

/// A closed store with one job that holds the key `a`.
async fn store(dir: &Path) {
    store_with(dir, options()).await;
}

fn options() -> Options {
    Options::new(Arc::new(ManualClock::at(now())), Arc::new(SeededEntropy::new(7)))
}

async fn store_with(dir: &Path, options: Options) {
    let engine = SqliteEngine::open(dir, options).unwrap();
    let fingerprint = Some(Fingerprint::custom("same").unwrap());
    let spec = JobSpec { key: Some(Key::new("a").unwrap()), fingerprint, ..JobSpec::default() };
    let job = NewJob { spec, ..NewJob::default() };
    let queue = QueueName::new("q").unwrap();
    let added = engine.add(AddParams { queue, jobs: vec![job], atomic: false }).await.unwrap();
    assert!(added.iter().all(Result::is_ok));
    engine.close().await.unwrap();
}

fn ledger(conn: &Connection) -> LedgerRow {
    let mut stmt = conn.prepare(include_str!("../../../sql/ledger_rows.sql")).unwrap();
    let mut found = stmt.query([]).unwrap();
    LedgerRow::read(found.next().unwrap().unwrap()).unwrap()
}

fn findings(dir: &Path, at: Timestamp) -> Vec<Check> {
    let checked = Inspector::open(dir).unwrap().check(at, &mut |_| {}).unwrap();
    checked.findings.into_keys().collect()
}

/// I3: two entries that both hold are a finding; an old one that holds no longer is not.
#[tokio::test]
async fn a_key_with_two_holders_is_found() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).await;
    assert_eq!(findings(dir.path(), now()), []);
    let conn = Connection::open(crate::open::database_path(dir.path())).unwrap();
    let mut second = ledger(&conn);
    second.lid = LedgerId::from_stored(second.lid.stored() + 1);
    second.hold.job = JobId::new(now(), Seq::new(999).unwrap());
    second.write(&mut conn.prepare(include_str!("../../../sql/ledger_insert.sql")).unwrap()).unwrap();
    assert_eq!(findings(dir.path(), now()), [Check::Keys]);
    // By then only the job that is not finished still holds it.
    assert_eq!(findings(dir.path(), second.hold.until), []);
}

/// I3: a sealed key that the engine would not find again is a finding, whichever part is lost.
#[tokio::test]
async fn a_lost_sealed_key_is_found() {
    for lost in ["DELETE FROM onefold_sealed_keys", "DELETE FROM onefold_sealed_filters"] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options();
        options.key_index_bytes = 0;
        store_with(dir.path(), options).await;
        assert_eq!(findings(dir.path(), now()), []);
        let conn = Connection::open(crate::open::database_path(dir.path())).unwrap();
        assert!(conn.execute(lost, []).unwrap() > 0);
        assert_eq!(findings(dir.path(), now()), [Check::Keys]);
    }
}
