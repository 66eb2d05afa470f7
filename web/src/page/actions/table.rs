//! Data: a file read, its columns named, its rows split.

use std::{cell::Cell, time::Duration};

use hearth_classifier::{
    columns::{ClassCount, LabelRule, unite_counts},
    prompt::PromptSpec,
    table::TableOptions,
};
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Blob, File};

use super::{ask, ask_quietly, ask_shown, cancel, refused_while_training, tell};
use crate::{
    page::{
        format::sentence,
        state::{App, Busy, NoticeKind, Sample, TableFile, first_choices},
    },
    protocol::{DataChoices, DataPreview, FromEngine, SplitChoice, ToEngine},
};

/// Reads a table that the user dropped or picked.
pub fn open_table(app: App, file: File) {
    open_table_as(app, file, None);
}

/// Reads a table; of a sample it is known what to ask about it.
pub fn open_table_as(app: App, file: File, sample: Option<Sample>) {
    if refused_while_training(app, "Another table can be loaded") {
        return;
    }
    let (name, options) = (file.name(), TableOptions::default());
    open_file(app, TableFile { name, blob: file.unchecked_into(), options }, sample);
}

/// Reads the file that could not be read in another way.
pub fn open_again(app: App, options: TableOptions) {
    if let Some(file) = app.unread.get_untracked() {
        open_file(app, TableFile { options, ..file }, None);
    }
}

fn open_file(app: App, file: TableFile, sample: Option<Sample>) {
    let TableFile { name, blob, options } = file.clone();
    app.unread.set(None);
    let body = ToEngine::OpenData { name: name.clone(), options };
    let blobs = [blob.clone()];
    read(app, name.clone(), body, &blobs, move |opened| {
        if !opened {
            return app.unread.set(Some(file.clone()));
        }
        app.recovery.update_value(|all| all.data = Some((name.clone(), blob.clone())));
        fitting_question(app, sample.clone());
    });
}

/// Reads the same file in another way.
pub fn read_again(app: App, options: TableOptions) {
    let Some(name) = app.data.with_untracked(|data| data.as_ref().map(|data| data.name.clone()))
    else {
        return;
    };
    read(app, name, ToEngine::ReadAgain { options }, &[], |_| ());
}

fn read(app: App, name: String, body: ToEngine, blobs: &[Blob], opened: impl Fn(bool) + 'static) {
    let busy = Busy::Reading { name, bytes: 0, total: 0, rows: 0 };
    ask_shown(app, busy, body, blobs, move |message, _| match message {
        FromEngine::Data(preview) => {
            take_preview(app, preview);
            opened(true);
            prepare(app);
        }
        FromEngine::Failed(failure) if !failure.fatal => opened(false),
        _ => (),
    });
}

/// A sample brings its question; another file does not keep a sample's.
fn fitting_question(app: App, sample: Option<Sample>) {
    let of_a_sample = app.samples.with_untracked(|samples| {
        app.spec.with_untracked(|spec| samples.iter().any(|s| s.question == spec.question))
    });
    if let Some(sample) = sample {
        app.choices.update(|choices| choices.positive = sample.positive);
        app.spec.update(|spec| (spec.question, spec.words) = (sample.question, sample.words));
    } else if of_a_sample {
        app.spec.update(|spec| spec.question = PromptSpec::default().question);
    }
}

/// Puts a table on screen, with the choices that its columns suggest.
pub fn take_preview(app: App, preview: DataPreview) {
    let roles = preview.roles.clone();
    let rule = numeric_rule(&preview, roles.label);
    app.choices.update(|choices| {
        let split = match choices.split {
            SplitChoice::Share(share) => SplitChoice::Share(share),
            // columns of another file
            _ => SplitChoice::Auto,
        };
        let fresh = DataChoices { roles, rule, split, ..first_choices() };
        *choices = preview.choices.clone().unwrap_or(fresh);
    });
    if preview.choices.is_some() {
        // a run that is gone on with brings its own data; the file picked before is another one
        app.recovery.update_value(|kept| kept.data = None);
    }
    app.report.set(None);
    app.report_error.set(None);
    // what was told of the reading before is over
    let before = app.data.with_untracked(|data| data.as_ref().map(told_of).unwrap_or_default());
    app.notices.update(|all| all.retain(|notice| !before.contains(&notice.what)));
    for what in told_of(&preview) {
        tell(app, NoticeKind::Warning, &what, "");
    }
    app.data.set(Some(preview));
}

/// What a reading warns of, as notices say it.
fn told_of(preview: &DataPreview) -> Vec<String> {
    preview.warnings.iter().map(|w| sentence(&format!("{}: {w}", preview.name))).collect()
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

/// The two classes or more that the choices make, as far as the page can tell; with the rows of each.
pub fn expected_classes(preview: &DataPreview, choices: &DataChoices) -> Option<Vec<ClassCount>> {
    let count = |class: &String, rows| ClassCount { class: class.clone(), rows };
    match &choices.rule {
        LabelRule::AsIs => {
            let values = preview.values.get(choices.roles.label?)?.as_ref()?;
            let labels = &choices.labels;
            let left_out = |value: &String| {
                let missing = labels.missing.iter().any(|m| m.trim().eq_ignore_ascii_case(value));
                value.is_empty() || missing
            };
            let named = values.iter().filter(|(value, _)| !left_out(value));
            let all: Vec<ClassCount> = named.map(|(value, rows)| count(value, *rows)).collect();
            let all = if labels.merge { unite_counts(&all) } else { all };
            Some(all.into_iter().filter(|c| !labels.drop.contains(&c.class)).collect())
        }
        LabelRule::Threshold { above, below, .. } | LabelRule::Median { above, below } => {
            Some(vec![count(below, 0), count(above, 0)])
        }
    }
}

/// Whether two classes are there and nobody has said yet which one is looked for.
pub fn positive_missing(preview: &DataPreview, choices: &DataChoices) -> bool {
    let Some(classes) = expected_classes(preview, choices) else { return false };
    let named = |name: &String| classes.iter().any(|count| count.class == *name);
    classes.len() == 2 && !choices.positive.as_ref().is_some_and(named)
}

thread_local! {
    /// The last question about the choices; a newer one makes it idle.
    static PREPARING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Asks the engine what the choices come to. Needs a label and, of two classes, the one to find.
pub fn prepare(app: App) {
    if app.training.with_untracked(|training| training.request.is_some()) {
        return;
    }
    // counted as they will be once training starts
    let recipe = app.recipe.with_untracked(|recipe| (recipe.validation_share, Some(recipe.seed)));
    app.choices
        .update_untracked(|choices| (choices.validation_share, choices.validation_seed) = recipe);
    let mut choices = app.choices.get_untracked();
    let ready = app.data.with_untracked(|data| {
        data.as_ref()
            .is_some_and(|data| choices.roles.label.is_some() && !positive_missing(data, &choices))
    });
    if let Some(old) = PREPARING.take() {
        cancel(app, old);
    }
    app.report_error.set(None);
    if !ready {
        return app.report.set(None);
    }
    // only two classes have one to find
    let two = app.data.with_untracked(|data| {
        data.as_ref().and_then(|data| Some(expected_classes(data, &choices)?.len() == 2))
    });
    if two != Some(true) {
        choices.positive = None;
    }
    let body = ToEngine::SetRoles { choices, spec: app.spec.get_untracked() };
    let id = ask_quietly(app, body, &[], move |message, _| match message {
        FromEngine::Prepared(report) => {
            let pruned = forget_other_classes(app, &report.classes);
            if let Some(limit) = report.max_tokens {
                app.spec.update(|spec| spec.max_tokens = limit);
            }
            app.report.set(Some(report));
            if pruned {
                prepare(app);
            }
        }
        FromEngine::Failed(failure) => {
            app.report.set(None);
            app.report_error.set(Some(failure));
        }
        _ => (),
    });
    PREPARING.set(Some(id));
}

/// Words and examples of classes that are no more would make every prompt fail. Says whether there were any.
fn forget_other_classes(app: App, classes: &[String]) -> bool {
    let fits = |spec: &PromptSpec| {
        spec.words.iter().all(|word| classes.contains(&word.class))
            && spec.examples.iter().all(|example| classes.contains(&example.class))
    };
    if app.spec.with_untracked(fits) {
        return false;
    }
    app.spec.update(|spec| {
        spec.words.retain(|word| classes.contains(&word.class));
        spec.examples.retain(|example| classes.contains(&example.class));
    });
    true
}

/// Once a model is there, token lengths can be told.
pub fn prepare_again(app: App) {
    if app.report.with_untracked(Option::is_some) {
        prepare(app);
    }
}

/// Gives the file to an engine that was started anew.
pub fn read_again_after_restart(app: App) {
    let Some((name, blob)) = app.recovery.with_value(|kept| kept.data.clone()) else {
        app.data.set(None);
        return app.report.set(None);
    };
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
