//! What the demo prints.

/// The promises in force.
pub(crate) const INVARIANTS: [&str; 10] = ["I1", "I2", "I3", "I4", "I5", "I6", "I8", "I9", "I10", "I11"];

/// The figures of a row of the table.
pub(crate) fn figures(printed: &[String], name: &str) -> Vec<u64> {
    let row = printed.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    row.split_whitespace().map(|figure| figure.replace(',', "").parse().unwrap()).collect()
}

/// Each figure is as it has to be, and each promise was kept.
pub(crate) fn is_sound(printed: &[String], orders: u64) {
    let page = printed.join("\n");
    assert!(printed[0].starts_with(&format!(
        "2 producers sent each of {orders} orders twice; workers and server were SIGKILLed"
    )));
    assert_eq!(printed[1], format!("{:>41}{:>11}", "naive handler", "Onefold"));
    assert_eq!(figures(printed, "adds sent"), [2 * orders, 2 * orders]);
    assert_eq!(figures(printed, "orders accepted"), [orders, orders]);
    let deliveries = figures(printed, "deliveries");
    assert!(deliveries[0] > orders && deliveries[0] == deliveries[1], "{page}");
    let twice = figures(printed, "customers charged twice");
    assert!(twice[0] > 0 && twice[1] == 0, "{page}");
    assert_eq!(figures(printed, "customers never charged"), [0, 0]);
    for invariant in INVARIANTS {
        let line = printed.iter().find(|line| line.starts_with(&format!("{invariant} "))).expect(invariant);
        assert_eq!(&line[24..30], "PASS  ", "{line}");
    }
    assert!(
        printed.iter().any(|line| line.starts_with("why did job_") && line.contains("killed after charging")),
        "{page}"
    );
    assert!(printed.last().unwrap().starts_with("Next: "), "{page}");
}
