//! Which column is what, and how cells become classes.

use hearth_classifier::{
    columns::{LabelRule, Piece, TextSource, parse_template},
    table::Table,
};
use leptos::prelude::*;

use super::{Settings, change, change_later};
use crate::{
    page::{
        actions::{expected_classes, numeric_rule, positive_missing},
        format::{of, sentence},
        state::App,
        widgets::{Field, Select, value_of},
    },
    protocol::{DataChoices, DataPreview},
};

/// A typed value in a column's select that stands for a template.
const SEVERAL: &str = "several";

/// Text, class, and which class to find.
#[component]
pub fn Columns(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let names = move || {
        let columns = data.with_value(|data| data.columns.clone());
        columns.into_iter().enumerate().map(|(place, name)| (place.to_string(), name))
    };
    let several = Memo::new(move |_| {
        app.choices.with(|choices| matches!(choices.roles.text, TextSource::Template(_)))
    });
    let text = Signal::derive(move || {
        app.choices.with(|choices| match &choices.roles.text {
            TextSource::Column(column) => column.to_string(),
            TextSource::Template(_) => SEVERAL.to_owned(),
        })
    });
    let label = Signal::derive(move || {
        app.choices.with(|c| c.roles.label.map(|column| column.to_string()).unwrap_or_default())
    });
    let mut texts: Vec<_> = names().collect();
    if texts.len() > 1 {
        texts.push((SEVERAL.to_owned(), "several columns (template)".to_owned()));
    }
    let mut labels = vec![(String::new(), "choose a column".to_owned())];
    labels.extend(names());
    view! {
            <section aria-labelledby="columns-title">
                <h2 id="columns-title">"Columns"</h2>
    <Settings>
                <div class="fields">
                    <Select
                        id="text-column"
                        label="Text column"
                        options=texts
                        chosen=text
                        on_choose=move |value: String| change(app, |choices| set_text(choices, data, &value))
                    />
                    <Select
                        id="label-column"
                        label="Label column"
                        options=labels
                        chosen=label
                        on_choose=move |value: String| {
                            let label = value.parse().ok();
                            let rule = data.with_value(|data| numeric_rule(data, label));
                            change(app, |choices| {
                                choices.roles.label = label;
                                // what was said of other labels
                                choices.labels = Default::default();
                                set_rule(choices, rule);
                            });
                        }
                    />
                </div>
                {move || several.get().then(|| view! { <Template data=data /> })}
                <Rule data=data />
                <Positive data=data />
    </Settings>
            </section>
        }
}

fn set_text(choices: &mut DataChoices, data: StoredValue<DataPreview>, value: &str) {
    choices.roles.text = match value.parse() {
        Ok(column) => TextSource::Column(column),
        Err(_) => data.with_value(|data| {
            let label = choices.roles.label;
            let others = (0..data.columns.len()).filter(|c| Some(*c) != label).take(2);
            let names: Vec<String> = others.map(|c| braces(&data.columns[c])).collect();
            template(data, &names.join(" ")).unwrap_or(TextSource::Column(0))
        }),
    };
}

fn braces(name: &str) -> String {
    format!("{{{name}}}")
}

fn template(data: &DataPreview, text: &str) -> Result<TextSource, String> {
    let columns = data.columns.clone();
    let dialect = data.dialect.clone();
    let table = Table { columns, rows: Vec::new(), dialect, warnings: Vec::new() };
    parse_template(text, &table).map_err(|error| error.to_string())
}

/// The template as the user writes it.
fn written(source: &TextSource, columns: &[String]) -> String {
    let TextSource::Template(pieces) = source else { return String::new() };
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => text.replace('{', "{{").replace('}', "}}"),
        Piece::Column(column) => columns.get(*column).map_or_else(String::new, |c| braces(c)),
    };
    pieces.iter().map(piece).collect()
}

/// One text out of several columns.
#[component]
fn Template(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let timer = StoredValue::new(None);
    let wrong = RwSignal::new(None::<String>);
    let first = data.with_value(|data| {
        app.choices.with_untracked(|choices| written(&choices.roles.text, &data.columns))
    });
    let typed = move |text: String| match data.with_value(|data| template(data, &text)) {
        Ok(source) => {
            wrong.set(None);
            change_later(app, timer, |choices| choices.roles.text = source);
        }
        Err(error) => wrong.set(Some(sentence(&error))),
    };
    view! {
        <Field
            id="text-template"
            label="Template"
            hint="Column names in braces; anything else is copied as it is. For example: {title}: {body}"
        >
            <input
                id="text-template"
                data-test="text-template"
                value=first
                aria-describedby="text-template-hint"
                aria-invalid=move || wrong.with(Option::is_some).to_string()
                on:input=move |event| typed(value_of(&event))
            />
        </Field>
        <p class="problem" hidden=move || wrong.with(Option::is_none)>{wrong}</p>
    }
}

fn set_rule(choices: &mut DataChoices, rule: LabelRule) {
    if let LabelRule::Threshold { above, .. } | LabelRule::Median { above, .. } = &rule {
        choices.positive = Some(above.clone());
    }
    choices.rule = rule;
}

fn rule_key(rule: &LabelRule) -> &'static str {
    match rule {
        LabelRule::AsIs => "as-is",
        LabelRule::Threshold { .. } => "threshold",
        LabelRule::Median { .. } => "median",
    }
}

/// Names of the two sides of a limit.
fn sides(rule: &LabelRule) -> (String, String) {
    match rule {
        LabelRule::AsIs => ("high".to_owned(), "low".to_owned()),
        LabelRule::Threshold { above, below, .. } | LabelRule::Median { above, below } => {
            (above.clone(), below.clone())
        }
    }
}

/// Numbers are classes themselves, or become two.
#[component]
fn Rule(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let numeric = Memo::new(move |_| {
        app.choices.with(|choices| {
            let label = choices.roles.label;
            let numbers = data.with_value(|data| label.and_then(|l| data.numeric.get(l).copied()));
            numbers == Some(true) || choices.rule != LabelRule::AsIs
        })
    });
    let kind = Memo::new(move |_| app.choices.with(|choices| rule_key(&choices.rule)));
    let choose = move |value: String| {
        change(app, |choices| {
            let (above, below) = sides(&choices.rule);
            let rule = match value.as_str() {
                "threshold" => LabelRule::Threshold { threshold: 0.5, above, below },
                "median" => LabelRule::Median { above, below },
                _ => LabelRule::AsIs,
            };
            set_rule(choices, rule);
        });
    };
    let options = [
        ("as-is", "each number is a class"),
        ("threshold", "two classes, split at a number"),
        ("median", "two classes, split at the median"),
    ];
    let options: Vec<_> = options.map(|(v, text)| (v.to_owned(), text.to_owned())).to_vec();
    view! {
        {move || {
            let options = options.clone();
            numeric
                .get()
                .then(|| {
                    view! {
                        <Select
                            id="rule"
                            label="Numeric labels"
                            options=options
                            chosen=Signal::derive(move || kind.get().to_owned())
                            on_choose=choose
                        />
                        {move || (kind.get() != "as-is").then(|| view! { <Sides threshold={kind.get() == "threshold"} /> })}
                    }
                })
        }}
    }
}

/// The limit, and what its sides are called.
#[component]
fn Sides(threshold: bool) -> impl IntoView {
    let app = App::here();
    let timer = StoredValue::new(None);
    let rule = app.choices.with_untracked(|choices| choices.rule.clone());
    let (above, below) = sides(&rule);
    let limit = if let LabelRule::Threshold { threshold, .. } = rule { threshold } else { 0.5 };
    let name = move |upper: bool, name: String| {
        change_later(app, timer, |choices| {
            let DataChoices { rule, positive, .. } = choices;
            if let LabelRule::Threshold { above, below, .. } | LabelRule::Median { above, below } =
                rule
            {
                let side = if upper { above } else { below };
                // the class to find keeps its part under its new name
                if positive.as_ref() == Some(&*side) {
                    *positive = Some(name.clone());
                }
                *side = name;
            }
        });
    };
    let limit_typed = move |value: String| {
        if let Ok(number) = value.trim().parse::<f64>()
            && number.is_finite()
        {
            change_later(app, timer, |choices| {
                if let LabelRule::Threshold { threshold, .. } = &mut choices.rule {
                    *threshold = number;
                }
            });
        }
    };
    view! {
        <div class="fields">
            {threshold
                .then(|| {
                    view! {
                        <Field id="threshold" label="Split at">
                            <input
                                id="threshold"
                                data-test="threshold"
                                type="number"
                                step="any"
                                value=limit.to_string()
                                on:input=move |event| limit_typed(value_of(&event))
                            />
                        </Field>
                    }
                })}
            <Field id="class-above" label="Class at or above it">
                <input
                    id="class-above"
                    data-test="class-above"
                    value=above
                    on:input=move |event| name(true, value_of(&event))
                />
            </Field>
            <Field id="class-below" label="Class below it">
                <input
                    id="class-below"
                    data-test="class-below"
                    value=below
                    on:input=move |event| name(false, value_of(&event))
                />
            </Field>
        </div>
    }
}

/// Of two classes, the one to find.
#[component]
fn Positive(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let two = Memo::new(move |_| {
        let classes = app.choices.with(|c| data.with_value(|data| expected_classes(data, c)))?;
        (classes.len() == 2).then_some(classes)
    });
    let chosen = Signal::derive(move || {
        let named = two.with(|two| two.clone().unwrap_or_default());
        let positive = app.choices.with(|choices| choices.positive.clone()).unwrap_or_default();
        if named.iter().any(|count| count.class == positive) { positive } else { String::new() }
    });
    view! {
        {move || {
            let mut options = vec![(String::new(), "choose a class".to_owned())];
            options
                .extend(
                    two.get()?
                        .into_iter()
                        .map(|count| {
                            let rows = (count.rows > 0).then(|| format!(" ({})", of(count.rows, "row", "rows")));
                            let text = format!("{}{}", count.class, rows.unwrap_or_default());
                            (count.class, text)
                        }),
                );
            Some(
                view! {
                    <Select
                        id="positive"
                        label="Positive class"
                        hint="The class you want to find: the complaint, the spam, the urgent case. Precision, recall, F1 and the threshold are about this class."
                        options=options
                        chosen=chosen
                        on_choose=move |value: String| change(app, |choices| choices.positive = Some(value))
                    />
                },
            )
        }}
    }
}

/// What is to be done before the choices come to something.
pub fn missing(app: App, data: StoredValue<DataPreview>) -> String {
    let words = app.choices.with(|choices| {
        if choices.roles.label.is_none() {
            "Choose the label column."
        } else if data.with_value(|data| positive_missing(data, choices)) {
            "Choose the positive class."
        } else if app.report_error.with(Option::is_some) {
            "Fix the problem above first."
        } else {
            "Counting rows…"
        }
    });
    words.to_owned()
}
