//! The screen "Data": a table, what its columns are, which rows learn and which measure.

mod columns;
mod figures;
mod labels;
mod parts;
pub mod reading;

use leptos::prelude::*;
use web_sys::File;

use super::{
    actions,
    format::of,
    state::{App, Sample, Screen, TableFile},
    widgets::{FileDrop, Problem},
};
use crate::protocol::{DataChoices, DataPreview};

/// The screen.
#[component]
pub fn DataScreen() -> impl IntoView {
    let app = App::here();
    // token lengths follow the prompt, which may have changed since
    actions::prepare_again(app);
    let open = move |files: Vec<File>| {
        if let Some(file) = files.into_iter().next() {
            actions::open_table(app, file);
        }
    };
    let again = move |options| actions::open_again(app, options);
    let forget = Callback::new(move |()| app.unread.set(None));
    let unread = move |file: TableFile| {
        view! {
            <reading::Unread name=file.name prefix="new-" options=file.options on_change=again on_cancel=forget />
        }
    };
    let learning = Memo::new(move |_| app.is_training());
    let several =
        "CSV, TSV, JSON Lines or JSON, with the text in one column and its label in another.";
    view! {
        <h1>"Data"</h1>
        <p class="lead">
            "Add a table of labeled texts; a hundred rows are enough to start. Your table stays on this computer: in this tab, and, while a run can be resumed, as a copy in this browser's storage. That copy is deleted when the run ends."
        </p>
        {move || {
            learning
                .get()
                .then(|| {
                    view! {
                        <p class="problem">
                            "A run is training on this table. You can change the table when the run has ended."
                        </p>
                    }
                })
        }}
        <Settings>
            <FileDrop
                id="data-drop"
                label="Drop a table here, or choose a file"
                hint=several
                accept=".csv,.tsv,.tab,.txt,.jsonl,.ndjson,.json"
                on_files=open
            />
            <Samples />
            {move || app.unread.get().map(unread)}
        </Settings>
        {move || app.data.get().map(|data| view! { <Sections data=data /> })}
    }
}

/// Controls that rest while a training uses the table.
#[component]
fn Settings(children: Children) -> impl IntoView {
    let app = App::here();
    let learning = Memo::new(move |_| app.is_training());
    view! { <fieldset disabled=learning>{children()}</fieldset> }
}

/// Changes a choice and asks what comes of it.
fn change(app: App, how: impl FnOnce(&mut DataChoices)) {
    app.choices.update(how);
    actions::prepare(app);
}

/// As [`change`], once the user stops typing.
fn change_later(
    app: App,
    timer: StoredValue<Option<TimeoutHandle>>,
    how: impl FnOnce(&mut DataChoices),
) {
    app.choices.update(how);
    actions::later(timer, move || actions::prepare(app));
}

#[component]
fn Samples() -> impl IntoView {
    let app = App::here();
    let sample = move |sample: Sample| {
        let test = format!("sample-{}", sample.file);
        let rows = of(sample.rows, "row", "rows");
        let (name, about) = (sample.name.clone(), sample.about.clone());
        view! {
            <li>
                <button
                    type="button"
                    class="sample"
                    data-test=test
                    on:click=move |_| actions::open_sample(app, sample.clone())
                >
                    <span class="sample-name">{name}</span>
                    <span class="quiet">{about} " (" {rows} ")"</span>
                </button>
            </li>
        }
    };
    view! {
        {move || {
            let samples = app.samples.get();
            (!samples.is_empty())
                .then(|| {
                    view! {
                        <section class="samples" aria-labelledby="samples-name">
                            <p id="samples-name" class="hint">"No table at hand? Try an example, written for this page:"</p>
                            <ul>{samples.into_iter().map(sample).collect_view()}</ul>
                        </section>
                    }
                })
        }}
    }
}

/// What there is to see and to choose about a table.
#[component]
fn Sections(data: DataPreview) -> impl IntoView {
    let app = App::here();
    let data = StoredValue::new(data);
    let ready = move || app.report.with(Option::is_some);
    view! {
        <reading::Reading data=data />
        <columns::Columns data=data />
        <Problem what=app.report_error test="data-problem" />
        <figures::Classes data=data />
        <labels::Labels />
        <labels::LeftOut data=data />
        <parts::Parts data=data />
        <figures::Warnings />
        <figures::Lengths />
        <div class="actions">
            <button
                type="button"
                class="primary"
                data-test="next-train"
                disabled=move || !ready()
                on:click=move |_| app.screen.set(Screen::Train)
            >
                "Next: Train"
            </button>
            <span class="quiet" aria-live="polite">
                {move || if ready() { String::new() } else { columns::missing(app, data) }}
            </span>
        </div>
    }
}
