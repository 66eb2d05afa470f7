//! Training, and what is left of it.

use std::cell::Cell;

use leptos::prelude::*;
use web_sys::Blob;

use super::{
    ask, ask_quietly, cancel, list_models, refused_while_training, stay_awake, take_preview, tell,
};
use crate::{
    page::state::{App, NoticeKind, Screen, Shown, Training},
    protocol::{Failure, FilledPrompt, FromEngine, RunRecord, RunState, ToEngine},
};

thread_local! {
    /// The last question about a plan; a newer one makes it idle.
    static PLANNING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// What training would take.
pub fn plan(app: App) {
    let ready = app.model_ready_untracked() && app.report.with_untracked(Option::is_some);
    if !ready || app.training.with_untracked(|training| training.request.is_some()) {
        return;
    }
    if let Some(old) = PLANNING.take() {
        cancel(app, old);
    }
    let body = ToEngine::Plan {
        spec: app.spec.get_untracked(),
        recipe: app.recipe.get_untracked(),
        memory: app.memory.get_untracked(),
        zero_shot: app.zero_shot.get_untracked(),
    };
    let id = ask_quietly(app, body, &[], move |message, _| match message {
        FromEngine::Planned(plan) => {
            app.plan_error.set(None);
            app.plan.set(Some(plan));
        }
        FromEngine::Failed(failure) => {
            app.plan.set(None);
            app.plan_error.set(Some(failure));
        }
        _ => (),
    });
    PLANNING.set(Some(id));
}

/// The prompt of a usable row, from 0, as the model reads it. `answer` gets it, or why there is none.
pub fn fill_prompt(app: App, row: usize, answer: impl Fn(Result<FilledPrompt, Failure>) + 'static) {
    let body = ToEngine::FillPrompt { spec: app.spec.get_untracked(), row };
    ask_quietly(app, body, &[], move |message, _| match message {
        FromEngine::Prompt(prompt) => answer(Ok(prompt)),
        FromEngine::Failed(failure) => answer(Err(failure)),
        _ => (),
    });
}

/// Trains and measures.
pub fn train(app: App, name: String) {
    let body = ToEngine::Train {
        name,
        spec: app.spec.get_untracked(),
        recipe: app.recipe.get_untracked(),
        memory: app.memory.get_untracked(),
        zero_shot: app.zero_shot.get_untracked(),
    };
    follow(app, body);
}

/// Goes on with a run.
pub fn resume(app: App, key: String) {
    show_settings(app, &key);
    follow(app, ToEngine::ResumeRun { key });
}

/// Ends a run that stands still, and keeps its best.
pub fn finish(app: App, key: String) {
    show_settings(app, &key);
    follow(app, ToEngine::FinishRun { key });
}

/// A run that is gone on with has a question and a recipe of its own.
fn show_settings(app: App, key: &str) {
    let run = app.runs.with_untracked(|runs| runs.iter().find(|run| run.key == key).cloned());
    if let Some(run) = run.filter(|_| !app.is_training()) {
        app.spec.set(run.spec);
        app.recipe.set(run.recipe);
        app.memory.set(run.memory);
        app.zero_shot.set(run.zero_shot);
    }
}

fn follow(app: App, body: ToEngine) {
    if app.is_training() {
        return;
    }
    // nobody waits for an estimate any more
    if let Some(old) = PLANNING.take() {
        cancel(app, old);
    }
    app.training.set(Training::default());
    app.screen.set(Screen::Train);
    stay_awake(true);
    let mut fresh = true;
    let id = ask(app, body, &[], move |message, _: Vec<Blob>| match message {
        FromEngine::Data(preview) => take_preview(app, preview),
        FromEngine::Prepared(report) => app.report.set(Some(report)),
        FromEngine::Training(progress) => {
            let first = std::mem::take(&mut fresh);
            app.training.update(|training| {
                if first {
                    training.steps.clear();
                }
                training.steps.extend(progress.new_steps.iter().cloned());
                training.scoring = None;
                training.progress = Some(progress);
            });
        }
        FromEngine::EpochEnded(epoch) => app.training.update(|training| {
            training.epochs.retain(|old| old.epoch != epoch.epoch);
            training.epochs.push(epoch);
        }),
        FromEngine::Scoring { what, done, of } => app.training.update(|training| {
            // the training was stopped; the evaluation was not
            if training.scoring.is_none() {
                training.asked = None;
            }
            training.scoring = Some((what, done, of));
        }),
        FromEngine::Trained { run, test, classifier } => {
            ended(app);
            let done = if test.is_some() { "Trained and evaluated." } else { "Trained." };
            let id = classifier.id;
            app.shown.set(test.map(|test| Shown { classifier: id, run: Some(run), test }));
            app.classifier.set(Some(classifier));
            app.screen.set(Screen::Results);
            tell(app, NoticeKind::Good, done, "");
            list_runs(app);
            list_models(app);
        }
        FromEngine::Paused { .. } => {
            ended(app);
            tell(app, NoticeKind::Good, "Paused. Resume the run at any time.", "");
            list_runs(app);
        }
        FromEngine::Failed(_) | FromEngine::Cancelled => {
            ended(app);
            list_runs(app);
        }
        _ => (),
    });
    app.training.update(|training| training.request = Some(id));
}

fn ended(app: App) {
    stay_awake(false);
    app.training.update(|training| {
        training.request = None;
        training.asked = None;
        training.scoring = None;
    });
}

/// Saves a snapshot and stands still.
pub fn pause(app: App) {
    app.training.update(|training| training.asked = Some("Pausing…"));
    ask(app, ToEngine::Pause, &[], |_, _| ());
}

/// Ends the training now and keeps the best so far; once it is trained, does without the rest of the evaluation.
pub fn stop(app: App) {
    app.training.update(|training| {
        training.asked =
            Some(if training.scoring.is_some() { "Skipping…" } else { "Stopping…" });
    });
    ask(app, ToEngine::Stop, &[], |_, _| ());
}

/// All kept runs.
pub fn list_runs(app: App) {
    ask(app, ToEngine::ListRuns, &[], move |message, _| {
        if let FromEngine::Runs { runs } = message {
            app.runs.set(runs);
        }
    });
}

/// Forgets a run.
pub fn delete_run(app: App, key: String) {
    if refused_while_training(app, "A run can be deleted") {
        return;
    }
    if app.runs.with_untracked(|runs| runs.iter().any(|run| run.key == key && elsewhere(run))) {
        return tell(app, NoticeKind::Warning, "This run trains in another tab.", ELSEWHERE);
    }
    ask(app, ToEngine::DeleteRun { key }, &[], move |message, _| {
        if let FromEngine::Runs { runs } = message {
            app.runs.set(runs);
        }
    });
}

/// What to do about a run that trains in another tab.
pub const ELSEWHERE: &str = "Pause or stop it there, or close that tab.";

/// Whether another tab trains a run.
pub fn elsewhere(run: &RunRecord) -> bool {
    run.state == RunState::Elsewhere
}

/// Runs that were paused or broken off, newest first.
pub fn unfinished(app: App) -> Vec<RunRecord> {
    app.runs
        .with(|runs| runs.iter().filter(|run| run.state != RunState::Finished).cloned().collect())
}
