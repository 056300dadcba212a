//! What is printed.

use super::Phase;
use super::contest::{Contestant, Figures};

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// One line a contestant: medians over the rounds, and the ratio to the better peer of the same round.
pub(super) fn print(phase: Phase, nodes: usize, contestants: &[Contestant], rounds: &[Vec<Figures>]) {
    println!("\n{}, {nodes} node{}", phase.name, if nodes == 1 { "" } else { "s" });
    println!(
        "| {:<15} | {:>8} | {:>13} | {:>11} | {:>9} | {:>9} | {:>11} |",
        "", "jobs/s", "x better peer", "server µs", "node µs", "WAL bytes", "commits/job"
    );
    println!("|{:-<17}|{:->10}|{:->15}|{:->13}|{:->11}|{:->11}|{:->13}|", "", "", "", "", "", "", "");
    let best_peer = |figures: &[Figures]| {
        let peers = contestants.iter().zip(figures).filter(|(contestant, _)| contestant.is_peer());
        peers.map(|(_, figures)| figures.rate).fold(0.0, f64::max)
    };
    for (place, contestant) in contestants.iter().enumerate() {
        let of = |value: &dyn Fn(&Figures) -> f64| {
            median(rounds.iter().filter_map(|figures| figures.get(place)).map(value).collect())
        };
        let ratios = rounds.iter().filter_map(|figures| {
            let peer = best_peer(figures);
            figures.get(place).filter(|_| peer > 0.0).map(|own| own.rate / peer)
        });
        let ratio = median(ratios.collect());
        let beside = match contestant.is_peer() || ratio == 0.0 {
            true => String::new(),
            false => format!("{ratio:.2} (≥ {})", phase.target),
        };
        println!(
            "| {:<15} | {:>8.0} | {:>13} | {:>10.1} | {:>8.1} | {:>9.0} | {:>11.4} |",
            contestant.name(),
            of(&|figures| figures.rate),
            beside,
            of(&|figures| figures.server_us),
            of(&|figures| figures.node_us),
            of(&|figures| figures.wal_bytes),
            of(&|figures| figures.commits),
        );
    }
}
