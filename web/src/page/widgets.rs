//! Small parts that several screens use.

use leptos::{ev, html, prelude::*};
use web_sys::{DragEvent, File, FileList};

use super::{
    format::sentence,
    notices::tell,
    state::{App, NoticeKind},
};
use crate::protocol::Failure;

/// A place to drop files, which is also a button to pick them.
#[component]
pub fn FileDrop(
    /// Names it in tests and labels.
    #[prop(into)]
    id: String,
    /// What to drop here, on the button.
    #[prop(into)]
    label: String,
    /// What is accepted, below it.
    #[prop(into)]
    hint: String,
    /// File endings for the picker, with commas.
    accept: &'static str,
    /// Whether several files may come at once.
    #[prop(optional)]
    multiple: bool,
    /// Gets the files.
    #[prop(into)]
    on_files: Callback<Vec<File>>,
) -> impl IntoView {
    let app = App::here();
    let input = NodeRef::<html::Input>::new();
    let over = RwSignal::new(false);
    let take = move |list: Option<FileList>| {
        let files: Vec<File> =
            list.iter().flat_map(|l| (0..l.length()).filter_map(move |i| l.get(i))).collect();
        if !files.is_empty() {
            on_files.run(files);
        }
    };
    let drop = move |event: DragEvent| {
        event.prevent_default();
        over.set(false);
        // a resting fieldset stops clicks, but not what is dropped on it
        let rests =
            input.get_untracked().is_some_and(|input| input.matches(":disabled").unwrap_or(false));
        if rests {
            let what = format!("Nothing was loaded: {}.", app.occupied());
            let advice = "Wait until it is done, or pause or cancel it first.";
            return tell(app, NoticeKind::Warning, &what, advice);
        }
        take(event.data_transfer().and_then(|transfer| transfer.files()));
    };
    let pick = move |_| {
        if let Some(input) = input.get_untracked() {
            take(input.files());
            // the same file picked again is a change too
            input.set_value("");
        }
    };
    let hint_id = format!("{id}-hint");
    let (test, for_input) = (id.clone(), id.clone());
    view! {
        <div
            class="drop"
            class:over=over
            data-test=test
            on:dragover=move |event: DragEvent| {
                event.prevent_default();
                over.set(true);
            }
            on:dragleave=move |_| over.set(false)
            on:drop=drop
        >
            <input
                class="file"
                type="file"
                id=id
                node_ref=input
                accept=accept
                multiple=multiple
                aria-describedby=hint_id.clone()
                on:change=pick
            />
            <label for=for_input>{label}</label>
            <p id=hint_id class="hint">
                {hint}
            </p>
        </div>
    }
}

/// A button for what cannot be undone: it asks again, and forgets the first click when it is left.
#[component]
pub fn Confirmed(
    /// Names it in tests.
    #[prop(into)]
    test: String,
    /// Its words, at first and when it asks again.
    #[prop(default = ["Delete", "Really delete?"])]
    words: [&'static str; 2],
    /// What it deletes, for those who do not see its row.
    #[prop(into, optional)]
    what: String,
    #[prop(default = "quiet-button")] class: &'static str,
    #[prop(into, optional)] disabled: Signal<bool>,
    #[prop(into)] on_confirm: Callback<()>,
) -> impl IntoView {
    let sure = RwSignal::new(false);
    let named = !what.is_empty();
    let label = named.then_some(move || {
        if sure.get() { format!("Really delete {what}") } else { format!("Delete {what}") }
    });
    let click = move |_| {
        let confirmed = sure.get_untracked();
        sure.set(!confirmed);
        if confirmed {
            on_confirm.run(());
        }
    };
    view! {
        <button
            type="button"
            class=class
            data-test=test
            aria-label=label
            disabled=disabled
            on:click=click
            on:blur=move |_| sure.set(false)
        >
            {move || words[usize::from(sure.get())]}
        </button>
    }
}

/// A bar that fills. `share` is none while nobody knows.
#[component]
pub fn Progress(
    /// What comes along.
    #[prop(into)]
    label: Signal<String>,
    /// 0 to 1.
    #[prop(into)]
    share: Signal<Option<f64>>,
    /// In words, beside the bar.
    #[prop(into)]
    words: Signal<String>,
) -> impl IntoView {
    let percent = move || share.get().map(|share| (share.clamp(0.0, 1.0) * 100.0).round());
    view! {
        <div class="progress">
            <div class="progress-words">
                <span>{label}</span>
                <span class="quiet number">{words}</span>
            </div>
            <progress max="100" value=move || percent().map(|p| p.to_string()) aria-label=label />
        </div>
    }
}

/// A figure with its name.
#[component]
pub fn Stat(
    /// What it is.
    #[prop(into)]
    name: Signal<String>,
    /// The figure.
    #[prop(into)]
    value: Signal<String>,
    /// More about it, small.
    #[prop(into, optional)]
    note: Signal<String>,
    /// Names it in tests.
    #[prop(into, optional)]
    test: String,
) -> impl IntoView {
    view! {
        <div class="stat" data-test=test>
            <dt>{name}</dt>
            <dd>
                <span class="number">{value}</span>
                <small class="quiet">{note}</small>
            </dd>
        </div>
    }
}

/// A form field: its label, a sentence, the control.
#[component]
pub fn Field(
    /// Id of the control.
    #[prop(into)]
    id: String,
    /// Its name.
    #[prop(into)]
    label: String,
    /// What it does.
    #[prop(into, optional)]
    hint: String,
    /// The control; has the id, and `aria-describedby` the id with `-hint`.
    children: Children,
) -> impl IntoView {
    let hint_id = format!("{id}-hint");
    view! {
        <div class="field">
            <label for=id>{label}</label>
            {children()}
            {(!hint.is_empty()).then(|| view! { <p class="hint" id=hint_id>{hint}</p> })}
        </div>
    }
}

/// A plot that the classifier crate drew: a self-contained SVG with text of its own making, all escaped.
#[component]
pub fn Plot(
    /// The SVG.
    #[prop(into)]
    svg: Signal<String>,
    /// What it shows, for those who cannot see it.
    #[prop(into)]
    label: Signal<String>,
) -> impl IntoView {
    view! { <figure class="plot" role="img" aria-label=label inner_html=svg /> }
}

/// A `<details>` that keeps what is rarely needed out of the way.
#[component]
pub fn More(
    /// What is inside.
    #[prop(into)]
    summary: String,
    /// It.
    children: Children,
) -> impl IntoView {
    view! {
        <details class="more">
            <summary>{summary}</summary>
            <div class="more-body">{children()}</div>
        </details>
    }
}

/// The value of the control that an event comes from.
pub fn value_of(event: &ev::Event) -> String {
    event_target_value(event)
}

/// A choice among a few, with its label; `id` names it in tests too.
#[component]
pub fn Select(
    /// Id of the control.
    #[prop(into)]
    id: String,
    /// Its name.
    #[prop(into)]
    label: String,
    /// What it does.
    #[prop(into, optional)]
    hint: String,
    /// Value and text of each option. An empty value cannot be chosen.
    options: Vec<(String, String)>,
    /// The value that is chosen.
    #[prop(into)]
    chosen: Signal<String>,
    /// Gets the new value.
    #[prop(into)]
    on_choose: Callback<String>,
) -> impl IntoView {
    let described = (!hint.is_empty()).then(|| format!("{id}-hint"));
    let test = id.clone();
    let option = move |(value, text): (String, String)| {
        let own = value.clone();
        let disabled = value.is_empty();
        view! {
            <option value=value disabled=disabled prop:selected=move || chosen.get() == own>
                {text}
            </option>
        }
    };
    view! {
        <Field id=id.clone() label=label hint=hint>
            <select
                id=id
                data-test=test
                aria-describedby=described
                on:change=move |event| on_choose.run(value_of(&event))
            >
                {options.into_iter().map(option).collect_view()}
            </select>
        </Field>
    }
}

/// A failure beside what caused it, with what to do.
#[component]
pub fn Problem(
    /// It.
    #[prop(into)]
    what: Signal<Option<Failure>>,
    /// Names it in tests.
    test: &'static str,
) -> impl IntoView {
    view! {
        <div class="problem-place" aria-live="polite">
            {move || {
                what.get()
                    .map(|failure| {
                        view! {
                            <p class="problem" data-test=test>
                                <strong>{sentence(&failure.what)}</strong>
                                " "
                                {sentence(&failure.advice)}
                            </p>
                        }
                    })
            }}
        </div>
    }
}
