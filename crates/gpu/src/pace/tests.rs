//! A simulated device and the host's loop of [`crate::Gpu::run`], in simulated time.

use std::{collections::VecDeque, time::Duration};

use super::{Finished, Pace, TARGET_MS};

/// A device whose speed is a function of time, with one queue.
struct Device<'a> {
    /// Operations a millisecond at a time in milliseconds.
    speed: &'a dyn Fn(f64) -> f64,
    free_at: f64,
}

impl Device<'_> {
    /// Queues work at `now` and gives the time of its end; a submission costs 0.05 ms by itself.
    fn submit(&mut self, now: f64, cost: u64) -> f64 {
        let start = self.free_at.max(now) + 0.05;
        self.free_at = start + cost as f64 / (self.speed)(start);
        self.free_at
    }
}

/// What the host does between runs, in milliseconds.
#[derive(Clone, Copy, Default)]
struct Host {
    /// After every fifth submission, before it waits.
    busy: f64,
    /// Stops for so long at the first wait at or after a time.
    stop: Option<(f64, f64)>,
}

struct Run {
    /// End and length on the device of each submission.
    submissions: Vec<(f64, f64)>,
    pace: Pace,
}

impl Run {
    fn longest(&self, from: f64) -> f64 {
        self.submissions
            .iter()
            .filter(|(end, _)| *end >= from)
            .map(|(_, ms)| *ms)
            .fold(0.0, f64::max)
    }

    /// Milliseconds that a full submission takes at a speed.
    fn full(&self, speed: f64) -> f64 {
        self.pace.budget().operations as f64 / speed
    }
}

/// Runs full submissions until `end` milliseconds, two in flight at most.
fn run(mut pace: Pace, speed: &dyn Fn(f64) -> f64, mut host: Host, end: f64) -> Run {
    let mut device = Device { speed, free_at: 0.0 };
    let mut in_flight: VecDeque<(u64, f64, f64)> = VecDeque::new();
    let mut submissions = vec![];
    let mut now = 0.0;
    let time = |ms: f64| Duration::from_secs_f64(ms / 1e3);
    while now < end {
        let cost = pace.budget().operations;
        let before = device.free_at.max(now);
        let ends = device.submit(now, cost);
        submissions.push((ends, ends - before));
        in_flight.push_back((cost, now, ends));
        if submissions.len().is_multiple_of(5) {
            now += host.busy;
        }
        while in_flight.len() > 1 {
            let Some((cost, submitted, ends)) = in_flight.pop_front() else { break };
            let waited_from = now;
            now = now.max(ends);
            if let Some((_, length)) = host.stop.take_if(|(at, _)| *at <= now) {
                now += length;
            }
            pace.finished(Finished {
                cost,
                submitted: time(submitted),
                waited_from: time(waited_from),
                done: time(now),
                fresh: false,
            });
        }
    }
    Run { submissions, pace }
}

/// Operations a millisecond of a device of so many GFLOP/s.
fn gflops(n: f64) -> f64 {
    n * 1e6
}

#[test]
fn a_slow_device_is_never_kept_busy_for_long_not_even_by_the_first_submission() {
    for speed in [20.0, 50.0, 200.0] {
        let run = run(Pace::new(false), &|_| gflops(speed), Host::default(), 5000.0);
        assert!(run.longest(0.0) <= 60.0, "{speed} GFLOP/s: {} ms", run.longest(0.0));
        let full = run.full(gflops(speed));
        assert!((40.0..=60.0).contains(&full), "{speed} GFLOP/s: {full} ms in the end");
    }
    // A CPU, from a twentieth of a core on.
    for speed in [0.5, 8.0, 100.0] {
        let run = run(Pace::new(true), &|_| gflops(speed), Host::default(), 10_000.0);
        assert!(run.longest(0.0) <= 2.0 * TARGET_MS + 1.0, "{speed}: {} ms", run.longest(0.0));
        assert!((30.0..=60.0).contains(&run.full(gflops(speed))), "{speed} GFLOP/s");
    }
}

#[test]
fn a_fast_device_gets_large_submissions_within_a_second() {
    let run = run(Pace::new(false), &|_| gflops(20_000.0), Host::default(), 1000.0);
    let full = run.full(gflops(20_000.0));
    assert!((40.0..=60.0).contains(&full), "{full} ms");
}

#[test]
fn a_gap_of_two_hours_is_no_measurement() {
    let two_hours = 2.0 * 3600.0 * 1e3;
    let host = Host { stop: Some((3000.0, two_hours)), ..Host::default() };
    let before = run(Pace::new(false), &|_| gflops(1000.0), Host::default(), 3000.0);
    let after = run(Pace::new(false), &|_| gflops(1000.0), host, 3000.0 + two_hours);
    let (before, after) = (before.full(gflops(1000.0)), after.full(gflops(1000.0)));
    assert!(after >= 0.9 * before, "{before} ms a submission before the gap, {after} after");
}

#[test]
fn a_stop_that_could_be_a_slow_device_is_forgotten_within_a_second() {
    let host = Host { stop: Some((3000.0, 600.0)), ..Host::default() };
    let run = run(Pace::new(false), &|_| gflops(1000.0), host, 4600.0);
    let full = run.full(gflops(1000.0));
    assert!((40.0..=60.0).contains(&full), "{full} ms");
}

#[test]
fn a_speed_that_changes_tenfold_is_followed_down_and_up() {
    // Slow from 4 s to 8 s: on battery, say.
    let speed = |ms: f64| gflops(if (4000.0..8000.0).contains(&ms) { 100.0 } else { 1000.0 });
    let all = run(Pace::new(false), &speed, Host::default(), 12_000.0);
    // Two submissions were sized for the faster device.
    assert!(all.longest(0.0) <= 10.0 * 60.0, "{} ms", all.longest(0.0));
    let slow: Vec<f64> = all
        .submissions
        .iter()
        .filter(|(end, _)| (5500.0..8000.0).contains(end))
        .map(|(_, ms)| *ms)
        .collect();
    assert!(slow.iter().all(|ms| *ms <= 60.0), "{slow:?}");
    assert!((40.0..=60.0).contains(&all.full(gflops(1000.0))), "{} ms", all.full(gflops(1000.0)));
    // A hundredfold fall looks like a gap once, and is believed the second time.
    let speed = |ms: f64| gflops(if ms < 4000.0 { 1000.0 } else { 10.0 });
    let fallen = run(Pace::new(false), &speed, Host::default(), 30_000.0);
    assert!((30.0..=60.0).contains(&fallen.full(gflops(10.0))), "{}", fallen.full(gflops(10.0)));
}

#[test]
fn a_host_that_is_busy_does_not_make_the_device_look_slow_or_fast() {
    for busy in [3.0, 70.0, 400.0] {
        let host = Host { busy, ..Host::default() };
        let run = run(Pace::new(false), &|_| gflops(1000.0), host, 20_000.0);
        let full = run.full(gflops(1000.0));
        assert!((20.0..=60.0).contains(&full), "busy for {busy} ms: {full} ms");
    }
}

#[test]
fn a_budget_at_its_floor_comes_back_up() {
    let mut pace = Pace::new(false);
    for _ in 0..2 {
        let ms = Duration::from_millis;
        let (waited_from, done) = (ms(0), ms(60_000));
        pace.last = None;
        pace.finished(Finished { cost: 1000, submitted: ms(0), waited_from, done, fresh: false });
    }
    assert_eq!(pace.budget().operations, super::FLOOR as u64);
    let run = run(pace, &|_| gflops(1000.0), Host::default(), 1000.0);
    assert!((40.0..=60.0).contains(&run.full(gflops(1000.0))), "{} ms", run.full(gflops(1000.0)));
}

#[test]
fn overhead_uploads_and_compiling_do_not_slow_down() {
    let mut pace = Pace::new(false);
    let before = pace.budget();
    let ms = Duration::from_millis;
    // Few operations, and the time it takes to hear of them.
    pace.finished(Finished {
        cost: 10,
        submitted: ms(0),
        waited_from: ms(0),
        done: ms(4),
        fresh: false,
    });
    // No operations.
    pace.finished(Finished {
        cost: 0,
        submitted: ms(5),
        waited_from: ms(5),
        done: ms(500),
        fresh: false,
    });
    // A new pipeline.
    pace.finished(Finished {
        cost: before.operations,
        submitted: ms(600),
        waited_from: ms(600),
        done: ms(1500),
        fresh: true,
    });
    assert_eq!(pace.budget(), before);
}
