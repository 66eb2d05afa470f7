//! The confusion matrix of many classes: a picture, and the confusions as a list.

use hearth_classifier::{metrics::confusions, plots};
use leptos::prelude::*;

use super::Page;
use crate::page::{
    format::{of, percent},
    widgets::Plot,
};

/// With more classes than this, a matrix of buttons is wider than a page and nobody finds anything in it.
const BUTTONS: usize = 6;
/// Confusions that are listed at first, and that are added at a time.
const PAGE: usize = 10;

impl Page {
    /// Whether the confusion matrix is a picture with a list, and not buttons.
    pub fn has_many(&self) -> bool {
        self.scores.with_value(|scores| scores.classes.len() > BUTTONS)
    }
}

#[component]
pub fn Confused(page: Page) -> impl IntoView {
    let names = page.scores.with_value(|scores| scores.classes.clone());
    let picture = page.shown.with_value(|shown| plots::confusion(&shown.test.evaluation));
    // without a threshold nothing moves
    let found = page.at.with_untracked(|at| confusions(&at.confusion));
    let all = found.len();
    let summary = match all {
        0 => "Every row is predicted as its own class.".to_owned(),
        _ => format!("{}, the most frequent first.", of(all, "confusion", "confusions")),
    };
    let most = RwSignal::new(PAGE);
    let found = StoredValue::new(found);
    let row = move |place: usize| {
        let confusion = found.with_value(|found| found[place]);
        let (actual, predicted) = (confusion.actual, confusion.predicted);
        let open = move || page.cell.get() == Some((actual, predicted));
        let toggle = move |_| {
            page.cell.set(
                (page.cell.get_untracked() != Some((actual, predicted)))
                    .then_some((actual, predicted)),
            );
        };
        let label = format!("Show rows: actual {}, predicted {}", names[actual], names[predicted]);
        view! {
            <tr>
                <td>{names[actual].clone()}</td>
                <td>{names[predicted].clone()}</td>
                <td class="number">{confusion.rows}</td>
                <td class="number">{percent(confusion.share)}</td>
                <td>
                    <button
                        type="button"
                        class="quiet-button"
                        data-test=format!("cell-{actual}-{predicted}")
                        aria-label=label
                        aria-expanded=move || open().to_string()
                        on:click=toggle
                    >
                        "Show rows"
                    </button>
                </td>
            </tr>
        }
    };
    view! {
        <div class="heat" data-test="confusion">
            <Plot svg=picture.unwrap_or_default() label="Confusion matrix: a darker cell has a larger share of its row" />
        </div>
        <p data-test="confusions-summary">{summary}</p>
        <div class="table" data-test="confusions" tabindex="0" role="region" aria-label="Confusions">
            <table>
                <thead>
                    <tr>
                        <th scope="col">"Actual"</th>
                        <th scope="col">"Predicted"</th>
                        <th scope="col" class="number">
                            "Rows"
                        </th>
                        <th scope="col" class="number">
                            "Share of the actual class"
                        </th>
                        <td />
                    </tr>
                </thead>
                <tbody>{move || (0..all.min(most.get())).map(&row).collect_view()}</tbody>
            </table>
        </div>
        {move || {
            (all > most.get())
                .then(|| {
                    view! {
                        <div class="actions">
                            <button type="button" data-test="more-confusions" on:click=move |_| most.update(|most| *most += PAGE)>
                                {format!("Show more ({} left)", all - most.get())}
                            </button>
                        </div>
                    }
                })
        }}
    }
}
