//! What a click sets off: requests to the workers, and their answers put where the screens see them.

mod awake;
mod erase;
mod export;
mod guard;
mod models;
mod samples;
mod table;
mod training;
mod usage;

use std::{cell::Cell, rc::Rc};

pub use awake::*;
pub use erase::*;
pub use export::*;
use futures_util::StreamExt;
pub use guard::*;
use leptos::{prelude::*, task::spawn_local};
pub use models::*;
pub use samples::*;
pub use table::*;
pub use training::*;
pub use usage::*;
use web_sys::Blob;

use super::{
    client::Client,
    notices::{fail, tell},
    offline,
    state::{App, Busy, Gpu, Job, ModelStage, NoticeKind, Training},
};
use crate::{
    protocol::{FromEngine, FromLoader, ToEngine, UNASKED},
    traffic::observe,
};

/// Times the engine is started anew in a row before the page gives up.
const TRIES: u32 = 3;

/// Starts the workers and asks what is there.
pub fn begin(app: App) {
    let engine = Client::new(move |message| from_engine(app, message));
    let loader = Client::new(move |message| from_loader(app, message));
    engine.start("");
    loader.start("");
    app.engine.set_value(engine);
    app.loader.set_value(loader);
    open_gpu(app);
    list_models(app);
    fetch_offers(app);
    fetch_samples(app);
    list_runs(app);
    observe(move |more| count_traffic(app, more));
    offline::keep(app);
    guard_page(app);
    watch_visibility(app);
}

/// Sends a request to the engine and hands every answer to `answer`. Failures become notices, also where
/// `answer` looks at them.
pub fn ask(
    app: App,
    body: ToEngine,
    blobs: &[Blob],
    mut answer: impl FnMut(FromEngine, Vec<Blob>) + 'static,
) -> u64 {
    ask_quietly(app, body, blobs, move |message, blobs| {
        if let FromEngine::Failed(failure) = &message
            && !failure.fatal
            && failure.piece.is_none()
        {
            fail(app, failure);
        }
        answer(message, blobs);
    })
}

/// As [`ask`], for a screen that shows failures itself, beside what caused them.
pub fn ask_quietly(
    app: App,
    body: ToEngine,
    blobs: &[Blob],
    mut answer: impl FnMut(FromEngine, Vec<Blob>) + 'static,
) -> u64 {
    let (id, mut answers) = app.engine.with_value(|engine| engine.ask(body, blobs));
    spawn_local(async move {
        while let Some((message, blobs)) = answers.next().await {
            common(app, &message);
            answer(message, blobs);
        }
    });
    id
}

/// As [`ask`], for a job that the page shows until it ends, with a button that cancels it.
pub fn ask_shown(
    app: App,
    busy: Busy,
    body: ToEngine,
    blobs: &[Blob],
    mut answer: impl FnMut(FromEngine, Vec<Blob>) + 'static,
) -> u64 {
    let own = Rc::new(Cell::new(UNASKED));
    let asked = own.clone();
    let request = ask(app, body, blobs, move |message, blobs| {
        show(app, asked.get(), &message);
        answer(message, blobs);
    });
    own.set(request);
    app.jobs.update(|jobs| jobs.push(Job { request, busy }));
    request
}

/// Shows how a job comes along.
fn show(app: App, request: u64, message: &FromEngine) {
    app.jobs.update(|jobs| {
        if message.ends() {
            return jobs.retain(|job| job.request != request);
        }
        let Some(job) = jobs.iter_mut().find(|job| job.request == request) else { return };
        match (message, &mut job.busy) {
            (
                FromEngine::Reading { bytes, total, rows },
                Busy::Reading { bytes: b, total: t, rows: r, .. },
            ) => {
                (*b, *t, *r) = (*bytes, *total, *rows);
            }
            (FromEngine::Scoring { what, done, of }, busy) => {
                *busy = Busy::Scoring { what: what.clone(), done: *done, of: *of };
            }
            _ => (),
        }
    });
}

/// What is treated alike whoever asked.
fn common(app: App, message: &FromEngine) {
    match message {
        FromEngine::Warning { what } => tell(app, NoticeKind::Warning, what, ""),
        FromEngine::Stored(runs) => app.stored_runs.set(runs.clone()),
        // the page asks for none of these by itself
        FromEngine::Training(_)
        | FromEngine::Evaluated(_)
        | FromEngine::Classified(_)
        | FromEngine::File { .. }
        | FromEngine::Written { .. } => app.restarts.set_value(0),
        _ => (),
    }
}

fn open_gpu(app: App) {
    ask(app, ToEngine::OpenGpu, &[], move |message, _| match message {
        FromEngine::Gpu(gpu) => app.gpu.set(Gpu::On(gpu)),
        FromEngine::Failed(failure) if !failure.fatal => {
            app.gpu.set(Gpu::None(format!("{} {}", failure.what, failure.advice)));
        }
        _ => (),
    });
}

/// What the engine says unasked.
fn from_engine(app: App, message: FromEngine) {
    match message {
        FromEngine::Ready { policy } => app.policy.set(Some(policy)),
        FromEngine::Refused { reason } => spawn_local(async move {
            if !offline::reload_for_policy(app).await {
                app.gpu.set(Gpu::None(reason));
            }
        }),
        FromEngine::Traffic(more) => count_traffic(app, more),
        FromEngine::RunsChanged => list_runs(app),
        FromEngine::Warning { what } => tell(app, NoticeKind::Warning, &what, ""),
        FromEngine::Failed(mut failure) => {
            let restarts = app.restarts.get_value() < TRIES;
            if failure.fatal {
                failure.advice = after_crash(restarts).to_owned();
            }
            fail(app, &failure);
            if failure.fatal && restarts {
                app.restarts.update_value(|restarts| *restarts += 1);
                restart_engine(app);
            } else if failure.fatal {
                let why = format!("The engine crashed several times. {}", after_crash(false));
                app.gpu.set(Gpu::None(why));
            }
        }
        _ => (),
    }
}

/// What happens after a crash, or what to do where nothing does. A reload may serve the same damaged files.
fn after_crash(restarts: bool) -> &'static str {
    if restarts {
        "The engine restarts."
    } else {
        "It stays off. Reload the page; if that does not help, delete this site's data in the browser's \
         settings, which also deletes stored models and runs."
    }
}

/// Starts the engine anew and tells it again what it knew.
pub fn restart_engine(app: App) {
    let was_training = app.is_training();
    app.training.update(|training| *training = Training { request: None, ..training.clone() });
    app.jobs.set(Vec::new());
    app.gpu.set(Gpu::Opening);
    app.engine.with_value(|engine| engine.start("The engine was restarted."));
    open_gpu(app);
    if was_training {
        let advice =
            "Resume it under Train from its last snapshot. If it had none yet, start it again.";
        tell(app, NoticeKind::Warning, "The run was interrupted.", advice);
    }
    app.recovery.update_value(|kept| kept.held = None);
    // the loader goes on with what it fetches
    match app.stage.get_untracked() {
        ModelStage::None | ModelStage::Fetching(_) => {}
        ModelStage::Loading { .. } | ModelStage::Ready(_) => {
            app.stage.set(ModelStage::None);
            load_again(app);
        }
    }
    read_again_after_restart(app);
    list_runs(app);
}

/// What the loader says unasked.
fn from_loader(app: App, message: FromLoader) {
    match message {
        FromLoader::Traffic(more) => count_traffic(app, more),
        FromLoader::Warning { what } => tell(app, NoticeKind::Warning, &what, ""),
        FromLoader::Failed(failure) => {
            fail(app, &failure);
            app.stage.update(|stage| {
                if matches!(stage, ModelStage::Fetching(_)) {
                    *stage = ModelStage::None;
                }
            });
            if failure.fatal {
                app.loader.with_value(|loader| loader.start("The loader was restarted."));
                list_models(app);
            }
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn only_an_engine_that_restarts_is_said_to() {
        assert!(after_crash(true).contains("restarts"));
        let last = after_crash(false);
        assert!(!last.contains("restarts") && last.contains("delete this site's data"), "{last}");
    }
}
