//! The database.

use onefold_core::Timestamp;
use onefold_engine_postgres::inspect::{Holder, HolderKind, Inspector, Standby, TableFacts};
use onefold_engine_postgres::{OpenError, SCHEMA_VERSION};

use super::{Line, Report};
use crate::config::{Bytes, PostgresSettings};
use crate::failure::Failure;
use crate::serve::told_of;
use crate::table::some;
use crate::time::now;

/// A clock is off by so many milliseconds.
const CLOCK_OFF: u64 = 1_000;
/// A transaction open for so many seconds holds back what may be cleaned up.
const OPEN_LONG: i64 = 60;
/// So many transactions have begun since something unused last moved.
const UNMOVED: i64 = 1_000_000;
/// Fewer dead rows in a table cost nothing worth telling.
const DEAD_MANY: i64 = 20_000;
/// A smaller table costs nothing worth telling, however loose it is.
const LOOSE_BYTES: i64 = 64 << 20;
/// Of two thousand million.
const XIDS_MANY: i64 = 1_000_000_000;
const XIDS_TOO_MANY: i64 = 1_900_000_000;

/// Checks the database; whether a node serves it.
pub(super) async fn check(settings: &PostgresSettings, report: &mut Report) -> Result<bool, Failure> {
    match look(settings, report).await {
        Ok(served) => served,
        Err(error) => {
            report.tell(Line::fail("database", error.to_string()))?;
            Ok(false)
        }
    }
}

/// The outer error is the database's.
async fn look(settings: &PostgresSettings, report: &mut Report) -> Result<Result<bool, Failure>, OpenError> {
    let inspector = Inspector::connect(&settings.config).await?;
    let before = now();
    let server = inspector.server().await?;
    let after = now();
    let place = settings.config.place();
    let mut lines = vec![Line::ok("database", format!("{place}, PostgreSQL {}", server.version))];
    lines.push(clock(before, server.now, after));
    if !server.shows_others {
        lines.push(Line::warn(
            "access",
            "the role does not see what other sessions do, so some lines below know less: GRANT pg_monitor to it",
        ));
    }
    let version = inspector.schema_version().await;
    let schema = &settings.config.schema;
    let is_there = match version {
        Ok(Some(SCHEMA_VERSION)) => {
            lines.push(Line::ok("schema", format!("{schema}, version {SCHEMA_VERSION}")));
            true
        }
        Ok(None) => {
            lines.push(Line::warn(
                "schema",
                format!(
                    "there is no store in the schema {schema}: `onefold serve` makes one; if there should be one, name \
                     its schema with --postgres-schema"
                ),
            ));
            false
        }
        Ok(Some(found)) if found > SCHEMA_VERSION => {
            let known = SCHEMA_VERSION;
            lines.push(Line::fail("schema", OpenError::Newer { found, known }.to_string()));
            false
        }
        Ok(Some(found)) => {
            let needed = SCHEMA_VERSION;
            lines.push(Line::fail("schema", OpenError::Older { found, needed }.to_string()));
            false
        }
        Err(error) => {
            lines.push(Line::fail("schema", error.to_string()));
            false
        }
    };
    let mut nodes = 0;
    if is_there {
        let store = inspector.store().await?;
        nodes = store.nodes;
        lines.push(serving(store.nodes, store.served_seconds_ago));
        lines.push(match store.unbalanced {
            0 => Line::ok("conservation", format!("no job of {} is missing (I2)", count(store.queues, "queue"))),
            queues => Line::fail(
                "conservation",
                format!(
                    "the jobs of {} do not add up (I2): see `onefold queues`. Keep a copy of the database, and restore \
                     the latest backup",
                    count(queues, "queue")
                ),
            ),
        });
        lines.push(match store.tokens_ahead {
            0 => Line::ok("tokens", "every running job has a token that was handed out (I4)"),
            ahead => Line::fail(
                "tokens",
                format!("{} above the next token (I4): start a node, which raises it", count(ahead, "token")),
            ),
        });
    }
    lines.extend(durability(&inspector.settings().await?, inspector.standby().await?));
    lines.push(connections(settings, &server, nodes));
    lines.push(xids(server.xid_age));
    let holders = inspector.holders().await?;
    lines.extend(horizon(&holders));
    if is_there {
        lines.extend(tables(schema, &inspector.tables().await?, &holders));
    }
    Ok(lines.into_iter().try_for_each(|line| report.tell(line)).map(|()| nodes > 0))
}

fn count(number: i64, what: &str) -> String {
    some(u64::try_from(number).unwrap_or(0), what)
}

fn size(bytes: i64) -> Bytes {
    Bytes(u64::try_from(bytes).unwrap_or(0))
}

fn clock(before: Timestamp, database: Timestamp, after: Timestamp) -> Line {
    let ms = |time: Timestamp| time.as_unix_ms();
    let ahead = ms(before).saturating_sub(ms(database));
    let behind = ms(database).saturating_sub(ms(after));
    let off = u64::try_from(ahead.max(behind)).unwrap_or(0);
    if off < CLOCK_OFF {
        return Line::ok("clock", "this machine's and the database's agree");
    }
    let where_to = if ahead > behind { "ahead of" } else { "behind" };
    Line::warn(
        "clock",
        format!(
            "this machine's clock is {}.{} s {where_to} the database's: jobs go by the database's alone, but times in \
             logs do not fit together; set the one that is wrong",
            off / 1_000,
            off % 1_000 / 100
        ),
    )
}

fn serving(nodes: i64, served_seconds_ago: Option<i64>) -> Line {
    match (nodes, served_seconds_ago) {
        (1.., _) => Line::ok("nodes", format!("served by {}", count(nodes, "node"))),
        (_, None) => Line::ok("nodes", "served by nobody yet"),
        (_, Some(ago)) => Line::warn(
            "nodes",
            format!("served by nobody for {ago} s: start one with `onefold serve --postgres`"),
        ),
    }
}

/// What a crash or a failover would cost, and settings that cost something sooner or later.
fn durability(settings: &[(String, String)], standby: Standby) -> Vec<Line> {
    let of = |name: &str| settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut lines = Vec::new();
    for (name, loses) in [("fsync", "acknowledged jobs"), ("full_page_writes", "the whole store")] {
        if of(name) == Some("off") {
            lines.push(Line::fail(
                "settings",
                format!("{name} is off: a crash of the database's machine may lose {loses}; turn it on"),
            ));
        }
    }
    if let Some(weak @ ("off" | "local")) = of("synchronous_commit") {
        lines.push(Line::warn(
            "settings",
            format!(
                "synchronous_commit is {weak}: nodes turn it on for themselves, but a job added or completed in a \
                 transaction of your own is only as durable as that; turn it on for those who do"
            ),
        ));
    }
    if of("autovacuum") == Some("off") || of("track_counts") == Some("off") {
        lines.push(Line::fail(
            "settings",
            "autovacuum is off: the tables grow and slow down for ever; turn on autovacuum and track_counts",
        ));
    }
    if of("idle_in_transaction_session_timeout") == Some("0") {
        lines.push(Line::warn(
            "settings",
            "idle_in_transaction_session_timeout is 0: a transaction somebody forgot holds keys and what may be cleaned \
             up for ever; set it for those who use the database, for example to 60s",
        ));
    }
    for name in ["statement_timeout", "transaction_timeout"] {
        let limit = of(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        if (1..10_000).contains(&limit) {
            lines.push(Line::warn(
                "settings",
                format!("{name} is {limit} ms: large batches may not fit; set it to 10s or more, or 0, for our role"),
            ));
        }
    }
    if let Some(isolation) =
        of("default_transaction_isolation").filter(|isolation| *isolation != "read committed")
    {
        lines.push(Line::warn(
            "settings",
            format!(
                "default_transaction_isolation is {isolation}: nodes choose their own, but a transaction of your own \
                 that adds or completes jobs has to be tried again on 40001"
            ),
        ));
    }
    if lines.is_empty() {
        lines.push(Line::ok("settings", "nothing that loses or slows down"));
    }
    lines.push(match (standby, told_of(standby).1) {
        (Standby::Missing, Some(note)) => Line::fail("standby", note),
        (_, Some(note)) => Line::warn("standby", note),
        (_, None) => Line::ok("standby", "commits wait for a synchronous standby, and one is connected"),
    });
    lines
}

fn connections(
    settings: &PostgresSettings,
    server: &onefold_engine_postgres::inspect::ServerFacts,
    nodes: i64,
) -> Line {
    // One besides the pool, to hear of other nodes.
    let pool = i64::try_from(settings.config.connections).unwrap_or(i64::MAX).saturating_add(1);
    let others = server.connections - server.connections_ours;
    let wanted = nodes.max(1).saturating_mul(pool).saturating_add(others);
    let max = server.connections_max;
    match wanted > max {
        true => Line::warn(
            "connections",
            format!(
                "{} with {pool} connections each and {others} others may want {wanted}, and the database takes {max}: \
                 raise max_connections, or lower --postgres-connections",
                count(nodes.max(1), "node")
            ),
        ),
        false => Line::ok("connections", format!("{} of {max} in use", server.connections)),
    }
}

fn xids(age: i64) -> Line {
    let told = format!("{} million transactions since the oldest row was frozen", age / 1_000_000);
    match age {
        XIDS_TOO_MANY.. => {
            Line::fail("wraparound", format!("{told}: the database will stop; VACUUM FREEZE it now"))
        }
        XIDS_MANY.. => Line::warn(
            "wraparound",
            format!("{told}: autovacuum does not keep up; see what holds it back below"),
        ),
        _ => Line::ok("wraparound", told),
    }
}

/// Who holds back what may be cleaned up.
fn horizon(holders: &[Holder]) -> Vec<Line> {
    let lines: Vec<Line> = holders.iter().filter_map(holder).collect();
    match lines.is_empty() {
        true => vec![Line::ok("horizon", "nobody holds back what may be cleaned up")],
        false => lines,
    }
}

fn holder(holder: &Holder) -> Option<Line> {
    let Holder { kind, name, state, seconds, age } = holder;
    let cost = format!("dead rows of the last {age} transactions cannot be cleaned up");
    let told = match kind {
        HolderKind::Session { pid } if *seconds >= OPEN_LONG => format!(
            "session {pid} of {name:?} ({state}) has had a transaction open for {seconds} s: {cost}; end it there, or SELECT \
             pg_terminate_backend({pid})"
        ),
        HolderKind::Prepared if *seconds >= OPEN_LONG => format!(
            "the transaction {name:?} was prepared {seconds} s ago and not ended: {cost}; COMMIT PREPARED or ROLLBACK \
             PREPARED it"
        ),
        HolderKind::Slot if *age >= UNMOVED => format!(
            "the replication slot {name:?} ({state}) has not moved: {cost}; start what reads it, or SELECT \
             pg_drop_replication_slot({})",
            literal(name)
        ),
        HolderKind::Standby if *age >= UNMOVED => format!(
            "the standby {name:?} has a reader that holds back the primary (hot_standby_feedback): {cost}; end that query"
        ),
        HolderKind::Session { .. } | HolderKind::Prepared | HolderKind::Slot | HolderKind::Standby => {
            return None;
        }
    };
    Some(Line::warn("horizon", told))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn tables(schema: &str, tables: &[TableFacts], holders: &[Holder]) -> Vec<Line> {
    let held = holders.iter().any(|one| holder(one).is_some());
    let name = |table: &TableFacts| format!("\"{}\".\"{}\"", schema.replace('"', "\"\""), table.name);
    let mut lines = Vec::new();
    for table in tables {
        if table.dead > DEAD_MANY && table.dead > table.live / 5 {
            let last = match table.vacuumed_seconds_ago {
                Some(ago) => format!("vacuumed {ago} s ago"),
                None => "never vacuumed".to_owned(),
            };
            let advice = match held {
                true => "end what holds it back, see horizon; autovacuum does the rest".to_owned(),
                false => format!("VACUUM {}, and see why autovacuum does not come", name(table)),
            };
            lines.push(Line::warn(
                "dead rows",
                format!(
                    "{} has {} beside {} live ones, {last}: {advice}",
                    table.name, table.dead, table.live
                ),
            ));
        }
        let loose = table.needed_bytes.map_or(0, |needed| table.bytes - needed.saturating_mul(2));
        if loose > LOOSE_BYTES {
            lines.push(Line::warn(
                "bloat",
                format!(
                    "{} takes {}, of which it needs about {}: pg_repack it, or VACUUM FULL {} while nothing is served",
                    table.name,
                    size(table.bytes),
                    size(table.needed_bytes.unwrap_or(0)),
                    name(table)
                ),
            ));
        }
        // Some 40 bytes an entry and index; most tables have one or two.
        if table.index_bytes > LOOSE_BYTES && table.index_bytes / 400 > table.live + table.dead {
            lines.push(Line::warn(
                "bloat",
                format!(
                    "the indexes of {} take {} for {} rows: REINDEX TABLE CONCURRENTLY {}",
                    table.name,
                    size(table.index_bytes),
                    table.live,
                    name(table)
                ),
            ));
        }
    }
    if lines.is_empty() {
        let all: i64 = tables.iter().map(|table| table.bytes.saturating_add(table.index_bytes)).sum();
        let dead: i64 = tables.iter().map(|table| table.dead).sum();
        lines.push(Line::ok("tables", format!("{} in all, {}", size(all), count(dead, "dead row"))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn holder_of(kind: HolderKind, seconds: i64, age: i64) -> Holder {
        Holder { kind, name: "it's".to_owned(), state: "idle in transaction".to_owned(), seconds, age }
    }

    /// Whoever holds back for long is named with what to do about it; whoever works is not.
    #[test]
    fn who_holds_back_is_named_with_what_to_do() {
        let told = |kind, seconds, age| holder(&holder_of(kind, seconds, age)).map(|line| line.detail);
        let session = HolderKind::Session { pid: 4711 };
        assert_eq!(told(session.clone(), OPEN_LONG - 1, UNMOVED), None);
        assert!(told(session, OPEN_LONG, 1).unwrap().contains("pg_terminate_backend(4711)"));
        assert!(told(HolderKind::Prepared, OPEN_LONG, 1).unwrap().contains("ROLLBACK PREPARED"));
        assert_eq!(told(HolderKind::Slot, 0, UNMOVED - 1), None);
        assert!(told(HolderKind::Slot, 0, UNMOVED).unwrap().contains("pg_drop_replication_slot('it''s')"));
        assert!(told(HolderKind::Standby, 0, UNMOVED).unwrap().contains("hot_standby_feedback"));
        assert_eq!(horizon(&[])[0].verdict, Verdict::Ok);
    }

    #[test]
    fn dead_rows_and_bloat_are_told_where_they_cost_something() {
        let table = |live, dead, bytes, needed| TableFacts {
            name: "ready".to_owned(),
            live,
            dead,
            bytes,
            index_bytes: 0,
            vacuumed_seconds_ago: None,
            needed_bytes: Some(needed),
        };
        let told = |facts: TableFacts, holders: &[Holder]| {
            let lines = tables("my \"schema\"", &[facts], holders);
            lines.into_iter().map(|line| (line.check, line.detail)).collect::<Vec<_>>()
        };
        assert_eq!(told(table(1_000, DEAD_MANY, 1 << 20, 1 << 20), &[])[0].0, "tables");
        let dead = told(table(1_000, DEAD_MANY + 1, 1 << 20, 1 << 20), &[]);
        assert!(
            dead[0].0 == "dead rows" && dead[0].1.contains("VACUUM \"my \"\"schema\"\"\".\"ready\""),
            "{dead:?}"
        );
        let held = [holder_of(HolderKind::Session { pid: 1 }, OPEN_LONG, 9)];
        let dead = told(table(1_000, DEAD_MANY + 1, 1 << 20, 1 << 20), &held);
        assert!(dead[0].1.contains("see horizon"), "{dead:?}");
        assert_eq!(told(table(DEAD_MANY * 10, DEAD_MANY + 1, 1 << 20, 1 << 20), &[])[0].0, "tables");
        assert_eq!(told(table(1, 0, LOOSE_BYTES + (2 << 20) + 1, 1 << 20), &[])[0].0, "bloat");
    }

    #[test]
    fn settings_that_lose_are_failures_and_those_that_slow_down_are_told() {
        let set = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let first = |settings: Vec<(String, String)>| durability(&settings, Standby::Synchronous).remove(0);
        assert_eq!(first(Vec::new()).verdict, Verdict::Ok);
        for (name, value) in
            [("fsync", "off"), ("full_page_writes", "off"), ("autovacuum", "off"), ("track_counts", "off")]
        {
            assert_eq!(first(set(name, value)).verdict, Verdict::Fail, "{name}");
        }
        for (name, value) in [
            ("synchronous_commit", "off"),
            ("synchronous_commit", "local"),
            ("idle_in_transaction_session_timeout", "0"),
            ("statement_timeout", "5000"),
            ("default_transaction_isolation", "serializable"),
        ] {
            assert_eq!(first(set(name, value)).verdict, Verdict::Warn, "{name}");
        }
        let standby = |standby| durability(&[], standby).pop().unwrap().verdict;
        assert_eq!(standby(Standby::Missing), Verdict::Fail);
        assert_eq!(standby(Standby::None), Verdict::Warn);
        assert_eq!(standby(Standby::Synchronous), Verdict::Ok);
    }

    #[test]
    fn a_clock_is_off_only_beyond_what_the_question_took() {
        let at = |ms: i64| Timestamp::from_unix_ms(1_000_000_000_000 + ms).unwrap();
        let verdict = |before, database, after| clock(at(before), at(database), at(after)).verdict;
        assert_eq!(verdict(0, 1_500, 3_000), Verdict::Ok);
        assert_eq!(verdict(0, -999, 0), Verdict::Ok);
        assert_eq!(verdict(0, -1_000, 0), Verdict::Warn);
        assert!(clock(at(0), at(4_250), at(50)).detail.contains("4.2 s behind"));
    }
}
