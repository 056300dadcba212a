use proptest::prelude::*;

use super::*;

const DAY: u64 = 86_400_000;

fn waits(source: &str, attempts: u32) -> Vec<u64> {
    let expression: Expression = source.parse().unwrap_or_else(|error| panic!("{source}: {error}"));
    assert_eq!(expression.source(), source);
    expression.compile_to_list(attempts).into_iter().map(DurationMs::as_ms).collect()
}

fn refused(source: &str) -> InvalidExpression {
    source.parse::<Expression>().expect_err(source)
}

#[test]
fn documented_examples_come_out_right() {
    for (source, expected) in [
        ("1000", [1000, 1000, 1000, 1000]),
        ("1000 * (1 + retried)", [1000, 2000, 3000, 4000]),
        ("pow(2, retried) * 1000", [1000, 2000, 4000, 8000]),
        ("max(1000, pow(2, retried) * 300)", [1000, 1000, 1200, 2400]),
        ("7000 * retried", [0, 7000, 14_000, 21_000]),
        ("pow(retried, 2) * 1000", [0, 1000, 4000, 9000]),
        ("min(86400000, exp(2.5 * (retried + 1)) * 1000)", [12_182, 148_413, 1_808_042, 22_026_466]),
    ] {
        assert_eq!(waits(source, 4), expected, "{source}");
    }
}

#[test]
fn operators_bind_as_in_school() {
    for (source, expected) in [
        ("2+3*4", 14),
        ("(2+3)*4", 20),
        ("20-5-3", 12),
        ("100/5/2", 10),
        ("2*-3+10", 4),
        ("10--2", 12),
        ("-(-7)", 7),
        ("--7", 7),
        ("1.5*2", 3),
        ("007", 7),
        ("abs(2-9)", 7),
        ("floor(2.9)+ceil(2.1)", 5),
        ("round(2.5)", 3),
        ("sqrt(16)", 4),
        ("exp(0)", 1),
        ("min(3,4)*10+max(3,4)", 34),
        ("pow(2, pow(2, 3))", 256),
        ("\t( ( 1 ) ) \t", 1),
    ] {
        assert_eq!(waits(source, 1), [expected], "{source}");
    }
    assert_eq!(waits("retried", 3), [0, 1, 2]);
}

#[test]
fn results_are_rounded_and_brought_within_a_day() {
    for (source, expected) in [
        ("0.4", 0),
        ("0.5", 1),
        ("1.49", 1),
        ("0-0.4", 0),
        ("-5", 0),
        ("86399999.4", DAY - 1),
        ("86399999.6", DAY),
        ("86400001", DAY),
        ("1/0", DAY),
        ("-1/0", 0),
        ("0/0", DAY),
        ("sqrt(-1)", DAY),
        ("1/0 - 1/0", DAY),
        ("max(1000, 0/0)", DAY),
        ("max(0/0, 1000)", DAY),
        ("min(1000, 0/0)", DAY),
        ("min(0/0, 1000)", DAY),
        ("pow(10, 400)", DAY),
        ("exp(1000)", DAY),
    ] {
        assert_eq!(waits(source, 1), [expected], "{source}");
    }
    assert_eq!(waits(&"9".repeat(Expression::LENGTH_MAX), 1), [DAY]);
}

#[test]
fn the_list_is_never_empty_and_never_too_long() {
    assert_eq!(waits("retried", 0), [0]);
    assert_eq!(waits("retried", 1), [0]);
    let longest = waits("retried", u32::MAX);
    assert_eq!((longest.len(), longest.last()), (limits::BACKOFF_LIST_MAX, Some(&999)));
}

#[test]
fn what_is_no_expression_is_refused_where_it_goes_wrong() {
    use InvalidExpression::{ExpectedOperator, ExpectedValue, UnexpectedEnd, UnknownName};
    for (source, expected) in [
        ("", UnexpectedEnd),
        ("   ", UnexpectedEnd),
        ("1 +", UnexpectedEnd),
        ("(1", UnexpectedEnd),
        ("pow(2, 3", UnexpectedEnd),
        ("-", UnexpectedEnd),
        ("* 2", ExpectedValue { at: 1 }),
        ("1 + * 2", ExpectedValue { at: 5 }),
        ("()", ExpectedValue { at: 2 }),
        (".5", ExpectedValue { at: 1 }),
        ("1.", ExpectedValue { at: 3 }),
        ("1. 5", ExpectedValue { at: 3 }),
        ("+1", ExpectedValue { at: 1 }),
        ("pow(2,)", ExpectedValue { at: 7 }),
        ("\n1", ExpectedValue { at: 1 }),
        ("½", ExpectedValue { at: 1 }),
        ("1 2", ExpectedOperator { at: 3 }),
        ("1)", ExpectedOperator { at: 2 }),
        ("2retried", ExpectedOperator { at: 2 }),
        ("1e3", ExpectedOperator { at: 2 }),
        ("1.5.5", ExpectedOperator { at: 4 }),
        ("2 ^ 3", ExpectedOperator { at: 3 }),
        ("7 % 2", ExpectedOperator { at: 3 }),
        ("1, 2", ExpectedOperator { at: 2 }),
        ("(1, 2)", ExpectedOperator { at: 3 }),
        ("1; 2", ExpectedOperator { at: 2 }),
        ("retried(1)", ExpectedOperator { at: 8 }),
        ("pi", UnknownName { at: 1 }),
        ("2 * Retried", UnknownName { at: 5 }),
        ("POW(2, 3)", UnknownName { at: 1 }),
        ("log(2)", UnknownName { at: 1 }),
        ("retried2", UnknownName { at: 1 }),
        ("_", UnknownName { at: 1 }),
    ] {
        assert_eq!(refused(source), expected, "{source}");
    }
}

#[test]
fn functions_take_what_they_take() {
    for source in [
        "pow(2)",
        "pow(1, 2, 3)",
        "pow()",
        "pow",
        "pow 2",
        "min(1)",
        "max()",
        "exp(1, 2)",
        "sqrt()",
        "abs + 1",
    ] {
        assert!(matches!(refused(source), InvalidExpression::Arguments { .. }), "{source}");
    }
    let message = "pow in the delay expression takes two arguments in parentheses: write pow(2, retried)";
    assert_eq!(refused("pow(2)").to_string(), message);
}

#[test]
fn length_and_depth_are_limited() {
    let padded = |length: usize| format!("1{}", " ".repeat(length - 1));
    assert_eq!(waits(&padded(Expression::LENGTH_MAX), 1), [1]);
    assert_eq!(refused(&padded(Expression::LENGTH_MAX + 1)), InvalidExpression::TooLong);
    for (open, close) in [("(", ")"), ("-", ""), ("abs(", ")"), ("max(1,", ")")] {
        let nested = |depth: usize| format!("{}2{}", open.repeat(depth), close.repeat(depth));
        assert!(nested(Expression::DEPTH_MAX).parse::<Expression>().is_ok(), "{open}");
        assert_eq!(refused(&nested(Expression::DEPTH_MAX + 1)), InvalidExpression::TooDeep, "{open}");
    }
    // Depth is what is open at once, and a chain is not deep.
    assert_eq!(waits(&format!("(1){}", "+(1)".repeat(200)), 1), [201]);
    assert_eq!(waits(&format!("1{}", "+1".repeat(500)), 1), [501]);
}

/// An expression as a tree, so that it can be evaluated another way.
#[derive(Debug, Clone)]
enum Tree {
    Quarters(u32),
    Retried,
    Negated(Box<Tree>),
    One(&'static str, Box<Tree>),
    Operator(char, Box<Tree>, Box<Tree>),
    Two(&'static str, Box<Tree>, Box<Tree>),
}

impl Tree {
    fn source(&self) -> String {
        match self {
            Tree::Quarters(count) => format!("{}.{:02}", count / 4, count % 4 * 25),
            Tree::Retried => " retried".to_owned(),
            Tree::Negated(x) => format!("-({})", x.source()),
            Tree::One(name, x) => format!("{name} ({})", x.source()),
            Tree::Operator(operator, x, y) => format!("({}){operator} ({})", x.source(), y.source()),
            Tree::Two(name, x, y) => format!("{name}({} ,{})", x.source(), y.source()),
        }
    }

    fn value(&self, retried: f64) -> f64 {
        match self {
            Tree::Quarters(count) => f64::from(*count) / 4.0,
            Tree::Retried => retried,
            Tree::Negated(x) => -x.value(retried),
            Tree::One(name, x) => {
                let x = x.value(retried);
                match *name {
                    "exp" => x.exp(),
                    "sqrt" => x.sqrt(),
                    "abs" => x.abs(),
                    "floor" => x.floor(),
                    "ceil" => x.ceil(),
                    "round" => x.round(),
                    other => unreachable!("{other}"),
                }
            }
            Tree::Operator(operator, x, y) => {
                let (x, y) = (x.value(retried), y.value(retried));
                match operator {
                    '+' => x + y,
                    '-' => x - y,
                    '*' => x * y,
                    '/' => x / y,
                    other => unreachable!("{other}"),
                }
            }
            Tree::Two(name, x, y) => {
                let (x, y) = (x.value(retried), y.value(retried));
                match *name {
                    "pow" => x.powf(y),
                    _ if x.is_nan() || y.is_nan() => f64::NAN,
                    "min" => x.min(y),
                    "max" => x.max(y),
                    other => unreachable!("{other}"),
                }
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![(0..40_000_u32).prop_map(Tree::Quarters), Just(Tree::Retried)];
    leaf.prop_recursive(5, 20, 2, |inner| {
        let one = prop::sample::select(&["exp", "sqrt", "abs", "floor", "ceil", "round"]);
        let two = prop::sample::select(&["pow", "min", "max"]);
        let operator = prop::sample::select(&['+', '-', '*', '/']);
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(|x| Tree::Negated(x.into())),
            (one, inner).prop_map(|(name, x)| Tree::One(name, x.into())),
            (operator, pair.clone()).prop_map(|(name, (x, y))| Tree::Operator(name, x.into(), y.into())),
            (two, pair).prop_map(|(name, (x, y))| Tree::Two(name, x.into(), y.into())),
        ]
    })
}

proptest! {
    #[test]
    fn expressions_mean_what_their_tree_means(tree in tree(), retried in 0..1000_u32) {
        let source = tree.source();
        prop_assume!(source.len() <= Expression::LENGTH_MAX);
        let expression: Expression = source.parse().unwrap();
        let value = tree.value(f64::from(retried));
        let expected = if value.is_nan() { DAY as f64 } else { value.round().clamp(0.0, DAY as f64) };
        prop_assert_eq!(expression.wait(retried).as_ms(), expected as u64, "{}", source);
    }

    #[test]
    fn any_text_is_accepted_or_refused(
        text in prop_oneof!["\\PC{0,40}", "(retried|pow|max|abs|[-+*/(),. 0-9]){0,30}"],
        retried in any::<u32>(),
    ) {
        if let Ok(expression) = text.parse::<Expression>() {
            prop_assert!(expression.wait(retried) <= Expression::WAIT_MAX);
        }
    }
}
