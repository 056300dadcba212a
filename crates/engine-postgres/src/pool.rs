//! Connections: lent one transaction at a time, each with its prepared statements.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt, pin_mut};
use onefold_core::{EngineError, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement};

use crate::Time;
use crate::clock::DatabaseClock;
use crate::connect::{Hosts, NoConnection, Opened, Warnings};
use crate::error::{Fault, Outcome, connecting, corrupt};
use crate::sql::{Sql, Statements};
use crate::tls::Tls;

/// What a statement is given.
pub(crate) type Params = Vec<Box<dyn ToSql + Sync + Send>>;

/// What a statement gave back.
pub(crate) struct Reply {
    pub(crate) rows: Vec<Row>,
    pub(crate) affected: u64,
}

/// Puts values into [`Params`].
#[macro_export]
#[doc(hidden)]
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$(Box::new($value) as Box<dyn tokio_postgres::types::ToSql + Sync + Send>),*] };
}

/// Plans that never read a table from end to end, made once: our statements go by keys, and figures a planner has of a
/// young queue are wrong a minute later.
pub(crate) const SESSION: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET enable_bitmapscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan; \
    SET client_min_messages = warning; SET DateStyle = ISO; ";

/// A node that is cut off in the middle of a transaction keeps others from its rows no longer than this: the server takes the
/// transaction back. Ours never let the server wait.
const LOST_AFTER: &str = "SET idle_in_transaction_session_timeout = 5000; ";

/// The server notices that a node is gone for good which said no goodbye, and lends its connections to others.
const GONE_AFTER: &str =
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; ";

/// Whoever waits so long for an answer looks whether the server still talks to anybody. What takes its time on a server that
/// does is waited for: a statement with much to do, a commit without its synchronous standby.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

const SAYS_NOTHING: &str = "it keeps our connections, but says nothing";

pub(crate) struct PoolOptions {
    pub(crate) server: tokio_postgres::Config,
    pub(crate) tls: Tls,
    pub(crate) schema: String,
    pub(crate) transaction_pooler: bool,
    pub(crate) connections: usize,
    pub(crate) connect_within: Duration,
    pub(crate) lend_within: Duration,
    pub(crate) lock_wait: Duration,
    /// Is told the database's time.
    pub(crate) clock: Arc<DatabaseClock>,
    /// Whose time counts.
    pub(crate) time: Time,
}

pub(crate) struct Pool {
    pub(crate) options: PoolOptions,
    statements: Statements,
    types: Vec<Vec<Type>>,
    hosts: Hosts,
    idle: Mutex<Option<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    runtime: Handle,
}

struct Connection {
    client: Client,
    host: usize,
    task: AbortHandle,
    warnings: Warnings,
    /// It is waited for no longer.
    silent: bool,
    prepared: Vec<Option<Statement>>,
    /// What a transaction has to set for itself.
    begin: String,
}

/// The types of a statement's parameters, each of which names its own at least once.
pub(crate) fn types_of(text: &str) -> Vec<Type> {
    let mut types: Vec<Option<Type>> = Vec::new();
    for part in text.split('$').skip(1) {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        let Ok(number) = digits.parse::<usize>() else { continue };
        let Some(name) = part.get(digits.len()..).and_then(|rest| rest.strip_prefix("::")) else { continue };
        let name: String =
            name.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '[' | ']')).collect();
        let known = match name.as_str() {
            "bigint" => Type::INT8,
            "bigint[]" => Type::INT8_ARRAY,
            "integer" => Type::INT4,
            "integer[]" => Type::INT4_ARRAY,
            "smallint" => Type::INT2,
            "smallint[]" => Type::INT2_ARRAY,
            "text" => Type::TEXT,
            "text[]" => Type::TEXT_ARRAY,
            "bytea" => Type::BYTEA,
            "bytea[]" => Type::BYTEA_ARRAY,
            "boolean[]" => Type::BOOL_ARRAY,
            "tid[]" => Type::TID_ARRAY,
            _ => continue,
        };
        types.resize(types.len().max(number), None);
        if let Some(place) = number.checked_sub(1).and_then(|place| types.get_mut(place)) {
            place.get_or_insert(known);
        }
    }
    types.into_iter().flatten().collect()
}

impl Pool {
    pub(crate) fn new(options: PoolOptions, runtime: Handle) -> Pool {
        let statements = Statements::new(&options.schema);
        let types = statements.all().map(types_of).collect();
        let permits = Arc::new(Semaphore::new(options.connections));
        let hosts = Hosts::of(&options.server, &options.tls, options.connect_within);
        Pool { options, statements, types, hosts, idle: Mutex::new(Some(Vec::new())), permits, runtime }
    }

    fn idle(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection in a new transaction, with the database's time. With `lock_wait` it waits so long for locks instead
    /// of as long as usual.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        lock_wait: Option<Duration>,
    ) -> Outcome<(Transaction, Timestamp)> {
        let permits = Arc::clone(&self.permits).acquire_owned();
        let permit = match tokio::time::timeout(self.options.lend_within, permits).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(EngineError::Closed.into()),
            Err(_) => return Err(EngineError::Busy.into()),
        };
        let idle = self.idle().as_mut().ok_or(EngineError::Closed)?.pop();
        let mut connection = match idle.filter(|connection| !connection.client.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let begin = match lock_wait {
            None => connection.begin.clone(),
            Some(wait) => format!("{}; SET LOCAL lock_timeout = {}", connection.begin, wait.as_millis()),
        };
        let host = connection.host;
        let Some(answer) = self.answered(host, connection.client.simple_query(&begin)).await else {
            connection.silent = true;
            return Err(Fault::Unreachable(SAYS_NOTHING.to_owned()));
        };
        let answer = answer?;
        let now = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| i64::from_str(text).ok()),
            _ => None,
        });
        let now = now
            .and_then(Timestamp::from_unix_ms)
            .ok_or_else(|| corrupt("the database does not tell its time"))?;
        self.options.clock.set(now);
        Ok((Transaction { pool: Arc::clone(self), connection: Some(connection), permit: Some(permit) }, now))
    }

    /// The server's answer; nothing if there is none, and the server talks to nobody else either.
    async fn answered<T>(&self, host: usize, answer: impl Future<Output = T>) -> Option<T> {
        pin_mut!(answer);
        loop {
            if let Ok(answer) = tokio::time::timeout(ANSWER_WITHIN, &mut answer).await {
                return Some(answer);
            }
            if !self.hosts.answers(host, &self.runtime).await {
                return None;
            }
        }
    }

    async fn connect(&self) -> Outcome<Connection> {
        let opened = self.hosts.connect(&self.runtime, |_| {}).await.map_err(|failed| match failed {
            NoConnection::Refused(error) => connecting(&error),
            NoConnection::Silence => Fault::Unreachable(failed.to_string()),
        })?;
        let (host, task) = (opened.host, opened.task.clone());
        match self.answered(host, self.prepare_session(opened)).await {
            Some(connection) => connection,
            None => {
                task.abort();
                Err(Fault::Unreachable(SAYS_NOTHING.to_owned()))
            }
        }
    }

    async fn prepare_session(&self, opened: Opened) -> Outcome<Connection> {
        let Opened { client, host, task, warnings } = opened;
        let synchronous = client.simple_query("SHOW synchronous_commit").await?;
        let is_stronger = synchronous.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("remote_apply"),
            _ => false,
        });
        let durable = if is_stronger { "remote_apply" } else { "on" };
        let lock_wait = self.options.lock_wait.as_millis();
        // Set even if it is so already: what the server is configured to may change under a session.
        let mut settings = format!(
            "{SESSION}{LOST_AFTER}SET lock_timeout = {lock_wait}; SET synchronous_commit = {durable}; "
        );
        let mut begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; ".to_owned();
        if self.options.transaction_pooler {
            begin.push_str(&settings.replace("SET ", "SET LOCAL "));
        } else {
            settings.push_str(GONE_AFTER);
            client.batch_execute(&settings).await?;
        }
        begin.push_str("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint");
        Ok(Connection {
            client,
            host,
            task,
            warnings,
            silent: false,
            prepared: vec![None; self.statements.len()],
            begin,
        })
    }

    /// Waits until nothing is lent, but not for ever.
    pub(crate) async fn idle_again(&self) {
        let all = u32::try_from(self.options.connections).unwrap_or(u32::MAX);
        // Whoever takes longer is cut off by the close that follows.
        let _ = tokio::time::timeout(self.options.lend_within, self.permits.acquire_many(all)).await;
    }

    /// Lends nothing any more and closes what is not lent.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle().take();
    }
}

/// A lent connection in an open transaction. Dropped without a commit, it is closed, which takes
/// everything back.
pub(crate) struct Transaction {
    pool: Arc<Pool>,
    connection: Option<Connection>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Transaction {
    fn connection(&mut self) -> Outcome<&mut Connection> {
        self.connection.as_mut().ok_or_else(|| EngineError::Closed.into())
    }

    /// What the server answers, if it does.
    async fn answered<T>(
        &mut self,
        ask: impl AsyncFnOnce(&Pool, &mut Connection) -> Outcome<T>,
    ) -> Outcome<T> {
        let pool = Arc::clone(&self.pool);
        let connection = self.connection()?;
        let host = connection.host;
        let answer = pool.answered(host, ask(&pool, connection)).await;
        answer.unwrap_or_else(|| {
            if let Some(connection) = &mut self.connection {
                connection.silent = true;
            }
            Err(Fault::Unreachable(SAYS_NOTHING.to_owned()))
        })
    }

    /// Runs statements one after the other without waiting in between.
    pub(crate) async fn pipeline(&mut self, batch: Vec<(Sql, Params)>) -> Outcome<Vec<Reply>> {
        self.answered(async |pool, connection| connection.pipeline(pool, batch).await).await
    }

    pub(crate) async fn run(&mut self, sql: Sql, params: Params) -> Outcome<Reply> {
        let mut replies = self.pipeline(vec![(sql, params)]).await?;
        replies.pop().ok_or_else(|| corrupt("a statement without a reply"))
    }

    pub(crate) async fn rows(&mut self, sql: Sql, params: Params) -> Outcome<Vec<Row>> {
        Ok(self.run(sql, params).await?.rows)
    }

    /// Runs a statement that is not one of ours and takes nothing.
    pub(crate) async fn look(&mut self, text: &str) -> Outcome<Vec<Row>> {
        self.answered(async |_, connection| Ok(connection.client.query_typed(text, &[]).await?)).await
    }

    /// What the database's clock shows in a row, if that is whose time counts.
    pub(crate) fn time_in(&self, row: &Row, column: usize) -> Outcome<Option<Timestamp>> {
        match self.pool.options.time {
            Time::Database => Ok(Timestamp::from_unix_ms(row.try_get(column)?)),
            Time::Clock => Ok(None),
        }
    }

    /// Makes it durable.
    pub(crate) async fn commit(mut self) -> Outcome<()> {
        let Some(mut connection) = self.connection.take() else { return Err(EngineError::Closed.into()) };
        let warned = connection.warnings.count();
        match self.pool.answered(connection.host, connection.client.batch_execute("COMMIT")).await {
            // A commit that was kept from waiting for its standby is one, with a warning.
            Some(Ok(())) if connection.warnings.count() != warned => {
                tracing::warn!("a commit was cut short while it waited for the synchronous standby");
                self.give_back(connection);
                Err(EngineError::OutcomeUnknown.into())
            }
            Some(Ok(())) => {
                self.give_back(connection);
                Ok(())
            }
            // Without an answer, or with one that the server is going down, nobody knows.
            None => {
                connection.silent = true;
                Err(EngineError::OutcomeUnknown.into())
            }
            Some(Err(error)) => match error.code().map(|state| state.code()) {
                None | Some("57P01" | "57P02" | "57P03") => Err(EngineError::OutcomeUnknown.into()),
                Some(code) if code.starts_with("08") => Err(EngineError::OutcomeUnknown.into()),
                Some(_) => Err(error.into()),
            },
        }
    }

    /// Takes everything back.
    pub(crate) async fn roll_back(mut self) {
        let Some(mut connection) = self.connection.take().filter(|connection| !connection.silent) else {
            return;
        };
        match self.pool.answered(connection.host, connection.client.batch_execute("ROLLBACK")).await {
            Some(Ok(())) => self.give_back(connection),
            Some(Err(_)) => {}
            None => connection.silent = true,
        }
    }

    fn give_back(&mut self, connection: Connection) {
        if let Some(idle) = self.pool.idle().as_mut() {
            idle.push(connection);
        }
        self.permit.take();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.silent {
            // Its other half would wait for what was asked.
            self.task.abort();
        }
    }
}

impl Connection {
    async fn pipeline(&mut self, pool: &Pool, batch: Vec<(Sql, Params)>) -> Outcome<Vec<Reply>> {
        if pool.options.transaction_pooler {
            let client = &self.client;
            let replies =
                batch.into_iter().map(|(sql, params)| {
                    let types = pool.types.get(sql.place()).cloned().unwrap_or_default();
                    let text = pool.statements.text(sql);
                    async move {
                        collect(client.query_typed_raw(text, params.into_iter().zip(types)).await?).await
                    }
                });
            return first_fault(join_all(replies).await);
        }
        let missing: Vec<Sql> = batch.iter().map(|(sql, _)| *sql).collect();
        self.prepare(&pool.statements, missing).await?;
        let client = &self.client;
        let prepared = &self.prepared;
        let replies = batch.into_iter().map(|(sql, params)| async move {
            let statement = prepared.get(sql.place()).and_then(Option::as_ref);
            let statement = statement.ok_or_else(|| corrupt("a statement is not prepared"))?;
            collect(client.query_raw(statement, params).await?).await
        });
        first_fault(join_all(replies).await)
    }

    async fn prepare(&mut self, statements: &Statements, wanted: Vec<Sql>) -> Outcome<()> {
        let is_missing = |sql: &Sql| self.prepared.get(sql.place()).is_some_and(Option::is_none);
        let mut missing: Vec<Sql> = wanted.into_iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.dedup();
        let client = &self.client;
        let made = try_join_all(missing.iter().map(|sql| client.prepare(statements.text(*sql)))).await?;
        for (sql, statement) in missing.into_iter().zip(made) {
            if let Some(place) = self.prepared.get_mut(sql.place()) {
                *place = Some(statement);
            }
        }
        Ok(())
    }
}

async fn collect(stream: tokio_postgres::RowStream) -> Outcome<Reply> {
    pin_mut!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.next().await {
        rows.push(row?);
    }
    Ok(Reply { rows, affected: stream.rows_affected().unwrap_or(0) })
}

/// After the first error the others are only its echo.
fn first_fault(replies: Vec<Outcome<Reply>>) -> Outcome<Vec<Reply>> {
    replies.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_every_statement_names_its_type() {
        let statements = Statements::new("s");
        for text in statements.all() {
            let highest = text
                .split('$')
                .skip(1)
                .filter_map(|part| {
                    part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
                })
                .max()
                .unwrap_or(0_usize);
            assert_eq!(types_of(text).len(), highest, "{text}");
        }
    }
}
