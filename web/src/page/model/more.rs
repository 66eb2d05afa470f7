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
        <More summary="More: weights, and a test of this machine">
            <Weights />
            <SelfTest />
        </More>
    }
}

const FORMS: [(&str, WeightsAs, &str); 4] = [
    (
        "auto",
        WeightsAs::Auto,
        "4 bits where a model has over a billion weights, else as in the file",
    ),
    ("exact", WeightsAs::Exact, "As in the file"),
    ("q8", WeightsAs::Q8, "8 bits: half of 16, hardly any difference"),
    ("q4", WeightsAs::Q4, "4 bits: a quarter of 16, a little less exact"),
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
            label="How weights are held"
            hint="Weights are the numbers a model consists of. Files with 16 or 32 bits for each can be made smaller; of safetensors the smaller file is kept in the place of the large one. Files in fewer bits stay as they are. Counts from the next load on."
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
                <td class=if row.ok { "good" } else { "bad" }>{if row.ok { "right" } else { "wrong" }}</td>
            </tr>
        }
    };
    let result = move || match tested.get() {
        Tested::Not => view! { <p class="hint" /> }.into_any(),
        Tested::Running => view! { <p class="hint">"Computing …"</p> }.into_any(),
        Tested::Rows(rows) => {
            let right = rows.iter().all(|row| row.ok);
            let words = if right {
                "Everything came out right."
            } else {
                "Something came out wrong: do not trust results of this machine. A newer driver or browser may help."
            };
            view! {
                <p>{words}</p>
                <div class="table">
                    <table data-test="self-test-rows">
                        <caption class="unseen">"Sums of the self-test"</caption>
                        <thead>
                            <tr>
                                <th scope="col">"What"</th>
                                <th scope="col" class="number">
                                    "Difference"
                                </th>
                                <th scope="col" class="number">
                                    "Allowed"
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
        <h3>"Does this machine compute rightly?"</h3>
        <p class="hint">
            "Some drivers get sums wrong without telling. This computes some whose results are known."
        </p>
        <div class="actions">
            <button
                type="button"
                data-test="self-test"
                disabled=move || tested.get() == Tested::Running
                on:click=start
            >
                "Test it"
            </button>
        </div>
        <div class="self-test" aria-live="polite">
            {result}
        </div>
    }
}
