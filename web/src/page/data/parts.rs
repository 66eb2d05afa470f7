//! Which rows learn, which choose and which measure.

use leptos::prelude::*;

use super::{Settings, change, change_later};
use crate::{
    page::{
        format::percent,
        state::App,
        widgets::{Field, Select, value_of},
    },
    protocol::{DataPreview, SplitChoice},
};

/// Rows of the public ETHOS file that the codelab split.
const ETHOS_ROWS: usize = 998;

fn key(split: &SplitChoice) -> &'static str {
    match split {
        SplitChoice::Auto => "auto",
        SplitChoice::Column => "column",
        SplitChoice::Share(_) => "share",
        SplitChoice::Codelab => "codelab",
    }
}

/// The split, and how many rows learn.
#[component]
pub fn Parts(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let kind = Memo::new(move |_| app.choices.with(|choices| key(&choices.split)));
    let mut options =
        vec![("auto", "automatic"), ("share", "random share"), ("column", "split column")];
    if data.with_value(|data| data.rows == ETHOS_ROWS) {
        options.push(("codelab", "as in Google's codelab"));
    }
    let options = options.into_iter().map(|(v, text)| (v.to_owned(), text.to_owned())).collect();
    let choose = move |value: String| {
        change(app, |choices| {
            choices.split = match value.as_str() {
                "column" => SplitChoice::Column,
                "share" => SplitChoice::Share(hearth_classifier::prepare::TEST_SHARE),
                "codelab" => SplitChoice::Codelab,
                _ => SplitChoice::Auto,
            };
        });
    };
    let hint =
        "Automatic: the table's split column if it has one, otherwise a random fifth of the rows.";
    let named = Memo::new(move |_| app.choices.with(|choices| choices.roles.split.is_some()));
    let said = move || {
        app.report.with(|report| {
            report.as_ref().map(|report| format!("Split: {}.", report.split)).unwrap_or_default()
        })
    };
    view! {
            <section aria-labelledby="parts-title">
                <h2 id="parts-title">"Training, validation and test rows"</h2>
                <p>
                    "Test rows are never trained on. They show how well the classifier does on texts that it has not seen."
                </p>
    <Settings>
                <div class="fields">
                    <Select
                        id="split-kind"
                        label="Test split"
                        hint=hint
                        options=options
                        chosen=Signal::derive(move || kind.get().to_owned())
                        on_choose=choose
                    />
                    {move || {
                        match kind.get() {
                            "share" => Some(view! { <Share /> }.into_any()),
                            "column" => Some(view! { <SplitColumn data=data /> }.into_any()),
                            // what was guessed is shown, to be corrected
                            "auto" if named.get() => Some(view! { <SplitColumn data=data /> }.into_any()),
                            _ => None,
                        }
                    }}
                    <Seed />
                    <Limit />
                </div>
    </Settings>
                <p class="hint split-said" data-test="split-said">{said}</p>
            </section>
        }
}

#[component]
fn SplitColumn(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let mut options = vec![("none".to_owned(), "no column".to_owned())];
    let columns = data.with_value(|data| data.columns.clone());
    options.extend(columns.into_iter().enumerate().map(|(c, name)| (c.to_string(), name)));
    let chosen = Signal::derive(move || {
        let split = app.choices.with(|choices| choices.roles.split);
        split.map_or_else(|| "none".to_owned(), |column| column.to_string())
    });
    view! {
        <Select
            id="split-column"
            label="Split column"
            hint="Its cells contain train, validation or test."
            options=options
            chosen=chosen
            on_choose=move |value: String| change(app, |choices| choices.roles.split = value.parse().ok())
        />
    }
}

#[component]
fn Share() -> impl IntoView {
    let app = App::here();
    let timer = StoredValue::new(None);
    let share = move || {
        app.choices.with(|choices| match choices.split {
            SplitChoice::Share(share) => share,
            _ => hearth_classifier::prepare::TEST_SHARE,
        })
    };
    let slid = move |value: String| {
        if let Ok(percent) = value.parse::<f64>() {
            change_later(app, timer, |c| c.split = SplitChoice::Share(percent / 100.0));
        }
    };
    view! {
        <Field id="split-share" label="Test share">
            <input
                id="split-share"
                data-test="split-share"
                type="range"
                min="5"
                max="50"
                step="1"
                prop:value=move || (share() * 100.0).round().to_string()
                aria-valuetext=move || percent(share())
                aria-describedby="split-share-said"
                on:input=move |event| slid(value_of(&event))
            />
            <p id="split-share-said" class="hint number">{move || percent(share())}</p>
        </Field>
    }
}

/// The seed of a split at random.
#[component]
fn Seed() -> impl IntoView {
    let app = App::here();
    let timer = StoredValue::new(None);
    let random = Memo::new(move |_| {
        app.choices.with(|choices| match choices.split {
            SplitChoice::Share(_) => true,
            SplitChoice::Auto => choices.roles.split.is_none(),
            SplitChoice::Column | SplitChoice::Codelab => false,
        })
    });
    let typed = move |value: String| {
        if let Ok(seed) = value.trim().parse() {
            change_later(app, timer, move |choices| choices.seed = seed);
        }
    };
    move || {
        random.get().then(|| {
            view! {
                <Field
                    id="split-seed"
                    label="Split seed"
                    hint="The same seed selects the same test rows, whatever the seed of the run."
                >
                    <input
                        id="split-seed"
                        data-test="split-seed"
                        type="number"
                        min="0"
                        step="1"
                        prop:value=move || app.choices.with(|choices| choices.seed.to_string())
                        aria-describedby="split-seed-hint"
                        on:input=move |event| typed(value_of(&event))
                    />
                </Field>
            }
        })
    }
}

#[component]
fn Limit() -> impl IntoView {
    let app = App::here();
    let timer = StoredValue::new(None);
    let typed = move |value: String| {
        let limit = value.trim().parse::<usize>().ok().filter(|rows| *rows > 0);
        if limit.is_some() || value.trim().is_empty() {
            change_later(app, timer, |choices| choices.limit = limit);
        }
    };
    view! {
        <Field
            id="limit"
            label="Training rows, at most"
            hint="Empty: all. A few hundred rows often suffice and take less time."
        >
            <input
                id="limit"
                data-test="limit"
                type="number"
                min="1"
                step="1"
                placeholder="all"
                prop:value=move || app.choices.with(|c| c.limit.map(|n| n.to_string()).unwrap_or_default())
                aria-describedby="limit-hint"
                on:input=move |event| typed(value_of(&event))
            />
        </Field>
    }
}
