//! A classifier in use, and the base model as it writes.

use hearth_classifier::table::TableOptions;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Blob, File};

use super::{ask, save_files};
use crate::{
    page::state::{App, Busy, Screen, Shown},
    protocol::{Classified, FromEngine, ToEngine, Writing},
};

/// Opens a classifier's file.
pub fn open_bundle(app: App, file: File) {
    let blob: Blob = file.unchecked_into();
    app.busy.set(Some(Busy::Working("Opening the classifier …")));
    ask(app, ToEngine::OpenBundle, &[blob], move |message, _| {
        app.busy.set(None);
        if let FromEngine::Classifier(classifier) = message {
            app.shown.set(None);
            app.classifier.set(Some(classifier));
            app.screen.set(Screen::Using);
        }
    });
}

/// Takes a finished run's classifier into use.
pub fn open_run(app: App, key: String) {
    ask(app, ToEngine::OpenRun { key }, &[], move |message, _| {
        if let FromEngine::Classifier(classifier) = message {
            app.classifier.set(Some(classifier));
        }
    });
}

/// Measures the classifier in use on the data's test rows.
pub fn evaluate(app: App) {
    measure(app, ToEngine::Evaluate);
}

/// Measures the model as it is, before any training, and takes it into use.
pub fn zero_shot(app: App) {
    measure(app, ToEngine::ZeroShot { spec: app.spec.get_untracked() });
}

fn measure(app: App, body: ToEngine) {
    app.busy.set(Some(Busy::Scoring { what: "testing".to_owned(), done: 0, of: 0 }));
    ask(app, body, &[], move |message, _| match message {
        FromEngine::Scoring { what, done, of } => {
            app.busy.set(Some(Busy::Scoring { what, done, of }));
        }
        FromEngine::Evaluated(test) => {
            app.busy.set(None);
            // its answer is the classifier that is in use by now
            set_threshold(app, test.evaluation.threshold);
            app.shown.set(Some(Shown { run: None, test }));
            app.screen.set(Screen::Results);
        }
        FromEngine::Failed(_) | FromEngine::Cancelled => app.busy.set(None),
        _ => (),
    });
}

/// The probabilities of a text; an answer that a newer text overtook is not told.
pub fn classify(app: App, text: String, answer: impl Fn(Classified) + 'static) {
    ask(app, ToEngine::Classify { text }, &[], move |message, _| {
        if let FromEngine::Classified(result) = message
            && !result.probabilities.is_empty()
        {
            answer(result);
        }
    });
}

/// Moves the threshold of the classifier in use.
pub fn set_threshold(app: App, threshold: f64) {
    ask(app, ToEngine::SetThreshold { threshold }, &[], move |message, _| {
        if let FromEngine::Classifier(classifier) = message {
            app.classifier.set(Some(classifier));
        }
    });
}

/// Adds predictions to a table and saves it.
pub fn classify_file(app: App, file: File) {
    let name = file.name();
    let blob: Blob = file.unchecked_into();
    app.busy.set(Some(Busy::Reading { name: name.clone(), bytes: 0, total: 0, rows: 0 }));
    let body = ToEngine::ClassifyFile {
        name,
        options: TableOptions::default(),
        text: None,
        for_spreadsheets: app.for_spreadsheets.get_untracked(),
    };
    ask(app, body, &[blob], move |message, blobs| match message {
        FromEngine::Scoring { what, done, of } => {
            app.busy.set(Some(Busy::Scoring { what, done, of }));
        }
        FromEngine::File { names, note } => {
            app.busy.set(None);
            save_files(app, &names, &blobs, &note);
        }
        FromEngine::Failed(_) | FromEngine::Cancelled => app.busy.set(None),
        _ => (),
    });
}

/// Lets the base model write; `piece` gets its words as they come, `end` is called once. Returns the
/// request, which [`cancel`] ends.
pub fn generate(
    app: App,
    prompt: String,
    writing: Writing,
    piece: impl Fn(String) + 'static,
    end: impl Fn(Option<f64>) + 'static,
) -> u64 {
    app.busy.set(Some(Busy::Writing));
    ask(app, ToEngine::Generate { prompt, writing }, &[], move |message, _| match message {
        FromEngine::Wrote { text } => piece(text),
        FromEngine::Written { tokens_per_second, .. } => {
            app.busy.set(None);
            end(Some(tokens_per_second));
        }
        FromEngine::Failed(_) | FromEngine::Cancelled => {
            app.busy.set(None);
            end(None);
        }
        _ => (),
    })
}

/// Gives up a request.
pub fn cancel(app: App, request: u64) {
    ask(app, ToEngine::Cancel { request }, &[], |_, _| ());
}
