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
    ("“The second kettle arrived cracked as well.”", "complaint", "97%"),
    ("“My mother loves the roses. Thank you!”", "praise", "95%"),
    ("“Nobody answers the phone, and I need a new lid.”", "complaint", "88%"),
];

/// Which of its faces the panel shows; it is drawn anew only when that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
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
    let content = Memo::new(move |_| {
        app.stage.with(|stage| match stage {
            ModelStage::None => Content::Example,
            ModelStage::Fetching(_) => Content::Fetching,
            ModelStage::Loading { .. } => Content::Loading,
            ModelStage::Ready(_) => Content::Ready,
        })
    });
    Effect::new(move |before: Option<Content>| {
        let now = content.get();
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
            {move || match content.get() {
                Content::Example => view! { <Example /> }.into_any(),
                Content::Fetching => view! { <Fetch /> }.into_any(),
                Content::Loading => view! { <Load /> }.into_any(),
                Content::Ready => {
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
        <h2 id="stage-title">"What a trained classifier does"</h2>
        <ul class="example">{EXAMPLE.map(row).collect_view()}</ul>
        <p class="hint">
            "An example. You bring the texts and the classes; a table with a hundred rows is enough to start."
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

/// `47 MB of 253 MB · 12 MB/s · 17 s left`.
fn fetching_words(now: &Fetching) -> String {
    let mut words = match now.total {
        0 => bytes(now.done),
        total => format!("{} of {}", bytes(now.done), bytes(total)),
    };
    if now.paused {
        return words + " · paused";
    }
    if now.waiting {
        return words + " · connection lost, retrying soon";
    }
    if now.bytes_per_second >= 1.0 {
        words += &format!(" · {}/s", bytes(now.bytes_per_second as u64));
    }
    if let Some(seconds) = now.seconds_left.filter(|seconds| seconds.is_finite()) {
        words += &format!(" · {} left", duration(seconds));
    }
    words
}

/// What is being done to get the model.
fn doing(now: &Fetching) -> &'static str {
    if now.bits.is_some() {
        "Quantizing"
    } else if now.repairing {
        "Repairing"
    } else if now.copying {
        "Copying"
    } else {
        "Downloading"
    }
}

fn title(now: &Fetching) -> String {
    format!("{} {}", doing(now), now.name)
}

/// Of the progress bar.
fn label(now: &Fetching) -> String {
    match now.bits {
        Some(bits) => format!("To {bits} bits per weight"),
        None if now.paused => "Paused".to_owned(),
        None => doing(now).to_owned(),
    }
}

/// What becomes of the bytes that are here; `stores` says whether the browser stores files for the page.
fn fetching_hint(now: &Fetching, stores: bool) -> &'static str {
    if now.bits.is_some() {
        "Done once: the quantized file replaces the original in this browser, and the next start is faster."
    } else if now.repairing {
        "Only the damaged piece is downloaded again."
    } else if !stores {
        "This browser stores no files for this page: closing the tab loses what has arrived."
    } else if now.copying {
        "The copy stays in this browser for next time."
    } else {
        "What has arrived stays in this browser, even if the connection is lost or you close the tab."
    }
}

/// Whether damage is found while the weights are copied: only stored files have the hashes of their pieces.
fn loading_hint(checked: bool) -> &'static str {
    if checked {
        "Each piece is verified on the way; a damaged one is downloaded again."
    } else {
        "The model's weights are copied into GPU memory."
    }
}

#[component]
fn Fetch() -> impl IntoView {
    let app = App::here();
    let now = move || fetching(app);
    let paused = Memo::new(move |_| now().paused);
    let key = Memo::new(move |_| now().key);
    let bits = Memo::new(move |_| now().bits);
    // copies of picked files cannot go on in the middle: they have nowhere to come from
    let repairing = Memo::new(move |_| now().repairing);
    let steady = Memo::new(move |_| now().copying || repairing.get() || bits.get().is_some());
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
                    "Resume"
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
    let stores = move || app.space.get().is_some_and(|space| space.available);
    view! {
        <h2 id="stage-title">{move || title(&now())}</h2>
        <Progress
            label=Signal::derive(move || label(&now()))
            share=Signal::derive(share)
            words=Signal::derive(move || fetching_words(&now()))
        />
        <p class="hint">{move || fetching_hint(&now(), stores())}</p>
        <div class="actions">
            {button}
            <button
                type="button"
                data-test="fetch-cancel"
                on:click=move |_| actions::cancel_fetching(app, key.get_untracked())
            >
                "Cancel"
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
    let checked = app.recovery.with_value(|kept| {
        let files =
            kept.model.as_ref().map(|(_, files, _, _)| files.as_slice()).unwrap_or_default();
        files.iter().any(|file| file.pieces.is_some())
    });
    view! {
        <h2 id="stage-title">{move || format!("Loading {}", now().1)}</h2>
        <Progress
            label="Copying the weights to the GPU"
            share=Signal::derive(share)
            words=Signal::derive(move || format!("{} of {}", bytes(now().2), bytes(now().3)))
        />
        <p class="hint" role="status">
            {move || {
                app.waits().filter(|_| now().2 == 0).unwrap_or_else(|| loading_hint(checked).to_owned())
            }}
        </p>
        <div class="actions">
            <button
                type="button"
                data-test="load-cancel"
                on:click=move |_| actions::cancel(app, now().0)
            >
                "Cancel"
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
    let kind = if model.instruct { "instruction-tuned" } else { "pretrained" };
    view! {
        <div data-test="model-ready">
            <h2 id="stage-title">{format!("{} is ready", model.name)}</h2>
            <dl class="stats">
                <Stat name="Family" value=family(&model.family) note=kind />
                <Stat
                    name="Size"
                    value=format!("{} layers", model.layers)
                    note=format!("hidden size {}", count(model.hidden as u64))
                />
                <Stat
                    name="GPU memory"
                    value=bytes(model.gpu_bytes)
                    note=format!(
                        "plus {} in the tab; loaded in {}",
                        bytes(model.tab_bytes),
                        duration(model.seconds),
                    )
                    test="model-memory"
                />
                <Stat
                    name="Vocabulary"
                    value=count(model.vocabulary as u64)
                    note="tokens: words and parts of words"
                />
            </dl>
            <p>
                "Nothing more has to be downloaded. The panel “Nothing leaves this computer” counts the page's network requests, so you can check."
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

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn now() -> Fetching {
        Fetching {
            name: "Gemma".to_owned(),
            done: 1_000_000,
            total: 4_000_000,
            ..Fetching::default()
        }
    }

    #[wasm_bindgen_test]
    fn every_state_of_a_download_has_its_own_words() {
        let states = [
            (now(), "Downloading Gemma", "Downloading"),
            (Fetching { paused: true, ..now() }, "Downloading Gemma", "Paused"),
            (Fetching { copying: true, ..now() }, "Copying Gemma", "Copying"),
            (Fetching { repairing: true, ..now() }, "Repairing Gemma", "Repairing"),
            (Fetching { bits: Some(4), ..now() }, "Quantizing Gemma", "To 4 bits per weight"),
        ];
        for (state, heading, bar) in &states {
            assert_eq!((title(state).as_str(), label(state).as_str()), (*heading, *bar));
        }
    }

    #[wasm_bindgen_test]
    fn what_is_said_to_stay_is_stored() {
        assert!(fetching_hint(&now(), true).starts_with("What has arrived stays"));
        for state in
            [now(), Fetching { paused: true, ..now() }, Fetching { copying: true, ..now() }]
        {
            assert!(!fetching_hint(&state, false).contains("stays"), "{state:?}");
        }
        assert!(!loading_hint(false).contains("verified"));
    }

    #[wasm_bindgen_test]
    fn a_lost_connection_has_no_speed() {
        let speed = Fetching { bytes_per_second: 2e6, seconds_left: Some(3.0), ..now() };
        assert_eq!(fetching_words(&speed), "1.0 MB of 4.0 MB · 2.0 MB/s · 3 s left");
        let lost = Fetching { waiting: true, ..speed.clone() };
        assert_eq!(fetching_words(&lost), "1.0 MB of 4.0 MB · connection lost, retrying soon");
        let paused = Fetching { paused: true, ..speed };
        assert_eq!(fetching_words(&paused), "1.0 MB of 4.0 MB · paused");
    }
}
