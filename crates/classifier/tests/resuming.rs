//! What a run may be resumed with, and what it may be ended with.

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy spares only the test functions

mod twin;

use hearth_classifier::{
    error::ClassifierError,
    estimator::{Labelled, TextClassifier},
    fit::{FitOptions, Fitted, MemoryStore},
    prompt::PromptSpec,
    recipe::{Decay, Recipe},
};
use hearth_formats::tokenizer::Tokenizer;
use hearth_gemma::{Model, Precision, snapshot::Snapshot};
use hearth_gpu::Profile;
use wasm_bindgen_test::wasm_bindgen_test;

async fn load(profile: Profile, precision: Precision) -> (Model, Tokenizer) {
    twin::open(twin::WEIGHTS, profile, precision).await
}

const ROWS: [Labelled<'static>; 24] = {
    let four = [
        (" it was so good", 1),
        (" it was so bad", 0),
        (" this day is fine", 1),
        (" this day is sad", 0),
    ];
    let mut rows = [("", 0); 24];
    let mut i = 0;
    while i < 24 {
        rows[i] = four[i % 4];
        i += 1;
    }
    rows
};

/// 19 training rows are 3 steps an epoch.
fn recipe(epochs: usize) -> Recipe {
    Recipe {
        rate: 1e-2,
        schedule: Decay::Constant,
        warmup: 0.0,
        epochs,
        seed: 3,
        ..Recipe::default()
    }
}

/// Runs until `stop` says so, or to the end.
async fn fit(
    (model, tokenizer): &(Model, Tokenizer),
    recipe: &Recipe,
    options: FitOptions,
    store: &mut MemoryStore,
    stop: impl Fn(usize) -> bool,
) -> Result<Fitted, ClassifierError> {
    let spec = PromptSpec { question: "Is this good".to_owned(), ..PromptSpec::default() };
    let classes = ["No", "Yes"].map(String::from);
    let mut own = TextClassifier::new(model, tokenizer, &classes, Some(1), &spec).unwrap();
    own.fit(&ROWS, None, recipe, &options, Some(store), &mut |p| !stop(p.step)).await
}

const RESUME: fn() -> FitOptions = || FitOptions { resume: true, ..FitOptions::default() };
const FINISH: fn() -> FitOptions =
    || FitOptions { resume: true, finish: true, ..FitOptions::default() };

fn words<T>(result: Result<T, ClassifierError>) -> String {
    result.err().map_or_else(|| "it was accepted".to_owned(), |error| error.to_string())
}

/// The newest snapshot of a run that was stopped after `steps` steps.
async fn stopped(on: &(Model, Tokenizer), recipe: &Recipe, steps: usize) -> MemoryStore {
    let mut store = MemoryStore::default();
    let options = FitOptions::default();
    let result = fit(on, recipe, options, &mut store, |step| step >= steps).await;
    assert!(matches!(result, Err(ClassifierError::Stopped)));
    store
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn other_weights_limits_and_builds_are_refused_in_words_but_end_the_run() {
    let first = load(Profile::Full, Precision::Q8).await;
    let recipe = recipe(4);
    let mut store = stopped(&first, &recipe, 5).await;
    let best = {
        let slots = store.slots.each_ref().map(|slot| Snapshot::from_bytes(slot));
        let with_best = slots.into_iter().flatten().find(|s| s.buffers.contains_key("best"));
        with_best.unwrap().buffers["best"].clone()
    };

    let float = load(Profile::Full, Precision::Exact).await;
    let text = words(fit(&float, &recipe, RESUME(), &mut store, |_| true).await);
    assert!(text.contains("the weights were held as q8-g32-f16, now as f32"), "{text}");
    let clamped = load(Profile::Default, Precision::Q8).await;
    let text = words(fit(&clamped, &recipe, RESUME(), &mut store, |_| true).await);
    assert!(text.contains("the device limits were full, now they are default"), "{text}");

    // a build with other kernels wrote the snapshot
    let mut foreign = MemoryStore::default();
    for (slot, bytes) in store.slots.iter().enumerate() {
        let Ok(mut snapshot) = Snapshot::from_bytes(bytes) else { continue };
        assert_ne!(snapshot.identity["build"], "another");
        snapshot.identity.insert("build".to_owned(), "another".to_owned());
        snapshot.identity.insert("adapter".to_owned(), "another".to_owned());
        foreign.slots[slot] = snapshot.to_bytes().unwrap();
    }
    let text = words(fit(&first, &recipe, RESUME(), &mut foreign, |_| true).await);
    assert!(text.contains("kernels or its training code have changed"), "{text}");
    assert!(text.contains("the GPU was another, now it is"), "{text}");

    // all of them can end the run, and allocate nothing for it
    for (on, store) in
        [(&float, &mut store.clone()), (&clamped, &mut store), (&first, &mut foreign)]
    {
        let account = on.0.gpu.account();
        account.reset_peak();
        let before = account.peak();
        // the run's own classifier takes its adapter to the device in the end
        let adapter = 4 * best.len() as u64;
        let fitted = fit(on, &recipe, FINISH(), store, |_| true).await.unwrap();
        assert!(fitted.params == best, "another adapter");
        assert!(account.peak() <= before + adapter, "{} on {before}", account.peak());
        assert_eq!(fitted.history.epochs.len(), 1);
    }
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_run_without_a_whole_epoch_ends_with_the_adapter_as_it_stands() {
    let on = load(Profile::Full, Precision::Exact).await;
    let recipe = recipe(4);
    let mut store = stopped(&on, &recipe, 2).await;
    let fitted = fit(&on, &recipe, FINISH(), &mut store, |_| false).await.unwrap();
    assert!(fitted.history.epochs.is_empty());
    let newest = store.slots.iter().find_map(|slot| Snapshot::from_bytes(slot).ok()).unwrap();
    assert!(fitted.params == newest.buffers["params"]);
    assert_eq!(fitted.validation.len(), 2 * 5);
    // and what is not the same run is not ended either
    let other = Recipe { rank: 4, ..recipe };
    let text = words(fit(&on, &other, FINISH(), &mut store, |_| false).await);
    assert!(text.contains("rank was 8, now 4"), "{text}");
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_run_that_ends_at_once_scores_no_validation_rows() {
    let on = load(Profile::Full, Precision::Exact).await;
    let at_once = FitOptions { at_once: true, ..FINISH() };
    // whoever scores rows asks whether to stop, and is told so
    let mut store = stopped(&on, &recipe(4), 2).await;
    let fitted = fit(&on, &recipe(4), at_once, &mut store, |_| true).await.unwrap();
    assert!(fitted.history.epochs.is_empty() && fitted.validation.is_empty());
    assert_eq!((fitted.choice.temperature, fitted.choice.threshold), (1.0, 0.5));

    // the average of the last steps was measured by no validation, so it is not compared with the best epoch
    let recipe = Recipe { average: 0.9, ..recipe(2) };
    let mut store = stopped(&on, &recipe, 5).await;
    let measured = fit(&on, &recipe, FINISH(), &mut store, |_| true).await;
    assert!(matches!(measured, Err(ClassifierError::Stopped)), "{}", words(measured));
    let fitted = fit(&on, &recipe, at_once, &mut store, |_| true).await.unwrap();
    assert_eq!((fitted.history.epochs.len(), fitted.averaged), (1, false));
    assert_eq!(fitted.validation.len(), 2 * 5);
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn two_trainers_are_never_on_the_device_at_once() {
    let on = load(Profile::Full, Precision::Exact).await;
    let account = on.0.gpu.account();
    account.reset_peak();
    let before = account.peak();
    let recipe = recipe(4);
    let mut store = stopped(&on, &recipe, 2).await;
    let one = account.peak();
    // as much memory as makes the plan another one than the snapshot's
    account.reset_peak();
    let memory = account.in_use() + (one - account.in_use()) / 2;
    // the parameters of a submission take some 50 kB more or less
    let one = one + (one - before) / 20;
    let options = FitOptions { memory, ..RESUME() };
    let again = fit(&on, &recipe, options, &mut store, |_| true).await;
    assert!(matches!(again, Err(ClassifierError::Stopped)), "{}", words(again));
    assert!(account.peak() <= one, "{} bytes where one run takes {one}", account.peak());
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn a_finished_run_is_resumed_for_more_epochs_where_the_schedule_allows() {
    let on = load(Profile::Full, Precision::Exact).await;
    let mut whole = MemoryStore::default();
    let options = FitOptions::default();
    let through = fit(&on, &recipe(4), options, &mut whole, |_| false).await.unwrap();
    let mut store = MemoryStore::default();
    let two = fit(&on, &recipe(2), options, &mut store, |_| false).await.unwrap();
    assert_eq!(two.history.epochs.len(), 2);
    let four = fit(&on, &recipe(4), RESUME(), &mut store, |_| false).await.unwrap();
    let bits = |params: &[f32]| params.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(bits(&four.params) == bits(&through.params));
    assert_eq!(four.history, through.history);
    // to be done with it is no reason to begin anew
    let again = fit(&on, &recipe(4), RESUME(), &mut store, |_| false).await.unwrap();
    assert_eq!(again.history, through.history);
    let fewer = words(fit(&on, &recipe(1), RESUME(), &mut store, |_| false).await);
    assert!(fewer.contains("epochs was 4, now 1, and more are done"), "{fewer}");
}
