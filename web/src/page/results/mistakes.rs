//! Rows in lists: those of a cell, and the mistakes.

use leptos::prelude::*;

use super::Page;
use crate::page::format::of;

/// Rows shown at once.
const PAGE: usize = 50;

/// Rows with text, truth, prediction and its probability.
#[component]
pub fn RowList(page: Page, rows: Vec<usize>) -> impl IntoView {
    let most = RwSignal::new(PAGE);
    let count = rows.len();
    let shown = page.shown.get_value();
    let rows = StoredValue::new(rows);
    let line = move |place: usize| {
        let row = &shown.test.rows[place];
        let said = page.at.with_untracked(|at| at.predicted[place]);
        let names = page.scores.with_value(|scores| scores.classes.clone());
        view! {
            <tr>
                <td class="number">{row.row}</td>
                <td class="row-text">
                    {if row.text.is_empty() {
                        view! { <span class="quiet">"not stored: saved runs contain no texts"</span> }.into_any()
                    } else {
                        row.text.clone().into_any()
                    }}
                </td>
                <td>{names[row.truth].clone()}</td>
                <td>{names[said].clone()}</td>
                <td class="number">{format!("{:.3}", row.probabilities[said])}</td>
            </tr>
        }
    };
    if count == 0 {
        return view! { <p class="quiet">"No rows."</p> }.into_any();
    }
    view! {
        <div class="table" tabindex="0" role="region" aria-label="Rows">
            <table>
                <thead>
                    <tr>
                        <th scope="col" class="number">
                            "Row"
                        </th>
                        <th scope="col">"Text"</th>
                        <th scope="col">"Actual"</th>
                        <th scope="col">"Predicted"</th>
                        <th scope="col" class="number">
                            "Probability"
                        </th>
                    </tr>
                </thead>
                <tbody>
                    {move || {
                        rows.with_value(|rows| rows.iter().take(most.get()).copied().map(&line).collect_view())
                    }}
                </tbody>
            </table>
        </div>
        {move || {
            (count > most.get())
                .then(|| {
                    view! {
                        <div class="actions">
                            <button type="button" on:click=move |_| most.update(|most| *most += PAGE)>
                                {format!("Show more ({} left)", count - most.get())}
                            </button>
                        </div>
                    }
                })
        }}
    }
    .into_any()
}

/// How many there are, and what to make of them. Only two classes have a threshold.
fn summary(wrong: usize, binary: bool) -> String {
    let at = if binary { " at this threshold" } else { "" };
    match wrong {
        0 => format!("Every row is classified correctly{at}."),
        _ => format!(
            "{} misclassified{at}. Confident mistakes are often wrong labels.",
            of(wrong, "row is", "rows are")
        ),
    }
}

#[component]
pub fn Mistakes(page: Page) -> impl IntoView {
    let wrong = Memo::new(move |_| {
        page.at.with(|at| page.scores.with_value(|scores| scores.mistakes(&at.predicted)))
    });
    view! {
        <section aria-labelledby="mistakes-name" data-test="mistakes">
            <h2 id="mistakes-name">"Mistakes, most confident first"</h2>
            <p class="hint">
                {move || summary(wrong.with(Vec::len), page.binary())}
            </p>
            {move || view! { <RowList page=page rows=wrong.get() /> }}
        </section>
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn mistakes_and_thresholds_are_named_where_there_are_some() {
        assert_eq!(summary(0, true), "Every row is classified correctly at this threshold.");
        assert!(
            !summary(0, false).contains("threshold") && !summary(3, false).contains("threshold")
        );
        assert!(summary(1, true).starts_with("1 row is misclassified at this threshold."));
    }
}
