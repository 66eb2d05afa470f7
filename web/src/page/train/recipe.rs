//! How the model learns: a preset, how long, from how many rows; and every setting for those who want it.

use hearth_classifier::recipe::{Projection, Recipe};
use leptos::prelude::*;
use serde_json::Value;

use super::{
    Setup,
    fields::{self, GROUPS, Kind, MATRICES, Setting},
    machine,
};
use crate::page::{
    actions,
    format::count,
    state::App,
    widgets::{Field, More, Select, value_of},
};

const EPOCHS: [usize; 4] = [1, 2, 4, 8];
const ROWS: [usize; 5] = [50, 100, 200, 400, 800];

/// Takes a sound recipe. The rows kept aside follow it.
fn take(app: App, recipe: Recipe) {
    let parts = |recipe: &Recipe| (recipe.validation_share, recipe.seed);
    let moved = app.recipe.with_untracked(parts) != parts(&recipe);
    app.recipe.set(recipe);
    if moved {
        actions::prepare(app);
    }
}

/// Takes a setting, or tells beside it why not.
fn set(app: App, setup: Setup, name: &'static str, value: Result<Value, String>) {
    let changed = value
        .and_then(|value| app.recipe.with_untracked(|recipe| fields::with(recipe, name, value)));
    match changed {
        Ok(recipe) => {
            setup.wrong.update(|wrong| {
                wrong.remove(name);
            });
            take(app, recipe);
        }
        Err(why) => setup.wrong.update(|wrong| {
            wrong.insert(name, why);
        }),
    }
}

/// The recipe, from simple to everything.
#[component]
pub fn HowItLearns(setup: Setup) -> impl IntoView {
    let app = App::here();
    let preset = Memo::new(move |_| app.recipe.with(fields::preset));
    let options = move || {
        let mut all = vec![
            ("default".to_owned(), "Hearth's default, measured on real data".to_owned()),
            ("codelab".to_owned(), "Google's codelab, for comparison".to_owned()),
        ];
        if preset.get() == "own" {
            all.push(("own".to_owned(), "custom".to_owned()));
        }
        all
    };
    view! {
        <section aria-labelledby="recipe-title">
            <h2 id="recipe-title">"Training settings"</h2>
            {move || {
                view! {
                    <Select
                        id="preset"
                        label="Preset"
                        options=options()
                        chosen=Signal::derive(move || preset.get().to_owned())
                        on_choose=move |name: String| {
                            if let Some(recipe) = Recipe::preset(&name) {
                                setup.wrong.set(Default::default());
                                take(app, recipe);
                            }
                        }
                    />
                }
            }}
            <div class="fields">
                <Epochs setup=setup />
                <Rows />
            </div>
            <label class="check">
                <input
                    type="checkbox"
                    data-test="zero-shot"
                    prop:checked=move || app.zero_shot.get()
                    on:change=move |event| app.zero_shot.set(event_target_checked(&event))
                />
                "Also evaluate the untrained model, for comparison"
            </label>
            <More summary="Advanced: the whole recipe">
                {GROUPS
                    .map(|(title, settings)| {
                        view! {
                            <h3>{title}</h3>
                            <div class="fields">
                                {settings
                                    .iter()
                                    .map(|setting| view! { <Control setting=*setting setup=setup /> })
                                    .collect_view()}
                            </div>
                        }
                    })}
                <h3>"Prompt and memory"</h3>
                <machine::Machine setup=setup />
            </More>
        </section>
    }
}

/// Buttons for usual values.
#[component]
fn Quick(
    /// What they are about.
    label: &'static str,
    /// Name in tests, value, text.
    all: Vec<(String, usize, String)>,
    #[prop(into)] chosen: Signal<usize>,
    #[prop(into)] on_choose: Callback<usize>,
) -> impl IntoView {
    let button = move |(test, value, text): (String, usize, String)| {
        view! {
            <button
                type="button"
                class="chip"
                data-test=test
                aria-pressed=move || (chosen.get() == value).to_string()
                on:click=move |_| on_choose.run(value)
            >
                {text}
            </button>
        }
    };
    view! {
        <div class="chips" role="group" aria-label=label>
            {all.into_iter().map(button).collect_view()}
        </div>
    }
}

#[component]
fn Epochs(setup: Setup) -> impl IntoView {
    let app = App::here();
    let epochs = Memo::new(move |_| app.recipe.with(|recipe| recipe.epochs));
    let choose = move |value: usize| set(app, setup, "epochs", Ok(Value::from(value)));
    let all = EPOCHS.map(|n| (format!("epochs-{n}"), n, n.to_string())).to_vec();
    view! {
            <div class="with-wrong">
    <Field
                id="epochs"
                label="Epochs"
                hint="Passes over the training rows. More epochs learn more; too many lead to overfitting."
            >
                <input
                    id="epochs"
                    data-test="epochs"
                    inputmode="numeric"
                    aria-describedby="epochs-hint epochs-wrong"
     aria-invalid=move || setup.wrong.with(|w| w.contains_key("epochs")).to_string()
                    prop:value=move || epochs.get().to_string()
                    on:change=move |event| {
                        set(app, setup, "epochs", fields::parse(Kind::Whole, &value_of(&event)));
                    }
                />
                <Quick label="Common numbers of epochs" all=all chosen=epochs on_choose=choose />
                </Field>
    <Wrong setup=setup name="epochs" id="epochs-wrong" />
    </div>
        }
}

/// How many rows train; all, or a number that is less.
#[component]
fn Rows() -> impl IntoView {
    let app = App::here();
    let all = Memo::new(move |_| {
        app.report.with(|report| {
            report.as_ref().map_or(0, |r| r.all.iter().map(|count| count.rows).sum::<usize>())
        })
    });
    let used = move || {
        app.report.with(|report| {
            let rows = |part: &[hearth_classifier::columns::ClassCount]| {
                part.iter().map(|count| count.rows).sum::<usize>()
            };
            report.as_ref().map_or_else(String::new, |report| {
                format!(
                    "{} training rows, {} validation rows, {} test rows.",
                    count(rows(&report.train) as u64),
                    count(rows(&report.validation) as u64),
                    count(rows(&report.test) as u64)
                )
            })
        })
    };
    let chosen = Signal::derive(move || app.choices.with(|choices| choices.limit.unwrap_or(0)));
    let choose = move |rows: usize| {
        app.choices.update(|choices| choices.limit = (rows > 0).then_some(rows));
        actions::prepare(app);
    };
    view! {
        <div class="field">
            <span class="field-name">"Training rows"</span>
            {move || {
                let mut buttons = vec![("rows-all".to_owned(), 0, "all".to_owned())];
                let fewer = ROWS.into_iter().filter(|rows| *rows < all.get());
                buttons.extend(fewer.map(|rows| (format!("rows-{rows}"), rows, rows.to_string())));
                view! { <Quick label="Training rows" all=buttons chosen=chosen on_choose=choose /> }
            }}
            <p class="hint number" data-test="rows-used">{used}</p>
        </div>
    }
}

/// Why a value does not do.
#[component]
pub fn Wrong(setup: Setup, name: &'static str, #[prop(into)] id: String) -> impl IntoView {
    view! {
        <p class="wrong" id=id role="status">
            {move || setup.wrong.with(|wrong| wrong.get(name).cloned())}
        </p>
    }
}

/// A setting with its sentence.
#[component]
fn Control(setting: Setting, setup: Setup) -> impl IntoView {
    let app = App::here();
    let Setting { name, title, kind } = setting;
    let (id, test) = (format!("field-{name}"), format!("field-{name}"));
    let (hint_id, wrong_id) = (format!("{id}-hint"), format!("{id}-wrong"));
    let hint = fields::sentence(name);
    let text = Memo::new(move |_| app.recipe.with(|recipe| fields::text(recipe, name)));
    let idle = Memo::new(move |_| app.recipe.with(|recipe| !fields::counts(recipe, name)));
    match kind {
        Kind::Choice(options) => {
            let options = options.iter().map(|(v, t)| ((*v).to_owned(), (*t).to_owned())).collect();
            view! {
                <Select
                    id=id
                    label=title
                    hint=hint
                    options=options
                    chosen=text
                    on_choose=move |value: String| set(app, setup, name, Ok(Value::from(value)))
                />
            }
            .into_any()
        }
        Kind::Switch => view! {
            <div class="field">
                <label class="check">
                    <input
                        id=id
                        type="checkbox"
                        data-test=test
                        aria-describedby=hint_id.clone()
                        disabled=idle
                        prop:checked=move || text.get() == "true"
                        on:change=move |event| {
                            set(app, setup, name, Ok(Value::from(event_target_checked(&event))));
                        }
                    />
                    {title}
                </label>
                <p class="hint" id=hint_id>{hint}</p>
            </div>
        }
        .into_any(),
        Kind::Matrices => view! { <Matrices setup=setup title=title hint=hint /> }.into_any(),
        Kind::Whole | Kind::Number => {
            let described = format!("{hint_id} {wrong_id}");
            let mode = if kind == Kind::Whole { "numeric" } else { "decimal" };
            view! {
                <div class="with-wrong">
<Field id=id.clone() label=title hint=hint>
                    <input
                        id=id
                        data-test=test
                        inputmode=mode
                        autocomplete="off"
                        disabled=idle
                        aria-describedby=described
                        aria-invalid=move || setup.wrong.with(|w| w.contains_key(name)).to_string()
                        prop:value=text
                        on:change=move |event| set(app, setup, name, fields::parse(kind, &value_of(&event)))
                    />
                    </Field>
<Wrong setup=setup name=name id=wrong_id />
</div>
            }
            .into_any()
        }
    }
}

/// Which of the model's matrices get an adapter.
#[component]
fn Matrices(setup: Setup, title: &'static str, hint: &'static str) -> impl IntoView {
    let app = App::here();
    let choose = move |target: Projection, on: bool| {
        let mut targets = app.recipe.with_untracked(|recipe| recipe.targets.clone());
        targets.retain(|other| *other != target);
        if on {
            targets.push(target);
        }
        // in the model's order, whatever the order of the clicks
        targets.sort_by_key(|target| Projection::ALL.iter().position(|other| other == target));
        set(app, setup, "targets", serde_json::to_value(targets).map_err(|e| e.to_string()));
    };
    let matrix = move |(target, name): (Projection, &'static str)| {
        let on = move || app.recipe.with(|recipe| recipe.targets.contains(&target));
        view! {
            <label class="check">
                <input
                    type="checkbox"
                    data-test=format!("target-{name}")
                    prop:checked=on
                    on:change=move |event| choose(target, event_target_checked(&event))
                />
                {name}
            </label>
        }
    };
    view! {
        <fieldset class="wide" data-test="field-targets" aria-describedby="field-targets-hint">
            <legend>{title}</legend>
            <div class="checks">{MATRICES.map(matrix)}</div>
            <p class="hint" id="field-targets-hint">{hint}</p>
            <Wrong setup=setup name="targets" id="field-targets-wrong" />
        </fieldset>
    }
}
