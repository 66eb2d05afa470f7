//! A sentence's probabilities, as it is typed.

use leptos::prelude::*;

use crate::{
    page::{actions, format::percent, state::App, widgets::Field},
    protocol::Classified,
};

/// Examples taken from the test rows.
const EXAMPLES: usize = 3;
/// Longest example in characters: a button is no page.
const LONGEST: usize = 90;

#[component]
pub fn Trying() -> impl IntoView {
    let app = App::here();
    let text = RwSignal::new(String::new());
    let result = RwSignal::new(None::<Classified>);
    let asked_for = RwSignal::new(false);
    let timer = StoredValue::new(None);
    let classify = move || {
        let now = text.get_untracked();
        if now.trim().is_empty() || app.classifier.with_untracked(Option::is_none) {
            return result.set(None);
        }
        asked_for.set(true);
        let asked = now.clone();
        actions::classify(app, now, move |answer| {
            // the text may have gone on meanwhile; its own answer follows
            if text.get_untracked() == asked {
                asked_for.set(false);
                result.set(Some(answer));
            }
        });
    };
    let typed = move |event| {
        text.set(event_target_value(&event));
        actions::later(timer, classify);
    };
    // another classifier, or another threshold, says something else
    Effect::new(move |_| {
        app.classifier.track();
        classify();
    });
    let example = move |example: String| {
        let short = if example.chars().count() > LONGEST {
            let cut: String = example.chars().take(LONGEST).collect();
            format!("{} …", cut.trim_end())
        } else {
            example.clone()
        };
        let take = move |_| {
            text.set(example.clone());
            classify();
        };
        view! {
            <li>
                <button type="button" class="try-example" data-test="example" on:click=take>
                    {short}
                </button>
            </li>
        }
    };
    view! {
        <section aria-labelledby="try-name">
            <h2 id="try-name">"Classify a text"</h2>
            <Field id="try-text" label="Your text" hint="The prediction follows as you type.">
                <textarea
                    id="try-text"
                    data-test="try-text"
                    aria-describedby="try-text-hint"
                    prop:value=text
                    disabled=move || app.is_training()
                    on:input=typed
                />
            </Field>
            <Answer result=result asked_for=asked_for />
            {move || {
                let texts = examples(app);
                (!texts.is_empty())
                    .then(|| {
                        view! {
                            <p class="hint" id="examples-name">
                                "Or try one of the test rows:"
                            </p>
                            <ul class="examples" aria-labelledby="examples-name">
                                {texts.into_iter().map(example).collect_view()}
                            </ul>
                        }
                    })
            }}
        </section>
    }
}

/// A few test rows of different classes.
fn examples(app: App) -> Vec<String> {
    app.shown.with(|shown| {
        let Some(shown) = shown else { return Vec::new() };
        let mut found: Vec<(usize, String)> = Vec::new();
        for row in &shown.test.rows {
            if found.len() < EXAMPLES && found.iter().filter(|(t, _)| *t == row.truth).count() < 2 {
                found.push((row.truth, row.text.clone()));
            }
        }
        found.into_iter().map(|(_, text)| text).collect()
    })
}

#[component]
fn Answer(result: RwSignal<Option<Classified>>, asked_for: RwSignal<bool>) -> impl IntoView {
    let app = App::here();
    let classes = Memo::new(move |_| {
        app.classifier.with(|c| c.as_ref().map(|c| c.classes.clone()).unwrap_or_default())
    });
    let bar = move |(place, class): (usize, String)| {
        let share = move || result.with(|r| r.as_ref()?.probabilities.get(place).copied());
        let said = move || result.with(|r| r.as_ref().is_some_and(|r| r.predicted == place));
        let test = format!("probability-{class}");
        view! {
            <div class="probability" class:said=said data-test=test>
                <dt>{class}</dt>
                <dd>
                    <span class="track">
                        <span class="fill" style:width=move || format!("{}%", share().unwrap_or(0.0) * 100.0) />
                    </span>
                    <span class="number">{move || share().map_or_else(|| "–".to_owned(), percent)}</span>
                </dd>
            </div>
        }
    };
    let words = move || {
        if asked_for.get()
            && let Some(waits) = app.waits()
        {
            return waits;
        }
        result.with(|result| {
            let Some(result) = result else { return "No text yet.".to_owned() };
            let class = result.classes.get(result.predicted).cloned().unwrap_or_default();
            let cut = if result.cut {
                " The text is longer than the prompt allows and was truncated."
            } else {
                ""
            };
            format!("{class}, in {:.0} ms.{cut}", result.milliseconds)
        })
    };
    view! {
        <p class="said-line" role="status" data-test="try-result">
            {words}
        </p>
        <dl class="probabilities">
            {move || classes.get().into_iter().enumerate().map(bar).collect_view()}
        </dl>
    }
}
