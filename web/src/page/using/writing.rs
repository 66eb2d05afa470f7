//! The base model writes on, as it did before it learned anything.

use leptos::prelude::*;

use crate::{
    page::{
        actions,
        state::App,
        widgets::{Field, More},
    },
    protocol::Writing,
};

/// Tokens at most: the model forgets what is further back.
const MOST: usize = 512;

#[component]
pub fn Writer() -> impl IntoView {
    let app = App::here();
    let prompt = RwSignal::new("The hearth is".to_owned());
    let instruct = app.model().is_some_and(|model| model.instruct);
    let how = RwSignal::new(Writing { chat: instruct, ..Writing::default() });
    let written = RwSignal::new(None::<String>);
    let speed = RwSignal::new(None::<f64>);
    let request = RwSignal::new(None::<u64>);
    let blocked = Memo::new(move |_| app.is_training() || app.is_busy());
    let start = move |_| {
        speed.set(None);
        written.set(Some(String::new()));
        let piece = move |text: String| {
            written.update(|all| all.get_or_insert_default().push_str(&text));
        };
        let end = move |rate| {
            request.set(None);
            speed.set(rate);
        };
        let id = actions::generate(app, prompt.get_untracked(), how.get_untracked(), piece, end);
        request.set(Some(id));
    };
    let stop = move |_| {
        if let Some(id) = request.get_untracked() {
            actions::cancel(app, id);
        }
    };
    view! {
        <section aria-labelledby="write-name">
            <h2 id="write-name">"Generate text"</h2>
            <p>"The model without your training: it continues any text and does not know your classes."</p>
            <Field id="write-prompt" label="Text to continue">
                <textarea
                    id="write-prompt"
                    data-test="write-prompt"
                    prop:value=prompt
                    on:input=move |event| prompt.set(event_target_value(&event))
                />
            </Field>
            <More summary="Generation settings">
                <Settings how=how />
            </More>
            <div class="actions">
                <button
                    type="button"
                    data-test="write-start"
                    disabled=move || blocked.get() || prompt.with(|text| text.trim().is_empty())
                    on:click=start
                >
                    "Generate"
                </button>
                <button
                    type="button"
                    data-test="write-stop"
                    disabled=move || request.get().is_none()
                    on:click=stop
                >
                    "Stop"
                </button>
                <span class="quiet number" role="status">
                    {move || speed.get().map(|rate| format!("{rate:.1} tokens per second"))}
                </span>
            </div>
            {move || {
                written
                    .get()
                    .map(|text| {
                        view! {
                            <pre class="written" data-test="written" tabindex="0" aria-label="Generated text">
                                <span class="quiet">{prompt.get_untracked()}</span>
                                {text}
                            </pre>
                        }
                    })
            }}
        </section>
    }
}

#[component]
fn Settings(how: RwSignal<Writing>) -> impl IntoView {
    // what is no number in its range leaves the setting as it was
    let number = move |id: &'static str,
                       label: &'static str,
                       hint: &'static str,
                       range: [f64; 3],
                       value: fn(&Writing) -> f64,
                       set: fn(&mut Writing, f64)| {
        let [least, most, step] = range;
        view! {
            <Field id=id label=label hint=hint>
                <input
                    id=id
                    type="number"
                    data-test=id
                    min=least
                    max=most
                    step=step
                    aria-describedby=format!("{id}-hint")
                    prop:value=move || how.with(value).to_string()
                    on:change=move |event| {
                        if let Ok(typed) = event_target_value(&event).parse::<f64>() {
                            how.update(|how| set(how, typed.clamp(least, most)));
                        }
                        how.notify();
                    }
                />
            </Field>
        }
    };
    view! {
        <div class="fields">
            {number(
                "write-tokens",
                "Maximum length in tokens",
                "A token is about three quarters of a word.",
                [1.0, MOST as f64, 1.0],
                |how| how.max_tokens as f64,
                |how, value| how.max_tokens = value as usize,
            )}
            {number(
                "write-temperature",
                "Temperature",
                "0 always takes the most probable token; higher is more random.",
                [0.0, 2.0, 0.1],
                |how| (f64::from(how.temperature) * 100.0).round() / 100.0,
                |how, value| how.temperature = value as f32,
            )}
            {number(
                "write-top-k",
                "Top-k",
                "Samples from this many of the most probable tokens; 0 for all.",
                [0.0, 1000.0, 1.0],
                |how| how.top_k as f64,
                |how, value| how.top_k = value as usize,
            )}
            {number(
                "write-top-p",
                "Top-p",
                "Samples from the most probable tokens that add up to this probability; 1 for all.",
                [0.01, 1.0, 0.01],
                |how| (f64::from(how.top_p) * 100.0).round() / 100.0,
                |how, value| how.top_p = value as f32,
            )}
            {number(
                "write-seed",
                "Seed",
                "The same seed generates the same text.",
                [0.0, 4_294_967_295.0, 1.0],
                |how| how.seed as f64,
                |how, value| how.seed = value as u64,
            )}
        </div>
        <label class="check">
            <input
                type="checkbox"
                data-test="write-chat"
                prop:checked=move || how.with(|how| how.chat)
                on:change=move |event| how.update(|how| how.chat = event_target_checked(&event))
            />
            "Use the chat template (for instruction-tuned models)"
        </label>
    }
}
