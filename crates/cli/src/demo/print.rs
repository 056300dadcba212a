//! The end of the demo, as people read it.

use std::path::Path;

use super::verdict::{Column, Seen};
use crate::failure::Failure;
use crate::output::Output;

/// A figure of a column.
type Figure = fn(&Column) -> u64;

pub(super) fn print(seen: &Seen, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.json(seen);
    }
    page(seen).into_iter().try_for_each(|line| output.line(line))
}

fn page(seen: &Seen) -> Vec<String> {
    let kills = seen.sigkills.workers + seen.sigkills.servers;
    let orders = grouped(seen.orders.into());
    let mut lines = vec![format!(
        "2 producers sent each of {orders} orders twice; workers and server were SIGKILLed {kills} times."
    )];
    let onefold = seen.onefold.as_ref();
    let row = |name: &str, naive: &str, keyed: Option<String>| {
        format!("{name:<24}{naive:>17}{}", keyed.map(|keyed| format!("{keyed:>11}")).unwrap_or_default())
    };
    lines.push(row("", "naive handler", onefold.map(|_| "Onefold".to_owned())));
    let rows: [(&str, Figure); 5] = [
        ("adds sent", |column| column.adds_sent),
        ("orders accepted", |column| column.orders_accepted),
        ("deliveries", |column| column.deliveries),
        ("customers charged twice", |column| column.customers_charged_twice),
        ("customers never charged", |column| column.customers_never_charged),
    ];
    for (name, of) in rows {
        lines.push(row(name, &grouped(of(&seen.naive)), onefold.map(|column| grouped(of(column)))));
    }
    for verdict in &seen.invariants {
        let name = format!("{} {}", verdict.id, verdict.name);
        let pass = if verdict.pass { "PASS" } else { "FAIL" };
        lines.push(format!("{name:<24}{pass}  {}", verdict.detail));
    }
    for why in &seen.why {
        lines.push(format!("why did {} run twice?  {}", why.job, why.because));
    }
    lines.push(next());
    lines
}

/// What to do next, for who built it and for who installed it.
fn next() -> String {
    let built =
        std::env::current_exe().is_ok_and(|exe| exe.components().any(|part| part.as_os_str() == "target"));
    let serve = if built && Path::new("Cargo.toml").exists() {
        "cargo run --release -- serve"
    } else {
        "onefold serve"
    };
    format!(
        "Next: {serve}   then   curl http://127.0.0.1:7717/v1/queues/emails/jobs --json \
         '{{\"payload\":{{\"to\":\"ada@example.com\"}},\"key\":\"welcome-ada\"}}'"
    )
}

/// A number as people read it: `5,000`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::verdict::{Kills, Verdict};

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [0, 999, 1_000, 5_213, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "5,213", "1,234,567"]);
    }

    fn seen(naive_only: bool) -> Seen {
        let naive = Column {
            adds_sent: 10_000,
            orders_accepted: 5_000,
            deliveries: 5_213,
            customers_charged_twice: 171,
            customers_never_charged: 0,
        };
        let onefold = Column { customers_charged_twice: 0, ..naive.clone() };
        let detail = "5,000 repeats answered with the first job's id".to_owned();
        Seen {
            orders: 5_000,
            seed: 1,
            sigkills: Kills { workers: 9, servers: 5 },
            naive,
            onefold: (!naive_only).then_some(onefold),
            invariants: vec![Verdict { id: "I3", name: "one job per key", pass: true, detail }],
            why: Vec::new(),
        }
    }

    /// The page as the project's description of the interface draws it.
    #[test]
    fn the_page_looks_as_it_is_drawn() {
        let drawn = [
            "2 producers sent each of 5,000 orders twice; workers and server were SIGKILLed 14 times.",
            "                            naive handler    Onefold",
            "adds sent                          10,000     10,000",
            "orders accepted                     5,000      5,000",
            "deliveries                          5,213      5,213",
            "customers charged twice               171          0",
            "customers never charged                 0          0",
            "I3 one job per key      PASS  5,000 repeats answered with the first job's id",
        ];
        assert_eq!(page(&seen(false))[..8], drawn);
    }

    /// A naive run has charged somebody twice, and a broken promise is a failure whatever was charged.
    #[test]
    fn what_is_not_sound_is_not_passed_off_as_sound() {
        assert!(seen(false).is_sound());
        assert!(!seen(true).is_sound());
        let mut broken = seen(false);
        broken.invariants[0].pass = false;
        assert!(!broken.is_sound());
        let mut never = seen(false);
        never.onefold.as_mut().unwrap().customers_never_charged = 1;
        assert!(!never.is_sound());
    }
}
