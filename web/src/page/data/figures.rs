//! What the choices come to: rows of each class, lengths, and what to look out for.

use hearth_classifier::columns::{ClassCount, TokenHistogram};
use leptos::prelude::*;

use crate::{
    page::{
        actions::expected_classes,
        format::{count, numbers, of, sentence},
        state::App,
    },
    protocol::{DataPreview, DataReport},
};

/// More classes than this are summed up.
const SHOWN: usize = 12;

/// A class's rows: all, and those that learn, choose and measure where that is known.
#[derive(Clone, PartialEq)]
struct ClassRow {
    class: String,
    positive: bool,
    all: usize,
    parts: Option<[usize; 3]>,
}

fn rows_of(report: &DataReport) -> Vec<ClassRow> {
    let rows = |part: &[ClassCount], place: usize| part.get(place).map_or(0, |count| count.rows);
    let row = |(place, class): (usize, &String)| ClassRow {
        class: class.clone(),
        positive: report.positive == Some(place),
        all: rows(&report.all, place),
        parts: Some([&report.train, &report.validation, &report.test].map(|p| rows(p, place))),
    };
    report.classes.iter().enumerate().map(row).collect()
}

/// Until the engine has counted, what the table's values tell.
fn rows_expected(counts: Vec<ClassCount>) -> Vec<ClassRow> {
    let row = |count: ClassCount| ClassRow {
        class: count.class,
        positive: false,
        all: count.rows,
        parts: None,
    };
    counts.into_iter().filter(|count| count.rows > 0).map(row).collect()
}

/// The classes, a bar each.
#[component]
pub fn Classes(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let rows = Memo::new(move |_| {
        if let Some(report) = app.report.get() {
            return rows_of(&report);
        }
        let expected = app.choices.with(|c| data.with_value(|data| expected_classes(data, c)));
        expected.map(rows_expected).unwrap_or_default()
    });
    view! {
        <section aria-labelledby="classes-title">
            <h2 id="classes-title">"Classes"</h2>
            {move || {
                let all = rows.get();
                if all.is_empty() {
                    view! { <p class="quiet">"Choose the label column to see the classes."</p> }.into_any()
                } else {
                    table(all).into_any()
                }
            }}
        </section>
    }
}

fn table(mut all: Vec<ClassRow>) -> impl IntoView {
    let most = all.iter().map(|row| row.all).max().unwrap_or(1).max(1) as f64;
    let parts = all.iter().all(|row| row.parts.is_some());
    let more = all.split_off(all.len().min(SHOWN));
    let row = move |row: ClassRow| {
        let width = format!("{:.1}%", row.all as f64 / most * 100.0);
        let cell = |rows: usize| view! { <td class="number">{count(rows as u64)}</td> };
        let test = format!("class-{}", row.class);
        view! {
            <tr data-test=test>
                <th scope="row">
                    {row.class}
                    {row.positive.then(|| view! { <span class="role">"positive class"</span> })}
                </th>
                <td class="bar-cell" aria-hidden="true"><div class="bar" style:width=width></div></td>
                {cell(row.all)}
                {row.parts.map(|parts| parts.map(cell).collect_view())}
            </tr>
        }
    };
    view! {
        <div class="table" role="region" aria-label="Rows of each class" tabindex="0">
            <table class="bars" data-test="class-bars">
                <thead>
                    <tr>
                        <th scope="col">"Class"</th>
                        <td class="bar-cell" aria-hidden="true"></td>
                        <th scope="col" class="number">"Rows"</th>
                        {parts
                            .then(|| {
                                view! {
                                    <th scope="col" class="number">"Training"</th>
                                    <th scope="col" class="number">"Validation"</th>
                                    <th scope="col" class="number">"Test"</th>
                                }
                            })}
                    </tr>
                </thead>
                <tbody>{all.into_iter().map(row).collect_view()}</tbody>
            </table>
        </div>
        {parts
            .then(|| {
                view! {
                    <p class="hint">
                        "The model learns from the training rows. The validation rows choose the best epoch and the threshold. The test rows only measure the result."
                    </p>
                }
            })}
        {(!more.is_empty())
            .then(|| {
                let rows = more.iter().map(|row| row.all).sum();
                let words = format!("And {} with {} in total.", of(more.len(), "more class", "more classes"), of(rows, "row", "rows"));
                view! { <p class="hint">{words}</p> }
            })}
    }
}

/// Everything worth knowing before training, in words.
pub fn remarks(report: &DataReport) -> Vec<String> {
    let mut all: Vec<String> = report.warnings.iter().map(|warning| sentence(warning)).collect();
    let dropped = |what: &str, rows: &[usize]| {
        (!rows.is_empty()).then(|| {
            let left_out = if rows.len() == 1 { "is" } else { "are" };
            let rows = (of(rows.len(), "row", "rows"), numbers(rows));
            format!("{} without a {what} {left_out} left out: {}.", rows.0, rows.1)
        })
    };
    all.extend(dropped("text", &report.dropped.empty_text));
    all.extend(dropped("class", &report.dropped.empty_label));
    if !report.duplicates.is_empty() {
        all.push(format!(
            "Test rows with the same text as a training row: {}.",
            numbers(&report.duplicates)
        ));
    }
    all
}

/// The list of them.
#[component]
pub fn Warnings() -> impl IntoView {
    let app = App::here();
    let remarks = Memo::new(move |_| app.report.with(|report| report.as_ref().map(remarks)));
    view! {
        <section aria-labelledby="warnings-title">
            <h2 id="warnings-title">"Warnings"</h2>
            <div data-test="warnings" aria-live="polite">
                {move || match remarks.get() {
                    None => view! { <p class="quiet">"Shown once the rows are counted."</p> }.into_any(),
                    Some(all) if all.is_empty() => {
                        view! { <p>"None: no empty rows, no duplicates, and no class much larger than the others."</p> }
                            .into_any()
                    }
                    Some(all) => {
                        view! {
                            <ul class="remarks">
                                {all.into_iter().map(|remark| view! { <li>{remark}</li> }).collect_view()}
                            </ul>
                        }
                            .into_any()
                    }
                }}
            </div>
        </section>
    }
}

fn lengths_in_words(tokens: &TokenHistogram) -> String {
    format!(
        "Median prompt length {:.0} tokens, 95th percentile {}, longest {}. A token is a word or part of a word.",
        tokens.median, tokens.p95, tokens.longest
    )
}

/// How long the prompts are, once a model is there to count its tokens.
#[component]
pub fn Lengths() -> impl IntoView {
    let app = App::here();
    let tokens = Memo::new(move |_| {
        app.report.with(|report| report.as_ref().and_then(|r| r.tokens.clone()))
    });
    let picture = move |tokens: TokenHistogram| {
        let words = lengths_in_words(&tokens);
        let most = tokens.bars.iter().copied().max().unwrap_or(1).max(1);
        let end = tokens.bars.len() * tokens.width;
        let bar = move |(place, rows): (usize, usize)| {
            let height = format!("{:.1}%", rows as f64 / most as f64 * 100.0);
            let from = place * tokens.width;
            let title = format!(
                "{} to {} tokens: {}",
                from,
                from + tokens.width - 1,
                of(rows, "row", "rows")
            );
            view! {
                <div class="column" title=title>
                    <div style:height=height></div>
                </div>
            }
        };
        view! {
            <p>{words}</p>
            <div class="histogram" role="img" aria-label="Histogram of prompt lengths in tokens">
                <span class="hint number">{of(most, "row", "rows")}</span>
                <div class="columns">
                    {tokens.bars.into_iter().enumerate().map(bar).collect_view()}
                </div>
                <div class="loss-x number">
                    <span>"0"</span>
                    <span>"tokens"</span>
                    <span>{count(end as u64)}</span>
                </div>
            </div>
        }
    };
    view! {
        <section aria-labelledby="lengths-title" data-test="lengths">
            <h2 id="lengths-title">"Prompt lengths"</h2>
            {move || match tokens.get() {
                Some(tokens) => picture(tokens).into_any(),
                None => {
                    view! { <p class="quiet">"Load a model to see them: every model splits texts into tokens in its own way."</p> }
                        .into_any()
                }
            }}
        </section>
    }
}
