//! `hearth bench --suite`: everything worth knowing of a GPU, in one run with a deadline. What is known is written
//! after each phase, so that a run that is cut short leaves what it had.

mod ceilings;
mod gemm;
mod steps;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use hearth_gpu::Gpu;
use serde::Serialize;
use serde_json::{Value, json};
use web_time::Instant;

use super::Bench;
use crate::{Outcome, clock, interrupt, options::Options, output, synthetic::Shape};

#[derive(Serialize)]
struct Report {
    hearth: &'static str,
    started: String,
    adapter: String,
    profile: &'static str,
    deadline_seconds: f64,
    phases: Vec<Phase>,
}

#[derive(Serialize)]
struct Phase {
    name: &'static str,
    seconds: f64,
    #[serde(flatten)]
    outcome: Value,
}

/// When to stop.
#[derive(Clone, Copy)]
pub struct Until {
    start: Instant,
    seconds: f64,
}

impl Until {
    fn new(seconds: f64) -> Self {
        Self { start: Instant::now(), seconds }
    }

    /// A share of what is left.
    fn share(self, of: f64) -> Self {
        Self::new(of * self.left())
    }

    fn left(self) -> f64 {
        (self.seconds - self.start.elapsed().as_secs_f64()).max(0.0)
    }

    /// The time is over, or somebody pressed Ctrl-C.
    fn is_over(self) -> bool {
        self.left() <= 0.0 || interrupt::asked()
    }
}

/// Runs all phases. What one cannot do is an entry in the report, and the next one begins.
pub async fn run(options: &Options, args: &Bench, out: &Path) -> Result<Outcome> {
    let until = Until::new(args.deadline);
    let gpu = options.gpu().await?;
    let mut report = Report {
        hearth: env!("CARGO_PKG_VERSION"),
        started: clock::now(),
        adapter: gpu.adapter().to_string(),
        profile: options.profile(),
        deadline_seconds: args.deadline,
        phases: vec![],
    };
    let mut peak = None;
    for (name, share) in PHASES {
        let start = Instant::now();
        let outcome = if until.is_over() {
            json!({ "skipped": "no time was left" })
        } else {
            output::note(&format!("{name} …"));
            match phase(name, options, args, &gpu, &mut peak, until.share(share)).await {
                Ok(result) => json!({ "result": result }),
                Err(error) => json!({ "error": output::words(&error) }),
            }
        };
        report.phases.push(Phase { name, seconds: start.elapsed().as_secs_f64(), outcome });
        write(&report, out)?;
    }
    if options.json {
        output::json(&report)?;
    } else {
        print(&report, out)?;
    }
    Ok(Outcome::Done)
}

/// The phases, and the share of the time that is left which each may take.
const PHASES: [(&str, f64); 6] = [
    ("device", 1.0),
    ("ceilings", 0.2),
    ("variants", 0.15),
    ("gemm", 0.5),
    ("gemma-3-270m", 0.5),
    ("gemma-2b", 1.0),
];

async fn phase(
    name: &str,
    options: &Options,
    args: &Bench,
    gpu: &Gpu,
    peak: &mut Option<ceilings::Ceilings>,
    until: Until,
) -> Result<Value> {
    // a toy in the models' places, for tests
    let model = |shape| if args.synthetic == Some(Shape::Tiny) { Shape::Tiny } else { shape };
    Ok(match name {
        "device" => device(gpu),
        "ceilings" => {
            let found = ceilings::measure(gpu).await?;
            *peak = Some(found);
            serde_json::to_value(found)?
        }
        "variants" => serde_json::to_value(gemm::check_variants(gpu, until).await?)?,
        "gemm" => {
            let shapes: &[_] =
                if args.synthetic == Some(Shape::Tiny) { &gemm::TOY } else { &gemm::SHAPES };
            serde_json::to_value(gemm::measure(gpu, shapes, *peak, until).await?)?
        }
        "gemma-3-270m" => serde_json::to_value(
            steps::measure(options, gpu, model(Shape::Gemma3_270M), until).await?,
        )?,
        _ => {
            serde_json::to_value(steps::measure(options, gpu, model(Shape::Gemma2B), until).await?)?
        }
    })
}

fn device(gpu: &Gpu) -> Value {
    let can = gpu.capabilities();
    let limits: serde_json::Map<String, Value> =
        gpu.limits().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "features": {
            "shader-f16": can.f16, "subgroups": can.subgroups, "timestamp-query": can.timestamps,
            "cpu-rasterizer": can.software,
        },
        "limits": limits,
    })
}

/// Writes beside the file and renames: a run that is killed while it writes leaves the phases before.
fn write(report: &Report, out: &Path) -> Result<()> {
    let beside = out.with_added_extension("part");
    let at = || format!("writing {}", out.display());
    fs::write(&beside, serde_json::to_vec_pretty(report)?).with_context(at)?;
    fs::rename(&beside, out).with_context(at)
}

fn print(report: &Report, out: &Path) -> Result<()> {
    output::line(&format!("{}, {} limits", report.adapter, report.profile))?;
    for phase in &report.phases {
        let how = ["error", "skipped"]
            .into_iter()
            .find_map(|key| phase.outcome[key].as_str().map(|words| format!("{key}: {words}")));
        let how = how.unwrap_or_else(|| "done".to_owned());
        output::line(&format!("{:<14} {:>7.1} s  {how}", phase.name, phase.seconds))?;
    }
    output::line(&format!("The figures are in {}", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shared_and_runs_out() {
        let all = Until::new(1000.0);
        let half = all.share(0.5);
        assert!(half.left() <= 500.0 && half.left() > 499.0 && !half.is_over());
        assert!(Until::new(0.0).is_over() && all.share(0.0).is_over());
    }
}
