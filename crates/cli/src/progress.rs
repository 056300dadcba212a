//! Progress of long work, on standard error, for people only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Output, watched};

/// A bar, or nothing where nobody watches.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar over work whose amount is told as it goes.
    pub(crate) fn new(output: Output) -> Bar {
        let bar = Bar::hidden_unless_watched(output);
        bar.set_style(style("{msg:12} {wide_bar} {percent:>3} %"));
        Bar(bar)
    }

    /// A bar over a number of bytes.
    pub(crate) fn bytes(output: Output, of: Option<u64>) -> Bar {
        let bar = Bar::hidden_unless_watched(output);
        bar.set_style(match of {
            Some(_) => style("{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}"),
            None => style("{spinner} {binary_bytes}, {binary_bytes_per_sec}"),
        });
        bar.set_length(of.unwrap_or(0));
        Bar(bar)
    }

    /// A count that goes up, of an unknown number, with a rate and a word about it.
    pub(crate) fn count(output: Output, what: &'static str) -> Bar {
        let bar = Bar::hidden_unless_watched(output);
        bar.set_style(style(&format!("{{spinner}} {{human_pos}} {what}, {{per_sec}}  {{msg}}")));
        Bar(bar)
    }

    fn hidden_unless_watched(output: Output) -> ProgressBar {
        let shown = watched() && !output.json;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if shown {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        bar
    }

    /// How far the work is.
    pub(crate) fn set(&self, what: &str, done: u64, of: u64) {
        self.0.set_message(what.to_owned());
        self.0.set_length(of);
        self.0.set_position(done);
    }

    /// So much more is done.
    pub(crate) fn add(&self, done: u64) {
        self.0.inc(done);
    }

    /// A word about it.
    pub(crate) fn say(&self, what: String) {
        self.0.set_message(what);
    }

    /// Prints a line above the bar.
    pub(crate) fn above(&self, line: &str) {
        use std::io::Write;
        // Without standard error there is nobody to tell.
        self.0.suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours; a broken one only looks plain.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
