//! Compares generation and scoring over cached keys with passes over whole texts, on the tiny
//! models.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::rc::Rc;

use hearth_formats::{
    checkpoint::Checkpoint,
    source::{ByteSource, MemorySource},
};
use hearth_gemma::{
    Lora, LoraConfig, LoraLayout, Model, ModelError, Precision,
    generate::{End, Generator, Sampling},
    score::{self, Scorer},
};
use hearth_gpu::{Gpu, GpuOptions, Profile};
use hearth_rng::Rng;
use wasm_bindgen_test::wasm_bindgen_test;

async fn load(config: &'static [u8], weights: &'static [u8], profile: Profile) -> Model {
    let gpu = Gpu::open(&GpuOptions::with_profile(profile)).await.unwrap();
    let source = |name: &str, bytes| Rc::new(MemorySource::new(name, bytes)) as Rc<dyn ByteSource>;
    let sources = vec![source("config.json", config), source("model.safetensors", weights)];
    let checkpoint = Checkpoint::open(sources).await.unwrap();
    Model::load(&gpu, &checkpoint, Precision::Exact, |_| true).await.unwrap()
}

/// Runs `body` on the three tiny models, one after another. The windows of Gemma 2 and 3 are
/// shorter than the texts below.
async fn for_each_model(profile: Profile, body: impl AsyncFn(Model)) {
    macro_rules! twin {
        ($name:literal) => {
            body(
                load(
                    include_bytes!(concat!("../golden/", $name, "/model/config.json")),
                    include_bytes!(concat!("../golden/", $name, "/model/model.safetensors")),
                    profile,
                )
                .await,
            )
            .await
        };
    }
    twin!("tiny_gemma1");
    twin!("tiny_gemma2");
    twin!("tiny_gemma3");
}

fn ids(model: &Model, seed: u64, len: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.below(model.config.vocab) as u32).collect()
}

/// An adapter whose B is not zero, so that it changes the output.
fn adapter(model: &Model, seed: u64) -> Lora {
    let layout = LoraLayout::new(&LoraConfig::all_seven(), &model.config).unwrap();
    let mut rng = Rng::new(seed);
    let mut flat = layout.initial();
    for (_, _, slot) in layout.slots() {
        for value in &mut flat[slot.b..slot.b + slot.outputs * 8] {
            *value = (rng.uniform() - 0.5) as f32;
        }
    }
    Lora::new(&model.gpu, layout, &flat).unwrap()
}

fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let sum =
        |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|n| f64::from(n).powi(2)).sum::<f64>();
    let error = sum(&mut got.iter().zip(want).map(|(a, b)| a - b));
    (error / sum(&mut want.iter().copied())).sqrt()
}

/// Logits after a text, in one pass without anything cached before.
async fn logits_at_once(model: &Model, lora: Option<&Lora>, text: &[u32]) -> Vec<f32> {
    let mut fresh = Generator::new(model, lora, text.len()).unwrap();
    fresh.read(model, lora, text).await.unwrap()
}

fn largest(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

async fn tokens_one_by_one_equal_whole_texts(profile: Profile) {
    for_each_model(profile, async |model| {
        let text = ids(&model, 1, 40);
        let lora = adapter(&model, 2);
        for lora in [None, Some(&lora)] {
            let mut generator = Generator::new(&model, lora, 40).unwrap();
            for &(from, to) in &[(0, 13), (13, 14), (14, 15), (15, 39), (39, 40)] {
                let got = generator.read(&model, lora, &text[from..to]).await.unwrap();
                let want = logits_at_once(&model, lora, &text[..to]).await;
                assert!(
                    relative(&got, &want) < 1e-5,
                    "after {to} tokens: {}",
                    relative(&got, &want)
                );
            }
            assert_eq!(generator.len(), 40);
        }
    })
    .await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn tokens_one_by_one_equal_whole_texts_on_default_limits() {
    tokens_one_by_one_equal_whole_texts(Profile::Default).await;
}

#[cfg(not(target_arch = "wasm32"))] // as `twins::PROFILES`
#[pollster::test]
async fn tokens_one_by_one_equal_whole_texts_on_full_limits() {
    tokens_one_by_one_equal_whole_texts(Profile::Full).await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn generation_streams_stops_and_repeats() {
    for_each_model(Profile::Default, async |model| {
        let prompt = ids(&model, 3, 150); // more than one piece of prefill
        let mut generator = Generator::new(&model, None, 170).unwrap();
        let mut wanted = Vec::new();
        let mut text = prompt.clone();
        for _ in 0..8 {
            let token = largest(&logits_at_once(&model, None, &text).await);
            if model.config.eos.contains(&token) {
                break;
            }
            wanted.push(token);
            text.push(token);
        }
        let mut got = Vec::new();
        let greedy = Sampling::greedy();
        let on_token = |token| {
            got.push(token);
            true
        };
        let end = generator.generate(&model, None, &prompt, 8, greedy, on_token).await.unwrap();
        assert_eq!(got, wanted);
        assert_eq!(end == End::Length, wanted.len() == 8, "{end:?}");

        let drawn = Sampling { temperature: 1.5, top_k: 50, top_p: 0.95, seed: 7 };
        let mut texts = Vec::new();
        for _ in 0..2 {
            generator.clear();
            let mut text = Vec::new();
            let on_token = |token| {
                text.push(token);
                true
            };
            generator.generate(&model, None, &prompt, 10, drawn, on_token).await.unwrap();
            texts.push(text);
        }
        assert_eq!(texts[0], texts[1]);
        assert_ne!(texts[0], wanted);

        generator.clear();
        let end = generator.generate(&model, None, &prompt, 8, drawn, |_| false).await.unwrap();
        assert!(end == End::Stopped || matches!(end, End::Token(_)));
    })
    .await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn the_end_token_ends_a_text_and_is_not_given() {
    for_each_model(Profile::Full, async |mut model| {
        let prompt = ids(&model, 4, 12);
        let likeliest = largest(&logits_at_once(&model, None, &prompt).await);
        model.config.eos = vec![model.config.eos[0], likeliest];
        let mut generator = Generator::new(&model, None, 20).unwrap();
        let mut got = vec![];
        let on_token = |token| {
            got.push(token);
            true
        };
        let end = generator
            .generate(&model, None, &prompt, 5, Sampling::greedy(), on_token)
            .await
            .unwrap();
        assert_eq!((end, got), (End::Token(likeliest), vec![]));
    })
    .await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn generation_refuses_what_does_not_fit() {
    for_each_model(Profile::Full, async |model| {
        let mut generator = Generator::new(&model, None, 10).unwrap();
        let error = generator.read(&model, None, &[]).await.unwrap_err();
        assert!(matches!(error, ModelError::Empty(_)), "{error}");
        let vocab = model.config.vocab as u32;
        let error = generator.read(&model, None, &[2, vocab]).await.unwrap_err();
        assert!(matches!(error, ModelError::Token { position: 1, .. }), "{error}");
        let error = generator.read(&model, None, &[2; 11]).await.unwrap_err();
        assert!(matches!(error, ModelError::Cache(_)), "{error}");
        assert!(generator.is_empty(), "a failed call leaves the cache as it was");
        generator.read(&model, None, &[2; 3]).await.unwrap();
        // The cached keys are those of the model without an adapter.
        let lora = adapter(&model, 5);
        let mut with_room = Generator::new(&model, Some(&lora), 10).unwrap();
        with_room.read(&model, None, &[2; 3]).await.unwrap();
        let error = with_room.read(&model, Some(&lora), &[2]).await.unwrap_err();
        assert!(error.to_string().contains("another adapter"), "{error}");
        let error = Generator::new(&model, None, 1 << 20).err().unwrap();
        assert!(matches!(error, ModelError::TooLong { .. }), "{error}");
    })
    .await;
}

/// Log softmax on the host.
fn log_softmax(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn continuations_equal_sums_over_separate_passes() {
    for_each_model(Profile::Default, async |model| {
        let text = ids(&model, 6, 17);
        let lora = adapter(&model, 7);
        let choices =
            vec![ids(&model, 8, 1), ids(&model, 9, 4), ids(&model, 10, 2), ids(&model, 11, 1)];
        for lora in [None, Some(&lora)] {
            let got = score::continuations(&model, lora, &text, &choices).await.unwrap();
            for (choice, got) in choices.iter().zip(got) {
                let mut want = 0.0;
                let mut row = text.clone();
                for &token in choice {
                    want += log_softmax(&logits_at_once(&model, lora, &row).await, token);
                    row.push(token);
                }
                assert!((got - want).abs() < 1e-4, "{choice:?}: {got} instead of {want}");
            }
        }
        // The probabilities of all tokens of the vocabulary add up to 1.
        let all: Vec<Vec<u32>> = (0..model.config.vocab as u32).map(|t| vec![t]).collect();
        let sum: f64 = score::continuations(&model, None, &text, &all)
            .await
            .unwrap()
            .iter()
            .map(|l| l.exp())
            .sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        assert!(score::continuations(&model, None, &[], &choices).await.is_err());
        assert!(score::continuations(&model, None, &text, &[vec![]]).await.is_err());
        let beyond = vec![vec![2, model.config.vocab as u32]];
        assert!(score::continuations(&model, None, &text, &beyond).await.is_err());
    })
    .await;
}

async fn a_kept_prefix_changes_nothing(profile: Profile) {
    for_each_model(profile, async |model| {
        let prefix = ids(&model, 12, 20);
        let classes = [5, 9, 100];
        let rows: Vec<Vec<u32>> =
            [3, 11, 1, 30, 7].iter().map(|&n| ids(&model, n as u64, n)).collect();
        let loras = [adapter(&model, 13), adapter(&model, 14)];
        // 32 tokens per pass: four passes.
        let mut kept = Scorer::new(&model, Some(&loras[0]), &classes, &prefix, 32).await.unwrap();
        let mut seen = vec![];
        // The model without an adapter has another workspace; the first adapter is used again at
        // the end.
        for lora in [Some(&loras[0]), Some(&loras[1]), None, Some(&loras[0])] {
            let got = kept.score(&model, lora, &rows, |_| true).await.unwrap();
            for (row, got) in rows.iter().zip(&got) {
                let logits = logits_at_once(&model, lora, &[&prefix[..], row].concat()).await;
                let chosen: Vec<f64> =
                    classes.iter().map(|&c| log_softmax(&logits, c).exp()).collect();
                let total: f64 = chosen.iter().sum();
                for (got, want) in got.iter().zip(&chosen) {
                    assert!(
                        (f64::from(*got) - want / total).abs() < 1e-5,
                        "{got} instead of {}",
                        want / total
                    );
                }
            }
            // The kept keys are used a second time, and then no kept keys at all.
            assert_eq!(kept.score(&model, lora, &rows, |_| true).await.unwrap(), got);
            let whole: Vec<Vec<u32>> = rows.iter().map(|row| [&prefix[..], row].concat()).collect();
            let mut without = Scorer::new(&model, lora, &classes, &[], 64).await.unwrap();
            let again = without.score(&model, lora, &whole, |_| true).await.unwrap();
            for (a, b) in got.iter().zip(&again) {
                assert!(relative(a, b) < 1e-5);
            }
            seen.push(got);
        }
        assert_eq!(seen[0], seen[3]);
        assert_ne!(seen[0], seen[1]);
        assert_ne!(seen[0], seen[2]);
    })
    .await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_kept_prefix_changes_nothing_on_default_limits() {
    a_kept_prefix_changes_nothing(Profile::Default).await;
}

#[cfg(not(target_arch = "wasm32"))] // as `twins::PROFILES`
#[pollster::test]
async fn a_kept_prefix_changes_nothing_on_full_limits() {
    a_kept_prefix_changes_nothing(Profile::Full).await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_trained_adapter_is_computed_again_after_forget() {
    for_each_model(Profile::Full, async |model| {
        let (lora, other) = (adapter(&model, 15), adapter(&model, 16));
        let (prefix, rows) = (ids(&model, 17, 20), vec![ids(&model, 18, 5)]);
        let mut scorer = Scorer::new(&model, Some(&lora), &[5, 9], &prefix, 32).await.unwrap();
        scorer.score(&model, Some(&lora), &rows, |_| true).await.unwrap();
        let want = scorer.score(&model, Some(&other), &rows, |_| true).await.unwrap();
        scorer.score(&model, Some(&lora), &rows, |_| true).await.unwrap();
        // What an optimizer does: other parameters under the same identity.
        let numbers = other.params.read(&model.gpu).await.unwrap();
        lora.params.write(&model.gpu, &numbers);
        let stale = scorer.score(&model, Some(&lora), &rows, |_| true).await.unwrap();
        assert_ne!(stale, want);
        scorer.forget();
        assert_eq!(scorer.score(&model, Some(&lora), &rows, |_| true).await.unwrap(), want);
    })
    .await;
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn scoring_refuses_what_does_not_fit_and_can_be_stopped() {
    for_each_model(Profile::Full, async |model| {
        let vocab = model.config.vocab as u32;
        assert!(Scorer::new(&model, None, &[], &[2], 8).await.is_err());
        assert!(Scorer::new(&model, None, &[vocab], &[2], 8).await.is_err());
        assert!(Scorer::new(&model, None, &[5], &[vocab], 8).await.is_err());
        let mut scorer = Scorer::new(&model, None, &[5, 9], &[2], 8).await.unwrap();
        assert!(scorer.score(&model, None, &[vec![]], |_| true).await.is_err());
        assert!(scorer.score(&model, None, &[vec![1; 9]], |_| true).await.is_err());
        assert!(scorer.score(&model, None, &[vec![vocab]], |_| true).await.is_err());
        let rows = vec![vec![1; 8]; 3];
        let mut calls = 0;
        let stop = |_| {
            calls += 1;
            calls < 2
        };
        let error = scorer.score(&model, None, &rows, stop).await.unwrap_err();
        assert!(matches!(error, ModelError::Stopped), "{error}");
        assert_eq!(calls, 2);
        // The scorer still works afterwards.
        let got = scorer.score(&model, None, &rows, |_| true).await.unwrap();
        assert!(got.len() == 3 && got[0] == got[2]);
        assert!((got[0].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(scorer.score(&model, None, &[], |_| true).await.unwrap().is_empty());
    })
    .await;
}
