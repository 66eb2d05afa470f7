//! Training progress on the terminal.

use std::io::{self, IsTerminal};

use hearth_classifier::{fit::Progress, history::History};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use web_time::{Duration, Instant};

use crate::{interrupt, options::Options, output};

/// Seconds between two lines where no bar can be drawn.
const LINES: Duration = Duration::from_secs(30);

/// A bar on a terminal, lines now and then elsewhere.
pub struct Watch {
    bar: ProgressBar,
    lines: bool,
    last: Instant,
    epochs: usize,
}

impl Watch {
    pub fn new(options: &Options) -> Self {
        let terminal = io::stderr().is_terminal() && !options.json;
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        // The form is sound; a plain bar would do as well.
        if let Ok(style) = ProgressStyle::with_template("training   {wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self { bar, lines: !terminal, last: Instant::now(), epochs: 0 }
    }

    /// Shows it; false where the user wants to stop.
    pub fn see(&mut self, progress: &Progress<'_>) -> bool {
        let text = words(progress);
        self.bar.set_length(progress.steps as u64);
        self.bar.set_position(progress.step as u64);
        self.bar.set_message(text.clone());
        self.epoch_lines(progress.history);
        if self.lines && self.last.elapsed() > LINES {
            output::note(&format!("step       {}/{} {text}", progress.step, progress.steps));
            self.last = Instant::now();
        }
        !interrupt::asked()
    }

    /// Shows what came after the last step: the last epoch is validated then.
    pub fn end(&mut self, history: &History) {
        self.epoch_lines(history);
    }

    fn epoch_lines(&mut self, history: &History) {
        for epoch in history.epochs.iter().skip(self.epochs) {
            let figure = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
            let line = format!(
                "epoch {:<4} loss {:.3}, validation: loss {}, ROC-AUC {}, F1 {}",
                epoch.epoch,
                epoch.train_loss,
                figure(epoch.validation_loss),
                figure(epoch.validation_auc),
                figure(epoch.validation_f1)
            );
            self.bar.suspend(|| output::note(&line));
        }
        self.epochs = history.epochs.len();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn words(p: &Progress<'_>) -> String {
    if let Some((done, of)) = p.validating {
        return format!("epoch {}/{}, validating {done}/{of}", p.epoch, p.epochs);
    }
    let recent = p.recent().map_or(String::new(), |(loss, accuracy)| {
        format!("loss {loss:.3}, accuracy {:.0}%, ", 100.0 * accuracy)
    });
    let left = p.seconds_left.map_or(String::new(), |s| format!(", {} left", time(s)));
    let saved = if p.tokens > 0 {
        format!(", {:.1} times fewer tokens than padded", p.padded as f64 / p.tokens as f64)
    } else {
        String::new()
    };
    format!("epoch {}/{}, {recent}{:.2} rows/s{saved}{left}", p.epoch, p.epochs, p.rows_per_second)
}

/// A duration for people.
fn time(seconds: f64) -> String {
    match seconds.round() as u64 {
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{} min {:02} s", s / 60, s % 60),
        s => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_in_words() {
        let all = [0.4, 59.0, 61.0, 3600.0 * 2.0 + 125.0].map(super::time);
        assert_eq!(all, ["0 s", "59 s", "1 min 01 s", "2 h 02 min"]);
    }
}
