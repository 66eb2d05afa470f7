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
        <h1>"Teach Gemma to sort your texts"</h1>
        <p class="lead">
            "Hearth trains a small language model on examples of yours, complaint or praise, urgent or not, until it sorts new texts by itself. It all happens in this tab: the model comes to your texts, and your texts go nowhere."
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
            Gpu::Opening => "Looking for this machine's graphics processor …".to_owned(),
            Gpu::None(why) => why.clone(),
            Gpu::On(gpu) if gpu.software => format!(
                "No graphics processor answered; a CPU pretends to be one ({}): fine for trying out, but slow.",
                gpu.name
            ),
            Gpu::On(gpu) if gpu.name.is_empty() => {
                "Computes on this machine's graphics processor.".to_owned()
            }
            Gpu::On(gpu) => format!("Computes on this machine's graphics processor, {}.", gpu.name),
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
            <p class="hint section-hint">
                "Larger models understand more and take longer. The first one is the right one to begin with."
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
            <h2 id="own-title">"Or open one from your disk"</h2>
            <FileDrop
                id="model-drop"
                label="Drop a model here, or click to pick it"
                hint="A .gguf file; or the .safetensors files of a Gemma model together with its config.json and tokenizer.json."
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
                "Keep a copy in this browser, so that it is here next time"
            </label>
        </section>
    }
}
