//! A PostgreSQL for tests: the one of `DATABASE_URL`, or one of our own that lives as long as the
//! process of the tests and writes to a directory that goes with it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use tokio_postgres::Config;

const MISSING: &str = "these tests need PostgreSQL 14 or newer: install the packages postgresql and postgresql-client \
    (Debian: apt-get install postgresql), put initdb into PATH, or set DATABASE_URL to a database they may use";

/// Makes a cluster, says where it listens once it does, and takes it away when its input ends: however the tests end,
/// the system closes that.
const SCRIPT: &str = r#"
set -e
bin=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/onefold-postgres.XXXXXX")
server=
trap 'test -z "$server" || { kill -QUIT $server; wait $server; } 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
"$bin/initdb" -D "$dir/data" -U onefold -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=off -c full_page_writes=off \
    -c max_connections=300 -c autovacuum=off -c log_min_messages=error >>"$dir/log" 2>&1 <&- &
server=$!
for try in $(seq 600); do
    if "$bin/pg_isready" -q -h "$dir" -U onefold -d postgres; then break; fi
    kill -0 $server || { cat "$dir/log"; exit 1; }
    sleep 0.05
done
echo "$dir"
cat >/dev/null
"#;

struct Server {
    config: Config,
    /// Its input is what keeps it alive.
    ours: Option<Child>,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| match std::env::var("DATABASE_URL") {
    Ok(url) => {
        Server { config: url.parse().expect("DATABASE_URL is the URL of a PostgreSQL database"), ours: None }
    }
    Err(_) => start(),
});

/// How to reach it.
pub(super) fn config() -> Config {
    SERVER.config.clone()
}

/// Whether it goes away with us.
pub(super) fn is_ours() -> bool {
    SERVER.ours.is_some()
}

fn start() -> Server {
    let bin = programs().expect(MISSING);
    // PostgreSQL refuses to run as root.
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let mut command = Command::new(if is_root { "runuser" } else { "sh" });
    if is_root {
        command.args(["-u", "postgres", "--", "sh"]);
    }
    command.args(["-c", SCRIPT, "sh"]).arg(&bin).current_dir("/");
    // It ends a moment after us, and must not hold what waits for the end of our output.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect(MISSING);
    let mut stdout = BufReader::new(child.stdout.take().expect("its output is piped"));
    let mut said = String::new();
    stdout.read_line(&mut said).expect("it says where it listens");
    if !Path::new(said.trim()).is_absolute() {
        stdout.read_to_string(&mut said).expect("it says why it ends");
        panic!("PostgreSQL did not start: {said}; {MISSING}");
    }
    let directory = Path::new(said.trim());
    let mut config = Config::new();
    config.host_path(directory).user("onefold").dbname("postgres");
    Server { config, ours: Some(child) }
}

/// The directory of `initdb` and `postgres`: in PATH, or where distributions put them, the newest first.
fn programs() -> Option<PathBuf> {
    let has_all =
        |dir: &PathBuf| ["initdb", "postgres", "pg_isready"].iter().all(|name| dir.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut packaged: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    packaged.sort();
    packaged.into_iter().rev().chain(std::env::split_paths(&path)).find(has_all)
}
