//! The whole way from texts to a classifier on a tiny model: it learns, it resumes to the bit, it scores alike
//! with and without a kept prefix.
//!
//! The two tests that go all the way run in the browser too. The others decide between numbers that the same code
//! computes everywhere; in the browser the suite of `hearth-gemma` has every loss, the step that is not finite and
//! the kept prefix.

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy spares only the test functions

mod twin;

use hearth_classifier::{
    bundle::Bundle,
    calibration::softmax,
    error::ClassifierError,
    estimator::{Labelled, TextClassifier},
    fit::{FitOptions, Fitted, MemoryStore, SnapshotStore},
    metrics::{Scored, evaluate},
    prompt::PromptSpec,
    recipe::{Loss, Recipe},
    scoring::Scoring,
};
use hearth_formats::tokenizer::Tokenizer;
use hearth_gemma::{Model, Precision};
use hearth_gpu::Profile;
use hearth_rng::Rng;
use wasm_bindgen_test::wasm_bindgen_test;

async fn load() -> (Model, Tokenizer) {
    twin::open(twin::WEIGHTS, Profile::Full, Precision::Exact).await
}

/// Sentences whose one telling word says the class.
fn sentences(count: usize, seed: u64) -> Vec<(String, usize)> {
    let mut rng = Rng::new(seed);
    let mut pick = |words: &[&'static str]| words[rng.below(words.len())];
    (0..count)
        .map(|i| {
            let class = i % 2;
            let word = pick([["bad", "poor", "sad"], ["good", "nice", "fine"]][class].as_slice());
            let front = pick(&["the film was so", "this day is", "it was", "the day is so"]);
            let back = pick(&["", " and so is it", " this day"]);
            (format!(" {front} {word}{back}"), class)
        })
        .collect()
}

fn borrowed(rows: &[(String, usize)]) -> Vec<Labelled<'_>> {
    rows.iter().map(|(text, class)| (text.as_str(), *class)).collect()
}

fn classifier<'m>(model: &'m Model, tokenizer: &'m Tokenizer) -> TextClassifier<'m> {
    let spec = PromptSpec { question: "Is this good".to_owned(), ..PromptSpec::default() };
    TextClassifier::new(model, tokenizer, &["No", "Yes"].map(String::from), Some(1), &spec).unwrap()
}

/// A tiny model with random weights takes a higher rate than a real one.
fn recipe() -> Recipe {
    Recipe { rate: 1e-2, epochs: 5, seed: 3, ..Recipe::default() }
}

async fn auc(classifier: &mut TextClassifier<'_>, rows: &[Labelled<'_>]) -> f64 {
    let texts: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let truth: Vec<usize> = rows.iter().map(|row| row.1).collect();
    let probabilities = classifier.predict_proba(&texts).await.unwrap().concat();
    let scored = Scored {
        classes: 2,
        truth: &truth,
        probabilities: &probabilities,
        positive: Some(1),
        threshold: 0.5,
    };
    evaluate(&scored, classifier.classes()).unwrap().roc_auc.value.unwrap()
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn it_learns_what_it_did_not_know_and_the_file_remembers() {
    let (model, tokenizer) = load().await;
    let mut own = classifier(&model, &tokenizer);
    let (train, test) = (sentences(80, 1), sentences(60, 2));
    let test = borrowed(&test);
    let before = auc(&mut own, &test).await;
    let (recipe, options) = (recipe(), FitOptions::default());
    let mut seen = 0;
    let fitted = own
        .fit(&borrowed(&train), None, &recipe, &options, None, &mut |p| {
            assert!(p.step <= p.steps && p.epoch <= p.epochs);
            seen = seen.max(p.step);
            true
        })
        .await
        .unwrap();
    let after = auc(&mut own, &test).await;
    assert!(before < 0.65 && after > 0.9, "{before} to {after}: {:?}", fitted.history.epochs);
    assert_eq!((seen, fitted.history.steps.len(), fitted.history.epochs.len()), (40, 40, 5));
    assert_eq!(fitted.validation.len(), 2 * 16);
    assert!(fitted.effort.tokens < fitted.effort.padded_tokens / 2, "{:?}", fitted.effort);
    assert!(fitted.history.steps.iter().all(|s| s.taken && s.loss.is_finite()));

    // the classifier's file gives the same answers
    let bundle = own.bundle("moods", "tiny", &recipe, None).unwrap().to_bytes().unwrap();
    let bundle = Bundle::from_bytes(&bundle).unwrap();
    let (mut again, note) = TextClassifier::from_bundle(&model, &tokenizer, &bundle).await.unwrap();
    let texts = [" it was good", " it was bad", " this day is fine"];
    assert_eq!(note, None);
    assert_eq!(
        again.predict_proba(&texts).await.unwrap(),
        own.predict_proba(&texts).await.unwrap()
    );
    assert_eq!(own.predict(&texts).await.unwrap(), ["Yes", "No", "Yes"]);

    // and belongs to this model only
    let mut other = bundle.clone();
    other.classifier.base.layers = 18;
    let refused = TextClassifier::from_bundle(&model, &tokenizer, &other).await.err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("number of layers was 18, this model has 3"), "{text}");
    other = bundle.clone();
    other.classifier.base.sha256 = Some("0".repeat(64));
    let (_, note) = TextClassifier::from_bundle(&model, &tokenizer, &other).await.unwrap();
    assert!(note.unwrap().contains("another file"));
}

#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "native only"))]
async fn every_loss_learns() {
    let (model, tokenizer) = load().await;
    let (train, test) = (sentences(64, 4), sentences(40, 5));
    for loss in [Loss::Label, Loss::Sequence] {
        let mut own = classifier(&model, &tokenizer);
        let recipe = Recipe { loss, class_weights: true, epochs: 8, ..recipe() };
        let options = FitOptions::default();
        let fitted =
            own.fit(&borrowed(&train), None, &recipe, &options, None, &mut |_| true).await.unwrap();
        let losses: Vec<f64> = fitted.history.epochs.iter().map(|e| e.train_loss).collect();
        assert!(losses[7] < 0.7 * losses[0], "{loss:?}: {losses:?}");
        // what `sequence` learns of the class drowns in what it learns of the text, as on real models
        let after = auc(&mut own, &borrowed(&test)).await;
        assert!(after > 0.9 || loss == Loss::Sequence, "{loss:?}: {after}");
    }
}

/// What a run must give again: all numbers, to the bit.
fn outcome(fitted: &Fitted) -> (Vec<u32>, Vec<u64>, String, usize) {
    (
        fitted.params.iter().map(|x| x.to_bits()).collect(),
        fitted.validation.iter().map(|x| x.to_bits()).collect(),
        serde_json::to_string(&fitted.history).unwrap(),
        fitted.effort.tokens as usize,
    )
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_run_that_is_killed_anywhere_resumes_to_the_bit() {
    let (model, tokenizer) = load().await;
    let train = sentences(30, 6);
    let train = borrowed(&train);
    let recipe = Recipe { epochs: 4, dropout: 0.1, average: 0.4, ..recipe() };
    let mut whole = classifier(&model, &tokenizer);
    let options = FitOptions { snapshot_seconds: 0.0, keep_epochs: true, ..FitOptions::default() };
    let fitted = whole.fit(&train, None, &recipe, &options, None, &mut |_| true).await.unwrap();
    let steps = fitted.history.steps.len();
    assert_eq!(steps, 12);
    // both ways to end: between steps and while validation rows are scored
    for calls in 1..=20 {
        let mut store = MemoryStore::default();
        let mut left = calls;
        let mut own = classifier(&model, &tokenizer);
        let stopped = own
            .fit(&train, None, &recipe, &options, Some(&mut store), &mut |_| {
                left -= 1;
                left > 0
            })
            .await;
        if calls <= 16 {
            assert!(matches!(stopped, Err(ClassifierError::Stopped)), "{calls}");
        }
        // killed while it wrote: the older slot is still whole
        if calls % 3 == 0 {
            let newest = store.slots.iter().map(|s| history_of(s)).enumerate();
            let torn = newest.max_by_key(|(_, saved)| *saved).unwrap().0;
            if store.slots.iter().all(|s| !s.is_empty()) {
                store.slots[torn].truncate(1000);
            }
        }
        let again = FitOptions { resume: true, ..options };
        let mut own = classifier(&model, &tokenizer);
        let resumed =
            own.fit(&train, None, &recipe, &again, Some(&mut store), &mut |_| true).await.unwrap();
        assert!(outcome(&resumed) == outcome(&fitted), "stopped after {calls} calls");
        assert!(resumed.epochs == fitted.epochs && resumed.averaged == fitted.averaged);
    }
}

/// The count of snapshots that a slot's state tells.
fn history_of(slot: &[u8]) -> u64 {
    let Ok(snapshot) = hearth_gemma::snapshot::Snapshot::from_bytes(slot) else { return 0 };
    serde_json::from_str::<serde_json::Value>(&snapshot.state).unwrap()["saved"].as_u64().unwrap()
}

#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "native only"))]
async fn another_run_is_not_resumed_and_the_difference_is_named() {
    let (model, tokenizer) = load().await;
    let train = sentences(24, 7);
    let train = borrowed(&train);
    let mut store = MemoryStore::default();
    let mut own = classifier(&model, &tokenizer);
    let resume = FitOptions { resume: true, ..FitOptions::default() };
    let empty = own.fit(&train, None, &recipe(), &resume, Some(&mut store), &mut |_| true).await;
    assert!(matches!(empty, Err(ClassifierError::NothingToResume)));
    let options = FitOptions::default();
    let stopped =
        own.fit(&train, None, &recipe(), &options, Some(&mut store), &mut |p| p.step < 2).await;
    assert!(matches!(stopped, Err(ClassifierError::Stopped)));
    let mut swapped = train.clone();
    swapped.reverse();
    for (rows, recipe, named) in [
        (&train[..], Recipe { rank: 4, ..recipe() }, "rank was 8, now 4."),
        (&train[..], Recipe { seed: 9, ..recipe() }, "seed was 3, now 9."),
        (
            &train[..],
            Recipe { epochs: 9, ..recipe() },
            "epochs was 5, now 9, and the learning rate (linear schedule, warm-up 0.1) follows",
        ),
        (&train[..20], recipe(), "the table has changed: there were 19 training rows and 5"),
        (&swapped, recipe(), "the table has changed: texts, labels or their order"),
    ] {
        let refused = own.fit(rows, None, &recipe, &resume, Some(&mut store), &mut |_| true).await;
        let text = refused.err().unwrap().to_string();
        assert!(text.contains("another run") && text.contains(named), "{text}");
    }
    // a disk that is full
    struct Full;
    impl SnapshotStore for Full {
        fn save(&mut self, _: usize, _: &[u8]) -> Result<(), String> {
            Err("no space left".to_owned())
        }
        fn load(&mut self, _: usize) -> Result<Vec<u8>, String> {
            Ok(Vec::new())
        }
    }
    let full =
        own.fit(&train, None, &recipe(), &options, Some(&mut Full), &mut |p| p.step < 2).await;
    assert_eq!(full.err().unwrap().to_string(), "snapshot: no space left");
}

#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "native only"))]
async fn a_run_that_breaks_down_stops_and_says_why() {
    // a model with weights so large that its logits are no numbers
    let mut broken = twin::WEIGHTS.to_vec();
    let end = broken.len();
    broken[end - 1024..].copy_from_slice(&f32::MAX.to_le_bytes().repeat(256));
    let (model, tokenizer) = twin::open(broken.leak(), Profile::Full, Precision::Exact).await;
    let train = sentences(64, 8);
    let mut own = classifier(&model, &tokenizer);
    let recipe = recipe();
    let broken = own
        .fit(&borrowed(&train), None, &recipe, &FitOptions::default(), None, &mut |_| true)
        .await;
    let text = match broken {
        Err(error) => error.to_string(),
        Ok(fitted) => panic!("{:?}", fitted.history.steps),
    };
    assert!(text.contains("three steps in a row") && text.contains("try a tenth"), "{text}");
}

#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "native only"))]
async fn patience_ends_a_run_and_the_best_epoch_is_kept() {
    let (model, tokenizer) = load().await;
    let train = sentences(40, 9);
    let mut own = classifier(&model, &tokenizer);
    let recipe = Recipe { epochs: 40, patience: 2, ..recipe() };
    let options = FitOptions { keep_epochs: true, ..FitOptions::default() };
    let fitted =
        own.fit(&borrowed(&train), None, &recipe, &options, None, &mut |_| true).await.unwrap();
    let (epochs, best) = (fitted.history.epochs.len(), fitted.history.best_epoch.unwrap());
    assert!(epochs < 40 && epochs == best + 2, "best {best} of {epochs}");
    assert_eq!(fitted.params, fitted.epochs[best - 1]);
    assert_ne!(fitted.params, fitted.epochs[epochs - 1]);
}

#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "native only"))]
async fn a_kept_prefix_changes_nothing() {
    let (model, tokenizer) = load().await;
    let mut own = classifier(&model, &tokenizer);
    let train = sentences(32, 10);
    let recipe = Recipe { epochs: 2, ..recipe() };
    own.fit(&borrowed(&train), None, &recipe, &FitOptions::default(), None, &mut |_| true)
        .await
        .unwrap();
    // the last starts like no other, so that it cannot use the prefix
    let texts = [" it was good", "bad", "zzz", " this film is so nice and so is it", "\n\u{e9}"];
    let prompts = own.prompter().rows(texts);
    let rows: Vec<&[u32]> = prompts.rows.iter().map(|r| r.ids.as_slice()).collect();
    let prefix = own.prompter().usual_prefix();
    assert!(prefix.len() > 10, "{prefix:?}");
    let tokens = own.prompter().class_tokens().to_vec();
    let kept = own.log_probabilities(&texts, |_| true).await.unwrap();
    let again = own.log_probabilities(&texts[1..3], |_| true).await.unwrap();
    assert_eq!(again, kept[2..6]);
    let bundle = own.bundle("x", "tiny", &recipe, None).unwrap();
    let (other, _) = TextClassifier::from_bundle(&model, &tokenizer, &bundle).await.unwrap();
    let (layout, params) =
        hearth_gemma::adapter_file::from_adapter(&other.to_peft("").unwrap(), &model.config)
            .unwrap();
    let lora = hearth_gemma::Lora::new(&model.gpu, layout, &params).unwrap();
    let mut whole = vec![];
    for row in &rows {
        let mut scoring = Scoring::new(&tokens, &[]);
        whole.extend(
            scoring.log_probabilities(&model, Some(&lora), &[row], |_| true).await.unwrap(),
        );
    }
    let (a, b) = (softmax(&kept, 2, 1.0), softmax(&whole, 2, 1.0));
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "{worst}: {a:?} {b:?}");
    assert!(a.chunks_exact(2).any(|p| (p[0] - a[0]).abs() > 1e-3), "all rows alike: {a:?}");
    let stopped = own.log_probabilities(&texts, |_| false).await;
    assert!(matches!(stopped, Err(ClassifierError::Stopped)));
}
