//! Labels that look alike, are equal in value or stand for a missing one: buttons to merge them and to
//! leave them out, and classes to leave out. Nothing of that is done unasked.

use hearth_classifier::columns::{ClassCount, LabelFindings};
use leptos::prelude::*;

use super::{Settings, change};
use crate::{
    page::{actions::expected_classes, format::of, state::App, widgets::Select},
    protocol::DataPreview,
};

/// Labels of a group with their rows.
fn shown(group: &[ClassCount]) -> String {
    let one = |c: &ClassCount| format!("{} ({})", c.class, of(c.rows, "row", "rows"));
    group.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What can be done about labels, where something can.
#[component]
pub fn Labels() -> impl IntoView {
    let app = App::here();
    let found = Memo::new(move |_| app.report.with(|r| r.as_ref().map(|r| r.findings.clone())));
    let chosen = Memo::new(move |_| app.choices.with(|choices| choices.labels.clone()));
    let view = move |found: LabelFindings| {
        let groups: Vec<String> =
            found.alike.iter().chain(&found.equal).map(|group| shown(group)).collect();
        let missing: Vec<String> = found.missing.iter().map(|c| c.class.clone()).collect();
        let labels = chosen.get();
        let changed = labels.merge || !labels.missing.is_empty();
        if groups.is_empty() && missing.is_empty() && !changed {
            return ().into_any();
        }
        view! {
            <section aria-labelledby="labels-title" data-test="labels">
                <h2 id="labels-title">"Similar or missing labels"</h2>
                {(!groups.is_empty())
                    .then(|| {
                        view! {
                            <p>
                                {if found.merged {
                                    "These labels are merged, each group under its most frequent name:"
                                } else {
                                    "These labels look alike or have the same value, but each is a separate class:"
                                }}
                            </p>
                            <ul class="remarks">
                                {groups.into_iter().map(|group| view! { <li>{group}</li> }).collect_view()}
                            </ul>
                        }
                    })}
                {(!missing.is_empty())
                    .then(|| {
                        let words = format!("These labels usually mean a missing value, but count as classes: {}.", shown(&found.missing));
                        view! { <p>{words}</p> }
                    })}
                <Settings>
                    <div class="actions">
                        {(!labels.merge)
                            .then(|| {
                                view! {
                                    <button
                                        type="button"
                                        data-test="merge-labels"
                                        on:click=move |_| change(app, |choices| choices.labels.merge = true)
                                    >
                                        "Merge similar labels"
                                    </button>
                                }
                            })}
                        {(!missing.is_empty())
                            .then(|| {
                                let missing = missing.clone();
                                view! {
                                    <button
                                        type="button"
                                        data-test="leave-out-labels"
                                        on:click=move |_| {
                                            let missing = missing.clone();
                                            change(app, |choices| choices.labels.missing.extend(missing));
                                        }
                                    >
                                        "Leave out rows with missing labels"
                                    </button>
                                }
                            })}
                        {changed
                            .then(|| {
                                view! {
                                    <button
                                        type="button"
                                        class="quiet-button"
                                        data-test="labels-as-they-are"
                                        on:click=move |_| {
                                            change(app, |choices| {
                                                choices.labels.merge = false;
                                                choices.labels.missing.clear();
                                            });
                                        }
                                    >
                                        "Undo: use the labels as they are"
                                    </button>
                                }
                            })}
                    </div>
                </Settings>
            </section>
        }
            .into_any()
    };
    view! { {move || view(found.get().unwrap_or_default())} }
}

/// Classes to leave out, and those that are left out.
#[component]
pub fn LeftOut(data: StoredValue<DataPreview>) -> impl IntoView {
    let app = App::here();
    let dropped = Memo::new(move |_| app.choices.with(|choices| choices.labels.drop.clone()));
    let classes = Memo::new(move |_| {
        let counted = app.report.with(|report| report.as_ref().map(|report| report.all.clone()));
        let expected = || app.choices.with(|c| data.with_value(|data| expected_classes(data, c)));
        // two are needed at least
        counted.or_else(expected).filter(|all| all.len() > 2).unwrap_or_default()
    });
    let option = |count: ClassCount| {
        let text = format!("{} ({})", count.class, of(count.rows, "row", "rows"));
        (count.class, text)
    };
    let back = move |class: String| {
        let test = format!("take-{class}");
        let words = format!("Include “{class}” again");
        view! {
            <button
                type="button"
                class="quiet-button"
                data-test=test
                on:click=move |_| {
                    let class = class.clone();
                    change(app, |choices| choices.labels.drop.retain(|other| *other != class));
                }
            >
                {words}
            </button>
        }
    };
    let view = move |dropped: Vec<String>, classes: Vec<ClassCount>| {
        if dropped.is_empty() && classes.is_empty() {
            return ().into_any();
        }
        let mut options = vec![(String::new(), "none".to_owned())];
        options.extend(classes.into_iter().map(option));
        let several = options.len() > 1;
        view! {
            <Settings>
                {several
                    .then(|| {
                        view! {
                            <Select
                                id="drop-class"
                                label="Leave out a class"
                                hint="Its rows are not used at all. For classes with only a few rows, or of no interest."
                                options=options
                                chosen=Signal::derive(String::new)
                                on_choose=move |class: String| change(app, |choices| choices.labels.drop.push(class))
                            />
                        }
                    })}
                <div class="actions" data-test="left-out">{dropped.into_iter().map(back).collect_view()}</div>
            </Settings>
        }
            .into_any()
    };
    view! { {move || view(dropped.get(), classes.get())} }
}
