//! The service worker: it keeps the page for times without a network, and adds the policy on static hosts.
//!
//! Browsers look for a newer service worker by themselves: about a second after a navigation, after a worker of
//! the page starts, and with any event once a day has passed. On a slow machine such a check comes in the middle
//! of somebody's work. With `updateViaCache: "all"` the check is answered from the HTTP cache for as long as the
//! server allows (a day from our own), and the page refreshes that cache itself when it opens.

use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    RegistrationOptions, RequestCache, RequestInit, ServiceWorker, ServiceWorkerContainer,
    ServiceWorkerRegistration, ServiceWorkerState, ServiceWorkerUpdateViaCache,
};

use super::{
    notices::tell,
    state::{App, NoticeKind, Offline},
};

/// Set while the page reloads itself to get its policy, so that it does so once.
const RELOADED: &str = "hearth-reloaded";

pub const SCRIPT: &str = "./service-worker.js";

/// Has the page's files kept, and looks for a newer build.
pub fn keep(app: App) {
    let Some(container) = container() else { return app.offline.set(Offline::Without) };
    spawn_local(async move {
        refresh_script().await;
        let options = RegistrationOptions::new();
        options.set_update_via_cache(ServiceWorkerUpdateViaCache::All);
        let registered = container.register_with_options(SCRIPT, &options);
        let kept = match JsFuture::from(registered).await {
            Ok(registration) => follow(app, &container, &registration.unchecked_into()).await,
            Err(_) => false,
        };
        app.offline.set(if kept { Offline::Kept } else { Offline::Without });
    });
}

/// Puts the server's present service worker into the browser's HTTP cache, where checks find it.
async fn refresh_script() {
    let options = RequestInit::new();
    options.set_cache(RequestCache::NoCache);
    // without a network the copy that is there stays
    if let Ok(response) = JsFuture::from(window().fetch_with_str_and_init(SCRIPT, &options)).await {
        let response: web_sys::Response = response.unchecked_into();
        // only a body that was read to its end is kept
        if let Ok(text) = response.text() {
            let _ = JsFuture::from(text).await;
        }
    }
}

/// Reloads the page where only the service worker can give it its policy. Returns whether it does.
pub async fn reload_for_policy(app: App) -> bool {
    let Ok(Some(storage)) = window().session_storage() else { return false };
    if !matches!(storage.get_item(RELOADED), Ok(None)) {
        return false;
    }
    settled(app).await;
    app.offline.get_untracked() == Offline::Kept
        && storage.set_item(RELOADED, "yes").is_ok()
        && window().location().reload().is_ok()
}

/// Waits until the files are kept, or cannot be; not for ever.
pub async fn settled(app: App) {
    for _ in 0..100 {
        if app.offline.get_untracked() != Offline::Keeping {
            return;
        }
        gloo_timers::future::TimeoutFuture::new(100).await;
    }
}

/// Deletes what the page keeps to open without a network. Returns whether it is gone.
pub async fn forget(app: App) -> bool {
    if let Ok(Some(storage)) = window().session_storage() {
        // where it cannot be removed it says that the page was reloaded once, and nothing else
        let _ = storage.remove_item(RELOADED);
    }
    let Some(container) = container() else { return true };
    // the service worker deletes its files, then itself
    for _ in 0..100 {
        let found = JsFuture::from(container.get_registration()).await.ok();
        let Some(registration) = found.and_then(|found| found.dyn_into().ok()) else {
            app.offline.set(Offline::Deleted);
            return true;
        };
        let registration: ServiceWorkerRegistration = registration;
        if let Some(worker) = registration.active() {
            let _ = worker.post_message(&"forget".into());
        }
        gloo_timers::future::TimeoutFuture::new(100).await;
    }
    false
}

/// None where there is no such thing: over plain HTTP, and in some private windows.
fn container() -> Option<ServiceWorkerContainer> {
    let navigator: JsValue = window().navigator().into();
    let container = js_sys::Reflect::get(&navigator, &"serviceWorker".into()).ok()?;
    container.dyn_into().ok()
}

/// Waits for the first worker of the page, or sees to it that a newer one gets its turn.
async fn follow(
    app: App,
    container: &ServiceWorkerContainer,
    registration: &ServiceWorkerRegistration,
) -> bool {
    if let Some(worker) = registration.waiting() {
        renew(app, container, &worker);
    }
    let (again, of) = (container.clone(), registration.clone());
    let on_found = Closure::<dyn FnMut()>::new(move || {
        let Some(worker) = of.installing() else { return };
        // the first of all is no news
        if of.active().is_some() {
            let container = again.clone();
            spawn_local(async move {
                if reaches(&worker, ServiceWorkerState::Installed).await {
                    renew(app, &container, &worker);
                }
            });
        }
    });
    registration.set_onupdatefound(Some(on_found.as_ref().unchecked_ref()));
    // it lives as long as the page
    on_found.forget();
    match (registration.active(), registration.installing()) {
        (Some(_), _) => {
            // compares with the copy that was just refreshed; without one there is nothing newer to be had
            if let Ok(update) = registration.update() {
                let _ = JsFuture::from(update).await;
            }
            true
        }
        (None, Some(worker)) => reaches(&worker, ServiceWorkerState::Activated).await,
        (None, None) => false,
    }
}

/// Whether the worker gets there.
async fn reaches(worker: &ServiceWorker, goal: ServiceWorkerState) -> bool {
    loop {
        let state = worker.state();
        if state == goal || state == ServiceWorkerState::Activated {
            return true;
        }
        if state == ServiceWorkerState::Redundant {
            return false;
        }
        gloo_timers::future::TimeoutFuture::new(50).await;
    }
}

/// A newer build is here: an empty page changes over at once, others are told.
fn renew(app: App, container: &ServiceWorkerContainer, worker: &ServiceWorker) {
    let empty = app.model().is_none() && app.data.with_untracked(Option::is_none);
    if empty {
        let on_change = Closure::<dyn FnMut()>::new(|| {
            // failing that, the page stays as it is
            let _ = window().location().reload();
        });
        container.set_oncontrollerchange(Some(on_change.as_ref().unchecked_ref()));
        on_change.forget();
        // a worker that is gone has been replaced already
        let _ = worker.post_message(&"take over".into());
    } else {
        let advice = "Close this tab and open it again to use it.";
        tell(app, NoticeKind::Warning, "A new version is available.", advice);
    }
}
