//! `hearth`: look into models, run them, check them against a reference and measure them, from the
//! command line.
//!
//! Exit codes: 0 done, 1 a check failed, 2 wrong usage or input, 130 interrupted.

mod adapters;
mod bench;
mod classifier_file;
mod clock;
mod data;
mod eval;
mod export;
mod files;
mod generate;
mod heap;
mod inspect;
mod inspect_table;
mod interrupt;
mod manual;
mod measure;
mod merge_predictions;
mod options;
mod output;
mod predict;
mod quantize;
mod reading;
mod reading_args;
mod run_folder;
mod score;
mod serve;
mod session;
mod sweep;
mod synth;
mod synthetic;
mod train;
mod train_args;
mod train_progress;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use options::Options;

/// Fine-tune Gemma into text classifiers, and run it, on any GPU.
#[derive(Parser)]
#[command(name = "hearth", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once, from the arguments")]
enum Command {
    Train(train::Train),
    Eval(eval::Eval),
    Predict(predict::Predict),
    MergePredictions(merge_predictions::MergePredictions),
    Export(export::Export),
    Sweep(sweep::Sweep),
    Inspect(inspect::Inspect),
    Generate(generate::Generate),
    Score(score::Score),
    Serve(serve::Serve),
    Verify(verify::Verify),
    Bench(bench::Bench),
    Quantize(quantize::Quantize),
    Synth(synth::Synth),
    /// List this machine's GPU adapters, best first.
    Adapters,
    Completions(manual::Completions),
    Man(manual::Man),
}

/// How a command that ran to its end came out.
enum Outcome {
    Done,
    CheckFailed,
}

/// Mesa's drivers complain of a missing XDG_RUNTIME_DIR before every command on a server, though nothing of
/// Hearth is drawn there.
fn quiet_drivers() {
    let name = "XDG_RUNTIME_DIR";
    let fits = |path: std::ffi::OsString| std::path::Path::new(&path).is_dir();
    if cfg!(target_os = "linux") && !std::env::var_os(name).is_some_and(fits) {
        // SAFETY: the first thing that the program does, before it starts a thread
        unsafe { std::env::set_var(name, std::env::temp_dir()) };
    }
}

fn main() -> ExitCode {
    quiet_drivers();
    let Cli { options, command } = Cli::parse();
    interrupt::watch();
    let outcome = pollster::block_on(async {
        match command {
            Command::Train(args) => train::run(&options, &args).await,
            Command::Eval(args) => eval::run(&options, &args).await,
            Command::Predict(args) => predict::run(&options, &args).await,
            Command::MergePredictions(args) => merge_predictions::run(&options, &args),
            Command::Export(args) => export::run(&options, &args).await,
            Command::Sweep(args) => sweep::run(&options, &args).await,
            Command::Inspect(args) => inspect::run(&options, &args).await,
            Command::Generate(args) => generate::run(&options, &args).await,
            Command::Score(args) => score::run(&options, &args).await,
            Command::Serve(args) => serve::run(&options, &args).await,
            Command::Verify(args) => verify::run(&options, &args).await,
            Command::Bench(args) => bench::run(&options, &args).await,
            Command::Quantize(args) => quantize::run(&options, &args).await,
            Command::Synth(args) => synth::run(&options, &args).await,
            Command::Adapters => adapters::run(&options).await,
            Command::Completions(args) => manual::completions(&args, Cli::command()),
            Command::Man(args) => manual::man(&args, Cli::command()),
        }
    });
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::CheckFailed) => ExitCode::from(1),
        Err(_) if interrupt::asked() => {
            output::note("interrupted");
            ExitCode::from(130)
        }
        // Whoever reads our output has seen enough, as in `hearth inspect … | head`.
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {}", output::words(&error)));
            ExitCode::from(2)
        }
    }
}
