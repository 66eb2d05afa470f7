//! The models to choose from, a card each.

use leptos::prelude::*;

use super::verdict::{Machine, need, verdict};
use crate::{
    page::{
        actions,
        format::bytes,
        state::{App, Gpu, ModelStage},
    },
    protocol::{KeptModel, RemoteModel},
};

/// Where a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This page's own server.
    Here,
    /// This browser's storage, and nowhere else that the page knows.
    Kept,
}

/// A model to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    pub key: String,
    pub name: String,
    /// Bytes of its files, 0 while unknown.
    pub bytes: u64,
    pub origin: Origin,
    /// How to fetch it; none where it can only be opened from storage.
    pub remote: Option<RemoteModel>,
    /// Bytes of it that are in this browser.
    pub there: u64,
    pub whole: bool,
}

impl Card {
    fn remote(model: &RemoteModel, origin: Origin, stored: &[KeptModel]) -> Self {
        let kept = stored.iter().find(|kept| kept.key == model.key);
        Self {
            key: model.key.clone(),
            name: model.name.clone(),
            bytes: model.files.iter().filter_map(|file| file.bytes).sum(),
            origin,
            remote: Some(model.clone()),
            there: kept.map_or(0, |kept| kept.bytes),
            whole: kept.is_some_and(|kept| kept.whole),
        }
    }

    fn kept(model: &KeptModel) -> Self {
        Self {
            key: model.key.clone(),
            name: model.name.clone(),
            bytes: model.total.max(model.bytes),
            origin: Origin::Kept,
            remote: model.remote.clone(),
            there: model.bytes,
            whole: model.whole,
        }
    }

    /// Where its bytes are.
    fn place(&self) -> String {
        match (self.origin, self.whole, self.there) {
            (_, true, _) => "Kept in this browser: no download".to_owned(),
            (_, false, there) if there > 0 => {
                format!("{} of it are here already", bytes(there))
            }
            (Origin::Here, ..) => "From this page's own server".to_owned(),
            (Origin::Kept, ..) => "Begun in this browser".to_owned(),
        }
    }
}

/// All models to choose from: those of this page's server, then those that only storage has.
pub fn cards(offered: &[RemoteModel], stored: &[KeptModel]) -> Vec<Card> {
    let mut all: Vec<Card> =
        offered.iter().map(|model| Card::remote(model, Origin::Here, stored)).collect();
    let only_kept = |model: &&KeptModel| !all.iter().any(|card| card.key == model.key);
    let kept: Vec<Card> = stored.iter().filter(only_kept).map(Card::kept).collect();
    all.extend(kept);
    all
}

/// How to fetch a model of this key, where anyone knows.
pub fn remote_of(app: App, key: &str) -> Option<RemoteModel> {
    let offered = app.offered.with(|all| all.iter().find(|model| model.key == key).cloned());
    offered.or_else(|| {
        app.stored.with(|all| all.iter().find(|model| model.key == key)?.remote.clone())
    })
}

/// Main memory in GiB, where the browser tells.
fn memory() -> Option<f64> {
    let navigator = window().navigator();
    js_sys::Reflect::get(navigator.as_ref(), &"deviceMemory".into()).ok()?.as_f64()
}

/// What is said of a model for this machine, and how it is coloured.
fn judged(app: App, size: u64) -> (&'static str, &'static str) {
    app.gpu.with(|gpu| match gpu {
        Gpu::Opening => ("waiting", "Looking at this machine …"),
        Gpu::None(_) => ("bad", "Needs a graphics processor that this browser can use"),
        Gpu::On(_) if size == 0 => ("waiting", "Its size is not known yet"),
        Gpu::On(gpu) => {
            let verdict = verdict(need(size), Machine::of(gpu, memory()));
            (verdict.state(), verdict.words())
        }
    })
}

/// A model to choose; the first one's button stands out.
#[component]
pub fn ModelCard(card: Card, first: bool) -> impl IntoView {
    let app = App::here();
    let heading = format!("model-{}", card.key);
    let size = card.bytes;
    let gemma = card.name.to_lowercase().contains("gemma");
    let moving = move || {
        app.stage.with(|stage| {
            matches!(stage, ModelStage::Loading { .. })
                || matches!(stage, ModelStage::Fetching(fetching) if !fetching.paused)
        })
    };
    let no_gpu = move || app.gpu.with(|gpu| matches!(gpu, Gpu::None(_)));
    let (key, remote, whole) = (card.key.clone(), card.remote.clone(), card.whole);
    let load = move |_| match &remote {
        Some(remote) if !whole => actions::fetch_model(app, remote.clone()),
        _ => actions::open_model(app, key.clone()),
    };
    let word = if card.there > 0 && !whole { "Go on loading" } else { "Load" };
    view! {
        <li class="card model-card" data-test=format!("model-card-{}", card.key)>
            <div class="model-about">
                <h3 id=heading.clone()>{card.name.clone()}</h3>
                <p class="model-facts number">
                    {(size > 0)
                        .then(|| {
                            format!(
                                "{} to load · about {} of memory to train it",
                                bytes(size),
                                bytes(need(size)),
                            )
                        })}
                </p>
                <p class="verdict">
                    <span class="dot" aria-hidden="true" data-state=move || judged(app, size).0 />
                    {move || judged(app, size).1}
                </p>
                <p class="hint">
                    {card.place()} "."
                    {gemma
                        .then(|| {
                            view! {
                                " By loading it you accept "
                                <a href="https://ai.google.dev/gemma/terms" target="_blank" rel="noreferrer">
                                    "Google's terms for Gemma"
                                </a> "."
                            }
                        })}
                </p>
            </div>
            <button
                type="button"
                class:primary=first
                data-test=format!("load-{}", card.key)
                aria-label=format!("{word}: {}", card.name)
                disabled=move || moving() || no_gpu()
                on:click=load
            >
                {word}
            </button>
        </li>
    }
}
