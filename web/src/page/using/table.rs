//! Whole tables: predictions added, or the loaded data measured.

use leptos::prelude::*;
use web_sys::File;

use crate::page::{
    actions,
    state::{App, Screen},
    widgets::FileDrop,
};

#[component]
pub fn Tables() -> impl IntoView {
    let app = App::here();
    let learning = Memo::new(move |_| app.is_training());
    let busy = Memo::new(move |_| app.is_busy());
    let open = move |files: Vec<File>| {
        if let Some(file) = files.into_iter().next() {
            actions::preview_file(app, file);
        }
    };
    let measurable = Memo::new(move |_| app.report.with(Option::is_some));
    view! {
        <section aria-labelledby="tables-name">
            <h2 id="tables-name">"Classify a table"</h2>
            <fieldset disabled=move || learning.get() || busy.get()>
                <legend class="unseen">"A table to classify"</legend>
                <FileDrop
                    id="classify-drop"
                    label="Drop a table to classify, or choose a file"
                    hint="First you see how it is read. Then you download the same table with columns added for the predicted class and its probabilities."
                    accept=".csv,.tsv,.txt,.jsonl,.ndjson"
                    on_files=open
                />
                <label class="check">
                    <input
                        type="checkbox"
                        data-test="for-spreadsheets"
                        prop:checked=move || app.for_spreadsheets.get()
                        on:change=move |event| app.for_spreadsheets.set(event_target_checked(&event))
                    />
                    "For spreadsheets: put an apostrophe before cells that would run as formulas"
                </label>
            </fieldset>
            <super::preview::Waiting />
            <h3>"Evaluate on the loaded table"</h3>
            <p>
                {move || {
                    if measurable.get() {
                        "Scores the test rows of the table under Data. Rows that the classifier was trained on are left out."
                    } else {
                        "Load a labeled table under Data to evaluate this classifier on it."
                    }
                }}
            </p>
            <div class="actions">
                <button
                    type="button"
                    data-test="evaluate"
                    disabled=move || !measurable.get() || learning.get() || busy.get()
                    on:click=move |_| actions::evaluate(app)
                >
                    "Evaluate"
                </button>
                <button type="button" class="quiet-button" on:click=move |_| app.screen.set(Screen::Data)>
                    "Go to Data"
                </button>
            </div>
        </section>
    }
}
