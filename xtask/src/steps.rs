//! Steps: commands run one after the other, each timed, with the tests in their output counted.

use anyhow::Result;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Tests counted in the output of a test runner.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
}

/// What ran so far.
#[derive(Default)]
pub struct Steps {
    done: Vec<(String, Duration, Result<Count, String>)>,
}

impl Steps {
    /// Runs a command as a step; a failing one is recorded and the next can still run.
    pub fn run(&mut self, name: &str, command: &mut Command) {
        self.attempt(name, || {
            println!("$ {}", describe(command));
            let (success, mut count) = run_counting(command)?;
            // a step that broke before a test could fail must not close with "0 failed"
            if !success && count.failed == 0 {
                count.failed = 1;
            }
            Ok(count)
        });
    }

    /// Runs any work as a step. Returns whether it went well; an error counts as one failure.
    pub fn attempt(&mut self, name: &str, work: impl FnOnce() -> Result<Count>) -> bool {
        println!("\n==== {name}");
        let (outcome, time) = timed(work);
        let outcome = outcome.map_err(|error| format!("{error:#}"));
        match &outcome {
            Ok(count) if count.failed == 0 => println!("---- {name}: ok, {}", seconds(time)),
            Ok(count) => println!("---- {name}: {} FAILED, {}", count.failed, seconds(time)),
            Err(error) => println!("---- {name}: FAILED, {}: {error}", seconds(time)),
        }
        let ok = outcome.as_ref().is_ok_and(|count| count.failed == 0);
        self.done.push((name.to_owned(), time, outcome));
        ok
    }

    /// Prints a line per step and, alone on the last line, the sum.
    pub fn finish(&self) -> ExitCode {
        let mut total = Count::default();
        println!("\n==== Summary");
        for (name, time, outcome) in &self.done {
            let count = outcome.clone().unwrap_or(Count { passed: 0, failed: 1 });
            let word = if count.failed == 0 { "ok" } else { "FAILED" };
            let tests = match outcome {
                Ok(Count { passed: 0, failed: 0 }) => String::new(),
                Ok(count) => format!("  {} passed, {} failed", count.passed, count.failed),
                Err(error) => format!("  {error}"),
            };
            println!("{word:>6} {:>8}  {name}{tests}", seconds(*time));
            total.passed += count.passed;
            total.failed += count.failed;
        }
        println!("{} passed, {} failed", total.passed, total.failed);
        if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[allow(clippy::disallowed_methods, reason = "never runs in a browser")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let value = work();
    (value, start.elapsed())
}

fn seconds(time: Duration) -> impl Display {
    format!("{:.1} s", time.as_secs_f64())
}

/// The command as one would type it.
pub fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut line =
        program.file_stem().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs a command, passes its output on as it comes and counts the tests in it.
fn run_counting(command: &mut Command) -> Result<(bool, Count)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| anyhow::anyhow!("cannot start `{}`: {error}", describe(command)))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let count = std::thread::scope(|scope| {
        let out = scope.spawn(|| stdout.map(|pipe| pass_on(pipe, std::io::stdout())));
        let err = stderr.map(|pipe| pass_on(pipe, std::io::stderr()));
        let out = out.join().ok().flatten();
        [out, err].into_iter().flatten().fold(Count::default(), |sum, count| Count {
            passed: sum.passed + count.passed,
            failed: sum.failed + count.failed,
        })
    });
    Ok((child.wait()?.success(), count))
}

fn pass_on(pipe: impl Read, mut to: impl Write) -> Count {
    let mut sum = Count::default();
    for line in BufReader::new(pipe).split(b'\n') {
        let Ok(line) = line else { break };
        // nothing sensible can be done when our own output is closed
        let _ = to.write_all(&line).and_then(|()| to.write_all(b"\n"));
        let count = counted(&String::from_utf8_lossy(&line));
        sum.passed += count.passed;
        sum.failed += count.failed;
    }
    sum
}

/// Reads the closing line of the test runners: libtest and wasm-bindgen-test, nextest, node's TAP.
fn counted(line: &str) -> Count {
    let mut count = Count::default();
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
    fn a_broken_step_is_a_failure() {
        let mut steps = Steps::default();
        steps.run("breaks", Command::new("cargo").arg("no-such-command"));
        steps.run("cannot start", &mut Command::new("no-such-program-anywhere"));
        let failures = steps.done.iter().filter(|(_, _, outcome)| match outcome {
            Ok(count) => count.failed == 1,
            Err(error) => error.contains("no-such-program-anywhere"),
        });
        assert_eq!(failures.count(), 2);
        assert_eq!(format!("{:?}", steps.finish()), format!("{:?}", ExitCode::FAILURE));
    }
}
