//! Steps: commands run one after the other, each timed, with the tests in their output counted.

use crate::runner_output::{Count, Failure, RunnerOutput};
use anyhow::Result;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// How many of the slowest tests are listed.
const SLOWEST: usize = 10;

/// What ran so far.
#[derive(Default)]
pub struct Steps {
    done: Vec<Done>,
}

/// A step that ran.
struct Done {
    name: String,
    time: Duration,
    /// What its tests came to; the error where it could not run.
    outcome: Result<RunnerOutput, String>,
    /// The command, where there is one.
    command: Option<String>,
}

impl Done {
    fn count(&self) -> Count {
        self.outcome.as_ref().map_or(Count { passed: 0, failed: 1 }, |output| output.count)
    }
}

impl Steps {
    /// Runs a command as a step; a failing one is recorded and the next can still run.
    pub fn run(&mut self, name: &str, command: &mut Command) {
        let line = describe(command);
        self.step(name, Some(line.clone()), || {
            println!("$ {line}");
            run_reading(command)
        });
    }

    /// Runs any work as a step. Returns whether it went well; an error counts as one failure.
    pub fn attempt(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        self.step(name, None, || work().map(|()| RunnerOutput::default()))
    }

    /// Runs test programs as a step, several at a time; what they print is passed on when each has ended.
    pub fn run_side_by_side(&mut self, name: &str, commands: Vec<Command>, at_a_time: usize) {
        self.step(name, None, || side_by_side(commands, at_a_time));
    }

    fn step(
        &mut self,
        name: &str,
        command: Option<String>,
        work: impl FnOnce() -> Result<RunnerOutput>,
    ) -> bool {
        println!("\n==== {name}");
        let (outcome, time) = timed(work);
        let outcome = outcome.map_err(|error| format!("{error:#}"));
        let done = Done { name: name.to_owned(), time, outcome, command };
        let failed = done.count().failed;
        match &done.outcome {
            Ok(_) if failed == 0 => println!("---- {name}: ok, {}", seconds(time)),
            Ok(_) => println!("---- {name}: {failed} FAILED, {}", seconds(time)),
            Err(error) => println!("---- {name}: FAILED, {}: {error}", seconds(time)),
        }
        self.done.push(done);
        failed == 0
    }

    /// Prints a line per step, the slowest tests, the checks that did not run, the sum alone on a line, and last of
    /// all what failed.
    pub fn finish(&self, skipped: &[String]) -> ExitCode {
        let mut total = Count::default();
        println!("\n==== Summary");
        for done in &self.done {
            let count = done.count();
            let word = if count.failed == 0 { "ok" } else { "FAILED" };
            let tests = match &done.outcome {
                Ok(_) if count == Count::default() => String::new(),
                Ok(_) => format!("  {} passed, {} failed", count.passed, count.failed),
                Err(error) => format!("  {error}"),
            };
            println!("{word:>6} {:>8}  {}{tests}", seconds(done.time), done.name);
            total += count;
        }
        let slowest = self.slowest();
        if !slowest.is_empty() {
            println!("\nThe slowest tests:");
        }
        for (time, test) in slowest {
            println!("{:>8}  {test}", seconds(time));
        }
        if !skipped.is_empty() {
            println!("\nSkipped:");
        }
        for line in skipped {
            println!("  {line}");
        }
        let also =
            if skipped.is_empty() { String::new() } else { format!(", {} skipped", skipped.len()) };
        println!("\n{} passed, {} failed{also}", total.passed, total.failed);
        for line in self.failures() {
            println!("{line}");
        }
        if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn slowest(&self) -> Vec<(Duration, String)> {
        let outputs = self.done.iter().filter_map(|done| done.outcome.as_ref().ok());
        let mut times: Vec<_> = outputs.flat_map(|output| output.times.iter().cloned()).collect();
        times.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        times.truncate(SLOWEST);
        times
    }

    /// What failed, with its first lines and the command that runs its step again.
    fn failures(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for done in self.done.iter().filter(|done| done.count().failed > 0) {
            lines.push(format!("\nFAILED: {}", done.name));
            lines.extend(done.command.iter().map(|command| format!("  again: {command}")));
            match &done.outcome {
                Err(error) => lines.push(format!("  {error}")),
                Ok(output) if output.failures.is_empty() => {
                    lines.push(
                        "  no test was named: the command's own output above says why".to_owned(),
                    );
                }
                Ok(output) => {
                    for Failure { test, lines: why } in &output.failures {
                        lines.push(format!("  {test}"));
                        lines.extend(why.iter().map(|line| format!("    {line}")));
                    }
                }
            }
        }
        lines
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

/// Runs a command, passes its output on as it comes and reads the tests in it.
fn run_reading(command: &mut Command) -> Result<RunnerOutput> {
    read_to(command, std::io::stdout(), std::io::stderr())
}

fn read_to(
    command: &mut Command,
    stdout: impl Write + Send,
    stderr: impl Write,
) -> Result<RunnerOutput> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| anyhow::anyhow!("cannot start `{}`: {error}", describe(command)))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut output = std::thread::scope(|scope| {
        let out = scope.spawn(|| out.map(|pipe| pass_on(pipe, stdout)));
        let mut sum = err.map(|pipe| pass_on(pipe, stderr)).unwrap_or_default();
        if let Ok(Some(out)) = out.join() {
            sum.add(out);
        }
        sum
    });
    // a step that broke before a test could fail must not close with "0 failed"
    if !child.wait()?.success() && output.count.failed == 0 {
        output.count.failed = 1;
    }
    Ok(output)
}

/// Runs commands, so many at a time, and prints each one's output in one piece.
fn side_by_side(commands: Vec<Command>, at_a_time: usize) -> Result<RunnerOutput> {
    let waiting = std::sync::Mutex::new(commands.into_iter());
    let next = || waiting.lock().ok()?.next();
    let work = || -> Result<RunnerOutput> {
        let mut sum = RunnerOutput::default();
        while let Some(mut command) = next() {
            let mut said = Vec::new();
            let (mut errors, line) = (Vec::new(), describe(&command));
            let output = read_to(&mut command, &mut said, &mut errors)?;
            let mut stdout = std::io::stdout().lock();
            // nothing sensible can be done when our own output is closed
            let _ = writeln!(stdout, "$ {line}");
            let _ = stdout.write_all(&errors).and_then(|()| stdout.write_all(&said));
            sum.add(output);
        }
        Ok(sum)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        let mut sum = RunnerOutput::default();
        for worker in workers {
            sum.add(worker.join().map_err(|_| anyhow::anyhow!("a test runner's reader broke"))??);
        }
        Ok(sum)
    })
}

fn pass_on(pipe: impl Read, mut to: impl Write) -> RunnerOutput {
    let mut output = RunnerOutput::default();
    for line in BufReader::new(pipe).split(b'\n') {
        let Ok(line) = line else { break };
        // nothing sensible can be done when our own output is closed
        let _ = to.write_all(&line).and_then(|()| to.write_all(b"\n"));
        output.line(&String::from_utf8_lossy(&line));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_step_is_a_failure() {
        let mut steps = Steps::default();
        steps.run("breaks", Command::new("cargo").arg("no-such-command"));
        steps.run("cannot start", &mut Command::new("no-such-program-anywhere"));
        let failures = steps.done.iter().filter(|done| match &done.outcome {
            Ok(output) => output.count.failed == 1,
            Err(error) => error.contains("no-such-program-anywhere"),
        });
        assert_eq!(failures.count(), 2);
        assert_eq!(format!("{:?}", steps.finish(&[])), format!("{:?}", ExitCode::FAILURE));
        let said = steps.failures().join("\n");
        for words in ["FAILED: breaks", "again: cargo no-such-command", "no test was named"] {
            assert!(said.contains(words), "{said}");
        }
        assert!(
            said.ends_with("no-such-program-anywhere`: No such file or directory (os error 2)"),
            "{said}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn programs_side_by_side_are_all_read_and_their_failures_named() {
        let script = |text: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", text]);
            shell
        };
        let mut steps = Steps::default();
        let passes = "echo 'test result: ok. 3 passed; 0 failed'";
        let fails = "echo '---- a::b output ----'; echo 'panicked at x'; echo 'test result: FAILED. 1 passed; 1 failed'; exit 1";
        let commands = [passes, fails, "exit 3", passes].map(script).into();
        steps.run_side_by_side("in browsers", commands, 2);
        assert_eq!(steps.done[0].count(), Count { passed: 7, failed: 2 });
        assert_eq!(steps.failures(), ["\nFAILED: in browsers", "  a::b", "    panicked at x"]);
    }
}
