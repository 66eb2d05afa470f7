//! What can be taken along.

use leptos::prelude::*;

use crate::page::{
    actions::{self, Export},
    state::App,
};

const FILES: [(Export, &str, &str, &str); 4] = [
    (
        Export::Bundle,
        "export-bundle",
        "Classifier",
        "One file with everything but the base model; it gives the same results on this screen and on the command line. It contains no training texts, only a keyed hash of each: anyone who has the file can check whether a text that they already know was among them.",
    ),
    (
        Export::Report,
        "export-report",
        "Report",
        "Figures and plots in one page that opens offline. It shows the worst mistakes, with their texts unless the run was reopened.",
    ),
    (
        Export::Peft,
        "export-peft",
        "PEFT adapter",
        "Two files for Hugging Face PEFT in Python, with the same scores.",
    ),
    (
        Export::Gguf,
        "export-gguf",
        "GGUF adapter",
        "A LoRA file for llama.cpp and programs built on it.",
    ),
];

#[component]
pub fn Downloads() -> impl IntoView {
    let app = App::here();
    let blocked = Memo::new(move |_| app.is_training() || app.is_busy());
    let measured =
        Memo::new(move |_| app.classifier.with(|c| c.as_ref().is_some_and(|c| c.has_report)));
    let item =
        move |(what, test, name, about): (Export, &'static str, &'static str, &'static str)| {
            let hint = format!("{test}-hint");
            let off = move || blocked.get() || (what == Export::Report && !measured.get());
            view! {
                <li class="download">
                    <button
                        type="button"
                        data-test=test
                        aria-describedby=hint.clone()
                        disabled=off
                        on:click=move |_| actions::export(app, what)
                    >
                        {name}
                    </button>
                    <p class="hint" id=hint>
                        {about}
                    </p>
                </li>
            }
        };
    view! {
        <section aria-labelledby="downloads-name">
            <h2 id="downloads-name">"Export"</h2>
            <ul class="downloads">{FILES.into_iter().map(item).collect_view()}</ul>
        </section>
    }
}
