//! Output: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};

use anyhow::{Error, Result};
use humansize::{DECIMAL, format_size};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::options::Options;

/// A piece of a result, at once.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A line of a result.
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// A result for machines.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// A line beside the result. Nothing is left to do where stderr is gone.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The error and its causes in one line. A cause that the message above it quotes is not repeated.
pub fn words(error: &Error) -> String {
    let mut words = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if words.is_empty() {
            words = cause;
        } else if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// Whether writing failed because the reader closed its end.
pub fn is_closed_pipe(error: &Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// A size for people: `1.57 GB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000_000 => format_size(bytes, DECIMAL.decimal_places(1).decimal_zeroes(1)),
        _ => format_size(bytes, DECIMAL.decimal_places(2).decimal_zeroes(2)),
    }
}

/// A progress bar on stderr for what may take over a second; hidden with `--json` and without a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// Over a number of bytes.
    pub fn of_bytes(options: &Options, what: &str, total: u64) -> Self {
        let form = "{msg:<10} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left";
        Self::new(options, what, total, form)
    }

    /// Over a number of things.
    pub fn of_items(options: &Options, what: &str, total: u64) -> Self {
        Self::new(options, what, total, "{msg:<10} {wide_bar} {pos}/{len}, {eta} left")
    }

    fn new(options: &Options, what: &str, total: u64, form: &str) -> Self {
        let hidden = options.json || !io::stderr().is_terminal();
        let target =
            if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        // The forms above are sound; a plain bar would do as well.
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// Sets the progress and the total.
    pub fn at_of(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.at(done);
    }

    /// Sets the progress.
    pub fn at(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let error = Error::msg("weights.bin: damaged")
            .context("reading weights.bin: damaged")
            .context("loading");
        assert_eq!(words(&error), "loading: reading weights.bin: damaged");
        assert_eq!(words(&Error::msg("b").context("x")), "x: b");
    }

    #[test]
    fn bytes_in_words() {
        let all = [0, 999, 1500, 253_000_000, 1_570_000_000].map(bytes);
        assert_eq!(all, ["0 bytes", "999 bytes", "1.5 kB", "253.0 MB", "1.57 GB"]);
    }
}
