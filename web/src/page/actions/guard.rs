//! What must not happen by accident: anything that a running training would lose or be lost by.

use leptos::{ev, prelude::*};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{BeforeUnloadEvent, DragEvent};

use super::tell;
use crate::page::state::{App, NoticeKind};

/// Whether a training is under way, which is said then: `what` can be done once it has ended.
pub fn refused_while_training(app: App, what: &str) -> bool {
    let training = app.training.with_untracked(|training| training.request.is_some());
    if training {
        let what = format!("{what} when the run has ended.");
        tell(app, NoticeKind::Warning, &what, "Pause or stop it under Train first.");
    }
    training
}

/// As [`refused_while_training`] for another model, also while one is downloaded or loaded: one at a time.
pub fn refused_while_loading(app: App) -> bool {
    let what = "Another model can be loaded";
    if refused_while_training(app, what) {
        return true;
    }
    let Some(name) = untrack(|| app.arriving()) else { return false };
    let what = format!("{what} when {name} is loaded.");
    tell(app, NoticeKind::Warning, &what, "Wait for that, or cancel it under Model.");
    true
}

/// Listens to what would leave the page.
pub fn guard_page(app: App) {
    let window = window();
    // a file dropped beside a drop zone would replace the page
    let over = window_event_listener(ev::dragover, |event| event.prevent_default());
    let drop = window_event_listener(ev::drop, move |event: DragEvent| {
        let taken = event.default_prevented();
        event.prevent_default();
        let files = event.data_transfer().and_then(|transfer| transfer.files());
        if !taken && files.is_some_and(|files| files.length() > 0) {
            let what = "Nothing was loaded: the file was dropped outside the marked area.";
            tell(app, NoticeKind::Warning, what, "Drop it inside the dashed border.");
        }
    });
    // both live as long as the page
    std::mem::forget((over, drop));
    let leaving = Closure::<dyn FnMut(BeforeUnloadEvent)>::new(move |event: BeforeUnloadEvent| {
        if app.training.with_untracked(|training| training.request.is_some()) {
            event.prevent_default();
            // browsers that go by the older rule
            event.set_return_value("training");
        }
    });
    if window
        .add_event_listener_with_callback("beforeunload", leaving.as_ref().unchecked_ref())
        .is_ok()
    {
        leaving.forget();
    }
}
