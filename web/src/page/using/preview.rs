//! A table before it is classified: how it is read, and where its texts come from.

use hearth_classifier::columns::TextSource;
use leptos::prelude::*;

use crate::{
    page::{
        actions,
        data::reading::{ReadAs, Unread},
        format::{of, sentence},
        state::{App, ToClassify},
        widgets::Select,
    },
    protocol::FilePreview,
};

/// The value of a text that is no single column.
const TEMPLATE: &str = "template";
/// Before the ids of the controls that say how the table is read.
const PREFIX: &str = "classify-";

/// The table that waits, if one does.
#[component]
pub fn Waiting() -> impl IntoView {
    let app = App::here();
    let forget = Callback::new(move |()| app.to_classify.set(None));
    let again = move |options| actions::preview_again(app, options);
    let shown = move |waiting: ToClassify| {
        let ToClassify { file, preview, text } = waiting;
        match preview {
            Some(preview) => view! { <Preview preview=preview text=text /> }.into_any(),
            None => view! {
                <Unread name=file.name prefix=PREFIX options=file.options on_change=again on_cancel=forget />
            }
            .into_any(),
        }
    };
    move || app.to_classify.get().map(shown)
}

/// What is to be said about the text's column.
fn about_text(preview: &FilePreview) -> (&'static str, String) {
    let Some(trained) = &preview.trained else {
        return (
            "warn-text",
            "This classifier does not record its text column: check the guess below.".to_owned(),
        );
    };
    if preview.missing.is_empty() {
        return ("hint", format!("The text is read from {}, as in training.", trained.words()));
    }
    let missing: Vec<String> = preview.missing.iter().map(|name| format!("{name:?}")).collect();
    (
        "warn-text",
        format!(
            "The classifier was trained on {}, and this table has no column {}. Choose the text column, or correct how the file is read.",
            trained.words(),
            missing.join(", ")
        ),
    )
}

/// The value of the select for a text source.
fn value(text: Option<&TextSource>) -> String {
    match text {
        Some(TextSource::Column(column)) => column.to_string(),
        Some(TextSource::Template(_)) => TEMPLATE.to_owned(),
        None => String::new(),
    }
}

#[component]
fn Preview(preview: FilePreview, text: Option<TextSource>) -> impl IntoView {
    let app = App::here();
    let (kind, about) = about_text(&preview);
    let mut columns = Vec::new();
    if preview.text.is_none() {
        columns.push((String::new(), "choose a column".to_owned()));
    }
    if let Some(TextSource::Template(_)) = &preview.text {
        let words = preview.trained.as_ref().map(|trained| trained.words()).unwrap_or_default();
        columns.push((TEMPLATE.to_owned(), format!("{words}, as in training")));
    }
    let named = preview.columns.iter().enumerate().map(|(c, name)| (c.to_string(), name.clone()));
    columns.extend(named);
    let template = StoredValue::new(preview.text.clone());
    let choose = move |value: String| match value.parse() {
        Ok(column) => actions::choose_text(app, TextSource::Column(column)),
        Err(_) => {
            if let Some(text) = template.get_value() {
                actions::choose_text(app, text);
            }
        }
    };
    let head = preview.columns.iter().map(|name| view! { <th scope="col">{name.clone()}</th> });
    let line = |cells: &Vec<String>| {
        let cells =
            cells.iter().map(|cell| view! { <td><div class="cell">{cell.clone()}</div></td> });
        view! { <tr>{cells.collect_view()}</tr> }
    };
    let used: Vec<usize> = text.as_ref().map(TextSource::columns).unwrap_or_default();
    let shown = match used.as_slice() {
        [] => "Choose the text column.".to_owned(),
        columns => {
            let names: Vec<&str> = columns
                .iter()
                .filter_map(|&c| preview.columns.get(c).map(String::as_str))
                .collect();
            format!("Text column: {}.", names.join(" and "))
        }
    };
    let rows = of(preview.rows, "row", "rows");
    let blocked = move || app.is_training() || app.is_busy();
    view! {
        <section class="card" data-test="classify-preview" aria-labelledby="preview-name">
            <h3 id="preview-name">{preview.name.clone()}</h3>
            <p class="quiet number" data-test="classify-facts">
                {format!("{rows}, {}", of(preview.columns.len(), "column", "columns"))}
            </p>
            <p class=kind data-test="classify-text-about">{about}</p>
            {(!preview.warnings.is_empty())
                .then(|| {
                    let items = preview.warnings.iter().map(|w| view! { <li>{sentence(w)}</li> });
                    view! { <ul class="remarks">{items.collect_view()}</ul> }
                })}
            <div class="table preview" role="region" tabindex="0" aria-label="The first rows of the table" data-test="classify-rows">
                <table>
                    <thead>
                        <tr>{head.collect_view()}</tr>
                    </thead>
                    <tbody>{preview.first.iter().map(line).collect_view()}</tbody>
                </table>
            </div>
            <fieldset disabled=blocked>
                <legend class="unseen">"How the table is read"</legend>
                <Select
                    id="classify-text"
                    label="Text column"
                    options=columns
                    chosen=value(text.as_ref())
                    on_choose=choose
                />
                <ReadAs
                    prefix=PREFIX
                    dialect=Some(preview.dialect)
                    options=preview.options
                    on_change=move |options| actions::preview_again(app, options)
                />
            </fieldset>
            <div class="actions">
                <button
                    type="button"
                    class="primary"
                    data-test="classify-start"
                    disabled=move || blocked() || used.is_empty()
                    on:click=move |_| actions::classify_file(app)
                >
                    {format!("Classify {rows}")}
                </button>
                <button
                    type="button"
                    data-test="classify-cancel"
                    disabled=blocked
                    on:click=move |_| app.to_classify.set(None)
                >
                    "Cancel"
                </button>
                <span class="quiet" aria-live="polite">{shown}</span>
            </div>
        </section>
    }
}
