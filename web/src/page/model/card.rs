//! The models to choose from, a card each.

use leptos::prelude::*;

use super::verdict::{Machine, need, verdict};
use crate::{
    cards::ModelCard as HubCard,
    page::{
        actions,
        format::bytes,
        state::{App, Gpu},
    },
    protocol::{KeptModel, RemoteModel},
};

/// Where a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This page's own server.
    Here,
    /// The public hub.
    Hub,
    /// This browser's storage, and nowhere else that the page knows.
    Kept,
}

/// A model to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    pub key: String,
    pub name: String,
    /// What it is good for.
    pub blurb: Option<&'static str>,
    /// Bytes of its files, 0 while unknown.
    pub bytes: u64,
    /// Whether they are these bytes exactly.
    pub exact: bool,
    /// Device memory that training takes: at least, where its shape is known, or about.
    pub need: u64,
    pub planned: bool,
    pub origin: Origin,
    /// How to fetch it; none where it can only be opened from storage.
    pub remote: Option<RemoteModel>,
    /// Where people with an account get it, for the disk.
    pub gate: Option<String>,
    /// Its address was never tried.
    pub untried: bool,
    /// Bytes of it that are in this browser.
    pub there: u64,
    pub whole: bool,
}

impl Card {
    /// What this page's server offers; where the hub has the same, more is known of it.
    fn offered(model: &RemoteModel, hub: &[HubCard], stored: &[KeptModel]) -> Self {
        let bytes = model.files.iter().filter_map(|file| file.bytes).sum();
        let same = hub.iter().find(|card| card.key == model.key);
        let card = Self {
            key: model.key.clone(),
            name: model.name.clone(),
            blurb: same.map(|card| card.blurb),
            bytes,
            exact: true,
            need: same.and_then(planned).unwrap_or(need(bytes)),
            planned: same.and_then(planned).is_some(),
            origin: Origin::Here,
            remote: Some(model.clone()),
            gate: None,
            untried: false,
            there: 0,
            whole: false,
        };
        card.with(stored)
    }

    fn hub(model: &HubCard, stored: &[KeptModel]) -> Self {
        let remote = model.remote();
        let page = remote.files.first().and_then(|file| file.url.split_once("/resolve/"));
        let card = Self {
            key: remote.key.clone(),
            name: remote.name.clone(),
            blurb: Some(model.blurb),
            bytes: model.bytes,
            exact: model.verified,
            need: planned(model).unwrap_or(need(model.bytes)),
            planned: planned(model).is_some(),
            origin: Origin::Hub,
            gate: page.filter(|_| model.gated).map(|(page, _)| page.to_owned()),
            remote: Some(remote).filter(|_| !model.gated),
            untried: !model.verified,
            there: 0,
            whole: false,
        };
        card.with(stored)
    }

    fn kept(model: &KeptModel) -> Self {
        let bytes = model.total.max(model.bytes);
        Self {
            key: model.key.clone(),
            name: model.name.clone(),
            blurb: None,
            bytes,
            exact: true,
            need: need(bytes),
            planned: false,
            origin: Origin::Kept,
            remote: model.remote.clone(),
            gate: None,
            untried: false,
            there: model.bytes,
            whole: model.whole,
        }
    }

    /// With what storage has of it.
    fn with(mut self, stored: &[KeptModel]) -> Self {
        if let Some(kept) = stored.iter().find(|kept| kept.key == self.key) {
            (self.there, self.whole) = (kept.bytes, kept.whole);
            if kept.whole {
                // it may have been made smaller
                (self.bytes, self.exact) = (kept.bytes, true);
            }
        }
        self
    }

    /// Whether it can be loaded with a click.
    fn at_hand(&self) -> bool {
        self.whole || self.remote.is_some()
    }

    /// Where its bytes are.
    fn place(&self) -> String {
        match (self.origin, self.whole, self.there) {
            (_, true, _) => "Stored in this browser: no download needed.".to_owned(),
            (_, false, there) if there > 0 => {
                format!("{} already downloaded.", bytes(there))
            }
            (Origin::Here, ..) => "From this page's server.".to_owned(),
            (Origin::Hub, ..) if self.gate.is_some() => {
                "The host requires an account. Download the files there, then open them below; Hearth itself never asks for an account.".to_owned()
            }
            (Origin::Hub, ..) if self.untried => {
                "From huggingface.co (this address is untested).".to_owned()
            }
            (Origin::Hub, ..) => "From huggingface.co.".to_owned(),
            (Origin::Kept, ..) => "Not fully downloaded.".to_owned(),
        }
    }

    /// `253 MB · training needs at least 173 MB of GPU memory`.
    fn facts(&self) -> Option<String> {
        let about = if self.exact { "" } else { "about " };
        let (size, need) = (bytes(self.bytes), bytes(self.need));
        let least = if self.planned { "at least" } else { "about" };
        (self.bytes > 0)
            .then(|| format!("{about}{size} · training needs {least} {need} of GPU memory"))
    }
}

fn planned(model: &HubCard) -> Option<u64> {
    model.training().ok().map(|plan| plan.total())
}

/// All models to choose from: those of this page's server, then the hub's, then those that only storage has.
pub fn cards(offered: &[RemoteModel], stored: &[KeptModel]) -> Vec<Card> {
    let hub = crate::cards::cards();
    let mut all: Vec<Card> =
        offered.iter().map(|model| Card::offered(model, &hub, stored)).collect();
    let new = |all: &[Card], key: &str| !all.iter().any(|card| card.key == key);
    let others: Vec<Card> =
        hub.iter().filter(|card| new(&all, card.key)).map(|c| Card::hub(c, stored)).collect();
    all.extend(others);
    let kept: Vec<Card> = stored.iter().filter(|m| new(&all, &m.key)).map(Card::kept).collect();
    all.extend(kept);
    all
}

/// How to fetch a model of this key, where anyone knows.
pub fn remote_of(app: App, key: &str) -> Option<RemoteModel> {
    let offered = app.offered.with(|all| all.iter().find(|model| model.key == key).cloned());
    let hub = || {
        let cards = crate::cards::cards();
        cards.iter().find(|card| card.key == key && !card.gated).map(HubCard::remote)
    };
    offered.or_else(hub).or_else(|| {
        app.stored.with(|all| all.iter().find(|model| model.key == key)?.remote.clone())
    })
}

/// Main memory in GiB, where the browser tells.
fn memory() -> Option<f64> {
    let navigator = window().navigator();
    js_sys::Reflect::get(navigator.as_ref(), &"deviceMemory".into()).ok()?.as_f64()
}

/// What is said of a model for this machine, and how it is coloured.
fn judged(app: App, need: u64) -> (&'static str, &'static str) {
    app.gpu.with(|gpu| match gpu {
        Gpu::Opening => ("waiting", "Checking this device…"),
        Gpu::None(_) => ("bad", "Needs a GPU that this browser can use"),
        Gpu::On(gpu) => {
            let verdict = verdict(need, Machine::of(gpu, memory()));
            (verdict.state(), verdict.words())
        }
    })
}

/// A model to choose; the first one's button stands out.
#[component]
pub fn ModelCard(card: Card, first: bool) -> impl IntoView {
    let app = App::here();
    let heading = format!("model-{}", card.key);
    let need = card.need;
    let gemma = card.name.to_lowercase().contains("gemma");
    let no_gpu = move || app.gpu.with(|gpu| matches!(gpu, Gpu::None(_)));
    let (key, remote, whole) = (card.key.clone(), card.remote.clone(), card.whole);
    let load = move |_| match &remote {
        Some(remote) if !whole => actions::fetch_model(app, remote.clone()),
        _ => actions::open_model(app, key.clone()),
    };
    let word = if card.there > 0 && !whole { "Resume download" } else { "Load" };
    view! {
        <li class="card model-card" data-test=format!("model-card-{}", card.key)>
            <div class="model-about">
                <h3 id=heading.clone()>{card.name.clone()}</h3>
                {card.blurb.map(|blurb| view! { <p class="model-blurb">{blurb}</p> })}
                <p class="model-facts number">{card.facts()}</p>
                <p class="verdict">
                    <span class="dot" aria-hidden="true" data-state=move || judged(app, need).0 />
                    {move || judged(app, need).1}
                </p>
                <p class="hint">
                    {card.place()}
                    {gemma
                        .then(|| {
                            view! {
                                " By loading it, you accept "
                                <a href="https://ai.google.dev/gemma/terms" target="_blank" rel="noreferrer">
                                    "Google's Gemma terms"
                                </a> "."
                            }
                        })}
                </p>
            </div>
            {match card.gate.clone().filter(|_| !card.at_hand()) {
                Some(page) => view! {
                    <a class="button" href=page target="_blank" rel="noreferrer" aria-label=format!("Open download page: {}", card.name)>
                        "Open download page"
                    </a>
                }
                .into_any(),
                None => view! {
                    <button
                        type="button"
                        class:primary=first
                        data-test=format!("load-{}", card.key)
                        aria-label=format!("{word}: {}", card.name)
                        disabled=move || app.arriving().is_some() || no_gpu()
                        on:click=load
                    >
                        {word}
                    </button>
                }
                .into_any(),
            }}
        </li>
    }
}
