//! Bytes a second, lately, and the time left.

use std::collections::VecDeque;

/// Seconds looked back.
const WINDOW: f64 = 6.0;

/// The last few seconds of a transfer. Times are seconds on any clock that does not go back.
#[derive(Debug, Default)]
pub struct Speed {
    seen: VecDeque<(f64, u64)>,
}

impl Speed {
    /// Notes that `done` bytes are there.
    pub fn note(&mut self, now: f64, done: u64) {
        self.seen.push_back((now, done));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(at, _)| now - at > WINDOW) {
            self.seen.pop_front();
        }
    }

    /// Bytes a second; 0 before there are two notes.
    pub fn bytes_per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.seen.front(), self.seen.back()) else { return 0.0 };
        let seconds = last.0 - first.0;
        if seconds > 0.0 { last.1.saturating_sub(first.1) as f64 / seconds } else { 0.0 }
    }

    /// Seconds left to `total` bytes; none while nothing moves or the total is not known.
    pub fn seconds_left(&self, total: u64) -> Option<f64> {
        let (speed, done) = (self.bytes_per_second(), self.seen.back()?.1);
        (speed > 0.0 && total > 0).then(|| total.saturating_sub(done) as f64 / speed)
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::Speed;

    #[wasm_bindgen_test]
    fn only_the_last_seconds_count() {
        let mut speed = Speed::default();
        assert_eq!((speed.bytes_per_second(), speed.seconds_left(10)), (0.0, None));
        for second in 0..20 {
            // ten times faster from second 10 on
            let done = if second < 10 { second * 10 } else { 100 + (second - 10) * 100 };
            speed.note(second as f64, done);
        }
        assert_eq!(speed.bytes_per_second(), 100.0);
        assert_eq!(speed.seconds_left(2000), Some(10.0));
        assert_eq!(speed.seconds_left(0), None);
    }
}
