//! The screen "Model", which is also the first that anyone sees: what this is, what it computes on, models.

mod card;
mod more;
mod stage;
mod storage;
mod verdict;

use leptos::prelude::*;
use web_sys::File;

use self::{
    card::{ModelCard, cards},
    more::Rarely,
    stage::StagePanel,
    storage::Storage,
};
use super::{
    actions,
    state::{App, Gpu},
    widgets::FileDrop,
};

/// The screen.
#[component]
pub fn ModelScreen() -> impl IntoView {
    view! {
        <h1>"Fine-tune Gemma to classify your texts"</h1>
        <p class="lead">
            "Hearth trains a small language model on your own labeled examples, such as complaint or praise, urgent or not. The result is a classifier for new texts. Everything runs in this tab: the model is downloaded to you, and your texts never leave this computer."
        </p>
        <GpuLine />
        <StagePanel />
        <Choice />
        <OwnFiles />
        <Storage />
        <Rarely />
    }
}

/// What this machine computes on.
#[component]
fn GpuLine() -> impl IntoView {
    let app = App::here();
    let state = move || {
        app.gpu.with(|gpu| match gpu {
            Gpu::Opening => "waiting",
            Gpu::None(_) => "bad",
            Gpu::On(gpu) if gpu.software => "warn",
            Gpu::On(_) => "good",
        })
    };
    let words = move || {
        app.gpu.with(|gpu| match gpu {
            Gpu::Opening => "Looking for a GPU…".to_owned(),
            Gpu::None(why) => why.clone(),
            Gpu::On(gpu) if gpu.software => {
                // Firefox does not tell the name
                let colon = if gpu.name.is_empty() { "" } else { ": " };
                format!(
                    "Software renderer (no GPU found){colon}{}. Fine for trying things out, but slow.",
                    gpu.name
                )
            }
            Gpu::On(gpu) if gpu.name.is_empty() => "Uses this computer's GPU.".to_owned(),
            Gpu::On(gpu) => format!("Uses this computer's GPU: {}.", gpu.name),
        })
    };
    view! {
        <p class="gpu-line" role="status" data-test="gpu-line" data-state=state>
            <span class="dot" aria-hidden="true" data-state=state />
            <span>{words}</span>
        </p>
    }
}

/// The models.
#[component]
fn Choice() -> impl IntoView {
    let app = App::here();
    let all = Memo::new(move |_| app.offered.with(|o| app.stored.with(|s| cards(o, s))));
    let list = move || {
        let card = |(place, card)| view! { <ModelCard card=card first=place == 0 /> };
        let cards = all.get().into_iter().enumerate().map(card).collect_view();
        view! { <ul class="cards">{cards}</ul> }
    };
    view! {
        <section aria-labelledby="choice-title">
            <h2 id="choice-title">"Choose a model"</h2>
            <p class="hint section-hint" data-test="choice-hint">
                {move || match app.arriving() {
                    Some(name) => format!("{name} is loaded first: wait for it, or cancel it above to choose another."),
                    None => "Larger models understand more but train more slowly. Start with the first one.".to_owned(),
                }}
            </p>
            {list}
        </section>
    }
}

/// A file from the user's disk.
#[component]
fn OwnFiles() -> impl IntoView {
    let app = App::here();
    let keep = RwSignal::new(true);
    let open = move |files: Vec<File>| actions::open_files(app, files, keep.get_untracked());
    view! {
        <section aria-labelledby="own-title">
            <h2 id="own-title">"Or open a model file"</h2>
            <FileDrop
                id="model-drop"
                label="Drop a model here, or choose a file"
                hint="A .gguf file, or a Gemma model's .safetensors files together with its config.json and tokenizer.json."
                accept=".gguf,.safetensors,.json"
                multiple=true
                on_files=Callback::new(open)
            />
            <label class="check">
                <input
                    type="checkbox"
                    data-test="keep-copy"
                    prop:checked=keep
                    on:change:target=move |event| keep.set(event.target().checked())
                />
                "Store a copy in this browser for next time"
            </label>
        </section>
    }
}
