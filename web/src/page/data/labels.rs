//! Labels that look alike, are equal in value or stand for a missing one: buttons to unite them and to
//! leave them out. Nothing of that is done unasked.

use hearth_classifier::columns::{ClassCount, LabelFindings};
use leptos::prelude::*;

use super::{Settings, change};
use crate::page::{format::of, state::App};

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
        let changed = labels != Default::default();
        if groups.is_empty() && missing.is_empty() && !changed {
            return ().into_any();
        }
        view! {
            <section aria-labelledby="labels-title" data-test="labels">
                <h2 id="labels-title">"Labels to look at"</h2>
                {(!groups.is_empty())
                    .then(|| {
                        view! {
                            <p>
                                {if found.merged {
                                    "These labels are united, each group under its most frequent name:"
                                } else {
                                    "These labels look alike or are equal in value, and each is a class of its own:"
                                }}
                            </p>
                            <ul class="remarks">
                                {groups.into_iter().map(|group| view! { <li>{group}</li> }).collect_view()}
                            </ul>
                        }
                    })}
                {(!missing.is_empty())
                    .then(|| {
                        let words = format!("Usual words for a missing label count as classes: {}.", shown(&found.missing));
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
                                        "Unite labels that look alike"
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
                                        "Leave out rows with these words"
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
                                        on:click=move |_| change(app, |choices| choices.labels = Default::default())
                                    >
                                        "Take labels as they are"
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
