//! The screen "Results": how good the classifier is on rows that it did not learn from.

mod confused;
mod curves;
mod figures;
mod mistakes;
mod moving;
mod runs;
mod threshold;

use std::sync::Arc;

use leptos::prelude::*;
use moving::{At, Scores};

use super::{
    format::of,
    state::{App, Screen, Shown},
};

/// What the parts of this screen share.
#[derive(Clone, Copy)]
struct Page {
    shown: StoredValue<Arc<Shown>>,
    scores: StoredValue<Arc<Scores>>,
    threshold: RwSignal<f64>,
    at: Memo<At>,
    /// The cell of the matrix that is open: truth and prediction.
    cell: RwSignal<Option<(usize, usize)>>,
}

impl Page {
    fn new(shown: Shown) -> Self {
        let scores = Arc::new(Scores::of(&shown.test));
        let threshold = RwSignal::new(shown.test.evaluation.threshold);
        let scores = StoredValue::new(scores);
        let at = Memo::new(move |_| scores.with_value(|scores| scores.at(threshold.get())));
        Self {
            shown: StoredValue::new(Arc::new(shown)),
            scores,
            threshold,
            at,
            cell: RwSignal::new(None),
        }
    }

    fn binary(&self) -> bool {
        self.scores.with_value(|scores| scores.positive.is_some())
    }
}

/// Which rows the results are of, and whether the classifier was trained on any.
fn about_rows(shown: &Shown) -> String {
    let (test, name) = (&shown.test, &shown.test.data);
    let rows = of(test.rows.len(), "row", "rows");
    if shown.run.is_some() {
        format!("Measured on {rows} of {name}: the test rows, which were kept out of training.")
    } else if !test.training_known {
        format!(
            "Measured on {rows} of {name}. This classifier does not record which rows it was trained on: if these are among them, the figures are too optimistic."
        )
    } else if test.left_out > 0 {
        format!(
            "Measured on {rows} of {name} that the classifier was not trained on: {} of {} rows were used in training and are left out.",
            test.left_out,
            test.left_out + test.rows.len()
        )
    } else {
        format!("Measured on {rows} of {name} that the classifier was not trained on.")
    }
}

/// The screen.
#[component]
pub fn ResultsScreen() -> impl IntoView {
    let app = App::here();
    view! {
        <h1>"Results"</h1>
        {move || {
            app.shown
                .with(|shown| shown.as_ref().map(about_rows))
                .map(|about| view! { <p class="lead" data-test="results-about">{about}</p> })
        }}
        {move || match app.shown.get() {
            None => view! { <Nothing /> }.into_any(),
            Some(shown) => {
                let page = Page::new(shown);
                view! {
                    <figures::Headline page=page />
                    <threshold::Matrix page=page />
                    <curves::Curves page=page />
                    <figures::PerClass page=page />
                    <mistakes::Mistakes page=page />
                    <div class="actions">
                        <button
                            type="button"
                            class="primary"
                            data-test="next-use"
                            on:click=move |_| app.screen.set(Screen::Using)
                        >
                            "Next: Use"
                        </button>
                    </div>
                }
                    .into_any()
            }
        }}
        <runs::Runs />
    }
}

/// What to do where no results are open. The classifier in use may have none, and finished runs may be listed below.
fn nothing(in_use: Option<&str>, runs: bool) -> String {
    let below = if runs { " Or choose “Use” at a run below to see its results." } else { "" };
    match in_use {
        Some(name) => format!(
            "There are no results of the classifier in use, {name}: evaluate it under Use.{below}"
        ),
        None if runs => "No classifier is in use. Choose “Use” at a run below to see its results, or open a saved classifier.".to_owned(),
        None => "There are no results yet. Train a classifier, or open a saved one and evaluate it on a labeled table.".to_owned(),
    }
}

#[component]
fn Nothing() -> impl IntoView {
    let app = App::here();
    let words = move || {
        let in_use = app.classifier.with(|c| c.as_ref().map(|classifier| classifier.name.clone()));
        nothing(in_use.as_deref(), !runs::finished(app).is_empty())
    };
    let button = move || {
        if app.classifier.with(Option::is_some) { "Go to Use" } else { "Open a classifier" }
    };
    view! {
        <p data-test="results-none">{words}</p>
        <div class="actions">
            <button type="button" class="primary" on:click=move |_| app.screen.set(Screen::Train)>
                "Train"
            </button>
            <button type="button" on:click=move |_| app.screen.set(Screen::Using)>
                {button}
            </button>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn an_empty_screen_contradicts_no_run_and_no_classifier() {
        for runs in [false, true] {
            for in_use in [None, Some("moods")] {
                let words = nothing(in_use, runs);
                assert_eq!(words.contains("below"), runs, "{words}");
                assert_eq!(words.contains("moods"), in_use.is_some(), "{words}");
                assert_eq!(words.contains("no results yet"), !runs && in_use.is_none(), "{words}");
            }
        }
    }
}
