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
    let busy = Memo::new(move |_| app.busy.with(Option::is_some));
    let open = move |files: Vec<File>| {
        if let Some(file) = files.into_iter().next()
            && !busy.get_untracked()
        {
            actions::preview_file(app, file);
        }
    };
    let measurable = Memo::new(move |_| app.report.with(Option::is_some));
    view! {
        <section aria-labelledby="tables-name">
            <h2 id="tables-name">"Sort a whole table"</h2>
            <fieldset disabled=move || learning.get() || busy.get()>
                <legend class="unseen">"A table to sort"</legend>
                <FileDrop
                    id="classify-drop"
                    label="Drop a table to sort, or pick one"
                    hint="You see first how it is read. It comes back with the class and its probabilities in columns of their own, and its texts unchanged."
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
                    "For a spreadsheet: put an apostrophe before cells that it would run as formulas"
                </label>
            </fieldset>
            <super::preview::Waiting />
            <h3>"Measure it on the loaded data"</h3>
            <p>
                {move || {
                    if measurable.get() {
                        "The test rows of the table under Data are scored by this classifier. Rows that it was trained on are left out."
                    } else {
                        "Load a table with labels under Data, and this classifier can be measured on it."
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
                    "Measure"
                </button>
                <button type="button" class="quiet-button" on:click=move |_| app.screen.set(Screen::Data)>
                    "To the data"
                </button>
            </div>
        </section>
    }
}
