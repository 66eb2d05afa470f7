//! What test runners print: counts, durations, and which tests failed with which first words.
//!
//! Reads nextest, libtest, wasm-bindgen-test and node's TAP, a line at a time.

use std::time::Duration;

/// Lines of a failure that are repeated at the end.
const FIRST_LINES: usize = 4;

/// Tests counted in the output of a test runner.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// A test that failed, and the first lines of why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub test: String,
    pub lines: Vec<String>,
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct RunnerOutput {
    pub count: Count,
    pub failures: Vec<Failure>,
    pub times: Vec<(Duration, String)>,
    /// The test whose lines come now, and whether they are the ones that say why.
    current: Option<(String, bool)>,
}

impl RunnerOutput {
    /// Adds what another stream of the same runner had.
    pub fn add(&mut self, other: Self) {
        self.count += other.count;
        for failure in other.failures {
            self.entry(&failure.test).lines.extend(failure.lines);
        }
        self.times.extend(other.times);
    }

    /// Reads a line.
    pub fn line(&mut self, line: &str) {
        let count = counted(line);
        self.count += count;
        let text = line.trim();
        if count != Count::default() {
            self.current = None;
        } else if let Some((status, time, test)) = nextest_status(text) {
            self.current = None;
            match status {
                "SLOW" => {}
                "PASS" | "LEAK" => self.times.push((time, test.to_owned())),
                _ => {
                    self.times.push((time, test.to_owned()));
                    self.fail(test);
                }
            }
        } else if let Some(test) = listed_failure(text) {
            self.fail(test);
        } else if let Some((ok, test)) = tap_status(text) {
            self.current = Some((test.to_owned(), false));
            if !ok {
                self.fail(test);
            }
        } else if let Some(time) = tap_time(text) {
            if let Some((test, _)) = &self.current {
                self.times.push((time, test.clone()));
            }
        } else {
            self.reason(text);
        }
    }

    fn fail(&mut self, test: &str) {
        self.entry(test);
        self.current = Some((test.to_owned(), false));
    }

    fn entry(&mut self, test: &str) -> &mut Failure {
        let found = self.failures.iter().position(|failure| failure.test == test);
        let at = found.unwrap_or_else(|| {
            self.failures.push(Failure { test: test.to_owned(), lines: Vec::new() });
            self.failures.len() - 1
        });
        &mut self.failures[at]
    }

    /// A line of a failing test: from the panic or error on they say why.
    fn reason(&mut self, text: &str) {
        let Some((test, says_why)) = &mut self.current else { return };
        *says_why |= text.contains("panicked at") || text.starts_with("error:");
        if *says_why
            && !text.is_empty()
            && let Some(failure) = self.failures.iter_mut().find(|failure| failure.test == *test)
            && failure.lines.len() < FIRST_LINES
        {
            failure.lines.push(text.to_owned());
        }
    }
}

/// nextest: `PASS [   0.688s] (273/425) crate::binary test`.
fn nextest_status(text: &str) -> Option<(&str, Duration, &str)> {
    let (status, rest) = text.split_once(" [")?;
    let known = |word: &str| {
        ["PASS", "FAIL", "LEAK", "SLOW", "TIMEOUT", "ABORT", "TERMINATING"].contains(&word)
            || word.starts_with("SIG")
    };
    if !status.split(" + ").all(|word| known(word.trim())) {
        return None;
    }
    let (time, rest) = rest.split_once("s]")?;
    let seconds: f64 = time.trim().trim_start_matches('>').trim().parse().ok()?;
    let rest = rest.trim_start();
    let test = match rest.strip_prefix('(') {
        Some(numbered) => numbered.split_once(')')?.1.trim_start(),
        None => rest,
    };
    Some((status, Duration::try_from_secs_f64(seconds).ok()?, test))
}

/// libtest and wasm-bindgen-test: `---- test stdout ----`, before what the test said.
fn listed_failure(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("---- ")?.strip_suffix(" ----")?;
    let (test, stream) = inside.rsplit_once(' ')?;
    ["stdout", "output"].contains(&stream).then_some(test)
}

/// TAP: `ok 3 - test`, `not ok 4 - test`.
fn tap_status(text: &str) -> Option<(bool, &str)> {
    let (ok, rest) = match text.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok ")?),
    };
    let (number, test) = rest.split_once(" - ")?;
    let _: u64 = number.parse().ok()?;
    let test = test.split(" # ").next().unwrap_or(test);
    // a directive says that it was skipped, or need not pass
    let directive = rest.contains(" # SKIP") || rest.contains(" # TODO");
    Some((ok || directive, test))
}

/// TAP: `duration_ms: 1234.5`, below the test's line.
fn tap_time(text: &str) -> Option<Duration> {
    let milliseconds: f64 = text.strip_prefix("duration_ms: ")?.parse().ok()?;
    Duration::try_from_secs_f64(milliseconds / 1e3).ok()
}

/// Reads the closing line of the test runners.
fn counted(line: &str) -> Count {
    let mut count = Count::default();
    // nextest shows what a failing test program said, with a closing line of its own, indented
    if line.trim_start().starts_with("test result: ") && line.starts_with(' ') {
        return count;
    }
    let line = line.trim();
    if let Some(number) = line.strip_prefix("# pass ") {
        count.passed = number.parse().unwrap_or(0);
    } else if let Some(number) = line.strip_prefix("# fail ") {
        count.failed = number.parse().unwrap_or(0);
    } else if line.starts_with("test result: ")
        || (line.starts_with("Summary [")
            && (line.contains("tests run:") || line.contains("test run:")))
    {
        let words: Vec<&str> =
            line.split([' ', ',', ';', '(', ')', '.']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed" => count.passed += number,
                "failed" | "timed" | "exec" => count.failed += number,
                _ => {}
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RunnerOutput {
        let mut output = RunnerOutput::default();
        text.lines().for_each(|line| output.line(line));
        output
    }

    fn check(output: &RunnerOutput, test: &str, lines: &[&str]) {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        assert_eq!(output.failures, [Failure { test: test.to_owned(), lines }]);
    }

    #[test]
    fn every_runner_is_counted() {
        let check = |line: &str, passed, failed| {
            assert_eq!(counted(line), Count { passed, failed }, "{line}");
        };
        check(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s",
            12,
            0,
        );
        check("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 filtered out", 1, 2);
        check("     Summary [   0.012s] 5 tests run: 5 passed (1 slow), 7 skipped", 5, 0);
        check("     Summary [   0.012s] 1 test run: 1 passed, 7 skipped", 1, 0);
        check(
            "     Summary [   1.5s] 9/12 tests run: 3 passed, 4 failed, 2 timed out, 0 skipped",
            3,
            6,
        );
        check("# pass 4", 4, 0);
        check("# fail 2", 0, 2);
        check("12 passed the exam, 3 failed", 0, 0);
    }

    #[test]
    fn nextest_is_read() {
        let output = read(
            "        PASS [   0.688s] (1/3) hearth-gemma::golden the_first
        SLOW [> 60.000s] (───) hearth-gemma::golden the_second
        FAIL [  61.250s] (2/3) hearth-gemma::golden the_second
  stdout ───
    running 1 test
    test result: FAILED. 0 passed; 1 failed; 0 ignored
  stderr ───

    thread 'the_second' (7) panicked at crates/gemma/tests/suite/golden.rs:7:9:
    assertion `left == right` failed
      left: 1
     right: 2
    note: run with `RUST_BACKTRACE=1`
        PASS [   0.001s] (3/3) hearth-gemma::golden the_third
    thread 'of nobody' panicked at nowhere
     Summary [  61.9s] 3 tests run: 2 passed, 1 failed, 0 skipped
        FAIL [  61.250s] (2/3) hearth-gemma::golden the_second",
        );
        assert_eq!(output.count, Count { passed: 2, failed: 1 });
        check(
            &output,
            "hearth-gemma::golden the_second",
            &[
                "thread 'the_second' (7) panicked at crates/gemma/tests/suite/golden.rs:7:9:",
                "assertion `left == right` failed",
                "left: 1",
                "right: 2",
            ],
        );
        assert_eq!(
            output.times[0],
            (Duration::from_millis(688), "hearth-gemma::golden the_first".into())
        );
    }

    #[test]
    fn libtest_and_the_browsers_runner_are_read() {
        for stream in ["stdout", "output"] {
            let output = read(&format!(
                "test a::works ... ok\ntest a::breaks ... FAILED\n\nfailures:\n\n\
                 ---- a::breaks {stream} ----\n    error output:\n        panicked at src/a.rs:1:1:\n        \
                 told you so\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored"
            ));
            assert_eq!(output.count, Count { passed: 1, failed: 1 });
            check(&output, "a::breaks", &["panicked at src/a.rs:1:1:", "told you so"]);
        }
    }

    #[test]
    fn tap_is_read() {
        let output = read(
            "# Subtest: a way\nok 1 - a way\n  ---\n  duration_ms: 1500.5\n  ...\n\
             not ok 2 - another - way\n  ---\n  duration_ms: 20\n  failureType: 'testCodeFailure'\n  \
             error: |-\n    Expected values to be equal:\n    \n    1 !== 2\n  code: 'ERR_ASSERTION'\n  ...\n\
             ok 3 - left out # SKIP no model\n# pass 2\n# fail 1",
        );
        assert_eq!(output.count, Count { passed: 2, failed: 1 });
        let why = ["error: |-", "Expected values to be equal:", "1 !== 2", "code: 'ERR_ASSERTION'"];
        check(&output, "another - way", &why);
        assert_eq!(output.times[0], (Duration::from_micros(1_500_500), "a way".to_owned()));
        assert_eq!(output.times.len(), 2);
    }
}
