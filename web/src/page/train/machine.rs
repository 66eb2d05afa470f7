//! What is no part of a recipe: the prompt's length and form, and the memory.

use leptos::prelude::*;

use super::{Setup, recipe::Wrong};
use crate::page::{
    format::sentence,
    state::App,
    widgets::{Field, value_of},
};

/// The fields.
#[component]
pub fn Machine(setup: Setup) -> impl IntoView {
    let app = App::here();
    let tell = move |name: &'static str, why: Option<&str>| {
        setup.wrong.update(|wrong| match why {
            Some(why) => {
                wrong.insert(name, sentence(why));
            }
            None => {
                wrong.remove(name);
            }
        });
    };
    let limit = move |typed: String| match typed.trim().parse::<usize>() {
        Ok(tokens) if (1..=8192).contains(&tokens) => {
            tell("max_tokens", None);
            app.spec.update(|spec| spec.max_tokens = tokens);
        }
        _ => tell("max_tokens", Some("enter a whole number from 1 to 8192")),
    };
    let memory = move |typed: String| match typed.trim().replace(',', ".").parse::<f64>() {
        Ok(gigabytes) if gigabytes > 0.0 && gigabytes <= 1000.0 => {
            tell("memory", None);
            app.memory.set((gigabytes * 1e9).round() as u64);
        }
        _ => tell("memory", Some("enter a number above 0 and up to 1000, such as 4")),
    };
    let gigabytes = move || ((app.memory.get() as f64 / 1e7).round() / 100.0).to_string();
    let chat = move || {
        if app.model().is_some_and(|model| model.instruct) {
            "This model is instruction-tuned: it may understand the question better in this form."
        } else {
            "For instruction-tuned models, whose names end in -it. The loaded model is not one of them."
        }
    };
    view! {
            <div class="fields">
                <div class="with-wrong">
    <Field
                    id="field-max_tokens"
                    label="Maximum prompt length"
                    hint="In tokens. Longer texts are truncated; the question and the answer are kept in full."
                >
                    <input
                        id="field-max_tokens"
                        data-test="field-max_tokens"
                        inputmode="numeric"
                        aria-describedby="field-max_tokens-hint max-tokens-wrong"
                        prop:value=move || app.spec.with(|spec| spec.max_tokens.to_string())
                        on:change=move |event| limit(value_of(&event))
                    />
                    </Field>
    <Wrong setup=setup name="max_tokens" id="max-tokens-wrong" />
    </div>
                <div class="with-wrong">
    <Field
                    id="field-memory"
                    label="GPU memory limit"
                    hint="In GB. With less memory, training recomputes more and takes longer."
                >
                    <input
                        id="field-memory"
                        data-test="field-memory"
                        inputmode="decimal"
                        aria-describedby="field-memory-hint memory-wrong"
                        prop:value=gigabytes
                        on:change=move |event| memory(value_of(&event))
                    />
                    </Field>
    <Wrong setup=setup name="memory" id="memory-wrong" />
    </div>
                <Field
                    id="field-separator"
                    label="Separator"
                    hint="Stands between question, text and answer. Use plain text that occurs in none of your rows."
                >
                    <input
                        id="field-separator"
                        data-test="field-separator"
                        aria-describedby="field-separator-hint"
                        prop:value=move || app.spec.with(|spec| spec.separator.clone())
                        on:change=move |event| {
                            let separator = value_of(&event);
                            app.spec.update(|spec| spec.separator = separator);
                        }
                    />
                </Field>
                <div class="field">
                    <label class="check">
                        <input
                            id="field-chat"
                            type="checkbox"
                            data-test="field-chat"
                            aria-describedby="field-chat-hint"
                            prop:checked=move || app.spec.with(|spec| spec.chat)
                            on:change=move |event| {
                                let chat = event_target_checked(&event);
                                app.spec.update(|spec| spec.chat = chat);
                            }
                        />
                        "Chat template"
                    </label>
                    <p class="hint" id="field-chat-hint">{chat}</p>
                </div>
            </div>
        }
}
