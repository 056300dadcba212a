//! I7, I11: what is promised of effects holds for any schedule of faults, on every engine, and the comparison has teeth.
//!
//! `ONEFOLD_SEED` is the first seed (a new one every time unless given), `ONEFOLD_RUNS` how many runs a store,
//! `ONEFOLD_LONG=1` ten times as many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::path::Path;

use onefold_e2e::{Server, long, now, seed};
use onefold_effects::{Programs, Rounds, Store, Verdict, Way};
use onefold_test_postgres::{DATABASE, Server as Postgres, THROW_AWAY, USER};

const PROGRAMS: Programs = Programs {
    ledger: env!("CARGO_BIN_EXE_onefold-effects-ledger"),
    worker: env!("CARGO_BIN_EXE_onefold-effects-worker"),
};

/// Runs a store, unless more are asked for.
const RUNS: u64 = 700;

fn runs(usual: u64) -> u64 {
    let given = std::env::var("ONEFOLD_RUNS").ok().map(|text| text.parse().expect("a number of runs"));
    given.unwrap_or(usual * long())
}

fn check(name: &str, dir: &Path, store: Store, server: Option<Server>, way: Way, runs: u64) -> Verdict {
    let (seed, start) = (seed(name), now());
    let rounds = Rounds { store, server, way, seed: seed * 1_000_000, runs, programs: PROGRAMS };
    let (verdict, struck) = rounds.run(dir);
    let Verdict { runs, repeated, returned, doubts, replayed, late, lost, ref broken } = verdict;
    eprintln!(
        "{name}: {runs} runs, {struck:?}; {repeated} repeats inside the window, {returned} of them by holders that came \
         back; {doubts} doubts settled, {replayed} replays, {late} late writes, {lost} lost leases; {} promises broken; \
         {:.1?}",
        broken.len(),
        now() - start
    );
    verdict
}

fn holds(verdict: &Verdict) {
    let first: Vec<&String> = verdict.broken.iter().take(10).collect();
    assert!(verdict.broken.is_empty(), "{} promises broken, such as {first:#?}", verdict.broken.len());
    let Verdict { repeated, doubts, replayed, lost, .. } = verdict;
    assert!(
        [*repeated, *doubts, *replayed, *lost].iter().all(|met| *met > 0),
        "no fault met a step: {verdict:?}"
    );
}

/// That a handler written so is caught, by this.
fn is_caught(verdict: &Verdict, by: &str) {
    let caught = verdict.broken.iter().filter(|broken| broken.contains(by)).count();
    assert!(caught > 0, "nothing {by}: {:?}", verdict.broken);
}

/// I7, I11 with a store in the worker's own process: each kill is one of the store, too.
#[test]
fn embedded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::Embedded(dir.path().join("data"));
    holds(&check("embedded", dir.path(), store, None, Way::Once, runs(RUNS)));
}

/// I7, I11 with two workers that share a database, and its transactions.
#[test]
fn postgres() {
    let (server, address) = database();
    let dir = tempfile::tempdir().unwrap();
    holds(&check("postgres", dir.path(), Store::Postgres(address), None, Way::Once, runs(RUNS)));
    drop(server);
}

/// I7, I11 over HTTP: two workers, and a server that is killed as they are.
#[test]
fn server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let store = Store::Server(server.address(), data);
    holds(&check("server", dir.path(), store, Some(server), Way::Once, runs(RUNS)));
}

/// The comparison has teeth: it finds what each naive handler does wrong.
#[test]
fn naive_handlers_are_caught() {
    for (way, wrong) in [
        (Way::Plain, "was begun after the record"),
        (Way::MarkerFirst, "never happened"),
        (Way::MarkerAfter, "at most once, and happened"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::Embedded(dir.path().join("data"));
        is_caught(&check(way.word(), dir.path(), store, None, way, 100), wrong);
    }
    let (server, address) = database();
    let dir = tempfile::tempdir().unwrap();
    let verdict = check("plain rows", dir.path(), Store::Postgres(address), None, Way::Plain, 100);
    is_caught(&verdict, "rows: its rows were written 2 times");
    drop(server);
}

fn database() -> (Postgres, String) {
    let server = Postgres::start(THROW_AWAY);
    let address = format!("host={} user={USER} dbname={DATABASE}", server.directory().display());
    (server, address)
}
