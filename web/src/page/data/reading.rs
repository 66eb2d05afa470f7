//! How a table was read, and its first rows.

use hearth_classifier::{
    columns::Roles,
    table::{Dialect, ENCODINGS, EncodingKnown, Format, TableOptions, TextEncoding},
};
use leptos::prelude::*;

use super::{Settings, figures::remarks};
use crate::{
    page::{
        actions,
        address::focus,
        format::{bytes, of, sentence},
        state::App,
        widgets::{Field, More, Select, value_of},
    },
    protocol::DataPreview,
};

/// Cells with a role are named so in the head of the preview.
fn role(roles: &Roles, column: usize) -> Option<&'static str> {
    if roles.text.columns().contains(&column) {
        Some("text")
    } else if roles.label == Some(column) {
        Some("label")
    } else if roles.split == Some(column) {
        Some("split")
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
                <div class="actions">
                    <p class="quiet number" data-test="data-facts">{facts}</p>
                    <ToWarnings />
                </div>
                <Read data=data />
                <Preview data=data />
                <Settings>
    <Dialects data=data />
    </Settings>
            </section>
        }
}

/// The warnings stand below everything that can change them: out of sight at first.
#[component]
fn ToWarnings() -> impl IntoView {
    let app = App::here();
    let found = Memo::new(move |_| {
        app.report.with(|report| report.as_ref().map_or(0, |r| remarks(r).len()))
    });
    let words = move || of(found.get(), "warning", "warnings");
    view! {
        <Show when=move || found.get() != 0>
            <button
                type="button"
                data-test="to-warnings"
                on:click=|_| focus("#warnings-title")
            >
                {words}
            </button>
        </Show>
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

/// How the file was read, part by part, and what could be read otherwise.
#[component]
fn Read(data: StoredValue<DataPreview>) -> impl IntoView {
    let (reading, warnings) = data.with_value(|data| (data.reading.clone(), data.warnings.clone()));
    let part = |(name, words): (String, String)| {
        view! {
            <dt>{name}</dt>
            <dd>{words}</dd>
        }
    };
    view! {
        <div data-test="read-warnings" aria-live="polite">
            {(!warnings.is_empty())
                .then(|| {
                    view! {
                        <ul class="remarks">
                            {warnings.into_iter().map(|w| view! { <li>{sentence(&w)}</li> }).collect_view()}
                        </ul>
                    }
                })}
        </div>
        <More summary="How the file was read">
            <dl data-test="read-as">
                {reading.into_iter().map(part).collect_view()}
            </dl>
        </More>
    }
}

/// What to check where the encoding is guessed.
fn encoding_hint(known: EncodingKnown) -> &'static str {
    match known {
        EncodingKnown::Guessed | EncodingKnown::Zeros => {
            "Detected automatically: check the preview for garbled characters."
        }
        EncodingKnown::Ascii => "The file is plain ASCII: most encodings read it alike.",
        EncodingKnown::Given | EncodingKnown::Mark | EncodingKnown::Fits => "",
    }
}

/// The guess, each part of it to be corrected.
#[component]
fn Dialects(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let (dialect, options) = data.with_value(|data| (data.dialect.clone(), data.options.clone()));
    let again = move |options| actions::read_again(app, options);
    view! { <ReadAs prefix="" dialect=Some(dialect) options=options on_change=again /> }
}

/// A file that could not be read as a table: the message above says why, and it is read again in another way.
#[component]
pub fn Unread(
    /// The file's name.
    name: String,
    /// As for [`ReadAs`].
    prefix: &'static str,
    options: TableOptions,
    #[prop(into)] on_change: Callback<TableOptions>,
    /// Forgets the file.
    #[prop(into)]
    on_cancel: Callback<()>,
) -> impl IntoView {
    view! {
        <section class="card" data-test=format!("{prefix}unread") aria-label="A file that was not read">
            <p>{name} " was not read; the message above says why. If it is a table, choose how it is read:"</p>
            <ReadAs prefix=prefix dialect=None options=options on_change=on_change />
            <div class="actions">
                <button type="button" data-test=format!("{prefix}unread-cancel") on:click=move |_| on_cancel.run(())>
                    "Cancel"
                </button>
            </div>
        </section>
    }
}

/// What is not chosen.
const AUTO: &str = "auto";

/// How a file is read, part by part. Of a file that was not read yet, what is not chosen is detected.
#[component]
pub fn ReadAs(
    /// Before the controls' ids.
    prefix: &'static str,
    /// How it was read, if it was.
    dialect: Option<Dialect>,
    /// What was chosen.
    options: TableOptions,
    /// Gets the options with a new choice.
    #[prop(into)]
    on_change: Callback<TableOptions>,
) -> impl IntoView {
    let id = move |name: &str| format!("{prefix}{name}");
    let given = StoredValue::new(options.clone());
    let again = move |how: &dyn Fn(&mut TableOptions)| {
        let mut options = given.get_value();
        how(&mut options);
        on_change.run(options);
    };
    let read = dialect.as_ref();
    let choices = |all: Vec<(String, String)>| match read {
        Some(_) => all,
        None => [pairs(&[(AUTO, "detected automatically")]), all].concat(),
    };
    let own = |c: Option<char>| c.map_or_else(|| "none".to_owned(), String::from);
    let auto = || AUTO.to_owned();
    let delimited = read.is_none_or(|dialect| dialect.format == Format::Delimited);
    let delimiter = match (read, options.format, &options.delimiter) {
        (Some(dialect), ..) => delimiter(dialect),
        (None, None, None) => auto(),
        (None, format, delimiter) => {
            delimiter_key(format.unwrap_or(Format::Delimited), delimiter.as_ref())
        }
    };
    let header = read.map(|dialect| dialect.header).or(options.header);
    let header = header.map_or(AUTO, |header| if header { "yes" } else { "no" }).to_owned();
    let quote = match (read, options.quote) {
        (Some(dialect), _) => own(dialect.quote),
        (None, quote) => quote.map_or_else(auto, |quote| own(quote.map(char::from))),
    };
    let escape = match (read, options.escape) {
        (Some(dialect), _) => own(dialect.escape),
        (None, escape) => escape.map_or_else(auto, |escape| char::from(escape).into()),
    };
    let skipped = read.map(|dialect| dialect.skipped).or(options.skip_lines);
    let skipped = skipped.map_or_else(String::new, |lines| lines.to_string());
    let encoding = read.map(|dialect| dialect.encoding.encoding).or(options.encoding);
    let encoding = encoding.map_or_else(auto, |encoding| encoding.name().to_owned());
    let hint = read.map_or("", |dialect| encoding_hint(dialect.encoding.known));
    let typed = match &options.delimiter {
        Some(delimiter) => delimiter.escape_default().to_string(),
        None => String::new(),
    };
    let byte = |value: &str| value.bytes().next().filter(|_| value != "none");
    let quotes = characters(
        &[
            ("\"", "double quote \""),
            ("'", "single quote '"),
            ("none", "none: quotes are part of the text"),
        ],
        &quote,
    );
    let escapes = match read {
        Some(_) => characters(&[("none", "doubled quote"), ("\\", "backslash \\")], &escape),
        None => pairs(&[("\\", "backslash \\")]),
    };
    view! {
        <div class="fields reading">
            <Select
                id=id("delimiter")
                label="Delimiter"
                options=choices(delimiters(&delimiter))
                chosen=delimiter
                on_choose=move |value: String| again(&|options| set_delimiter(options, &value))
            />
            {delimited
                .then(|| {
                    view! {
                        <Field id=id("delimiter-typed") label="Other delimiter">
                            <input
                                id=id("delimiter-typed")
                                data-test=id("delimiter-typed")
                                prop:value=typed
                                on:change=move |event| {
                                    let value = value_of(&event).replace("\\t", "\t");
                                    again(&|options| options.delimiter = Some(value.clone()).filter(|v| !v.is_empty()));
                                }
                            />
                        </Field>
                        <Select
                            id=id("header")
                            label="First line"
                            options=choices(pairs(&[("yes", "column names"), ("no", "a row")]))
                            chosen=header
                            on_choose=move |value: String| {
                                again(&|options| options.header = Some(value == "yes").filter(|_| value != AUTO));
                            }
                        />
                        <Select
                            id=id("quotes")
                            label="Quote character"
                            options=choices(quotes)
                            chosen=quote
                            on_choose=move |value: String| {
                                again(&|options| options.quote = Some(byte(&value)).filter(|_| value != AUTO));
                            }
                        />
                        <Select
                            id=id("escape")
                            label="Escape character"
                            options=choices(escapes)
                            chosen=escape
                            on_choose=move |value: String| {
                                again(&|options| options.escape = byte(&value).filter(|_| value != AUTO));
                            }
                        />
                        <Field id=id("skip-lines") label="Lines to skip">
                            <input
                                id=id("skip-lines")
                                data-test=id("skip-lines")
                                type="number"
                                min="0"
                                step="1"
                                prop:value=skipped
                                on:change=move |event| {
                                    let lines = value_of(&event).trim().parse().ok();
                                    again(&|options| options.skip_lines = lines);
                                }
                            />
                        </Field>
                    }
                })}
            <Select
                id=id("encoding")
                label="Encoding"
                hint=hint
                options=choices(ENCODINGS.map(|name| (name.to_owned(), name.to_owned())).to_vec())
                chosen=encoding
                on_choose=move |value: String| again(&|options| options.encoding = TextEncoding::named(&value))
            />
        </div>
    }
}

/// Characters to choose from, and the one in use where it is another.
fn characters(known: &[(&str, &str)], own: &str) -> Vec<(String, String)> {
    let mut all = pairs(known);
    if own != AUTO && !known.iter().any(|(value, _)| *value == own) {
        all.push((own.to_owned(), own.to_owned()));
    }
    all
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(value, text)| ((*value).to_owned(), (*text).to_owned())).collect()
}

fn delimiter(dialect: &Dialect) -> String {
    delimiter_key(dialect.format, dialect.delimiter.as_ref())
}

fn delimiter_key(format: Format, delimiter: Option<&String>) -> String {
    match (format, delimiter) {
        (Format::Json, _) => "one-json".to_owned(),
        (Format::JsonLines, _) => "json".to_owned(),
        (Format::Lines, _) => "lines".to_owned(),
        (Format::Delimited, Some(delimiter)) if !delimiter.is_empty() => delimiter.clone(),
        (Format::Delimited, _) => "none".to_owned(),
    }
}

fn delimiters(own: &str) -> Vec<(String, String)> {
    let mut all = pairs(&[
        (",", "comma ,"),
        (";", "semicolon ;"),
        ("\t", "tab"),
        ("|", "vertical bar |"),
        ("json", "JSON Lines (one object per line)"),
        ("one-json", "JSON (one value with all rows)"),
        ("none", "none: one column"),
        ("lines", "none: one text per line"),
    ]);
    if own != AUTO && !all.iter().any(|(value, _)| value == own) {
        all.push((own.to_owned(), own.to_owned()));
    }
    all
}

fn set_delimiter(options: &mut TableOptions, value: &str) {
    let (format, delimiter) = match value {
        AUTO => return (options.format, options.delimiter) = (None, None),
        "json" => (Format::JsonLines, None),
        "one-json" => (Format::Json, None),
        "lines" => (Format::Lines, None),
        // no delimiter at all, where none would mean a guess
        "none" => (Format::Delimited, Some(String::new())),
        value => (Format::Delimited, Some(value.to_owned())),
    };
    (options.format, options.delimiter) = (Some(format), delimiter);
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn only_a_guessed_encoding_is_to_be_checked() {
        use EncodingKnown::{Ascii, Fits, Given, Guessed, Mark, Zeros};
        for known in [Given, Mark, Ascii, Fits, Zeros, Guessed] {
            let asks = encoding_hint(known).contains("garbled");
            assert_eq!(asks, known.is_guess(), "{known:?}");
        }
    }
}
