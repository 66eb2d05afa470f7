//! Runs that were paused or interrupted, or that train in another tab.

use leptos::prelude::*;
use wasm_bindgen::JsValue;

use crate::{
    page::{
        actions,
        format::of,
        state::{App, Screen},
        widgets::Confirmed,
    },
    protocol::{RunRecord, RunState},
};

/// Those that can be gone on with; nothing where there are none.
#[component]
pub fn Unfinished() -> impl IntoView {
    let app = App::here();
    let runs = Memo::new(move |_| actions::unfinished(app));
    view! {
        {move || {
            let runs = runs.get();
            (!runs.is_empty())
                .then(|| {
                    view! {
                        <section class="unfinished" aria-labelledby="unfinished-title" data-test="unfinished">
                            <h2 id="unfinished-title">"Unfinished runs"</h2>
                            <ul class="cards">
                                {runs.into_iter().map(|run| view! { <Run run=run /> }).collect_view()}
                            </ul>
                        </section>
                    }
                })
        }}
    }
}

fn started(run: &RunRecord) -> String {
    let date = js_sys::Date::new(&JsValue::from_f64(run.started));
    String::from(date.to_locale_string("en-GB", &JsValue::UNDEFINED))
}

/// How far it came, where this tab saw it.
fn standing(app: App, run: &RunRecord) -> String {
    let state = match run.state {
        RunState::Paused => "Paused",
        RunState::Elsewhere => "Training in another tab",
        RunState::Running | RunState::Finished => "Interrupted",
    };
    let place = app.training.with_untracked(|now| {
        let seen = now.progress.as_ref().filter(|at| at.key == run.key);
        seen.map(|at| format!(" at step {} of {}", at.step, at.steps))
    });
    format!("{state}{}", place.unwrap_or_default())
}

#[component]
fn Run(run: RunRecord) -> impl IntoView {
    let app = App::here();
    let key = StoredValue::new(run.key.clone());
    let identity = run.model_identity.clone();
    let model = run.model.clone();
    let elsewhere = actions::elsewhere(&run);
    // a run is resumed only with the model that it began with
    let hindered = Memo::new(move |_| match app.model() {
        _ if elsewhere => String::new(),
        Some(loaded) if loaded.identity == identity => String::new(),
        Some(loaded) => {
            format!(
                "This run was started with {model}, but {} is loaded. Load {model} to resume it.",
                loaded.name
            )
        }
        None => format!("This run was started with {model}. Load that model to resume it."),
    });
    let other_model = move || hindered.with(|why| !why.is_empty());
    let blocked = move || elsewhere || other_model();
    // ending it needs no more than the model
    let not_resumed = Memo::new(move |_| {
        app.stored_runs.with(|runs| {
            runs.iter().find(|run| key.with_value(|key| *key == run.key))?.not_resumed.clone()
        })
    });
    let test = |what: &str| format!("{what}-{}", run.key);
    let (resume, finish, delete) = (test("resume"), test("finish"), test("delete"));
    let delete_now = Callback::new(move |()| actions::delete_run(app, key.get_value()));
    let keep = if run.recipe.chooses_epoch(run.rows[1]) {
        "End and keep the best epoch"
    } else {
        "End and keep the last epoch"
    };
    let about = format!(
        "{}. {}, {}, started {}.",
        standing(app, &run),
        run.data,
        of(run.rows[0], "training row", "training rows"),
        started(&run)
    );
    view! {
        <li class="card run">
            <h3>{run.name.clone()}</h3>
            <p class="quiet number">{about}</p>
            {(!run.kept)
                .then(|| {
                    view! { <p class="warn-text">"This browser stores no files for this page: closing this tab loses the run."</p> }
                })}
            {elsewhere
                .then(|| {
                    view! {
                        <p class="run-blocked" data-test="elsewhere">
                            "Another tab trains this run. It can be resumed or deleted here when that has ended: "
                            {actions::ELSEWHERE}
                        </p>
                    }
                })}
            {move || {
                other_model()
                    .then(|| {
                        view! {
                            <p class="run-blocked">
                                {hindered} " "
                                <button type="button" class="quiet-button" on:click=move |_| app.screen.set(Screen::Model)>
                                    "Go to Model"
                                </button>
                            </p>
                        }
                    })
            }}
            {move || {
                not_resumed
                    .get()
                    .map(|why| {
                        view! {
                            <p class="run-blocked" data-test="not-resumed">
                                "This run cannot be resumed: " {why} ". You can end it and keep its best state."
                            </p>
                        }
                    })
            }}
            <div class="actions">
                <button
                    type="button"
                    class="primary"
                    data-test=resume
                    disabled=move || blocked() || not_resumed.with(Option::is_some)
                    on:click=move |_| actions::resume(app, key.get_value())
                >
                    "Resume"
                </button>
                <button
                    type="button"
                    data-test=finish
                    disabled=blocked
                    on:click=move |_| actions::finish(app, key.get_value())
                >
                    {keep}
                </button>
                <Confirmed test=delete disabled=elsewhere on_confirm=delete_now />
            </div>
        </li>
    }
}
