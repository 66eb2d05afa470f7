//! A packed batch with a shared prefix gives the same loss and the same gradients as its rows
//! computed one by one, natively and in the browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use super::twins::{GEMMA1, GEMMA2, GEMMA3, alive, config, load, plan, rows};
use hearth_gemma::{
    LoraLayout, Model,
    targets::{Example, Loss},
    train::{StepPlan, Trainer, micro_batches},
};
use hearth_gpu::Profile;
use hearth_kernels::variants::Variants;
use wasm_bindgen_test::wasm_bindgen_test;

async fn gradients(
    model: &Model,
    loss: Loss,
    batch: &[Example],
    plan: StepPlan,
) -> (f32, Vec<f32>) {
    let config = config(loss);
    let start = alive(LoraLayout::new(&config.lora, &model.config).unwrap().len);
    let mut trainer = Trainer::new(model, config, plan, Some(&start)).await.unwrap();
    trainer.gradients(batch).await.unwrap()
}

/// Computes every row alone and without any sharing, and adds up the results by weight in f64.
async fn one_by_one(model: &Model, loss: Loss, batch: &[Example]) -> (f64, Vec<f64>) {
    let weight = |e: &Example| e.targets.iter().map(|t| f64::from(t.weight)).sum::<f64>();
    let total: f64 = batch.iter().map(weight).sum();
    let (mut loss_sum, mut sum) = (0.0, vec![]);
    let config = config(loss);
    let start = alive(LoraLayout::new(&config.lora, &model.config).unwrap().len);
    let longest = batch.iter().map(|e| e.tokens.len()).max().unwrap();
    let plan = StepPlan { share_prefix: false, ..plan(longest) };
    let mut trainer = Trainer::new(model, config, plan, Some(&start)).await.unwrap();
    for row in batch {
        let (row_loss, gradient) = trainer.gradients(std::slice::from_ref(row)).await.unwrap();
        let share = weight(row) / total;
        loss_sum += share * f64::from(row_loss);
        sum.resize(gradient.len(), 0.0);
        sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += share * f64::from(g));
    }
    (loss_sum, sum)
}

fn relative(got: &[f32], want: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(*g) - w))
        / norm(&mut want.iter().copied())
}

async fn check(model: &Model, loss: Loss, batch: &[Example]) {
    let tokens = batch.iter().map(|e| e.tokens.len()).sum();
    let (want_loss, want) = one_by_one(model, loss, batch).await;
    let (got_loss, got) = gradients(model, loss, batch, plan(tokens)).await;
    assert!(
        (f64::from(got_loss) / want_loss - 1.0).abs() < 1e-5,
        "{loss:?}: {got_loss} {want_loss}"
    );
    let error = relative(&got, &want);
    assert!(error < 1e-5, "{loss:?}, {} rows: {error:e}", batch.len());
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_packed_batch_equals_its_rows_under_every_loss() {
    for &profile in super::twins::PROFILES {
        let model = load(profile, &GEMMA3).await;
        for loss in [Loss::Choice, Loss::Label, Loss::Sequence] {
            for count in [1, 2, 7] {
                check(&model, loss, &rows(count, 5, 9, loss, 1)).await;
            }
        }
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn prefixes_longer_than_the_window_none_at_all_and_many_rows() {
    let model = load(Profile::Full, &GEMMA3).await;
    check(&model, Loss::Sequence, &rows(3, 20, 12, Loss::Sequence, 2)).await;
    check(&model, Loss::Choice, &rows(5, 0, 12, Loss::Choice, 3)).await;
    check(&model, Loss::Label, &rows(33, 6, 10, Loss::Label, 4)).await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn soft_caps_and_two_key_heads() {
    let model = load(Profile::Full, &GEMMA2).await;
    for loss in [Loss::Choice, Loss::Sequence] {
        check(&model, loss, &rows(7, 11, 9, loss, 5)).await;
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn micro_batches_change_nothing_but_rounding() {
    let model = load(Profile::Full, &GEMMA3).await;
    for loss in [Loss::Choice, Loss::Sequence] {
        let batch = rows(9, 6, 14, loss, 6);
        let (whole_loss, whole) = gradients(&model, loss, &batch, plan(400)).await;
        let small = plan(30);
        assert!(micro_batches(&batch, &small).unwrap().len() >= 3);
        let (loss_sum, parts) = gradients(&model, loss, &batch, small).await;
        assert!((loss_sum / whole_loss - 1.0).abs() < 1e-5);
        let whole: Vec<f64> = whole.iter().map(|&v| f64::from(v)).collect();
        assert!(relative(&parts, &whole) < 1e-5);
    }
}

// What sharing saves, on the lengths of ETHOS rows under the codelab's prompt: Gemma 3 tokens of the
// first rows and a prefix of 21.
#[wasm_bindgen_test(unsupported = test)]
fn eight_rows_of_ethos_length_take_a_quarter_of_the_padded_tokens() {
    let lengths = [
        45, 36, 97, 55, 68, 38, 142, 38, 35, 86, 39, 39, 41, 34, 75, 35, 31, 32, 48, 41, 34, 53,
        54, 71,
    ];
    let computed: usize = lengths.iter().map(|l| l - 21).sum::<usize>() + 21 * 3;
    let padded = lengths.len() * 128;
    assert!(computed * 10 < padded * 3, "{computed} of {padded}");
    let batch: Vec<Example> = lengths[..8]
        .iter()
        .map(|&l| {
            let mut prompt = vec![5; 21];
            prompt.extend((0..l - 21).map(|i| 20 + (i * l) as u32 % 400));
            Example::new(Loss::Choice, &prompt, 0, 7, None, 1.0, l as u32)
        })
        .collect();
    let (packed, _) = hearth_gemma::targets::pack(&batch.iter().collect::<Vec<_>>(), 21).unwrap();
    assert_eq!(packed.len(), lengths[..8].iter().map(|l| l - 21).sum::<usize>() + 21);
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn the_variants_of_a_gpu_give_the_gradients_of_those_of_a_rasterizer() {
    for files in [&GEMMA1, &GEMMA2, &GEMMA3] {
        let mut model = load(Profile::Default, files).await;
        for loss in [Loss::Choice, Loss::Sequence] {
            let batch = rows(9, 6, 14, loss, 8);
            let mut of = async |software| {
                // Sums of these small models come in parts, too.
                model.variants = Variants { part_terms: 16, ..Variants::of_kind(software) };
                gradients(&model, loss, &batch, plan(400)).await
            };
            let ((want_loss, want), (got_loss, got)) = (of(true).await, of(false).await);
            let want: Vec<f64> = want.iter().map(|&v| f64::from(v)).collect();
            let error = relative(&got, &want);
            assert!((got_loss / want_loss - 1.0).abs() < 1e-5, "{got_loss} {want_loss}");
            assert!(error < 1e-4 && error > 0.0, "{loss:?}: {error:e}");
        }
    }
}
