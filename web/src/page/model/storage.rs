//! What this browser keeps for the page, and how to free it.

use leptos::prelude::*;

use crate::{
    page::{actions, format::bytes, state::App},
    protocol::KeptModel,
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

#[component]
fn Kept() -> impl IntoView {
    let app = App::here();
    let asked = RwSignal::new(false);
    let row = move |model: KeptModel| {
        let (key, name) = (model.key.clone(), model.name.clone());
        // a click on the wrong line costs a download
        let sure = RwSignal::new(false);
        let delete = move |_| {
            if sure.get_untracked() {
                actions::delete_model(app, key.clone());
            } else {
                sure.set(true);
            }
        };
        let size = if model.whole {
            bytes(model.bytes)
        } else {
            format!("{} of {}", bytes(model.bytes), bytes(model.total))
        };
        view! {
            <tr>
                <th scope="row">{model.name.clone()}</th>
                <td class="number">{size}</td>
                <td class="table-action">
                    <button
                        type="button"
                        class="quiet-button"
                        data-test=format!("delete-{}", model.key)
                        aria-label=move || {
                            if sure.get() { format!("Really delete {name}") } else { format!("Delete {name}") }
                        }
                        on:click=delete
                        on:blur=move |_| sure.set(false)
                    >
                        {move || if sure.get() { "Really delete?" } else { "Delete" }}
                    </button>
                </td>
            </tr>
        }
    };
    let table = move || {
        let stored = app.stored.get();
        (!stored.is_empty()).then(|| {
            view! {
                <div class="table">
                    <table>
                        <caption class="unseen">"Models stored in this browser"</caption>
                        <thead>
                            <tr>
                                <th scope="col">"Model"</th>
                                <th scope="col" class="number">
                                    "Size"
                                </th>
                                <th scope="col">
                                    <span class="unseen">"Delete"</span>
                                </th>
                            </tr>
                        </thead>
                        <tbody>{stored.into_iter().map(row).collect_view()}</tbody>
                    </table>
                </div>
            }
        })
    };
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
        {table}
        {promise}
    }
}
