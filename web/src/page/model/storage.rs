//! What this browser keeps for the page, and how to free it.

use leptos::prelude::*;

use crate::{
    page::{actions, format::bytes, state::App, widgets::Confirmed},
    protocol::{KeptModel, StoredRun},
};

/// Kept models, space, and the browser's promise.
#[component]
pub fn Storage() -> impl IntoView {
    let app = App::here();
    let available = Memo::new(move |_| app.space.get().map(|space| space.available));
    view! {
        <section aria-labelledby="storage-title" data-test="storage">
            <h2 id="storage-title">"Stored in this browser"</h2>
            {move || {
                match available.get() {
                    None => view! { <p class="hint">"Checking…"</p> }.into_any(),
                    Some(true) => view! { <Kept /> }.into_any(),
                    Some(false) => view! {
                        <p class="warn-text" data-test="storage-none">
                            "This browser stores no files for this page, because of a private window or a setting. Everything works, but models must be downloaded again next time, and closing the tab loses all runs."
                        </p>
                    }
                    .into_any()
                }
            }}
        </section>
    }
}

/// Something that is kept, and what deletes it.
#[derive(Clone)]
struct Item {
    name: String,
    size: String,
    test: String,
    delete: Callback<()>,
}

fn models(app: App) -> Vec<Item> {
    let item = |model: KeptModel| Item {
        name: model.name.clone(),
        size: match model.total {
            total if total > model.bytes => format!("{} of {}", bytes(model.bytes), bytes(total)),
            _ => bytes(model.bytes),
        },
        test: format!("delete-{}", model.key),
        delete: Callback::new(move |()| actions::delete_model(app, model.key.clone())),
    };
    app.stored.get().into_iter().map(item).collect()
}

fn runs(app: App) -> Vec<Item> {
    let item = |run: StoredRun| Item {
        name: match &run.table {
            _ if run.name.is_empty() => "A run of another version of Hearth".to_owned(),
            Some(table) => format!("{}, with a copy of {table} until the run ends", run.name),
            None => format!("{}, finished", run.name),
        },
        size: bytes(run.bytes),
        test: format!("delete-stored-{}", run.key),
        delete: Callback::new(move |()| actions::delete_run(app, run.key.clone())),
    };
    app.stored_runs.get().into_iter().map(item).collect()
}

/// Things of one kind; nothing where there are none.
#[component]
fn Items(kind: &'static str, test: &'static str, items: Vec<Item>) -> impl IntoView {
    let row = |item: Item| {
        view! {
            <tr>
                <th scope="row">{item.name.clone()}</th>
                <td class="number">{item.size}</td>
                <td class="table-action">
                    <Confirmed test=item.test what=item.name on_confirm=item.delete />
                </td>
            </tr>
        }
    };
    (!items.is_empty()).then(|| {
        view! {
            <div class="table">
                <table data-test=test>
                    <caption class="unseen">{kind} "s stored in this browser"</caption>
                    <thead>
                        <tr>
                            <th scope="col">{kind}</th>
                            <th scope="col" class="number">
                                "Size"
                            </th>
                            <th scope="col">
                                <span class="unseen">"Delete"</span>
                            </th>
                        </tr>
                    </thead>
                    <tbody>{items.into_iter().map(row).collect_view()}</tbody>
                </table>
            </div>
        }
    })
}

/// One button for all of it.
#[component]
fn Erase() -> impl IntoView {
    let app = App::here();
    let everything = RwSignal::new(false);
    let erase = Callback::new(move |()| actions::erase(app, everything.get_untracked()));
    view! {
        <div class="actions">
            <Confirmed
                test="erase"
                words=["Delete all my data on this page", "Really delete all of it?"]
                class=""
                on_confirm=erase
            />
            <label class="check">
                <input
                    type="checkbox"
                    data-test="erase-everything"
                    prop:checked=everything
                    on:change:target=move |event| everything.set(event.target().checked())
                />
                "Models and the page's own files too"
            </label>
        </div>
        <p class="hint">
            "Deletes tables, runs and classifiers from this browser and from this tab. Files that you exported stay."
        </p>
    }
}

#[component]
fn Kept() -> impl IntoView {
    let app = App::here();
    let asked = RwSignal::new(false);
    let promise = move || {
        if app.space.get().is_some_and(|space| space.persistent) {
            view! { <p class="hint">"Storage is persistent: the browser keeps these files until you delete them."</p> }
                .into_any()
        } else {
            view! {
                <div class="actions">
                    <button
                        type="button"
                        data-test="persist"
                        on:click=move |_| {
                            asked.set(true);
                            actions::persist(app);
                        }
                    >
                        "Make storage persistent"
                    </button>
                    <p class="hint">
                        {move || {
                            if asked.get() {
                                "The browser declined: it may delete these files when the disk is full. Bookmark or install the page, then try again."
                            } else {
                                "Storage is not persistent: the browser may delete these files when the disk is full."
                            }
                        }}
                    </p>
                </div>
            }
            .into_any()
        }
    };
    view! {
        <p class="number" data-test="space">
            {move || {
                let space = app.space.get().unwrap_or_default();
                let nothing = app.stored.with(Vec::is_empty).then_some("No models yet. ");
                format!(
                    "{}{} used of {} allowed.",
                    nothing.unwrap_or_default(),
                    bytes(space.used),
                    bytes(space.quota),
                )
            }}
        </p>
        {move || view! { <Items kind="Model" test="stored-models" items=models(app) /> }}
        {move || view! { <Items kind="Run" test="stored-runs" items=runs(app) /> }}
        {promise}
        <Erase />
    }
}
