//! A throw-away PostgreSQL that keeps its promises: whoever is measured here pays for `fsync`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio_postgres::{Client, NoTls};

use super::Failure;

/// What differs from the defaults, for everybody alike.
pub(super) const SETTINGS: &[&str] =
    &["max_connections=300", "shared_buffers=1GB", "max_wal_size=8GB", "checkpoint_timeout=15min"];

/// Makes a cluster, says where it listens once it does, and takes it away when its input ends.
const SCRIPT: &str = r#"
set -e
bin=$1
shift
dir=$(mktemp -d "${TMPDIR:-/tmp}/onefold-bench.XXXXXX")
server=
trap 'test -z "$server" || { kill -QUIT $server; wait $server; } 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
"$bin/initdb" -D "$dir/data" -U onefold -A trust -E UTF8 --locale=C >"$dir/log" 2>&1
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= "$@" >>"$dir/log" 2>&1 <&- &
server=$!
for try in $(seq 600); do
    if "$bin/pg_isready" -q -h "$dir" -U onefold -d postgres; then break; fi
    kill -0 $server
    sleep 0.05
done
echo "$dir $server"
cat >/dev/null
"#;

/// Its databases are made by name and thrown away with it.
pub(super) struct Server {
    pub(super) host: String,
    pid: u32,
    /// Its input is what keeps it alive.
    _ours: Child,
}

/// What the server has spent so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) wal_bytes: f64,
    pub(super) cpu_us: f64,
    pub(super) commits: f64,
}

impl std::ops::Sub for Spent {
    type Output = Spent;
    fn sub(self, before: Spent) -> Spent {
        Spent {
            wal_bytes: self.wal_bytes - before.wal_bytes,
            cpu_us: self.cpu_us - before.cpu_us,
            commits: self.commits - before.commits,
        }
    }
}

impl Server {
    pub(super) fn start(settings: &[String]) -> Result<Server, Failure> {
        let bin = programs().ok_or("PostgreSQL 14 or newer is needed: install the package postgresql")?;
        // PostgreSQL refuses to run as root.
        let is_root = rustix::process::getuid().is_root();
        let mut command = Command::new(if is_root { "runuser" } else { "sh" });
        if is_root {
            command.args(["-u", "postgres", "--", "sh"]);
        }
        command.args(["-c", SCRIPT, "sh"]).arg(&bin).current_dir("/");
        for setting in SETTINGS.iter().map(|setting| (*setting).to_owned()).chain(settings.iter().cloned()) {
            command.arg("-c").arg(setting);
        }
        let mut ours = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        BufReader::new(ours.stdout.take().ok_or("no output")?).read_line(&mut said)?;
        let (host, pid) = said.trim().split_once(' ').ok_or("PostgreSQL did not start")?;
        Ok(Server { host: host.to_owned(), pid: pid.parse()?, _ours: ours })
    }

    pub(super) fn config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.host).user("onefold").dbname(database);
        config
    }

    pub(super) async fn client(&self, database: &str) -> Result<Client, Failure> {
        let (client, connection) = self.config(database).connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A database nobody used yet.
    pub(super) async fn database(&self, name: &str) -> Result<(), Failure> {
        let client = self.client("postgres").await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(())
    }

    pub(super) async fn drop_database(&self, name: &str) -> Result<(), Failure> {
        let client = self.client("postgres").await?;
        Ok(client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?)
    }

    /// Nobody pays for what somebody else left behind.
    pub(super) async fn settle(&self, database: &str) -> Result<(), Failure> {
        let client = self.client(database).await?;
        client.batch_execute("VACUUM ANALYZE").await?;
        Ok(client.batch_execute("CHECKPOINT").await?)
    }

    pub(super) async fn spent(&self, database: &str) -> Result<Spent, Failure> {
        let client = self.client(database).await?;
        let row = client
            .query_one(
                "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8, xact_commit::float8 FROM pg_stat_database \
                 WHERE datname = current_database()",
                &[],
            )
            .await?;
        Ok(Spent { wal_bytes: row.try_get(0)?, commits: row.try_get(1)?, cpu_us: self.cpu_us() })
    }

    /// Processor time of all its processes, gone ones included.
    fn cpu_us(&self) -> f64 {
        let stats = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let stats = stats.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        stats.filter_map(|pid| Some((pid, Stat::of(pid)?))).fold(0.0, |sum, (pid, stat)| {
            if pid == self.pid {
                sum + stat.own_us + stat.waited_us
            } else if stat.parent == self.pid {
                sum + stat.own_us
            } else {
                sum
            }
        })
    }
}

/// What the system says of a process.
pub(super) struct Stat {
    parent: u32,
    pub(super) own_us: f64,
    waited_us: f64,
}

impl Stat {
    pub(super) fn of(pid: u32) -> Option<Stat> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
        // Clock ticks of 10 ms, as Linux counts for user space.
        let us = |place: usize| fields.get(place).copied().unwrap_or(0.0) * 10_000.0;
        let parent = fields.get(1).copied().unwrap_or(0.0) as u32;
        Some(Stat { parent, own_us: us(11) + us(12), waited_us: us(13) + us(14) })
    }
}

/// The directory of `initdb` and `postgres`: where distributions put them, the newest first, or in PATH.
fn programs() -> Option<PathBuf> {
    let mut packaged: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    packaged.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    packaged
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
}
