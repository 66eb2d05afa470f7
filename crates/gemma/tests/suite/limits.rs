//! Every batch that the memory plan accepts runs on a device whose binding limit is the one given
//! to the plan, with the same result as on a device without that limit. The models are tiny, and
//! the limits are scaled to them: 64 KiB bind 128 tokens of a tiny model's gate, while WebGPU's 128
//! MiB bind 2,048 of Gemma 2B's.
#![cfg(not(target_arch = "wasm32"))] // proptest is native
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::cell::Cell;

use super::twins::{GEMMA1, GEMMA2, GEMMA3, config, load_on, rows};
use hearth_gemma::{
    LoraConfig, Model, ModelError,
    plan::{MemoryPlan, TrainingNeed, most_targets, plan_training},
    targets::{Example, Loss, prediction_count},
    train::{Logits, StepPlan, StepReport, TrainConfig, Trainer},
    workspace::Activations,
};
use hearth_gpu::{Gpu, GpuOptions, Profile};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// Limits of a binding, in bytes.
const LIMITS: [u64; 3] = [64 << 10, 96 << 10, 256 << 10];

async fn open(max_binding: Option<u64>) -> Gpu {
    let options = GpuOptions { max_binding, ..GpuOptions::with_profile(Profile::Full) };
    Gpu::open(&options).await.unwrap()
}

/// A batch and the adapter to train on it.
#[derive(Debug, Clone)]
struct Case {
    twin: usize,
    limit: usize,
    rows: usize,
    prefix: usize,
    longest: usize,
    rank: u32,
    dropout: bool,
    loss: Loss,
    memory: Option<u64>,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let loss = prop_oneof![Just(Loss::Choice), Just(Loss::Label), Just(Loss::Sequence)];
    let rank = prop_oneof![Just(1u32), Just(8), Just(28), Just(64), Just(256)];
    let sizes = (2usize..80, 0usize..10, 1usize..40);
    let memory = prop_oneof![Just(None), (3u64..9).prop_map(|mb| Some(mb << 20))];
    ((0usize..3, 0usize..3), sizes, rank, any::<bool>(), loss, memory, 0u64..1000).prop_map(
        |((twin, limit), (rows, prefix, longest), rank, dropout, loss, memory, seed)| Case {
            twin,
            limit,
            rows,
            prefix,
            longest,
            rank,
            dropout,
            loss,
            memory,
            seed,
        },
    )
}

impl Case {
    fn batch(&self) -> Vec<Example> {
        rows(self.rows, self.prefix, self.longest, self.loss, self.seed)
    }

    fn config(&self) -> TrainConfig {
        let mut config = config(self.loss);
        let dropout = if self.dropout { 0.1 } else { 0.0 };
        config.lora = LoraConfig { rank: self.rank, dropout, ..LoraConfig::all_seven() };
        config
    }

    fn plan(&self, model: &Model, binding: u64) -> Result<(MemoryPlan, StepPlan), ModelError> {
        let (batch, config) = (self.batch(), self.config());
        let prefix = hearth_gemma::shared_prefix(batch.iter().map(|row| row.tokens.as_slice()));
        let own: usize = batch.iter().map(|row| row.tokens.len() - prefix).sum();
        let targets = prediction_count(&batch, prefix);
        let need = TrainingNeed {
            lora: &config.lora,
            longest_row: batch.iter().map(|row| row.tokens.len()).max().unwrap(),
            batch_tokens: prefix + own,
            targets,
            logits: Logits::of(&config, model.config.vocab),
            averaging: false,
            input_row_bytes: 0,
        };
        let memory = self.memory.unwrap_or(u64::MAX);
        let plan = plan_training(&model.config, 0, &need, memory, binding)?;
        let step = StepPlan {
            tokens: plan.tokens,
            targets: most_targets(targets, plan.tokens),
            activations: plan.activations.unwrap_or(Activations::Recompute),
            share_prefix: true,
        };
        Ok((plan, step))
    }

    /// Runs three steps: the first step of a warm-up has a rate of 0.
    async fn run(&self, model: &Model, plan: StepPlan) -> Vec<StepReport> {
        let mut trainer = Trainer::new(model, self.config(), plan, None).await.unwrap();
        let mut reports = vec![];
        for _ in 0..3 {
            reports.extend(trainer.step(&self.batch()).await.unwrap());
        }
        reports.extend(trainer.last_report().await.unwrap());
        reports
    }
}

#[test]
fn what_the_plan_accepts_runs_on_a_device_with_these_limits() {
    pollster::block_on(async {
        let mut models = vec![];
        for limit in LIMITS.map(Some).into_iter().chain([None]) {
            let gpu = open(limit).await;
            assert!(limit.is_none_or(|limit| gpu.max_binding() == limit));
            let mut twins = vec![];
            for twin in [&GEMMA1, &GEMMA2, &GEMMA3] {
                twins.push(load_on(&gpu, twin).await);
            }
            models.push(twins);
        }
        let [accepted, cut, refused] = [(); 3].map(|()| Cell::new(0));
        let count = |of: &Cell<u32>| of.set(of.get() + 1);
        let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new_with_rng(config, fixed()).run(&cases(), |case| {
            let model = &models[case.limit][case.twin];
            let limit = LIMITS[case.limit];
            let (whole, plan) = (case.plan(model, u64::MAX), case.plan(model, limit));
            let (_, step) = match plan {
                Ok(plan) => plan,
                Err(error) => {
                    // the binding limit rejects only a rank of 256; the memory limit may reject
                    // anything
                    let text = error.to_string();
                    let by_limit = text.contains("binds at most") && case.rank == 256;
                    prop_assert!(by_limit || case.memory.is_some(), "{text}");
                    count(&refused);
                    return Ok(());
                }
            };
            count(&accepted);
            let reports = pollster::block_on(case.run(model, step));
            prop_assert!(reports.iter().all(|r| r.loss.is_finite() && !r.skipped), "{reports:?}");
            // the same batch at once, on a device without limits
            let free = &models[LIMITS.len()][case.twin];
            let tokens = whole.map_or(step.tokens, |(plan, _)| plan.tokens.max(step.tokens));
            let all = StepPlan { tokens, targets: 1 << 14, ..step };
            let wanted = pollster::block_on(case.run(free, all));
            if step.tokens < tokens {
                count(&cut);
            }
            for (found, wanted) in reports.iter().zip(&wanted) {
                let off = (found.loss / wanted.loss - 1.0).abs();
                prop_assert!(off < 1e-3, "{off}: {found:?} {wanted:?}");
                let off = (found.grad_norm / wanted.grad_norm - 1.0).abs();
                prop_assert!(off < 1e-2, "{off}: {found:?} {wanted:?}");
            }
            Ok(())
        });
        outcome.unwrap();
        let [accepted, cut, refused] = [accepted, cut, refused].map(Cell::into_inner);
        println!("{accepted} accepted, {cut} of them cut by the limit, {refused} refused");
        assert!(accepted >= 12 && cut >= 4, "{accepted} accepted, {cut} cut, {refused} refused");
    });
}

/// A generator that gives the same cases each time.
fn fixed() -> proptest::test_runner::TestRng {
    proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha)
}
