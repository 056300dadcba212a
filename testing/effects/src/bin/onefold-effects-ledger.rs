//! The world outside, in a process of its own: `onefold-effects-ledger FILE`.

fn main() -> std::io::Result<()> {
    let file = std::env::args_os().nth(1).ok_or(std::io::ErrorKind::InvalidInput)?;
    onefold_effects::ledger::serve(file.as_ref())
}
