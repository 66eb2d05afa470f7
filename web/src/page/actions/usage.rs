//! A classifier in use, and the base model as it writes.

use hearth_classifier::{columns::TextSource, table::TableOptions};
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Blob, File};

use super::{ask, ask_shown, list_runs, refused_while_training, save_files};
use crate::{
    page::state::{App, Busy, Screen, Shown, TableFile, ToClassify},
    protocol::{Classified, FromEngine, InUse, ToEngine, Writing},
};

/// Opens a classifier's file.
pub fn open_bundle(app: App, file: File) {
    if refused_while_training(app, "A classifier can be opened") {
        return;
    }
    let blob: Blob = file.unchecked_into();
    let busy = Busy::Working("Opening the classifier…");
    ask_shown(app, busy, ToEngine::OpenBundle, &[blob], move |message, _| {
        if let FromEngine::Classifier(classifier) = message {
            app.shown.set(None);
            app.to_classify.set(None);
            app.classifier.set(Some(classifier));
            app.screen.set(Screen::Using);
        }
    });
}

/// Takes a finished run's classifier into use, with its own results.
pub fn open_run(app: App, key: String) {
    if refused_while_training(app, "Another classifier can be used") {
        return;
    }
    ask(app, ToEngine::OpenRun { key }, &[], move |message, _| {
        if let FromEngine::InUse(in_use) = message {
            app.to_classify.set(None);
            take_in_use(app, in_use);
        }
    });
}

/// Shows a classifier and the results that belong to it, and no others.
fn take_in_use(app: App, in_use: InUse) {
    let InUse { classifier, run, test } = in_use;
    app.shown.set(test.map(|test| Shown { classifier: classifier.id, run, test }));
    app.classifier.set(Some(classifier));
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
    if refused_while_training(app, "A classifier can be evaluated") {
        return;
    }
    let busy = Busy::Scoring { what: "testing".to_owned(), done: 0, of: 0 };
    ask_shown(app, busy, body, &[], move |message, _| {
        if let FromEngine::Evaluated(in_use) = message {
            take_in_use(app, in_use);
            app.screen.set(Screen::Results);
        }
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

/// Moves the threshold of the classifier that the results on screen belong to; they follow.
pub fn set_threshold(app: App, threshold: f64) {
    let Some(classifier) =
        app.shown.with_untracked(|shown| shown.as_ref().map(|shown| shown.classifier))
    else {
        return;
    };
    let busy = Busy::Working("Evaluating at the new threshold…");
    let body = ToEngine::SetThreshold { threshold, classifier };
    ask_shown(app, busy, body, &[], move |message, _| {
        if let FromEngine::InUse(in_use) = message {
            take_in_use(app, in_use);
            list_runs(app);
        }
    });
}

/// Reads a table that is to be classified, and shows how.
pub fn preview_file(app: App, file: File) {
    if refused_while_training(app, "A table can be classified") {
        return;
    }
    app.to_classify.set(None);
    let (name, options) = (file.name(), TableOptions::default());
    preview_as(app, TableFile { name, blob: file.unchecked_into(), options }, None);
}

/// Reads the table that waits to be classified in another way.
pub fn preview_again(app: App, options: TableOptions) {
    let Some(waiting) = app.to_classify.get_untracked() else { return };
    preview_as(app, TableFile { options: options.clone(), ..waiting.file }, Some(options));
}

fn preview_as(app: App, file: TableFile, options: Option<TableOptions>) {
    let name = file.name.clone();
    let busy = Busy::Reading { name: name.clone(), bytes: 0, total: 0, rows: 0 };
    let blobs = [file.blob.clone()];
    ask_shown(app, busy, ToEngine::PreviewFile { name, options }, &blobs, move |message, _| {
        let mut file = file.clone();
        let (preview, text) = match message {
            FromEngine::FilePreview(preview) => {
                file.options = preview.options.clone();
                let text = preview.text.clone();
                (Some(preview), text)
            }
            // it is read in another way, or not at all
            FromEngine::Failed(failure) if !failure.fatal => (None, None),
            _ => return,
        };
        app.to_classify.set(Some(ToClassify { file, preview, text }));
    });
}

/// Says where the texts of the table come from that waits to be classified.
pub fn choose_text(app: App, text: TextSource) {
    app.to_classify.update(|waiting| {
        if let Some(waiting) = waiting {
            waiting.text = Some(text);
        }
    });
}

/// Adds predictions to the table that waits for it, and saves it.
pub fn classify_file(app: App) {
    let Some(ToClassify { file, preview: Some(preview), text: Some(text) }) =
        app.to_classify.get_untracked()
    else {
        return;
    };
    let total = preview.rows as u64;
    let busy = Busy::Reading { name: preview.name.clone(), bytes: 0, total: 0, rows: total };
    let body = ToEngine::ClassifyFile {
        name: file.name,
        options: file.options,
        text: Some(text),
        for_spreadsheets: app.for_spreadsheets.get_untracked(),
    };
    ask_shown(app, busy, body, &[file.blob], move |message, blobs| {
        if let FromEngine::File { names, note } = message {
            app.to_classify.set(None);
            save_files(app, &names, &blobs, &note);
        }
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
    let body = ToEngine::Generate { prompt, writing };
    ask_shown(app, Busy::Writing, body, &[], move |message, _| match message {
        FromEngine::Wrote { text } => piece(text),
        FromEngine::Written { tokens_per_second, .. } => end(Some(tokens_per_second)),
        FromEngine::Failed(_) | FromEngine::Cancelled => end(None),
        _ => (),
    })
}

/// Gives up a request.
pub fn cancel(app: App, request: u64) {
    ask(app, ToEngine::Cancel { request }, &[], |_, _| ());
}
