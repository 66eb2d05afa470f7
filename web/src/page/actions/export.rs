//! Files to save, and the count of requests that a user can see.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Blob, HtmlAnchorElement, Url};

use super::{ask_shown, tell};
use crate::{
    page::state::{App, Busy, NoticeKind},
    protocol::{FromEngine, ToEngine, Traffic},
};

/// What can be saved of a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    Bundle,
    Peft,
    Gguf,
    Report,
}

/// Saves the classifier in use in one of its forms.
pub fn export(app: App, what: Export) {
    let name = app.classifier.with_untracked(|c| c.as_ref().map(|c| c.name.clone()));
    let today = js_sys::Date::new_0().to_iso_string().as_string().unwrap_or_default();
    let body = match what {
        Export::Bundle => ToEngine::ExportBundle { name: name.unwrap_or_default() },
        Export::Peft => ToEngine::ExportPeft { base_model: String::new() },
        Export::Gguf => ToEngine::ExportGguf,
        Export::Report => {
            ToEngine::ExportReport { created: today.get(..10).unwrap_or_default().to_owned() }
        }
    };
    ask_shown(app, Busy::Working("Writing the file…"), body, &[], move |message, blobs| {
        if let FromEngine::File { names, note } = message {
            save_files(app, &names, &blobs, &note);
        }
    });
}

/// Hands files to the browser's downloads.
pub fn save_files(app: App, names: &[String], blobs: &[Blob], note: &str) {
    for (name, blob) in names.iter().zip(blobs) {
        if save(name, blob).is_none() {
            let what = format!("The browser did not save {name}.");
            return tell(app, NoticeKind::Error, &what, "Allow downloads for this page.");
        }
    }
    tell(app, NoticeKind::Good, &format!("Downloaded {}.", names.join(" and ")), note);
}

fn save(name: &str, blob: &Blob) -> Option<()> {
    let url = Url::create_object_url_with_blob(blob).ok()?;
    let link: HtmlAnchorElement = document().create_element("a").ok()?.dyn_into().ok()?;
    link.set_href(&url);
    link.set_download(name);
    link.click();
    // the download has begun by then; without this the bytes stay in memory
    let revoke = move || {
        let _ = Url::revoke_object_url(&url);
    };
    set_timeout(revoke, std::time::Duration::from_secs(60));
    Some(())
}

/// Counts what page and workers ask the network for once the model is there.
pub fn count_traffic(app: App, more: Traffic) {
    if app.model_ready_untracked() {
        app.traffic.update(|all| {
            all.requests += more.requests;
            all.blocked += more.blocked;
        });
    }
}
