//! Data: a file read, its columns named, its rows split.

use std::time::Duration;

use hearth_classifier::{columns::LabelRule, table::TableOptions};
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Blob, File};

use super::{ask, tell};
use crate::{
    page::state::{App, Busy, NoticeKind},
    protocol::{DataChoices, DataPreview, FromEngine, ToEngine},
};

/// Reads a table that the user dropped or picked.
pub fn open_table(app: App, file: File) {
    let name = file.name();
    let blob: Blob = file.unchecked_into();
    app.kept.update_value(|kept| kept.data = Some((name.clone(), blob.clone())));
    let body = ToEngine::OpenData { name: name.clone(), options: TableOptions::default() };
    read(app, name, body, &[blob]);
}

/// Reads the same file in another way.
pub fn read_again(app: App, options: TableOptions) {
    let Some(name) = app.data.with_untracked(|data| data.as_ref().map(|data| data.name.clone()))
    else {
        return;
    };
    read(app, name, ToEngine::ReadAgain { options }, &[]);
}

/// A sample from this page's own server.
pub fn open_sample(app: App, file: String) {
    leptos::task::spawn_local(async move {
        let fetched = async {
            let response =
                gloo_net::http::Request::get(&format!("./samples/{file}")).send().await?;
            if response.ok() { response.binary().await } else { Ok(Vec::new()) }
        };
        match fetched.await {
            Ok(bytes) if !bytes.is_empty() => {
                let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes.as_slice()));
                if let Ok(file) = File::new_with_u8_array_sequence(&parts, &file) {
                    open_table(app, file);
                }
            }
            _ => {
                let what = format!("The sample {file} is not on this page's server.");
                tell(app, NoticeKind::Error, &what, "Drop a file of your own.");
            }
        }
    });
}

fn read(app: App, name: String, body: ToEngine, blobs: &[Blob]) {
    app.busy.set(Some(Busy::Reading { name, bytes: 0, total: 0, rows: 0 }));
    ask(app, body, blobs, move |message, _| match message {
        FromEngine::Data(preview) => {
            app.busy.set(None);
            // without a file at hand, the choices of another one would not fit
            take_preview(app, preview);
            prepare(app);
        }
        FromEngine::Failed(_) | FromEngine::Cancelled => app.busy.set(None),
        _ => (),
    });
}

/// Puts a table on screen, with the choices that its columns suggest.
pub fn take_preview(app: App, preview: DataPreview) {
    let roles = preview.roles.clone();
    let rule = numeric_rule(&preview, roles.label);
    app.choices.update(|choices| {
        let split = choices.split.clone();
        let fresh = super::super::state::first_choices();
        *choices = DataChoices { roles, rule, split, ..fresh };
    });
    app.report.set(None);
    app.data.set(Some(preview));
}

/// A label column of many different numbers is split at its median.
pub fn numeric_rule(preview: &DataPreview, label: Option<usize>) -> LabelRule {
    let many = label.is_some_and(|column| {
        preview.numeric.get(column) == Some(&true)
            && preview.values.get(column).is_none_or(|values| match values {
                None => true,
                Some(values) => values.len() > 20,
            })
    });
    if many {
        LabelRule::Median { above: "high".to_owned(), below: "low".to_owned() }
    } else {
        LabelRule::AsIs
    }
}

/// Asks the engine what the choices come to. Needs a text and a label.
pub fn prepare(app: App) {
    let choices = app.choices.get_untracked();
    if app.data.with_untracked(Option::is_none) || choices.roles.label.is_none() {
        return app.report.set(None);
    }
    let body = ToEngine::SetRoles { choices, spec: app.spec.get_untracked() };
    ask(app, body, &[], move |message, _| match message {
        FromEngine::Prepared(report) => {
            app.choices.update_untracked(|choices| {
                choices.positive = report.positive.map(|place| report.classes[place].clone());
            });
            app.report.set(Some(report));
        }
        FromEngine::Failed(_) => app.report.set(None),
        _ => (),
    });
}

/// Once a model is there, token lengths can be told.
pub fn prepare_again(app: App) {
    if app.report.with_untracked(Option::is_some) {
        prepare(app);
    }
}

/// Gives the file to an engine that was started anew.
pub fn read_again_after_restart(app: App) {
    let Some((name, blob)) = app.kept.with_value(|kept| kept.data.clone()) else { return };
    let options = app.data.with_untracked(|d| d.as_ref().map(|d| d.options.clone()));
    let body = ToEngine::OpenData { name, options: options.unwrap_or_default() };
    ask(app, body, &[blob], move |message, _| {
        if let FromEngine::Data(_) = message {
            prepare(app);
        }
    });
}

/// Puts a call off until the user stops typing.
pub fn later(timer: StoredValue<Option<TimeoutHandle>>, call: impl FnOnce() + 'static) {
    if let Some(waiting) = timer.get_value() {
        waiting.clear();
    }
    let handle = set_timeout_with_handle(call, Duration::from_millis(250));
    timer.set_value(handle.ok());
}
