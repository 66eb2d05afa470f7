//! What is rarely needed: how weights are held, and whether this GPU computes rightly.

use leptos::prelude::*;

use crate::{
    page::{
        actions,
        state::App,
        widgets::{Field, More, value_of},
    },
    protocol::{FromEngine, SelfTestRow, ToEngine, WeightsAs},
};

/// Both, behind a line.
#[component]
pub fn Rarely() -> impl IntoView {
    view! {
        <More summary="Advanced: weight precision and GPU check">
            <Weights />
            <SelfTest />
        </More>
    }
}

const FORMS: [(&str, WeightsAs, &str); 4] = [
    ("auto", WeightsAs::Auto, "Automatic: 4-bit above a billion weights, otherwise as in the file"),
    ("exact", WeightsAs::Exact, "As in the file"),
    ("q8", WeightsAs::Q8, "8-bit: half the size of 16-bit, almost the same results"),
    ("q4", WeightsAs::Q4, "4-bit: a quarter of the size of 16-bit, slightly less accurate"),
];

#[component]
fn Weights() -> impl IntoView {
    let app = App::here();
    let now = move || {
        let form = FORMS.iter().find(|form| form.1 == app.weights.get());
        form.map_or("auto", |form| form.0)
    };
    let choose = move |event| {
        let chosen = value_of(&event);
        if let Some(form) = FORMS.iter().find(|form| form.0 == chosen) {
            app.weights.set(form.1);
        }
    };
    view! {
        <Field
            id="weights"
            label="Weight precision"
            hint="Weights are the numbers a model consists of. Files with 16 or 32 bits per weight can be quantized to fewer; for safetensors, the quantized file is stored in place of the original. Files that already use fewer bits stay as they are. Applies the next time a model is loaded."
        >
            <select
                id="weights"
                data-test="weights"
                aria-describedby="weights-hint"
                prop:value=now
                on:change=choose
            >
                {FORMS
                    .map(|(key, form, words)| {
                        view! {
                            <option value=key selected=move || app.weights.get_untracked() == form>
                                {words}
                            </option>
                        }
                    })
                    .collect_view()}
            </select>
        </Field>
    }
}

#[derive(Clone, PartialEq)]
enum Tested {
    Not,
    Running,
    Rows(Vec<SelfTestRow>),
}

#[component]
fn SelfTest() -> impl IntoView {
    let app = App::here();
    let tested = RwSignal::new(Tested::Not);
    let start = move |_| {
        if actions::refused_while_training(app, "This GPU can be checked") {
            return;
        }
        tested.set(Tested::Running);
        actions::ask(app, ToEngine::SelfTest, &[], move |message, _| match message {
            FromEngine::SelfTested { rows } => tested.set(Tested::Rows(rows)),
            FromEngine::Failed(_) | FromEngine::Cancelled => tested.set(Tested::Not),
            _ => (),
        });
    };
    let row = |row: SelfTestRow| {
        view! {
            <tr>
                <th scope="row">{row.name}</th>
                <td class="number">{format!("{:.1e}", row.relative)}</td>
                <td class="number">{format!("{:.0e}", row.limit)}</td>
                <td class=if row.ok { "good" } else { "bad" }>{if row.ok { "correct" } else { "wrong" }}</td>
            </tr>
        }
    };
    let result = move || match tested.get() {
        Tested::Not => view! { <p class="hint" /> }.into_any(),
        Tested::Running => view! { <p class="hint">"Checking…"</p> }.into_any(),
        Tested::Rows(rows) => {
            let right = rows.iter().all(|row| row.ok);
            let words = if right {
                "All results are correct."
            } else {
                "Some results are wrong: do not rely on what this GPU computes. A newer driver or browser may help."
            };
            view! {
                <p>{words}</p>
                <div class="table">
                    <table data-test="self-test-rows">
                        <caption class="unseen">"Results of the GPU check"</caption>
                        <thead>
                            <tr>
                                <th scope="col">"Computation"</th>
                                <th scope="col" class="number">
                                    "Relative error"
                                </th>
                                <th scope="col" class="number">
                                    "Limit"
                                </th>
                                <th scope="col">"Result"</th>
                            </tr>
                        </thead>
                        <tbody>{rows.into_iter().map(row).collect_view()}</tbody>
                    </table>
                </div>
            }
            .into_any()
        }
    };
    view! {
        <h3>"Check this GPU"</h3>
        <p class="hint">
            "Some drivers return wrong results without an error. This check runs computations whose results are known."
        </p>
        <div class="actions">
            <button
                type="button"
                data-test="self-test"
                disabled=move || tested.get() == Tested::Running
                on:click=start
            >
                "Run the check"
            </button>
        </div>
        <div class="self-test" aria-live="polite">
            {result}
        </div>
    }
}
