//! Models: from the network, a file or storage onto the GPU.

use futures_util::StreamExt;
use leptos::{prelude::*, task::spawn_local};
use wasm_bindgen::JsCast;
use web_sys::{Blob, File};

use super::{
    ask_quietly, fail, list_runs, prepare_again, refused_while_loading, refused_while_training,
    tell,
};
use crate::{
    page::{
        offline,
        state::{App, Fetching, ModelStage, NoticeKind},
    },
    protocol::{FromEngine, FromLoader, ModelFile, RemoteModel, ToEngine, ToLoader, Traffic},
};

pub(super) fn ask_loader(
    app: App,
    body: ToLoader,
    blobs: &[Blob],
    mut answer: impl FnMut(FromLoader, Vec<Blob>) + 'static,
) {
    let (_, mut answers) = app.loader.with_value(|loader| loader.ask(body, blobs));
    spawn_local(async move {
        while let Some((message, blobs)) = answers.next().await {
            match &message {
                FromLoader::Failed(failure) => fail(app, failure),
                FromLoader::Warning { what } => tell(app, NoticeKind::Warning, what, ""),
                FromLoader::Kept { models, space } => {
                    app.stored.set(models.clone());
                    app.space.set(Some(*space));
                }
                _ => (),
            }
            answer(message, blobs);
        }
    });
}

/// What is kept, and how much space there is.
pub fn list_models(app: App) {
    ask_loader(app, ToLoader::List, &[], |_, _| ());
}

/// Asks the browser not to clear this site's storage.
pub fn persist(app: App) {
    ask_loader(app, ToLoader::Persist, &[], |_, _| ());
}

/// Deletes a kept model.
pub fn delete_model(app: App, key: String) {
    if refused_while_training(app, "A model can be deleted") {
        return;
    }
    ask_loader(app, ToLoader::Delete { key }, &[], |_, _| ());
}

/// Looks which models this page's own server offers; a static host may offer none.
pub fn fetch_offers(app: App) {
    spawn_local(async move {
        if let Ok(response) = gloo_net::http::Request::get("./models/index.json").send().await
            && response.ok()
            && let Ok(models) = response.json::<Vec<RemoteModel>>().await
        {
            app.offered.set(models);
        }
    });
}

/// Fetches a model, or goes on fetching it, and loads it.
pub fn fetch_model(app: App, model: RemoteModel) {
    if refused_while_loading(app) {
        return;
    }
    let there = app.stored.with_untracked(|stored| {
        stored.iter().find(|kept| kept.key == model.key).map_or(0, |kept| kept.bytes)
    });
    let fetching = Fetching {
        key: model.key.clone(),
        name: model.name.clone(),
        done: there,
        total: model.files.iter().filter_map(|file| file.bytes).sum(),
        ..Fetching::default()
    };
    app.stage.set(ModelStage::Fetching(fetching));
    let weights = app.weights.get_untracked();
    from_loader_to_gpu(app, model.key.clone(), ToLoader::Fetch { model, weights }, &[]);
}

/// Stops fetching; what is there stays.
pub fn pause_fetching(app: App, key: String) {
    ask_loader(app, ToLoader::Pause { key }, &[], |_, _| ());
}

/// Stops fetching; what is there goes.
pub fn cancel_fetching(app: App, key: String) {
    set_out(app);
    ask_loader(app, ToLoader::Cancel { key }, &[], |_, _| ());
    to_held_model(app);
}

/// The way to another model ended: the one before it is still in the engine, if there was one.
fn to_held_model(app: App) {
    let held = app.recovery.with_value(|kept| kept.held.clone());
    app.stage.set(held.map_or(ModelStage::None, ModelStage::Ready));
}

/// The page is on its way to another model, or to none: answers about the one before come too late. Returns the
/// number of the new way.
fn set_out(app: App) -> u64 {
    app.recovery
        .try_update_value(|kept| {
            kept.way += 1;
            kept.way
        })
        .unwrap_or_default()
}

/// Loads a kept model.
pub fn open_model(app: App, key: String) {
    if refused_while_loading(app) {
        return;
    }
    let weights = app.weights.get_untracked();
    from_loader_to_gpu(app, key.clone(), ToLoader::Open { key, weights }, &[]);
}

/// Loads files that the user picked; `keep` stores a copy.
pub fn open_files(app: App, files: Vec<File>, keep: bool) {
    let Some(first) = files.first() else { return };
    if refused_while_loading(app) {
        return;
    }
    let name = name_of(&first.name());
    let names: Vec<String> = files.iter().map(File::name).collect();
    let blobs: Vec<Blob> = files.into_iter().map(JsCast::unchecked_into).collect();
    if keep {
        let key = key_of(&name);
        app.stage.set(ModelStage::Fetching(Fetching {
            key: key.clone(),
            name: name.clone(),
            copying: true,
            ..Fetching::default()
        }));
        let weights = app.weights.get_untracked();
        let import = ToLoader::Import { key: key.clone(), name, files: names, weights };
        from_loader_to_gpu(app, key, import, &blobs);
    } else {
        let files = names.into_iter().map(|name| ModelFile { name, pieces: None }).collect();
        set_out(app);
        load(app, name, files, blobs, String::new());
    }
}

/// `gemma-3-270m-q4_k_m` of `gemma-3-270m-q4_k_m.gguf`.
fn name_of(file: &str) -> String {
    file.rsplit_once('.').map_or(file, |(name, _)| name).to_owned()
}

fn key_of(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' };
    name.chars().map(plain).collect::<String>().trim_matches(['.', '-']).to_lowercase()
}

fn from_loader_to_gpu(app: App, wanted: String, body: ToLoader, blobs: &[Blob]) {
    let way = set_out(app);
    ask_loader(app, body, blobs, move |message, blobs| {
        if app.recovery.with_value(|kept| kept.way == way) {
            on_the_way(app, &wanted, message, blobs);
        } else if message.ends() {
            // given up, or another model was chosen since
            list_models(app);
        }
    });
}

/// What the loader says of the model that the page is on its way to.
fn on_the_way(app: App, wanted: &str, message: FromLoader, blobs: Vec<Blob>) {
    match message {
        FromLoader::Fetching {
            key, done, total, bytes_per_second, seconds_left, waiting, ..
        } => {
            app.stage.update(|stage| {
                if let ModelStage::Fetching(fetching) = stage
                    && fetching.key == key
                {
                    fetching.done = done;
                    fetching.total = if total == 0 { fetching.total } else { total };
                    fetching.bytes_per_second = bytes_per_second;
                    fetching.seconds_left = seconds_left;
                    fetching.waiting = waiting;
                }
            });
        }
        FromLoader::Shrinking { key, bits, done, total, seconds_left } => {
            // a kept model that is opened was not on its way until now
            let name = app.stored.with_untracked(|stored| {
                let kept = stored.iter().find(|kept| kept.key == key);
                kept.map_or_else(|| key.clone(), |kept| kept.name.clone())
            });
            app.stage.update(|stage| {
                let name = match stage {
                    ModelStage::Fetching(fetching) if fetching.key == key => fetching.name.clone(),
                    _ => name,
                };
                let bits = Some(bits);
                let now =
                    Fetching { key, name, done, total, bits, seconds_left, ..Fetching::default() };
                *stage = ModelStage::Fetching(now);
            });
        }
        FromLoader::Files { key, name, files, kept } => {
            if !kept {
                let what = "This browser stores no files for this page (a private window, or no space): the model \
                            is in memory only and must be downloaded again next time.";
                tell(app, NoticeKind::Warning, what, "");
            }
            list_models(app);
            // a training that began meanwhile keeps its model
            if refused_while_training(app, &format!("{name} can be loaded")) {
                return to_held_model(app);
            }
            load(app, name, files, blobs, key);
        }
        FromLoader::Paused { .. } => {
            app.stage.update(|stage| {
                if let ModelStage::Fetching(fetching) = stage
                    && fetching.key == wanted
                {
                    fetching.paused = true;
                }
            });
            list_models(app);
        }
        FromLoader::Cancelled | FromLoader::Failed(_) => {
            to_held_model(app);
            list_models(app);
        }
        _ => (),
    }
}

/// Puts a model's files onto the GPU.
fn load(app: App, name: String, files: Vec<ModelFile>, blobs: Vec<Blob>, key: String) {
    let total = blobs.iter().map(|blob| blob.size() as u64).sum();
    let shown = name.clone();
    let body = ToEngine::LoadModel {
        name: name.clone(),
        files: files.clone(),
        weights: app.weights.get_untracked(),
    };
    let kept = blobs.clone();
    app.recovery.update_value(|all| {
        all.model = Some((name, files, kept, key.clone()));
        all.held = None;
    });
    app.classifier.set(None);
    app.shown.set(None);
    app.to_classify.set(None);
    let mut begun = false;
    let request = ask_quietly(app, body, &blobs, move |message, _| match message {
        FromEngine::Loading { done, total } => {
            begun = true;
            app.stage.update(|stage| {
                if let ModelStage::Loading { done: d, total: t, .. } = stage {
                    (*d, *t) = (done, total);
                }
            });
        }
        FromEngine::ModelReady(model) => {
            app.recovery.update_value(|all| all.held = Some(model.clone()));
            for note in &model.notes {
                tell(app, NoticeKind::Warning, note, "");
            }
            spawn_local(async move {
                // the last that the page fetches for itself: from here on every request counts
                offline::settled(app).await;
                app.stage.set(ModelStage::Ready(model));
                app.traffic.set(Traffic::default());
                prepare_again(app);
                list_runs(app);
            });
        }
        FromEngine::Failed(failure) => {
            app.stage.set(ModelStage::None);
            if let Some(bad) = failure.piece {
                return repair(app, key.clone(), bad.file, bad.piece);
            }
            if failure.fatal {
                return;
            }
            if begun {
                return fail(app, &failure);
            }
            // the page's list may be older than the file: what is kept is asked for before it is told
            let key = key.clone();
            ask_loader(app, ToLoader::List, &[], move |_, _| {
                let kept =
                    app.stored.with_untracked(|all| all.iter().any(|model| model.key == key));
                let mut failure = failure.clone();
                if kept {
                    // what cannot even be opened would be offered again and again
                    failure.advice = format!(
                        "{} It is stored here: delete it under “Stored in this browser”, then load it again.",
                        failure.advice
                    );
                }
                fail(app, &failure);
            });
        }
        FromEngine::Cancelled => app.stage.set(ModelStage::None),
        _ => (),
    });
    app.stage.set(ModelStage::Loading { request, name: shown, done: 0, total });
}

/// Fetches a damaged piece again and loads the model.
fn repair(app: App, key: String, file: String, piece: u64) {
    let what = format!("Piece {piece} of {file} was damaged in storage and is downloaded again.");
    tell(app, NoticeKind::Warning, &what, "");
    app.stage.set(ModelStage::Fetching(Fetching {
        key: key.clone(),
        name: file.clone(),
        repairing: true,
        ..Fetching::default()
    }));
    from_loader_to_gpu(app, key.clone(), ToLoader::RefetchPiece { key, file, piece }, &[]);
}

/// After the engine was started anew.
pub fn load_again(app: App) {
    let kept = app.recovery.with_value(|kept| kept.model.clone());
    if let Some((name, files, blobs, key)) = kept {
        set_out(app);
        load(app, name, files, blobs, key);
    }
}
