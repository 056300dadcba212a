//! Servers, nodes, and the ways between them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use onefold_e2e::{Client, Server, until};
use onefold_test_postgres::{DATABASE, Server as Postgres, USER};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::Proxy;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the primary calls its standby.
const STANDBY: &str = "standby";

/// What is killed here is processes, not machines, so nothing has to reach a disk.
const SETTINGS: &[(&str, &str)] = &[("fsync", "off"), ("full_page_writes", "off")];

/// One store: a primary, a synchronous standby or none, and nodes.
pub struct Cluster {
    /// Gone before the servers are.
    nodes: Vec<Node>,
    /// In two places, which nodes know by their order.
    servers: [Option<Postgres>; 2],
    primary: usize,
    /// Carries what goes between them.
    runtime: Runtime,
    dir: TempDir,
}

/// `onefold serve`, and its ways to both places.
pub struct Node {
    /// The process.
    pub server: Server,
    ways: [Proxy; 2],
}

impl Cluster {
    /// A primary and so many nodes.
    pub fn of_primary(nodes: usize) -> Cluster {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let servers = [Some(Postgres::start(SETTINGS)), None];
        let mut cluster = Cluster { nodes: Vec::new(), servers, primary: 0, runtime, dir };
        for _ in 0..nodes {
            cluster.add_node();
        }
        cluster
    }

    /// A primary, its synchronous standby, and so many nodes.
    pub fn of_primary_and_standby(nodes: usize) -> Cluster {
        let mut cluster = Cluster::of_primary(0);
        cluster.add_standby();
        for _ in 0..nodes {
            cluster.add_node();
        }
        cluster
    }

    fn add_node(&mut self) {
        let ways = [0, 1].map(|place| {
            let nobody = self.dir.path().join("nobody");
            let socket = self.servers[place].as_ref().map_or(nobody, Postgres::socket);
            Proxy::to(&socket, self.runtime.handle())
        });
        let server = Server::start_on(&url(&ways), self.dir.path(), &[]);
        let server = server.unwrap_or_else(|errors| panic!("the node did not start: {errors}"));
        self.nodes.push(Node { server, ways });
    }

    /// A new standby takes the free place, and the primary acknowledges nothing from now on that it does not have.
    pub fn add_standby(&mut self) {
        let place = 1 - self.primary;
        let standby = Postgres::standby_of(self.primary(), STANDBY, SETTINGS);
        for node in &self.nodes {
            node.ways[place].lead_to(&standby.socket());
        }
        self.servers[place] = Some(standby);
        self.primary().psql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'"));
        self.primary().psql("SELECT pg_reload_conf()");
        until("the standby to be synchronous", PATIENCE, || {
            let state = self.primary().psql("SELECT sync_state FROM pg_stat_replication");
            (state == "sync").then_some(())
        });
    }

    /// The primary.
    pub fn primary(&self) -> &Postgres {
        self.servers[self.primary].as_ref().expect("there is a primary")
    }

    /// Stops the primary without a goodbye.
    pub fn stop_primary(&mut self) {
        self.primary().stop_immediately();
    }

    /// Makes the standby the primary; what was one is gone for good.
    pub fn promote(&mut self) {
        self.servers[self.primary] = None;
        self.promote_beside();
    }

    /// Makes the standby the primary; what was one stays as it is.
    pub fn promote_beside(&mut self) {
        self.primary = 1 - self.primary;
        self.primary().promote();
    }

    /// Cuts all nodes off from the primary, which goes on without them.
    pub fn cut_primary_off(&self) {
        self.nodes.iter().for_each(|node| node.ways[self.primary].cut());
    }

    /// A node.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// A node, to be killed or started again.
    pub fn server(&mut self, number: usize) -> &mut Server {
        &mut self.nodes[number].server
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.server.address()).collect()
    }

    /// How those reach the servers who use none of the nodes' ways.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.servers.iter().flatten().map(|server| server.directory().display().to_string()).collect();
        format!("host={} user={USER} dbname={DATABASE} target_session_attrs=read-write", hosts.join(","))
    }

    /// A directory that goes with the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Node {
    /// A client of it.
    pub fn client(&self) -> Client {
        self.server.client()
    }

    /// Its way to the first place, where the primary is at first.
    pub fn way(&self) -> &Proxy {
        &self.ways[0]
    }

    /// What it sends is lost, and what is sent to it.
    pub fn cut_off(&self) {
        self.ways.iter().for_each(Proxy::cut);
    }

    /// Undoes [`Node::cut_off`].
    pub fn heal(&self) {
        self.ways.iter().for_each(Proxy::heal);
    }

    /// Breaks all its connections to the servers.
    pub fn reset(&self) {
        self.ways.iter().for_each(Proxy::reset);
    }

    /// What its `--postgres` is.
    pub fn url(&self) -> String {
        url(&self.ways)
    }
}

fn url(ways: &[Proxy; 2]) -> String {
    let [first, second] = ways.each_ref().map(Proxy::address);
    format!(
        "host={},{} port={},{} user={USER} dbname={DATABASE} target_session_attrs=read-write",
        first.ip(),
        second.ip(),
        first.port(),
        second.port(),
    )
}
