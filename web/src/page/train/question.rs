//! The question, a word for each class, and the prompt as the model reads it.

use hearth_classifier::prompt::{ClassWord, PromptSpec};
use leptos::prelude::*;

use super::Setup;
use crate::{
    page::{
        format::of,
        state::App,
        widgets::{Field, Problem, value_of},
    },
    protocol::FilledPrompt,
};

/// More classes than this have their words folded away.
const SHOWN: usize = 12;

/// What is asked, and how it is answered.
#[component]
pub fn Question(setup: Setup) -> impl IntoView {
    let app = App::here();
    view! {
        <section aria-labelledby="question-title">
            <h2 id="question-title">"Question and answer words"</h2>
            <p>
                "The model reads the question before each text. It matters more than any setting below: ask as you would ask a careful person who has never heard of your task."
            </p>
            <Field id="question" label="Question">
                <textarea
                    id="question"
                    data-test="question"
                    rows="2"
                    prop:value=move || app.spec.with(|spec| spec.question.clone())
                    on:input=move |event| {
                        let question = value_of(&event);
                        app.spec.update(|spec| spec.question = question);
                    }
                ></textarea>
            </Field>
            <Words />
            <Problem what=setup.prompt_error test="prompt-problem" />
            <Filled setup=setup />
        </section>
    }
}

fn word_of(spec: &PromptSpec, class: &str) -> String {
    let word = spec.words.iter().find(|word| word.class == class);
    word.map_or_else(|| class.to_owned(), |word| word.word.clone())
}

/// A class without a word of its own stands for itself.
fn set_word(spec: &mut PromptSpec, class: &str, word: String) {
    spec.words.retain(|old| old.class != class);
    if word != class {
        spec.words.push(ClassWord { class: class.to_owned(), word });
    }
}

#[component]
fn Words() -> impl IntoView {
    let app = App::here();
    // the classes, and which is the one to find
    let classes = Memo::new(move |_| {
        app.report.with(|report| {
            report.as_ref().map(|r| (r.classes.clone(), r.positive)).unwrap_or_default()
        })
    });
    let word = move |(place, class): (usize, String)| {
        let id = format!("word-{place}");
        let (shown, typed) = (class.clone(), class.clone());
        let positive = classes.with_untracked(|classes| classes.1 == Some(place));
        view! {
            <div class="field">
                <label for=id.clone()>
                    {class.clone()} {positive.then(|| view! { <span class="role">"positive class"</span> })}
                </label>
                <input
                    id=id
                    data-test=format!("word-{class}")
                    autocomplete="off"
                    prop:value=move || app.spec.with(|spec| word_of(spec, &shown))
                    on:input=move |event| {
                        app.spec.update(|spec| set_word(spec, &typed, value_of(&event)));
                    }
                />
            </div>
        }
    };
    view! {
        <fieldset>
            <legend>"Answer words"</legend>
            <p class="hint words-hint">
                "The word for each class: Yes and No, or the name of a department. Training is faster with words that the model knows well than with codes like 0 and 1."
            </p>
            {move || {
                let mut all: Vec<_> = classes.get().0.into_iter().enumerate().collect();
                let more = all.split_off(all.len().min(SHOWN));
                view! {
                    <div class="fields">{all.into_iter().map(word).collect_view()}</div>
                    {(!more.is_empty())
                        .then(|| {
                            let summary = of(more.len(), "more class", "more classes");
                            view! {
                                <details class="more">
                                    <summary>{summary}</summary>
                                    <div class="fields more-body">
                                        {more.into_iter().map(word).collect_view()}
                                    </div>
                                </details>
                            }
                        })}
                }
            }}
            <YesOrNo classes=classes />
        </fieldset>
    }
}

/// Two classes are best asked for by yes or no.
#[component]
fn YesOrNo(classes: Memo<(Vec<String>, Option<usize>)>) -> impl IntoView {
    let app = App::here();
    let ask = move |_| {
        classes.with_untracked(|(classes, positive)| {
            let Some(positive) = *positive else { return };
            app.spec.update(|spec| {
                for (place, class) in classes.iter().enumerate() {
                    let word = if place == positive { "Yes" } else { "No" };
                    set_word(spec, class, word.to_owned());
                }
                if spec.question == PromptSpec::default().question {
                    spec.question = format!("Is the following text {}", classes[positive]);
                }
            });
        });
    };
    let asked = move || {
        let is = |place: usize, word: &str| {
            classes.with(|(all, _)| {
                all.get(place).is_some_and(|class| app.spec.with(|s| word_of(s, class) == word))
            })
        };
        is(0, "No") && is(1, "Yes")
    };
    let two = move || classes.with(|(classes, positive)| classes.len() == 2 && positive.is_some());
    view! {
        {move || {
            two()
                .then(|| {
                    view! {
                        <button type="button" data-test="yes-or-no" disabled=asked on:click=ask>
                            "Use Yes and No"
                        </button>
                    }
                })
        }}
    }
}

/// A row's prompt, with the answer that it is to get.
#[component]
fn Filled(setup: Setup) -> impl IntoView {
    let app = App::here();
    let rows = Memo::new(move |_| {
        app.report.with(|report| {
            report.as_ref().map_or(0, |r| r.all.iter().map(|count| count.rows).sum::<usize>())
        })
    });
    let go = move |back: bool| {
        let rows = rows.get_untracked().max(1);
        setup.row.update(|row| *row = (*row % rows + if back { rows - 1 } else { 1 }) % rows);
    };
    let place = move || {
        setup.prompt.with(|prompt| {
            let words = prompt.as_ref().map(|p| format!("Row {}: {}", p.row, p.label));
            words.unwrap_or_else(|| "A row of your table".to_owned())
        })
    };
    view! {
        <div class="filled">
            <div class="filled-head">
                <h3>"Prompt preview"</h3>
                <span class="quiet number" data-test="prompt-row">{place}</span>
                <span class="filled-steps">
                    <button type="button" data-test="prompt-previous" on:click=move |_| go(true)>
                        "Previous row"
                    </button>
                    <button type="button" data-test="prompt-next" on:click=move |_| go(false)>
                        "Next row"
                    </button>
                </span>
            </div>
            <div
                class="prompt"
                role="region"
                tabindex="0"
                aria-label="Prompt preview"
                data-test="prompt"
                class:old=move || setup.prompt_error.with(Option::is_some)
            >
                {move || setup.prompt.with(|prompt| prompt.as_ref().map(|p| text(app, p)))}
            </div>
            <p class="hint filled-facts" data-test="prompt-facts" aria-live="polite">
                {move || setup.prompt.with(|prompt| prompt.as_ref().map(|p| facts(app, p)))}
            </p>
        </div>
    }
}

fn answer(app: App, prompt: &FilledPrompt) -> Option<String> {
    let place = app.report.with(|report| {
        report.as_ref().and_then(|r| r.classes.iter().position(|class| *class == prompt.label))
    })?;
    prompt.answers.get(place).cloned()
}

fn text(app: App, prompt: &FilledPrompt) -> impl IntoView + use<> {
    view! {
        <pre>
            {prompt.text.clone()} <mark class="answer" data-test="prompt-answer">
                {answer(app, prompt)}
            </mark>
        </pre>
    }
}

/// Length, whether the text was cut, and codes where the words would not do.
fn facts(app: App, prompt: &FilledPrompt) -> String {
    let limit = app.spec.with(|spec| spec.max_tokens);
    let mut all = vec![format!(
        "{} of at most {limit}; the marked answer is what the model is trained to give.",
        of(prompt.tokens, "token", "tokens"),
    )];
    if prompt.cut {
        all.push(
            "The text is too long and is truncated; question and answer are kept in full."
                .to_owned(),
        );
    }
    let words = app.report.with(|report| {
        let classes = report.as_ref().map(|r| r.classes.clone()).unwrap_or_default();
        app.spec.with(|spec| classes.iter().map(|c| word_of(spec, c)).collect::<Vec<_>>())
    });
    if words.len() == prompt.answers.len() && words != prompt.answers {
        all.push(
            "Your answer words are more than one token each for this model, so it answers with letters; \
             the prompt says which letter stands for which class."
                .to_owned(),
        );
    }
    all.join(" ")
}
