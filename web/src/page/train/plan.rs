//! What training will take, and its start.

use leptos::prelude::*;

use super::{Setup, rows::Rows};
use crate::{
    page::{
        actions,
        format::{bytes, count, duration},
        state::App,
        widgets::{Field, Problem, Stat, value_of},
    },
    protocol::PlanReport,
};

/// Parts of the memory as people know them.
fn part_name(name: &str) -> &str {
    match name {
        "weights" => "model weights",
        "activations" => "activations of a layer",
        "layer inputs" => "stored layer inputs",
        "input rows" => "token embeddings",
        other => other,
    }
}

/// Memory, steps, tokens, time.
#[component]
pub fn Plan() -> impl IntoView {
    let app = App::here();
    let figure = move |of: fn(&PlanReport) -> String| {
        Signal::derive(move || {
            app.plan.with(|plan| plan.as_ref().map_or_else(|| "–".to_owned(), of))
        })
    };
    let time = figure(|plan| format!("about {}", duration(plan.time.total() * 60.0)));
    let time_note = Signal::derive(move || {
        let (known, failed) =
            (app.plan.with(Option::is_some), app.plan_error.with(Option::is_some));
        match (known, failed) {
            (true, _) => "estimated from this GPU's speed".to_owned(),
            (_, true) => String::new(),
            _ => "estimating…".to_owned(),
        }
    });
    let allowed = Signal::derive(move || format!("of {} allowed", bytes(app.memory.get())));
    let none = Signal::derive(String::new);
    view! {
        <section aria-labelledby="plan-title">
            <h2 id="plan-title">"Time and memory"</h2>
            <div data-test="plan" class="plan">
                <dl class="stats">
                    <Stat name="Time".to_owned() value=time note=time_note test="plan-time" />
                    <Stat
                        name="GPU memory".to_owned()
                        value=figure(|plan| bytes(plan.memory.total()))
                        note=allowed
                        test="plan-memory"
                    />
                    <Stat name="Steps".to_owned() value=figure(|plan| count(plan.steps as u64)) note=none test="plan-steps" />
                    <Stat name="Tokens".to_owned() value=figure(|plan| count(plan.tokens)) note=none test="plan-tokens" />
                </dl>
                <Problem what=app.plan_error test="plan-problem" />
                <Rows />
                <Memory />
            </div>
        </section>
    }
}

/// The memory by part.
#[component]
fn Memory() -> impl IntoView {
    let app = App::here();
    let parts = Memo::new(move |_| {
        app.plan.with(|plan| plan.as_ref().map(|p| p.memory.parts.clone()).unwrap_or_default())
    });
    let row = |all: u64| {
        move |(name, size): (String, u64)| {
            let width = format!("{:.1}%", size as f64 / all.max(1) as f64 * 100.0);
            view! {
                <tr>
                    <th scope="row">{part_name(&name).to_owned()}</th>
                    <td class="bar-cell" aria-hidden="true">
                        <div class="bar" style:width=width></div>
                    </td>
                    <td class="number">{bytes(size)}</td>
                </tr>
            }
        }
    };
    view! {
        <details class="more">
            <summary>"GPU memory by part"</summary>
            <div class="table more-table">
                <table class="bars">
                    <caption class="unseen">"GPU memory by part"</caption>
                    <tbody>
                        {move || {
                            let parts = parts.get();
                            let most = parts.iter().map(|part| part.1).max().unwrap_or(0);
                            parts.into_iter().filter(|part| part.1 > 0).map(row(most)).collect_view()
                        }}
                    </tbody>
                </table>
            </div>
        </details>
    }
}

/// The name of the run, and the button.
#[component]
pub fn Start(setup: Setup) -> impl IntoView {
    let app = App::here();
    let usual = Memo::new(move |_| {
        let file = app.data.with(|data| data.as_ref().map(|d| d.name.clone()).unwrap_or_default());
        let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem).to_owned();
        let rows = app.report.with(|report| {
            report.as_ref().map_or(0, |r| r.train.iter().map(|count| count.rows).sum::<usize>())
        });
        let epochs = app.recipe.with(|recipe| recipe.epochs);
        format!("{stem}, {rows} rows × {epochs} epochs")
    });
    let name = RwSignal::new(String::new());
    let hindered = Memo::new(move |_| {
        if setup.prompt_error.with(Option::is_some) {
            "Fix the question or the answer words first."
        } else if setup.wrong.with(|wrong| !wrong.is_empty()) {
            "Fix the marked settings first."
        } else if app.plan_error.with(Option::is_some) {
            "Training cannot start: see the problem above."
        } else {
            ""
        }
    });
    let start = move |_| {
        let typed = name.with_untracked(|name| name.trim().to_owned());
        let name = if typed.is_empty() { usual.get_untracked() } else { typed };
        actions::train(app, name);
    };
    view! {
        <section class="start" aria-label="Start">
            <Field id="run-name" label="Run name" hint="To find this run again among others.">
                <input
                    id="run-name"
                    data-test="run-name"
                    autocomplete="off"
                    aria-describedby="run-name-hint"
                    placeholder=usual
                    prop:value=name
                    on:input=move |event| name.set(value_of(&event))
                />
            </Field>
            <div class="actions">
                <button
                    type="button"
                    class="primary"
                    data-test="start"
                    disabled=move || !hindered.get().is_empty()
                    on:click=start
                >
                    "Start training"
                </button>
                <button
                    type="button"
                    data-test="zero-shot-only"
                    disabled=move || setup.prompt_error.with(Option::is_some) || app.is_busy()
                    on:click=move |_| actions::zero_shot(app)
                >
                    "Evaluate untrained"
                </button>
                <span class="quiet" aria-live="polite">{hindered}</span>
            </div>
        </section>
    }
}
