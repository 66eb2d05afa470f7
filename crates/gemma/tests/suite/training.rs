//! Whole runs: bit-identical repeats and resumes, skipped steps, dropout, and the cost of a step.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::type_complexity,
    reason = "tests"
)]

use super::twins::{GEMMA3, config, load, plan, rows};
use hearth_gemma::{
    Flat, KvCache, Lora, LoraLayout, Model, Packed, Pass, Row,
    lora::Slot,
    snapshot::Snapshot,
    targets::{Example, Loss},
    train::{StepPlan, StepReport, TrainConfig, Trainer},
    workspace::{Activations, Sizes, Workspace},
};
use hearth_gpu::{Commands, Profile};
use wasm_bindgen_test::wasm_bindgen_test;

const STEPS: u32 = 20;

fn batch(step: u32) -> Vec<Example> {
    rows(4, 5, 8, Loss::Choice, 100 + u64::from(step))
}

/// Runs steps `from..STEPS`; returns the reports and the final parameters.
async fn run(trainer: &mut Trainer<'_>, from: u32) -> (Vec<StepReport>, Vec<f32>) {
    let mut reports = vec![];
    for step in from..STEPS {
        reports.extend(trainer.step(&batch(step)).await.unwrap());
    }
    reports.extend(trainer.last_report().await.unwrap());
    (reports, trainer.params().await.unwrap())
}

async fn start(model: &Model, config: TrainConfig) -> Trainer<'_> {
    Trainer::new(model, config, plan(200), None).await.unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn two_runs_and_every_resumed_run_are_equal_to_the_bit() {
    let model = load(Profile::Full, &GEMMA3).await;
    let mut config = config(Loss::Choice);
    config.lora.dropout = 0.1;
    let (reports, params) = run(&mut start(&model, config.clone()).await, 0).await;
    assert_eq!(reports.len(), STEPS as usize);
    let (again, same) = run(&mut start(&model, config.clone()).await, 0).await;
    assert_eq!((reports.clone(), bits(&params)), (again, bits(&same)));

    for killed_at in 0..STEPS {
        let mut first = start(&model, config.clone()).await;
        for step in 0..killed_at {
            first.step(&batch(step)).await.unwrap();
        }
        let snapshot = Snapshot {
            identity: Default::default(),
            state: killed_at.to_string(),
            buffers: first.buffers().await.unwrap(),
        };
        drop(first);
        let snapshot = Snapshot::from_bytes(&snapshot.to_bytes().unwrap()).unwrap();
        let mut second = start(&model, config.clone()).await;
        second.restore(snapshot.state.parse().unwrap(), &snapshot.buffers).unwrap();
        let (rest, resumed) = run(&mut second, killed_at).await;
        assert_eq!(rest[..], reports[killed_at as usize..], "resumed at {killed_at}");
        assert_eq!(bits(&resumed), bits(&params), "resumed at {killed_at}");
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn recomputed_activations_give_the_bits_of_kept_ones_with_dropout_too() {
    for &profile in super::twins::PROFILES {
        let model = load(profile, &GEMMA3).await;
        let mut config = config(Loss::Sequence);
        config.lora.dropout = 0.3;
        let batch = rows(4, 5, 8, Loss::Sequence, 1);
        let mut results = vec![];
        for activations in [Activations::Keep, Activations::Recompute] {
            let plan = StepPlan { activations, ..plan(200) };
            let layout = LoraLayout::new(&config.lora, &model.config).unwrap();
            let alive = super::twins::alive(layout.len);
            let mut trainer =
                Trainer::new(&model, config.clone(), plan, Some(&alive)).await.unwrap();
            let (loss, gradient) = trainer.gradients(&batch).await.unwrap();
            results.push((loss.to_bits(), bits(&gradient)));
        }
        assert_eq!(results[0], results[1]);
        // And the mask has an effect.
        config.lora.dropout = 0.0;
        let layout = LoraLayout::new(&config.lora, &model.config).unwrap();
        let alive = super::twins::alive(layout.len);
        let mut trainer = Trainer::new(&model, config, plan(200), Some(&alive)).await.unwrap();
        assert_ne!(trainer.gradients(&batch).await.unwrap().0.to_bits(), results[0].0);
    }
}

/// Kept and recomputed activations agree even if both replay a wrong mask. The loss itself is the
/// check: along its gradient, it changes by the gradient's norm. Of 0.02 nats, rounding is about
/// 1e-6 and the remaining third-order term of the curve is below 1e-3. A mask that is not replayed
/// shows in the gradients of A and in the gradient passed to the layers below.
#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gradients_under_dropout_agree_with_finite_differences() {
    let model = load(Profile::Full, &GEMMA3).await;
    let mut config = config(Loss::Sequence);
    config.lora.dropout = 0.5;
    let layout = LoraLayout::new(&config.lora, &model.config).unwrap();
    // Large factors: much of the gradient flows down through them.
    let start: Vec<f32> = super::twins::alive(layout.len).iter().map(|v| 6.0 * v).collect();
    let batch = rows(4, 5, 8, Loss::Sequence, 1);
    let mut trainer = Trainer::new(&model, config, plan(200), Some(&start)).await.unwrap();
    let (_, gradient) = trainer.gradients(&batch).await.unwrap();

    let of_a = |_: usize, s: Slot| s.a..s.a + 8 * s.inputs;
    let of_layer_0 =
        |layer: usize, s: Slot| if layer == 0 { s.a..s.b + 8 * s.outputs } else { 0..0 };
    let parts: [(&str, &dyn Fn(usize, Slot) -> std::ops::Range<usize>); 2] =
        [("A", &of_a), ("layer 0", &of_layer_0)];
    for (name, part) in parts {
        let mut direction = vec![0.0; layout.len];
        for (layer, _, slot) in layout.slots() {
            let range = part(layer, slot);
            direction[range.clone()].copy_from_slice(&gradient[range]);
        }
        let square: f64 = direction.iter().map(|d| f64::from(*d).powi(2)).sum();
        let step = (0.01 / square) as f32;
        let mut losses = vec![];
        for step in [step, -step] {
            let moved: Vec<f32> = start.iter().zip(&direction).map(|(p, d)| p + step * d).collect();
            trainer.lora().params.write(&model.gpu, &moved);
            losses.push(f64::from(trainer.gradients(&batch).await.unwrap().0));
        }
        let found = (losses[0] - losses[1]) / 0.02;
        assert!((found - 1.0).abs() < 0.01, "{name}: {found}");
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn gradients_are_clipped_to_the_norm_asked_for() {
    let model = load(Profile::Full, &GEMMA3).await;
    let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let mut trainer = start(&model, config(Loss::Choice)).await;
    let free = norm(&trainer.gradients(&batch(0)).await.unwrap().1);
    // The first moment after one step is (1 - beta1) times the clipped gradient.
    for (max_norm, want) in [(0.25 * free, 0.25 * free), (4.0 * free, free), (0.0, free)] {
        let mut config = config(Loss::Choice);
        config.adam.max_norm = max_norm as f32;
        let mut trainer = start(&model, config).await;
        trainer.step(&batch(0)).await.unwrap();
        let report = trainer.last_report().await.unwrap().unwrap();
        assert!((f64::from(report.grad_norm) / free - 1.0).abs() < 1e-5);
        let moment = norm(&trainer.buffers().await.unwrap()["m"]);
        assert!((moment / (0.1 * want) - 1.0).abs() < 1e-5, "{max_norm}: {moment}");
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn training_lowers_the_loss() {
    let model = load(Profile::Full, &GEMMA3).await;
    let mut trainer = start(&model, config(Loss::Choice)).await;
    let mut losses = vec![];
    for _ in 0..STEPS {
        losses.extend(trainer.step(&batch(0)).await.unwrap().map(|r| r.loss));
    }
    let last = trainer.last_report().await.unwrap().unwrap();
    assert!(last.loss < 0.5 * losses[0], "{losses:?}");
    assert_eq!(last.accuracy, 1.0);
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_step_that_is_not_finite_is_skipped_and_the_next_one_counts() {
    let model = load(Profile::Full, &GEMMA3).await;
    let mut trainer = start(&model, config(Loss::Choice)).await;
    trainer.step(&batch(0)).await.unwrap();
    trainer.step(&batch(1)).await.unwrap();
    let before = trainer.params().await.unwrap();
    let mut bad = batch(2);
    bad[1].targets[0].weight = f32::INFINITY;
    for in_a_row in 1..=2 {
        trainer.step(&bad).await.unwrap();
        let report = trainer.last_report().await.unwrap().unwrap();
        assert_eq!((report.skipped, report.skipped_in_a_row), (true, in_a_row));
        assert_eq!(bits(&trainer.params().await.unwrap()), bits(&before));
    }
    trainer.step(&batch(3)).await.unwrap();
    let report = trainer.last_report().await.unwrap().unwrap();
    assert_eq!((report.skipped, report.skipped_in_a_row), (false, 0));
    let after = trainer.params().await.unwrap();
    assert!(after.iter().all(|v| v.is_finite()) && bits(&after) != bits(&before));
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_step_reads_back_once_and_launches_as_many_kernels_as_it_always_did() {
    let model = load(Profile::Full, &GEMMA3).await;
    let mut trainer = start(&model, config(Loss::Choice)).await;
    trainer.step(&batch(0)).await.unwrap();
    let before = model.gpu.readbacks();
    trainer.step(&batch(1)).await.unwrap();
    assert_eq!(model.gpu.readbacks() - before, 1);

    // Forward: the products of 4 inputs and their z, norm and rotation of the heads,
    // attention, 2 norms that end a block and begin the next: 12 per layer. Before them, the
    // embedding and the first norm; in the last layer, the gathering of chosen rows and their norm.
    let config = config(Loss::Choice);
    let layout = LoraLayout::new(&config.lora, &model.config).unwrap();
    let lora = Lora::new(&model.gpu, layout.clone(), &layout.initial()).unwrap();
    let sizes =
        Sizes { tokens: 64, chosen: 8, lora: Some(config.lora), training: Some(Activations::Keep) };
    let mut ws = Workspace::new(&model.gpu, &model.config, sizes).unwrap();
    let ids: Vec<u32> = (2..20).collect();
    let packed = Packed::new(&[Row { tokens: &ids, id: 0 }], 3).unwrap();
    model.set_batch(&mut ws, packed, Some(vec![17])).await.unwrap();
    let mut commands = Commands::new();
    model.forward(&mut commands, &ws, Pass { lora: Some(&lora), dropout: None }, None).unwrap();
    assert_eq!(commands.dispatches(), 12 * 3 + 4);

    // Backward: dX and dZ of 4 inputs, the factors' gradients of 2 pairs of them, 2 norms that end a block and
    // begin the next, norm and rotation of the heads, 2 of attention: 15 per layer; one dX and
    // one norm fewer in the lowest layer. The last layer has two more norms, on the chosen rows and
    // around their scattering. Before them, the final norm's.
    let d_params = Flat::new(&model.gpu, "d", &layout).unwrap();
    let pass = hearth_gemma::BackwardPass { lora: &lora, d_params: &d_params, dropout: None };
    let mut commands = Commands::new();
    model.backward(&mut commands, &ws, pass).unwrap();
    assert_eq!(commands.dispatches(), 15 * 3 - 2 + 2 + 2);
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_cache_of_one_adapter_is_refused_to_another() {
    let model = load(Profile::Full, &GEMMA3).await;
    let layout = LoraLayout::new(&config(Loss::Choice).lora, &model.config).unwrap();
    let adapters: Vec<Lora> =
        (0..2).map(|_| Lora::new(&model.gpu, layout.clone(), &layout.initial()).unwrap()).collect();
    let sizes = Sizes { tokens: 16, chosen: 16, lora: Some(layout.config.clone()), training: None };
    let mut ws = Workspace::new(&model.gpu, &model.config, sizes).unwrap();
    let mut cache = KvCache::new(&model.gpu, &model.config, 32).unwrap();
    let ids = [2, 30, 31];
    for (cached, adapter, fine) in
        [(0, Some(0), true), (3, Some(0), true), (6, Some(1), false), (6, None, false)]
    {
        let packed = Packed::after_cache(&[Row { tokens: &ids, id: 0 }], cached).unwrap();
        model.set_batch(&mut ws, packed, None).await.unwrap();
        let lora = adapter.map(|i: usize| &adapters[i]);
        let mut commands = Commands::new();
        let result =
            model.forward(&mut commands, &ws, Pass { lora, dropout: None }, Some(&mut cache));
        assert_eq!(result.is_ok(), fine);
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_cache_that_does_not_hold_what_the_batch_continues_is_refused() {
    let model = load(Profile::Full, &GEMMA3).await;
    let sizes = Sizes { tokens: 16, chosen: 16, lora: None, training: None };
    let mut ws = Workspace::new(&model.gpu, &model.config, sizes).unwrap();
    let mut cache = KvCache::new(&model.gpu, &model.config, 32).unwrap();
    let ids = [2, 30, 31];
    // packed after `cached` tokens, while the cache holds 0, 0, 3, 3 and 6
    for (cached, fine) in [(5, false), (0, true), (2, false), (3, true), (3, false)] {
        let packed = Packed::after_cache(&[Row { tokens: &ids, id: 0 }], cached).unwrap();
        model.set_batch(&mut ws, packed, None).await.unwrap();
        let held = cache.len();
        let result = model.forward(&mut Commands::new(), &ws, Pass::default(), Some(&mut cache));
        assert_eq!(result.is_ok(), fine, "{cached} of {held}");
        let Err(error) = result else { continue };
        let words = format!("after {cached} cached tokens, but the cache holds {held}");
        assert!(error.to_string().contains(&words), "{error}");
    }
    // 3 cached tokens are expected, and there is no cache at all
    let without = model.forward(&mut Commands::new(), &ws, Pass::default(), None);
    assert!(without.unwrap_err().to_string().contains("no cache was given"));
}
