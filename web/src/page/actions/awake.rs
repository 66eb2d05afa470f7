//! The screen stays awake while a training runs: a machine that sleeps does not train.

use std::cell::{Cell, RefCell};

use js_sys::{Function, Promise, Reflect};
use leptos::{ev, prelude::*, task::spawn_local};
use wasm_bindgen::{JsCast, JsValue};

use super::list_runs;
use crate::page::state::App;

thread_local! {
    static WANTED: Cell<bool> = const { Cell::new(false) };
    static LOCK: RefCell<Option<JsValue>> = const { RefCell::new(None) };
}

/// Browsers release the lock of a tab that is hidden: it is requested again when the tab is shown. A run that does
/// not train here may train in another tab by then.
pub fn watch_visibility(app: App) {
    let _ = window_event_listener(ev::visibilitychange, move |_| match document().hidden() {
        true => (),
        false if WANTED.get() => request(),
        false => list_runs(app),
    });
}

/// Keeps the screen awake, or no longer. Browsers without wake locks are left alone.
pub fn stay_awake(on: bool) {
    WANTED.set(on);
    if on {
        request();
    } else if let Some(lock) = LOCK.take() {
        release(&lock);
    }
}

fn method(of: &JsValue, name: &str) -> Option<Function> {
    Reflect::get(of, &name.into()).ok()?.dyn_into::<Function>().ok()
}

fn release(lock: &JsValue) {
    if let Some(release) = method(lock, "release") {
        let _ = release.call0(lock);
    }
}

fn request() {
    let locks = Reflect::get(&window().navigator(), &"wakeLock".into()).ok();
    let Some(locks) = locks.filter(JsValue::is_object) else { return };
    let asked = method(&locks, "request").and_then(|f| f.call1(&locks, &"screen".into()).ok());
    let Some(asked) = asked.and_then(|asked| asked.dyn_into::<Promise>().ok()) else { return };
    spawn_local(async move {
        // refused where the battery is low or the tab hidden
        let Ok(lock) = wasm_bindgen_futures::JsFuture::from(asked).await else { return };
        // the training may have ended while the browser thought about it
        if WANTED.get() {
            LOCK.set(Some(lock));
        } else {
            release(&lock);
        }
    });
}
