//! Onefold on PostgreSQL beside pg-boss and graphile-worker: in turn, on one server that syncs what it commits, each at
//! its fastest documented settings, the same 200 bytes a job.

mod contest;
mod floor;
mod node;
mod server;
mod table;
pub(crate) mod xmin;

use std::path::PathBuf;

use contest::{Contestant, Course, Figures};
use node::What;
use server::Server;

pub(crate) use node::run as run_node;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds: everybody runs once in each, the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long jobs are added in each measurement.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Jobs to drain in each measurement.
    #[arg(long, default_value_t = 150_000)]
    jobs: usize,
    /// Processes, each a node.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    nodes: Vec<usize>,
    /// Only these of: onefold, onefold-keyed, pg-boss, graphile-worker.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these of: single, array, drain.
    #[arg(long, value_delimiter = ',')]
    phases: Vec<String>,
    /// Other settings of the server, for everybody: name=value.
    #[arg(long = "set")]
    settings: Vec<String>,
    /// Another build of this program, to be measured beside this one as `baseline`.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Where the peers are installed.
    #[arg(long, default_value = "target/bench/peers")]
    dir: PathBuf,
}

/// What is measured, and what is aimed at beside the better peer.
#[derive(Debug, Clone, Copy)]
struct Phase {
    name: &'static str,
    what: What,
    target: f64,
}

const PHASES: [Phase; 3] = [
    Phase { name: "single", what: What::Single, target: 5.0 },
    Phase { name: "array", what: What::Array, target: 2.0 },
    Phase { name: "drain", what: What::Drain, target: 1.5 },
];

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let wanted = |name: &str, list: &[String]| list.is_empty() || list.iter().any(|one| one == name);
    let mut contestants: Vec<Contestant> =
        Contestant::ALL.into_iter().filter(|contestant| wanted(contestant.name(), &args.only)).collect();
    contestants.extend(args.baseline.clone().map(Contestant::Baseline));
    let peers =
        contestants.iter().any(Contestant::is_peer).then(|| contest::install(&args.dir)).transpose()?;
    let server = Server::start(&args.settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("server: defaults with {}; {} rounds", server::SETTINGS.join(" "), args.rounds);
        let floors = floor::measure(&server, args.seconds.min(4.0)).await?;
        println!(
            "floor, a bare INSERT of 200 bytes: 64 connections {:.0} rows/s; arrays of 50 on 16: {:.0} rows/s",
            floors.single, floors.array
        );
        for nodes in &args.nodes {
            for phase in PHASES.iter().filter(|phase| wanted(phase.name, &args.phases)) {
                let course = Course { server: &server, peers: peers.as_deref(), nodes: *nodes, args };
                let mut rounds: Vec<Vec<Figures>> = Vec::new();
                for round in 0..args.rounds {
                    let mut figures = vec![Figures::default(); contestants.len()];
                    for turn in 0..contestants.len() {
                        let place = (turn + round) % contestants.len();
                        let Some((contestant, slot)) = contestants.get(place).zip(figures.get_mut(place)) else {
                            continue;
                        };
                        *slot = course.run(contestant, *phase).await?;
                        eprintln!("  {} {}: {:.0} jobs/s", phase.name, contestant.name(), slot.rate);
                    }
                    rounds.push(figures);
                }
                table::print(*phase, *nodes, &contestants, &rounds);
            }
        }
        Ok(())
    })
}
