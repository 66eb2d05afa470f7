//! How much work goes into one submission.
//!
//! A GPU that works for seconds on one submission is killed by the browser's watchdog or by the
//! system's two-second limit, and the page's own drawing waits behind it. So the engine measures
//! how many operations a millisecond this device does with this work, and cuts accordingly.

/// A submission should keep the GPU busy for about this long, in milliseconds.
const TARGET_MS: f64 = 50.0;
/// Weight of the newest measurement. A slow one counts at once, a fast one gradually.
const GAIN: f64 = 0.3;
/// Never fewer operations than this in a submission: below, the overhead of submitting dominates.
const FLOOR: f64 = 1e6;

/// Estimates throughput from finished submissions.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    per_ms: Option<f64>,
}

impl Pace {
    /// Operations that fit the target. `None` until something was measured: then a submission ends
    /// at the first layer boundary.
    pub(crate) fn budget(&self) -> Option<u64> {
        self.per_ms.map(|rate| (rate * TARGET_MS).max(FLOOR) as u64)
    }

    /// Notes that `cost` operations took `ms` milliseconds.
    pub(crate) fn measured(&mut self, cost: u64, ms: f64) {
        // Very short submissions measure the overhead, not the device.
        if cost == 0 || ms < 0.5 {
            return;
        }
        let rate = cost as f64 / ms;
        self.per_ms = Some(match self.per_ms {
            Some(old) if rate > old => old + GAIN * (rate - old),
            _ => rate,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{FLOOR, Pace, TARGET_MS};

    #[test]
    fn slow_counts_at_once_and_fast_gradually() {
        let mut pace = Pace::default();
        assert_eq!(pace.budget(), None);
        pace.measured(1_000_000_000, 100.0);
        let first = pace.budget().unwrap();
        assert_eq!(first, (1e7 * TARGET_MS) as u64);
        pace.measured(1_000_000_000, 10.0);
        let faster = pace.budget().unwrap();
        assert!(faster > first && faster < 10 * first);
        pace.measured(1_000_000_000, 1000.0);
        assert_eq!(pace.budget().unwrap(), (1e6 * TARGET_MS) as u64);
        pace.measured(1_000, 1000.0);
        assert_eq!(pace.budget().unwrap(), FLOOR as u64);
    }

    #[test]
    fn overhead_is_not_a_measurement() {
        let mut pace = Pace::default();
        pace.measured(10, 0.01);
        assert_eq!(pace.budget(), None);
    }
}
