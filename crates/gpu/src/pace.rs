//! How much work goes into one submission.
//!
//! A GPU that works for seconds on one submission is reset by the browser's watchdog or by the
//! system's two-second limit, and the page's own drawing waits behind it. So the engine measures
//! how many operations this device does in a millisecond, and sizes submissions by that.
//!
//! Only what was timed counts against the device: the host has to have been waiting when a
//! submission ended, and no new pipeline may have been compiled in it. Otherwise the time is an upper
//! bound, which can raise the estimate and never lower it. A time that is out of all proportion is
//! a machine that slept or a process that was stopped, unless the next measurement agrees with it.

use std::time::Duration;

use crate::cut::Budget;

/// How long a submission should keep the device busy, in milliseconds.
const TARGET_MS: f64 = 50.0;
/// Operations a millisecond assumed of a GPU before anything was timed: a tenth of what 200 GFLOP/s
/// are, so that kernels far from the peak stay within the target there too.
const GPU_GUESS: f64 = 2e7;
/// The same for a CPU rasterizer.
const CPU_GUESS: f64 = 1e6;
/// Weight of a measurement that is faster than the estimate; one that is slower counts in full.
const GAIN: f64 = 0.3;
/// The estimate grows at most by this factor at once: clocks are coarse.
const MOST_GROWTH: f64 = 2.0;
/// Submissions of a smaller share of the budget are a poor measure of speed.
const LEAST_SHARE: f64 = 0.25;
/// Shorter submissions are overhead for the most part, and no reason to slow down.
const LEAST_MS: f64 = 10.0;
/// Never fewer operations than this in a submission: below, the overhead of submitting dominates.
const FLOOR: f64 = 1e6;
/// A submission so many times longer than expected, and longer than [`GAP_MS`], is a gap.
const GAP_FACTOR: f64 = 20.0;
/// See [`GAP_FACTOR`].
const GAP_MS: f64 = 1000.0;
/// The host was waiting for the end of a submission if it waited at least this long.
const WAITED_MS: f64 = 1.0;

/// A finished submission, with times on one monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    /// Operations.
    pub(crate) cost: u64,
    /// When it was handed over.
    pub(crate) submitted: Duration,
    /// When the host began to wait for it.
    pub(crate) waited_from: Duration,
    /// When the host learned of its end.
    pub(crate) done: Duration,
    /// It compiled a pipeline.
    pub(crate) fresh: bool,
}

/// Estimates throughput from finished submissions.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Operations a millisecond.
    rate: f64,
    measured: bool,
    /// The last measurement looked like a gap.
    gap: bool,
    /// End of the submission before, and whether the host was waiting for it.
    last: Option<(Duration, bool)>,
}

impl Pace {
    pub(crate) fn new(software: bool) -> Self {
        let rate = if software { CPU_GUESS } else { GPU_GUESS };
        Self { rate, measured: false, gap: false, last: None }
    }

    /// What the next submission may hold.
    pub(crate) fn budget(&self) -> Budget {
        let operations = (self.rate * TARGET_MS).max(FLOOR) as u64;
        Budget { operations, one_layer: !self.measured }
    }

    /// Updates the estimate with a submission. They come in the order in which they were submitted.
    pub(crate) fn finished(&mut self, f: Finished) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let awaited = ms(f.done.saturating_sub(f.waited_from)) >= WAITED_MS;
        // A submission starts when the one before ends. Where that end is not known, from when it
        // was handed over is an upper bound of its time.
        let (start, start_known) = match self.last {
            Some((end, known)) if end > f.submitted => {
                (if known { end } else { f.submitted }, known)
            }
            _ => (f.submitted, true),
        };
        self.last = Some((f.done, awaited));
        if f.cost == 0 {
            return;
        }
        let cost = f.cost as f64;
        let took = ms(f.done.saturating_sub(start));
        let rate = cost / took.max(1e-3);
        if rate > self.rate {
            self.gap = false;
            if cost >= LEAST_SHARE * self.budget().operations as f64 {
                self.rate = (self.rate + GAIN * (rate - self.rate)).min(MOST_GROWTH * self.rate);
                self.measured = true;
            }
        } else if awaited && start_known && !f.fresh && took >= LEAST_MS {
            let is_gap = took > GAP_MS && took > GAP_FACTOR * cost / self.rate;
            if is_gap && !self.gap {
                self.gap = true;
                return;
            }
            self.gap = false;
            self.rate = rate;
            self.measured = true;
        }
    }
}

#[cfg(test)]
mod tests;
