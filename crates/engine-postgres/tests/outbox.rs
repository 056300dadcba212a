//! The user's rows and the job together or not at all, whatever happens to transactions, connections and processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is a failed test"
)]

mod kit;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use kit::*;
use onefold_core::{DurationMs, Engine, LeaseParams, NewJob, Refusal, State};
use onefold_engine_postgres::PostgresConfig;
use onefold_engine_postgres::user_tx::{self, UserTxError};
use tokio_postgres::Client;
use tokio_postgres::config::Host;

/// Transactions of all kinds.
const ROUNDS: u64 = 1_000;
/// Programs at a time.
const PROGRAMS: u64 = 4;

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Commit,
    RollBack,
    /// A statement of the user's own fails after the add.
    Fails,
    /// SIGKILL to the program in the middle of it.
    Killed,
    /// The server ends the connection in the middle of it.
    CutOff,
    /// SIGKILL while COMMIT is on its way: either may be.
    KilledInCommit,
}

const ENDINGS: [Ending; 6] =
    [Ending::Commit, Ending::RollBack, Ending::Fails, Ending::Killed, Ending::CutOff, Ending::KilledInCommit];

/// A program of its own that talks to the database.
struct Psql {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    backend: i32,
}

fn psql_program() -> PathBuf {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packaged: Vec<PathBuf> = packaged.map(|version| version.path().join("bin/psql")).collect();
    packaged.retain(|path| path.is_file());
    packaged.sort();
    packaged.pop().unwrap_or_else(|| "psql".into())
}

impl Psql {
    fn start(config: &PostgresConfig, application: &str) -> Psql {
        let server = &config.server;
        let host = match server.get_hosts().first() {
            Some(Host::Unix(path)) => path.display().to_string(),
            Some(Host::Tcp(name)) => name.clone(),
            None => "localhost".to_owned(),
        };
        let mut command = Command::new(psql_program());
        command.args(["-XqAt", "-v", "ON_ERROR_STOP=0"]).env("PGHOST", host).env("PGAPPNAME", application);
        command.env("PGUSER", server.get_user().unwrap_or("postgres"));
        command.env("PGDATABASE", server.get_dbname().unwrap_or("postgres"));
        if let Some(port) = server.get_ports().first() {
            command.env("PGPORT", port.to_string());
        }
        if let Some(password) = server.get_password() {
            command.env("PGPASSWORD", String::from_utf8_lossy(password).as_ref());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("this test needs psql: install the package postgresql-client");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut program = Psql { child, stdin, stdout, backend: 0 };
        let schema = config.schema.replace('"', "\"\"");
        program.say(&format!("SET search_path = \"{schema}\"; SELECT pg_backend_pid();"));
        program.backend = program.hear().parse().unwrap();
        program
    }

    /// Until everything said so far was answered.
    fn wait_until(&mut self, word: &str) {
        self.say(&format!("SELECT '{word}';"));
        loop {
            match self.hear().as_str() {
                "" => panic!("psql is gone before {word}"),
                line if line == word => return,
                _ => {}
            }
        }
    }

    fn say(&mut self, text: &str) {
        // Whoever was cut off hears nothing more.
        let _ = writeln!(self.stdin, "{text}");
    }

    /// The next line, empty if there is none any more.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        drop(self.stdin);
        self.child.wait().unwrap();
    }
}

/// One round: the order and its job in one transaction that ends so. Gives whether it was committed, if that is known, and
/// the program if it lives.
async fn round(
    mut program: Psql,
    watcher: &Client,
    number: u64,
    ending: Ending,
) -> (Option<bool>, Option<Psql>) {
    let order = format!("INSERT INTO orders VALUES ({number});");
    let job =
        format!("SELECT add('shipping', '{{\"order\":{number}}}', '{{\"key\":\"order-{number}\"}}')->>'id';");
    // Either may come first.
    let both = if number.is_multiple_of(2) { [order, job] } else { [job, order] };
    let in_the_middle = matches!(ending, Ending::Killed | Ending::CutOff) && number.is_multiple_of(3);
    program.say("BEGIN;");
    program.say(&both[0]);
    if !in_the_middle {
        program.say(&both[1]);
    }
    program.wait_until("here");
    match ending {
        Ending::Commit => program.say("COMMIT;"),
        Ending::RollBack => program.say("ROLLBACK;"),
        Ending::Fails => program.say("INSERT INTO orders VALUES (-1), (-1); COMMIT;"),
        Ending::Killed => {
            program.kill();
            return (Some(false), None);
        }
        Ending::CutOff => {
            let cut =
                watcher.query_one("SELECT pg_terminate_backend($1)", &[&program.backend]).await.unwrap();
            assert!(cut.get::<_, bool>(0));
            program.say("COMMIT;");
            program.end();
            return (Some(false), None);
        }
        Ending::KilledInCommit => {
            program.say("COMMIT;");
            program.kill();
            return (None, None);
        }
    }
    program.wait_until("ended");
    (Some(ending == Ending::Commit), Some(program))
}

/// Outbox: through 1,000 transactions that are committed, rolled back, fail, or lose their program or connection, each
/// order has its job and each job its order; what was committed is there, what was not is not; and when nobody knows,
/// the same again with the same key makes one of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_row_and_the_job_together_or_not_at_all() {
    let config = config();
    let node = node(&config).await;
    let watcher = other(&config).await;
    watcher.batch_execute("CREATE TABLE orders (id integer PRIMARY KEY)").await.unwrap();
    watcher.query_one("SELECT make_queue('shipping')::text", &[]).await.unwrap();
    let mut programs = Vec::new();
    for first in 0..PROGRAMS {
        let config = config.clone();
        programs.push(tokio::spawn(async move {
            let watcher = other(&config).await;
            let (mut known, mut alive) = (Vec::new(), None);
            for number in (first..ROUNDS).step_by(PROGRAMS as usize) {
                // Neither side of a round always ends the same way.
                let ending =
                    ENDINGS[(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % ENDINGS.len()];
                let program = alive.take().unwrap_or_else(|| Psql::start(&config, "outbox"));
                let committed;
                (committed, alive) = round(program, &watcher, number, ending).await;
                known.push((number, ending, committed));
            }
            if let Some(program) = alive {
                program.end();
            }
            known
        }));
    }
    let mut known = Vec::new();
    for program in programs {
        known.extend(program.await.unwrap());
    }
    let mut ends: Vec<usize> = ENDINGS.iter().map(|e| known.iter().filter(|k| k.1 == *e).count()).collect();
    ends.sort_unstable();
    assert!(known.len() == ROUNDS as usize && ends[0] > 100, "each ending had its share: {ends:?}");
    let left = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'outbox'";
    while !watcher.query(left, &[]).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }

    let there = |rows: Vec<tokio_postgres::Row>| {
        rows.iter().map(|row| row.get::<_, i32>(0)).collect::<BTreeSet<i32>>()
    };
    let orders = "SELECT id FROM orders";
    let jobs = "SELECT (convert_from(payload, 'UTF8')::json->>'order')::integer FROM specs";
    let (with_order, with_job) =
        (there(watcher.query(orders, &[]).await.unwrap()), there(watcher.query(jobs, &[]).await.unwrap()));
    assert_eq!(with_order, with_job, "an order without its job, or a job without its order");
    for (number, ending, committed) in &known {
        let is_there = with_order.contains(&(*number as i32));
        assert!(committed.is_none_or(|committed| committed == is_there), "{ending:?} of {number}");
    }
    assert_eq!(
        node.queue(queue("shipping")).await.unwrap().unwrap().counts.accepted,
        with_order.len() as u64
    );

    for (number, _, _) in known.iter().filter(|(_, _, committed)| committed.is_none()) {
        watcher
            .batch_execute(&format!(
                "BEGIN; INSERT INTO orders VALUES ({number}) ON CONFLICT DO NOTHING; \
                 SELECT add('shipping', '{{\"order\":{number}}}', '{{\"key\":\"order-{number}\"}}'); COMMIT"
            ))
            .await
            .unwrap();
    }
    let (with_order, rows) =
        (there(watcher.query(orders, &[]).await.unwrap()), watcher.query(jobs, &[]).await.unwrap());
    assert_eq!(rows.len(), with_order.len(), "no order has two jobs");
    assert_eq!(with_order, there(rows));
    let mut handed_out = BTreeSet::new();
    loop {
        let leased = lease(&node, "shipping", 1_000).await;
        if leased.is_empty() {
            break;
        }
        handed_out.extend(leased.iter().map(|leased| leased.job.id));
    }
    assert_eq!(handed_out.len(), with_order.len(), "all of them, and nothing else, is handed out");
}

/// I7: who does not know that a transaction was committed runs it again. Its rows are there once, and it is told so; the
/// first answer is for those who ask for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_transaction_that_was_committed_is_not_done_again() {
    let config = config();
    let node = node(&config).await;
    let mut client = other(&config).await;
    client.batch_execute("CREATE TABLE parcels (job text)").await.unwrap();
    add_one(&node, "q", keyed("k")).await;
    let leased = lease(&node, "q", 1).await.pop().unwrap();
    let (id, token) = (leased.job.id, leased.attempt().unwrap().token);
    for is_first in [true, false] {
        let tx = client.transaction().await.unwrap();
        tx.execute("INSERT INTO parcels VALUES ($1)", &[&id.to_string()]).await.unwrap();
        match user_tx::complete(&tx, &config.schema, id, token, None).await {
            Ok(state) => {
                assert_eq!((state, is_first), (State::Completed, true));
                tx.commit().await.unwrap();
            }
            Err(UserTxError::Refused(Refusal::LeaseLost { state })) => {
                assert_eq!((state, is_first), (State::Completed, false));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    let parcels: i64 = client.query_one("SELECT count(*) FROM parcels", &[]).await.unwrap().get(0);
    assert_eq!(parcels, 1);
    client.batch_execute("SET onefold.repeated_end = 'first_answer'").await.unwrap();
    let first = user_tx::complete(&client, &config.schema, id, token, None).await.unwrap();
    assert_eq!(first, State::Completed);
}

/// I5, I7: three nodes hold a job one after the other; all three holders write their row and complete it in one
/// transaction, in whatever order: there is one row, and the others were told by our SQLSTATE.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_of_three_holders_one_after_another_one_writes() {
    const JOBS: usize = 40;
    let config = config();
    let nodes = [node(&config).await, node(&config).await, node(&config).await];
    add(&nodes[0], "q", vec![NewJob::default(); JOBS]).await;
    let watcher = other(&config).await;
    // Nothing but the token keeps a job from being written twice.
    watcher.batch_execute("CREATE TABLE shipments (job text, holder integer)").await.unwrap();
    let mut holders = Vec::new();
    for (place, node) in nodes.iter().enumerate() {
        let last = place == nodes.len() - 1;
        let lease = DurationMs::from_ms(if last { 60_000 } else { 100 });
        let leased = node.lease(LeaseParams { lease, ..call("q", JOBS as u32) }).await.unwrap();
        assert_eq!(leased.len(), JOBS);
        holders.extend(leased.iter().map(|l| (place, l.job.id, l.attempt().unwrap().token)));
        let mut lost = 0;
        while !last && lost < JOBS as u64 {
            lost += node.tick().await.unwrap().expired;
        }
    }
    // Old and current holders of the same job at once, and one before or after the other.
    holders.sort_by_key(|(place, id, _)| (id.seq().get() % 3 == 0 && *place == 2, id.seq(), *place));
    let mut writing = Vec::new();
    for part in holders.chunks(JOBS.div_ceil(2)).map(<[_]>::to_vec) {
        let config = config.clone();
        writing.push(tokio::spawn(async move {
            let mut client = other(&config).await;
            let mut refused = 0;
            for (holder, id, token) in part {
                let tx = client.transaction().await.unwrap();
                let row = "INSERT INTO shipments VALUES ($1, $2)";
                tx.execute(row, &[&id.to_string(), &(holder as i32)]).await.unwrap();
                match user_tx::complete(&tx, &config.schema, id, token, Some(b"{}")).await {
                    Ok(state) => {
                        assert_eq!((state, holder), (State::Completed, 2));
                        tx.commit().await.unwrap();
                    }
                    Err(UserTxError::Refused(Refusal::LeaseLost { .. })) => {
                        refused += 1;
                        // Whatever it tries, its transaction has failed.
                        let committed = tx.batch_execute("COMMIT").await;
                        assert!(committed.is_ok(), "PostgreSQL answers ROLLBACK");
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            refused
        }));
    }
    let mut refused = 0;
    for part in writing {
        refused += part.await.unwrap();
    }
    assert_eq!(refused, 2 * JOBS);
    let rows = watcher.query("SELECT job, holder FROM shipments", &[]).await.unwrap();
    let jobs: BTreeSet<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!((rows.len(), jobs.len()), (JOBS, JOBS), "each exactly once");
    assert!(rows.iter().all(|row| row.get::<_, i32>(1) == 2));
    let counts = nodes[0].queue(queue("q")).await.unwrap().unwrap().counts;
    assert_eq!((counts.completed, counts.unfinished()), (JOBS as u64, 0));
}
