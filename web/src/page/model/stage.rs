//! What is going on with the model: an example of what it is for, its way here, or that it is ready.

use leptos::{html, prelude::*};

use super::card::remote_of;
use crate::{
    page::{
        actions,
        format::{bytes, count, duration},
        state::{App, Fetching, ModelStage, Screen},
        widgets::{Progress, Stat},
    },
    protocol::ModelSummary,
};

/// Texts and the classes that a trained model would put them in; made up.
const EXAMPLE: [(&str, &str, &str); 3] = [
    ("“The second kettle arrived cracked as well.”", "complaint", "97 %"),
    ("“My mother loves the roses. Thank you!”", "praise", "95 %"),
    ("“Nobody answers the phone, and I need a new lid.”", "complaint", "88 %"),
];

/// Which of its faces the panel shows; it is drawn anew only when that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Face {
    Example,
    Fetching,
    Loading,
    Ready,
}

/// The panel. It takes the focus when something begins or ends in it: the button may be far below.
#[component]
pub fn StagePanel() -> impl IntoView {
    let app = App::here();
    let panel = NodeRef::<html::Section>::new();
    let face = Memo::new(move |_| {
        app.stage.with(|stage| match stage {
            ModelStage::None => Face::Example,
            ModelStage::Fetching(_) => Face::Fetching,
            ModelStage::Loading { .. } => Face::Loading,
            ModelStage::Ready(_) => Face::Ready,
        })
    });
    Effect::new(move |before: Option<Face>| {
        let now = face.get();
        if before.is_some_and(|before| before != now)
            && let Some(panel) = panel.get_untracked()
        {
            // a panel that is gone by now needs no focus
            let _ = panel.focus();
        }
        now
    });
    view! {
        <section class="card stage" data-test="stage" tabindex="-1" aria-labelledby="stage-title" node_ref=panel>
            {move || match face.get() {
                Face::Example => view! { <Example /> }.into_any(),
                Face::Fetching => view! { <Fetch /> }.into_any(),
                Face::Loading => view! { <Load /> }.into_any(),
                Face::Ready => {
                    let model = app.stage.with_untracked(|stage| match stage {
                        ModelStage::Ready(model) => Some(model.clone()),
                        _ => None,
                    });
                    model.map(|model| view! { <Ready model=model /> }).into_any()
                }
            }}
        </section>
    }
}

#[component]
fn Example() -> impl IntoView {
    let row = |(text, class, sure): (&'static str, &'static str, &'static str)| {
        view! {
            <li>
                <q>{text.trim_matches(['“', '”'])}</q>
                <span class="example-class">
                    <strong>{class}</strong>
                    <span class="quiet number">{sure}</span>
                </span>
            </li>
        }
    };
    view! {
        <h2 id="stage-title">"What it looks like when it is done"</h2>
        <ul class="example">{EXAMPLE.map(row).collect_view()}</ul>
        <p class="hint">
            "An example. You bring the texts and the classes; a table of a hundred rows is enough to begin."
        </p>
    }
}

/// The fetching; nothing where another face has just taken its place.
fn fetching(app: App) -> Fetching {
    app.stage.with(|stage| match stage {
        ModelStage::Fetching(fetching) => fetching.clone(),
        _ => Fetching::default(),
    })
}

/// `47 MB of 253 MB · 12 MB a second · 17 s left`.
fn fetching_words(now: &Fetching) -> String {
    let mut words = match now.total {
        0 => bytes(now.done),
        total => format!("{} of {}", bytes(now.done), bytes(total)),
    };
    if now.paused {
        return words + " · paused";
    }
    if now.waiting {
        return words + " · the connection broke, another try comes soon";
    }
    if now.bytes_per_second >= 1.0 {
        words += &format!(" · {} a second", bytes(now.bytes_per_second as u64));
    }
    if let Some(seconds) = now.seconds_left.filter(|seconds| seconds.is_finite()) {
        words += &format!(" · {} left", duration(seconds));
    }
    words
}

#[component]
fn Fetch() -> impl IntoView {
    let app = App::here();
    let now = move || fetching(app);
    let paused = Memo::new(move |_| now().paused);
    let key = Memo::new(move |_| now().key);
    let bits = Memo::new(move |_| now().bits);
    // copies of picked files cannot go on in the middle: they have nowhere to come from
    let mending = Memo::new(move |_| now().mending);
    let steady = Memo::new(move |_| now().copying || mending.get() || bits.get().is_some());
    let remote = Memo::new(move |_| (!steady.get()).then(|| remote_of(app, &key.get())).flatten());
    let share = move || {
        let now = now();
        (now.total > 0).then(|| now.done as f64 / now.total as f64)
    };
    let button = move || match (remote.get(), paused.get()) {
        (None, _) => None,
        (Some(model), true) => Some(
            view! {
                <button
                    type="button"
                    class="primary"
                    data-test="fetch-resume"
                    on:click=move |_| actions::fetch_model(app, model.clone())
                >
                    "Go on"
                </button>
            }
            .into_any(),
        ),
        (Some(model), false) => Some(
            view! {
                <button
                    type="button"
                    data-test="fetch-pause"
                    on:click=move |_| actions::pause_fetching(app, model.key.clone())
                >
                    "Pause"
                </button>
            }
            .into_any(),
        ),
    };
    view! {
        <h2 id="stage-title">
            {move || {
                let name = now().name;
                match bits.get() {
                    Some(_) => format!("Making {name} smaller"),
                    None if mending.get() => format!("Mending {name}"),
                    None if remote.with(Option::is_some) => format!("Fetching {name}"),
                    None => format!("Copying {name}"),
                }
            }}
        </h2>
        <Progress
            label=Signal::derive(move || match (bits.get(), paused.get()) {
                (Some(bits), _) => format!("To {bits} bits a weight"),
                (None, true) => "Paused".to_owned(),
                (None, false) => "On its way".to_owned(),
            })
            share=Signal::derive(share)
            words=Signal::derive(move || fetching_words(&now()))
        />
        <p class="hint">
            {move || match bits.get() {
                Some(_) => "Done once: what is made is kept in the place of the large files, and the next start is quick.",
                None => "What has arrived stays in this browser, also if the connection breaks or you close the tab.",
            }}
        </p>
        <div class="actions">
            {button}
            <button
                type="button"
                data-test="fetch-cancel"
                on:click=move |_| actions::cancel_fetching(app, key.get_untracked())
            >
                "Give up"
            </button>
        </div>
    }
}

#[component]
fn Load() -> impl IntoView {
    let app = App::here();
    let now = move || {
        app.stage.with(|stage| match stage {
            ModelStage::Loading { request, name, done, total } => {
                (*request, name.clone(), *done, *total)
            }
            _ => (0, String::new(), 0, 0),
        })
    };
    let share = move || (now().3 > 0).then(|| now().2 as f64 / now().3 as f64);
    view! {
        <h2 id="stage-title">{move || format!("Loading {}", now().1)}</h2>
        <Progress
            label="Onto the graphics processor"
            share=Signal::derive(share)
            words=Signal::derive(move || format!("{} of {}", bytes(now().2), bytes(now().3)))
        />
        <p class="hint">"Every piece is checked on the way; a damaged one is fetched again."</p>
        <div class="actions">
            <button
                type="button"
                data-test="load-cancel"
                on:click=move |_| actions::cancel(app, now().0)
            >
                "Give up"
            </button>
        </div>
    }
}

/// `Gemma 3`, of what the file calls its family.
fn family(name: &str) -> &'static str {
    match name {
        "gemma2" => "Gemma 2",
        "gemma3" => "Gemma 3",
        _ => "Gemma",
    }
}

#[component]
fn Ready(model: ModelSummary) -> impl IntoView {
    let app = App::here();
    let kind = if model.instruct { "tuned to chat" } else { "base model" };
    view! {
        <div data-test="model-ready">
            <h2 id="stage-title">{format!("{} is ready", model.name)}</h2>
            <dl class="stats">
                <Stat name="Family" value=family(&model.family) note=kind />
                <Stat
                    name="Size"
                    value=format!("{} layers", model.layers)
                    note=format!("{} numbers wide", count(model.hidden as u64))
                />
                <Stat
                    name="Memory it takes"
                    value=bytes(model.gpu_bytes)
                    note=format!(
                        "and {} in the tab; loaded in {}",
                        bytes(model.tab_bytes),
                        duration(model.seconds),
                    )
                    test="model-memory"
                />
                <Stat
                    name="Vocabulary"
                    value=count(model.vocabulary as u64)
                    note="tokens: words and pieces of words"
                />
            </dl>
            <p>
                "From here on nothing has to be fetched any more. The panel “Nothing leaves this tab” counts requests, so that you can see it."
            </p>
            <div class="actions">
                <button
                    type="button"
                    class="primary"
                    data-test="next-data"
                    on:click=move |_| app.screen.set(Screen::Data)
                >
                    "Next: your data"
                </button>
            </div>
        </div>
    }
}
