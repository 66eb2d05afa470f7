//! The confusion matrix, and the threshold that moves it.

use hearth_classifier::curves::Goal;
use leptos::prelude::*;

use super::{Page, confused::Confused, mistakes::RowList};
use crate::page::{
    actions,
    format::{figure, percent},
    state::App,
    widgets::Stat,
};

#[component]
pub fn Matrix(page: Page) -> impl IntoView {
    view! {
        <section aria-labelledby="matrix-name">
            <h2 id="matrix-name">"Confusion matrix"</h2>
            {page.binary().then(|| view! { <Slider page=page /> })}
            {if page.has_many() {
                view! { <Confused page=page /> }.into_any()
            } else {
                view! { <Cells page=page /> }.into_any()
            }}
            <Opened page=page />
        </section>
    }
}

#[component]
fn Slider(page: Page) -> impl IntoView {
    let app = App::here();
    let positive = page.scores.with_value(|scores| {
        scores.positive.map(|place| scores.classes[place].clone()).unwrap_or_default()
    });
    let goal = move |name: &'static str, test: &'static str, goal: Goal| {
        let reach = move |_| {
            if let Some(value) = page.scores.with_value(|scores| scores.threshold(goal)) {
                page.threshold.set(value);
            }
        };
        view! {
            <button type="button" class="quiet-button" data-test=test on:click=reach>
                {name}
            </button>
        }
    };
    // only of the classifier that these rows belong to
    let own = page.shown.with_value(|shown| shown.classifier);
    let usable = Memo::new(move |_| {
        let in_use = app.classifier.with(|c| c.as_ref().is_some_and(|c| c.id == own));
        in_use && !app.is_training() && !app.is_busy()
    });
    let in_use = move || {
        app.classifier.with(|classifier| {
            let classifier = classifier.as_ref().filter(|c| c.id == own)?;
            let from = classifier
                .threshold_from
                .map_or_else(String::new, |from| format!(", {}", from.words()));
            Some(format!("In use: {:.3}{from}.", classifier.threshold))
        })
    };
    let label = format!("Predict “{positive}” at or above");
    view! {
        <div class="field">
            <label for="threshold">{label}</label>
            <div class="slider">
                <input
                    id="threshold"
                    data-test="threshold"
                    type="range"
                    min="0"
                    max="1"
                    step="0.001"
                    prop:value=move || page.threshold.get().to_string()
                    on:input=move |event| {
                        if let Ok(value) = event_target_value(&event).parse() {
                            page.threshold.set(value);
                        }
                    }
                />
                <output class="number" for="threshold" data-test="threshold-value">
                    {move || format!("{:.3}", page.threshold.get())}
                </output>
            </div>
        </div>
        <dl class="stats">
            <Stat name="F1" value=move || figure(page.at.get().f1) test="moving-f1" />
            <Stat name="Precision" value=move || figure(page.at.get().precision) test="moving-precision" />
            <Stat name="Recall" value=move || figure(page.at.get().recall) test="moving-recall" />
            <Stat name="Accuracy" value=move || figure(Some(page.at.get().accuracy)) test="moving-accuracy" />
        </dl>
        <div class="actions">
            {goal("Best F1", "goal-f1", Goal::BestF1)}
            {goal("Precision 90%", "goal-precision", Goal::Precision(0.9))}
            {goal("Recall 90%", "goal-recall", Goal::Recall(0.9))}
            <button
                type="button"
                data-test="use-threshold"
                disabled=move || !usable.get()
                on:click=move |_| actions::set_threshold(app, page.threshold.get_untracked())
            >
                "Use this threshold"
            </button>
        </div>
        <p class="quiet number" data-test="threshold-in-use">{in_use}</p>
        <p class="hint">
            "A threshold chosen on these rows looks slightly better here than it will on others."
        </p>
    }
}

#[component]
fn Cells(page: Page) -> impl IntoView {
    let classes = page.scores.with_value(|scores| scores.classes.clone());
    let count = classes.len();
    let head =
        classes.iter().map(|class| view! { <th scope="col">{class.clone()}</th> }).collect_view();
    let names = StoredValue::new(classes.clone());
    let cell = move |truth: usize, said: usize| {
        let rows = move || page.at.with(|at| at.confusion[truth][said]);
        let share = move || {
            page.at.with(|at| {
                let all: usize = at.confusion[truth].iter().sum();
                if all == 0 { 0.0 } else { at.confusion[truth][said] as f64 / all as f64 }
            })
        };
        let open = move || page.cell.get() == Some((truth, said));
        let label = move || {
            names.with_value(|names| {
                format!(": actual {}, predicted {}; show the rows", names[truth], names[said])
            })
        };
        let toggle = move |_| {
            page.cell.update(|cell| {
                *cell = if *cell == Some((truth, said)) { None } else { Some((truth, said)) };
            });
        };
        view! {
            <td class="cell" class:right=truth == said>
                <button
                    type="button"
                    data-test=format!("cell-{truth}-{said}")
                    aria-expanded=move || open().to_string()
                    on:click=toggle
                >
                    <span class="count number">{rows}</span>
                    " "
                    <span class="quiet number">{move || percent(share())}</span>
                    <span class="unseen">{label}</span>
                </button>
            </td>
        }
    };
    let rows = classes
        .into_iter()
        .enumerate()
        .map(|(truth, class)| {
            view! {
                <tr>
                    <th scope="row">{class}</th>
                    {(0..count).map(|said| cell(truth, said)).collect_view()}
                </tr>
            }
        })
        .collect_view();
    view! {
        <div class="table matrix" data-test="confusion" tabindex="0" role="region" aria-label="Rows by actual and predicted class">
            <table>
                <caption class="hint">"Rows: actual class. Columns: predicted class. Select a number to see its rows."</caption>
                <thead>
                    <tr>
                        <td />
                        {head}
                    </tr>
                </thead>
                <tbody>{rows}</tbody>
            </table>
        </div>
    }
}

/// The rows of the cell that is open.
#[component]
fn Opened(page: Page) -> impl IntoView {
    let rows = Memo::new(move |_| {
        let (truth, said) = page.cell.get()?;
        let found = page
            .at
            .with(|at| page.scores.with_value(|scores| scores.rows_of(truth, said, &at.predicted)));
        Some((truth, said, found))
    });
    view! {
        <div aria-live="polite" data-test="cell-rows">
            {move || {
                rows.get()
                    .map(|(truth, said, found)| {
                        let names = page.scores.with_value(|scores| scores.classes.clone());
                        let title = format!("Actual {}, predicted {}", names[truth], names[said]);
                        view! {
                            <h3>{title}</h3>
                            <RowList page=page rows=found />
                        }
                    })
            }}
        </div>
    }
}
