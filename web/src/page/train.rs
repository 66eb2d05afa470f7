//! The screen "Train": the question, the recipe, what it will take; then how the training comes along.

mod curve;
mod fields;
mod live;
mod machine;
mod plan;
mod question;
mod recipe;
mod rows;
mod runs;

use std::collections::BTreeMap;

use leptos::prelude::*;

use super::{
    actions,
    state::{App, ModelStage, Screen},
};
use crate::protocol::{Failure, FilledPrompt};

/// The screen.
#[component]
pub fn TrainScreen() -> impl IntoView {
    let app = App::here();
    let on = Memo::new(move |_| app.is_training());
    view! {
        <h1>"Train"</h1>
        {move || if on.get() { view! { <live::Live /> }.into_any() } else { view! { <Before /> }.into_any() }}
    }
}

/// What this screen knows before the start, beside the app.
#[derive(Clone, Copy)]
struct Setup {
    /// The prompt of a row, or why there is none.
    prompt: RwSignal<Option<FilledPrompt>>,
    prompt_error: RwSignal<Option<Failure>>,
    /// Place of that row among the usable ones.
    row: RwSignal<usize>,
    /// Settings with a value that makes no sense, and what would.
    wrong: RwSignal<BTreeMap<&'static str, String>>,
}

/// What is missing before anything can be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Model,
    Data,
    Columns,
}

impl Missing {
    /// Of a model, a table and its choices, the first that is not there.
    fn first(model: bool, data: bool, choices: bool) -> Option<Self> {
        match (model, data, choices) {
            (false, ..) => Some(Self::Model),
            (_, false, _) => Some(Self::Data),
            (.., false) => Some(Self::Columns),
            (true, true, true) => None,
        }
    }

    /// What is missing, a button's words, and where it leads.
    fn words(self) -> (&'static str, &'static str, Screen) {
        match self {
            Self::Model => ("Training needs a model.", "Choose a model", Screen::Model),
            Self::Data => ("Training needs a table of labeled texts.", "Add a table", Screen::Data),
            Self::Columns => (
                "A table is loaded, but its columns or classes are not chosen yet.",
                "Choose the columns",
                Screen::Data,
            ),
        }
    }
}

fn missing(app: App) -> Option<Missing> {
    Missing::first(
        app.stage.with(|stage| matches!(stage, ModelStage::Ready(_))),
        app.data.with(Option::is_some),
        app.report.with(Option::is_some),
    )
}

#[component]
fn Before() -> impl IntoView {
    let app = App::here();
    let missing = Memo::new(move |_| missing(app));
    view! {
        <p class="lead">
            "The model reads a question with each text. Training fits its answers to the labels of your rows, so that it can answer for new texts."
        </p>
        <runs::Unfinished />
        {move || match missing.get() {
            None => view! { <Setting /> }.into_any(),
            Some(missing) => view! { <Locked missing=missing /> }.into_any(),
        }}
    }
}

/// What to do first.
#[component]
fn Locked(missing: Missing) -> impl IntoView {
    let app = App::here();
    let (why, button, screen) = missing.words();
    view! {
        <section class="card" data-test="train-locked">
            <p>{why}</p>
            <button type="button" class="primary" on:click=move |_| app.screen.set(screen)>
                {button}
            </button>
        </section>
    }
}

/// Everything before the start.
#[component]
fn Setting() -> impl IntoView {
    let app = App::here();
    let setup = Setup {
        prompt: RwSignal::default(),
        prompt_error: RwSignal::default(),
        row: RwSignal::new(0),
        wrong: RwSignal::default(),
    };
    let (prompt_timer, plan_timer) = (StoredValue::new(None), StoredValue::new(None));
    // only messages are sent here; the engine does the work
    Effect::new(move |_| {
        app.spec.track();
        app.report.track();
        setup.row.track();
        actions::later(prompt_timer, move || fill(app, setup));
    });
    Effect::new(move |_| {
        app.spec.track();
        app.report.track();
        app.recipe.track();
        app.memory.track();
        app.zero_shot.track();
        actions::later(plan_timer, move || actions::plan(app));
    });
    view! {
        <question::Question setup=setup />
        <recipe::HowItLearns setup=setup />
        <plan::Plan />
        <plan::Start setup=setup />
    }
}

fn fill(app: App, setup: Setup) {
    // the screen may be gone when the user has stopped typing
    let Some(row) = setup.row.try_get_untracked() else { return };
    actions::fill_prompt(app, row, move |answer| match answer {
        Ok(prompt) => {
            setup.prompt_error.try_set(None);
            setup.prompt.try_set(Some(prompt));
        }
        Err(failure) => {
            setup.prompt_error.try_set(Some(failure));
        }
    });
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn what_is_said_to_be_missing_is_missing() {
        assert_eq!(Missing::first(true, true, true), None);
        assert_eq!(Missing::first(false, true, true), Some(Missing::Model));
        assert_eq!(Missing::first(true, false, false), Some(Missing::Data));
        // a table that is there is not asked for
        let columns = Missing::first(true, true, false);
        assert_eq!(columns, Some(Missing::Columns));
        assert!(columns.is_some_and(|missing| missing.words().0.starts_with("A table is loaded")));
    }
}
