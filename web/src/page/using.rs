//! The screen "Use it": sentences tried, tables sorted, the classifier taken along, the base model asked.

mod preview;
mod save;
mod table;
mod trying;
mod writing;

use leptos::prelude::*;
use web_sys::File;

use super::{
    actions,
    state::{App, Screen},
    widgets::FileDrop,
};

/// The screen.
#[component]
pub fn UsingScreen() -> impl IntoView {
    let app = App::here();
    let model = Memo::new(move |_| app.model().is_some());
    let classifier = Memo::new(move |_| app.classifier.with(Option::is_some));
    view! {
        <h1>"Use it"</h1>
        <p class="lead">"Type a sentence, sort a whole table, or take your classifier home."</p>
        {move || {
            if !model.get() {
                view! { <NoModel /> }.into_any()
            } else if classifier.get() {
                view! {
                    <About />
                    <trying::Trying />
                    <table::Tables />
                    <save::Downloads />
                    <OpenAnother />
                    <writing::Writer />
                }
                    .into_any()
            } else {
                view! {
                    <p>"There is no classifier yet: train one, or open one that was saved before."</p>
                    <div class="actions">
                        <button type="button" class="primary" on:click=move |_| app.screen.set(Screen::Data)>
                            "Train one"
                        </button>
                    </div>
                    <Bundle />
                    <writing::Writer />
                }
                    .into_any()
            }
        }}
    }
}

#[component]
fn NoModel() -> impl IntoView {
    let app = App::here();
    view! {
        <p>"A classifier is a small addition to a model, so the model comes first."</p>
        <div class="actions">
            <button type="button" class="primary" on:click=move |_| app.screen.set(Screen::Model)>
                "Load a model"
            </button>
        </div>
    }
}

/// Where a saved classifier is opened.
#[component]
fn Bundle() -> impl IntoView {
    let app = App::here();
    let learning = Memo::new(move |_| app.is_training());
    let open = move |files: Vec<File>| {
        if let Some(file) = files.into_iter().next() {
            actions::open_bundle(app, file);
        }
    };
    view! {
        <fieldset disabled=learning>
            <legend class="unseen">"A saved classifier"</legend>
            <FileDrop
                id="bundle-drop"
                label="Drop a saved classifier here, or pick one"
                hint="A file that ends in .hearth, saved on this screen or by the command line."
                accept=".hearth"
                on_files=open
            />
        </fieldset>
    }
}

#[component]
fn OpenAnother() -> impl IntoView {
    view! {
        <section aria-labelledby="another-name">
            <h2 id="another-name">"Another classifier"</h2>
            <Bundle />
        </section>
    }
}

/// What is in use.
#[component]
fn About() -> impl IntoView {
    let app = App::here();
    let line = move || {
        app.classifier.with(|classifier| {
            let classifier = classifier.as_ref()?;
            let positive = classifier.positive.and_then(|place| classifier.classes.get(place));
            let rule = positive.map_or_else(
                || "The likeliest class wins.".to_owned(),
                |name| {
                    format!(
                        "Predicts “{name}” at or above a probability of {:.3}{}.",
                        classifier.threshold,
                        classifier
                            .threshold_from
                            .map_or_else(String::new, |from| format!(", {}", from.words()))
                    )
                },
            );
            let text = classifier
                .reading
                .as_ref()
                .map(|reading| format!(" Its texts came from {}.", reading.words()));
            Some((
                classifier.name.clone(),
                format!(
                    "Sorts into {}. {rule} Built on {}.{}",
                    classifier.classes.join(", "),
                    classifier.base,
                    text.unwrap_or_default()
                ),
                classifier.note.clone(),
            ))
        })
    };
    view! {
        <section class="card" data-test="classifier" aria-label="The classifier in use">
            {move || {
                line()
                    .map(|(name, about, note)| {
                        view! {
                            <h2 class="card-title">{name}</h2>
                            <p>{about}</p>
                            {note.map(|note| view! { <p class="warn" data-test="classifier-note">{note}</p> })}
                        }
                    })
            }}
        </section>
    }
}
