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
        "One file with everything but the model: opens on this screen and on the command line, and answers the same. It holds none of the training texts, only a keyed hash of each: whoever has the file can tell whether a text that they know already was among them.",
    ),
    (
        Export::Report,
        "export-report",
        "Report",
        "The figures and plots as one page that opens offline. It shows the worst mistakes, with their texts.",
    ),
    (
        Export::Peft,
        "export-peft",
        "PEFT adapter",
        "Two files for Python: Hugging Face PEFT reads them and gives the same scores.",
    ),
    (
        Export::Gguf,
        "export-gguf",
        "GGUF adapter",
        "For llama.cpp and what builds on it, as a LoRA file.",
    ),
];

#[component]
pub fn Downloads() -> impl IntoView {
    let app = App::here();
    let blocked = Memo::new(move |_| app.is_training() || app.busy.with(Option::is_some));
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
            <h2 id="downloads-name">"Take it along"</h2>
            <ul class="downloads">{FILES.into_iter().map(item).collect_view()}</ul>
        </section>
    }
}
