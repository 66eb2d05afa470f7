//! How a table was read, and its first rows.

use hearth_classifier::{
    columns::Roles,
    table::{Dialect, Format, TableOptions, TextEncoding},
};
use leptos::prelude::*;

use super::Settings;
use crate::{
    page::{
        actions,
        format::{bytes, of},
        state::App,
        widgets::Select,
    },
    protocol::DataPreview,
};

const ENCODINGS: [(&str, &str, TextEncoding); 4] = [
    ("utf-8", "UTF-8 (most files)", TextEncoding::Utf8),
    ("windows-1252", "Windows-1252 (older Excel files)", TextEncoding::Windows1252),
    ("utf-16-le", "UTF-16 (\"Unicode text\" of Excel)", TextEncoding::Utf16Le),
    ("utf-16-be", "UTF-16, high byte first", TextEncoding::Utf16Be),
];

/// Cells with a role are named so in the head of the preview.
fn role(roles: &Roles, column: usize) -> Option<&'static str> {
    if roles.text.columns().contains(&column) {
        Some("text")
    } else if roles.label == Some(column) {
        Some("class")
    } else if roles.split == Some(column) {
        Some("part")
    } else {
        None
    }
}

/// The file, its first rows, and how it was read.
#[component]
pub fn Reading(data: StoredValue<DataPreview>) -> impl IntoView {
    let facts = data.with_value(|data| {
        format!(
            "{}, {}, {}",
            of(data.rows, "row", "rows"),
            of(data.columns.len(), "column", "columns"),
            bytes(data.bytes)
        )
    });
    view! {
            <section aria-labelledby="data-name">
                <h2 id="data-name" data-test="data-name">
                    {data.with_value(|data| data.name.clone())}
                </h2>
                <p class="quiet number" data-test="data-facts">{facts}</p>
                <Preview data=data />
                <Settings>
    <Dialects data=data />
    </Settings>
            </section>
        }
}

#[component]
fn Preview(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let head = move |(column, name): (usize, String)| {
        let role = Memo::new(move |_| app.choices.with(|choices| role(&choices.roles, column)));
        view! {
            <th scope="col" data-role=role>
                {name}
                <span class="role">{role}</span>
            </th>
        }
    };
    let body = |(row, cells): (usize, Vec<String>)| {
        view! {
            <tr>
                <th scope="row" class="number quiet">{row + 1}</th>
                {cells.into_iter().map(|cell| view! { <td><div class="cell">{cell}</div></td> }).collect_view()}
            </tr>
        }
    };
    let (columns, first) = data.with_value(|data| (data.columns.clone(), data.first.clone()));
    let label = format!("The first {} of the table", of(first.len(), "row", "rows"));
    view! {
        <div class="table preview" role="region" aria-label=label tabindex="0" data-test="preview">
            <table>
                <thead>
                    <tr>
                        <th scope="col" class="number"><span class="unseen">"Row"</span></th>
                        {columns.into_iter().enumerate().map(head).collect_view()}
                    </tr>
                </thead>
                <tbody>{first.into_iter().enumerate().map(body).collect_view()}</tbody>
            </table>
        </div>
    }
}

/// The guess, each part of it to be corrected.
#[component]
fn Dialects(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let dialect = data.with_value(|data| data.dialect.clone());
    let again = move |how: &dyn Fn(&mut TableOptions)| {
        let mut options = data.with_value(|data| data.options.clone());
        how(&mut options);
        actions::read_again(app, options);
    };
    let json = dialect.format == Format::JsonLines;
    let encoding =
        ENCODINGS.iter().find(|e| e.2 == dialect.encoding.encoding).unwrap_or(&ENCODINGS[0]).0;
    let guessed =
        if dialect.encoding.guessed { "Guessed: look for broken letters above." } else { "" };
    let header = if dialect.header { "yes" } else { "no" };
    let quote = dialect.quote.map_or_else(|| "none".to_owned(), String::from);
    view! {
        <div class="fields reading">
            <Select
                id="delimiter"
                label="Between columns"
                options=delimiters(&dialect)
                chosen=delimiter(&dialect)
                on_choose=move |value: String| again(&|options| set_delimiter(options, &value))
            />
            {(!json)
                .then(|| {
                    view! {
                        <Select
                            id="header"
                            label="First line"
                            options=pairs(&[("yes", "column names"), ("no", "a row already")])
                            chosen=header.to_owned()
                            on_choose=move |value: String| again(&|options| options.header = Some(value == "yes"))
                        />
                        <Select
                            id="quotes"
                            label="Around texts"
                            options=pairs(&[("\"", "double quotes \""), ("'", "single quotes '"), ("none", "nothing")])
                            chosen=quote
                            on_choose=move |value: String| {
                                let quote = value.bytes().next().filter(|_| value != "none");
                                again(&|options| options.quote = Some(quote));
                            }
                        />
                    }
                })}
            <Select
                id="encoding"
                label="Letters"
                hint=guessed
                options=ENCODINGS.map(|(value, text, _)| (value.to_owned(), text.to_owned())).to_vec()
                chosen=encoding.to_owned()
                on_choose=move |value: String| {
                    let found = ENCODINGS.iter().find(|e| e.0 == value).map(|e| e.2);
                    again(&|options| options.encoding = found);
                }
            />
        </div>
    }
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(value, text)| ((*value).to_owned(), (*text).to_owned())).collect()
}

fn delimiter(dialect: &Dialect) -> String {
    match (dialect.format, dialect.delimiter) {
        (Format::JsonLines, _) => "json".to_owned(),
        (_, Some(delimiter)) => delimiter.to_string(),
        (_, None) => "none".to_owned(),
    }
}

fn delimiters(dialect: &Dialect) -> Vec<(String, String)> {
    let mut all = pairs(&[
        (",", "comma ,"),
        (";", "semicolon ;"),
        ("\t", "tab"),
        ("|", "vertical bar |"),
        ("json", "JSON, one object a line"),
    ]);
    let own = delimiter(dialect);
    if !all.iter().any(|(value, _)| *value == own) {
        let text = if own == "none" { "nothing: one column".to_owned() } else { own.clone() };
        all.push((own, text));
    }
    all
}

fn set_delimiter(options: &mut TableOptions, value: &str) {
    match value {
        "json" => (options.format, options.delimiter) = (Some(Format::JsonLines), None),
        "none" => (options.format, options.delimiter) = (Some(Format::Delimited), None),
        value => {
            (options.format, options.delimiter) = (Some(Format::Delimited), value.bytes().next());
        }
    }
}
