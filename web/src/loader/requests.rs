//! Requests to the loader.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

use super::{
    Stop,
    fetch::{Observer, fetch, fetch_piece},
    import::{import, sha256_of},
    kept::{self, Manifest},
    post,
    progress::Progress,
    running::{Control, Running},
    shrink::{Smaller, TOKENIZER},
    target::Target,
};
use crate::{
    engine::blob_source::sha256,
    protocol::{Failure, FromLoader, ModelFile, RemoteModel, ToLoader, WeightsAs},
    storage::{self, Folder, StorageError, scope},
};

/// Tries after a broken connection, and how long each waits, in seconds.
const PAUSES: [u32; 4] = [1, 3, 9, 20];

/// A model in memory only.
type InMemory = (String, Vec<ModelFile>, Vec<Blob>);

/// What the loader knows. Cheap to clone.
#[derive(Clone, Default)]
pub struct Loader {
    running: Running,
    memory: Rc<RefCell<HashMap<String, InMemory>>>,
}

/// An answer and what rides along.
type Reply = (FromLoader, Vec<Blob>);

impl Loader {
    /// Answers a request.
    pub async fn handle(&self, id: u64, body: ToLoader, blobs: Vec<Blob>) -> Reply {
        let result = match body {
            ToLoader::List => self.list().await,
            ToLoader::Fetch { model, weights } => self.fetch(id, model, weights).await,
            ToLoader::Pause { key } => self.control(&key, Control::Pause).await,
            ToLoader::Cancel { key } => self.control(&key, Control::Cancel).await,
            ToLoader::Open { key, weights } => self.open_as(id, &key, weights).await,
            ToLoader::Import { key, name, files, weights } => {
                let manifest = Manifest { name, files, remote: None };
                self.import(id, key, manifest, blobs, weights).await
            }
            ToLoader::RefetchPiece { key, file, piece } => {
                self.refetch(id, &key, &file, piece).await
            }
            ToLoader::Delete { key } => {
                self.running.end(&key, Control::Cancel).await;
                self.delete(&key).await
            }
            ToLoader::DeleteAll => self.delete_all().await,
            ToLoader::Persist => {
                if let Ok(asked) = scope().navigator().storage().persist() {
                    // a browser that refuses says so in `Space::persistent`
                    let _ = JsFuture::from(asked).await;
                }
                self.list().await
            }
        };
        result.unwrap_or_else(|stop| {
            let message = match stop {
                Stop::Cancelled => FromLoader::Cancelled,
                Stop::Paused => FromLoader::Paused { key: String::new(), done: 0 },
                Stop::Failed(failure) => FromLoader::Failed(failure),
                Stop::Broken(why) => FromLoader::Failed(Failure::new(
                    format!("The connection was lost: {why}."),
                    "Resume the download when the network is back.",
                )),
            };
            (message, Vec::new())
        })
    }

    async fn list(&self) -> Result<Reply, Stop> {
        let models = match kept::list().await {
            Ok(models) => models,
            Err(StorageError::Blocked(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok((FromLoader::Kept { models, space: storage::space().await }, Vec::new()))
    }

    /// Asks a running fetch to end. Without one, giving up means deleting what is there.
    async fn control(&self, key: &str, control: Control) -> Result<Reply, Stop> {
        if !self.running.end(key, control).await && control == Control::Cancel {
            return self.delete(key).await;
        }
        self.list().await
    }

    async fn open_as(&self, id: u64, key: &str, weights: WeightsAs) -> Result<Reply, Stop> {
        self.running.begin(key).await?;
        let result = match self.open(key).await {
            Ok(answer) => self.shrunk(id, key, weights, answer).await,
            stopped => stopped,
        };
        self.running.is_over(key);
        result
    }

    async fn open(&self, key: &str) -> Result<Reply, Stop> {
        if let Some((name, files, blobs)) = self.memory.borrow().get(key).cloned() {
            return Ok((
                FromLoader::Files { key: key.to_owned(), name, files, kept: false },
                blobs,
            ));
        }
        let missing =
            || Stop::Failed(Failure::new("This model is not stored completely.", "Load it again."));
        let (manifest, files, blobs) = kept::open(key).await?.ok_or_else(missing)?;
        Ok((
            FromLoader::Files { key: key.to_owned(), name: manifest.name, files, kept: true },
            blobs,
        ))
    }

    async fn delete(&self, key: &str) -> Result<Reply, Stop> {
        self.memory.borrow_mut().remove(key);
        match kept::models().await {
            Ok(models) => models.remove(key).await?,
            Err(StorageError::Blocked(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.list().await
    }

    /// Deletes every model, also those that are on their way.
    async fn delete_all(&self) -> Result<Reply, Stop> {
        for key in self.running.keys() {
            self.running.end(&key, Control::Cancel).await;
        }
        self.memory.borrow_mut().clear();
        match Folder::root().await {
            Ok(root) => root.remove(kept::MODELS).await?,
            Err(StorageError::Blocked(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((FromLoader::Kept { models: Vec::new(), space: storage::space().await }, Vec::new()))
    }

    /// The folder to keep a model in; none, with a warning, where the browser keeps nothing.
    async fn folder(
        &self,
        id: u64,
        key: &str,
        manifest: &Manifest,
    ) -> Result<Option<Folder>, Stop> {
        let made = async {
            let folder = kept::model(key).await?;
            kept::set_about(&folder, manifest).await?;
            Ok::<_, StorageError>(folder)
        };
        match made.await {
            Ok(folder) => Ok(Some(folder)),
            Err(error @ (StorageError::Blocked(_) | StorageError::Full(_))) => {
                let what = format!(
                    "{error}. The model is in memory only and must be downloaded again next time."
                );
                post(id, &FromLoader::Warning { what }, &[]);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn progress(&self, id: u64, key: &str, sizes: &[Option<u64>]) -> Progress {
        Progress::new(self.running.clone(), id, key, sizes)
    }

    async fn fetch(&self, id: u64, model: RemoteModel, weights: WeightsAs) -> Result<Reply, Stop> {
        let key = model.key.clone();
        self.running.begin(&key).await?;
        let result = match self.fetch_all(id, &model).await {
            Ok(answer) => self.shrunk(id, &key, weights, answer).await,
            Err(Stop::Cancelled) => self.delete(&key).await.and(Err(Stop::Cancelled)),
            Err(stop @ (Stop::Failed(_) | Stop::Broken(_))) => {
                self.forget_empty(&key).await;
                Err(stop)
            }
            stopped => stopped,
        };
        self.running.is_over(&key);
        if let Err(Stop::Paused) = result {
            let there = kept::list().await.unwrap_or_default();
            let done = there.iter().find(|m| m.key == key).map_or(0, |m| m.bytes);
            return Ok((FromLoader::Paused { key, done }, Vec::new()));
        }
        result
    }

    /// A fetch that brought nothing leaves no name behind.
    async fn forget_empty(&self, key: &str) {
        let all = kept::list().await.unwrap_or_default();
        if all.iter().any(|model| model.key == key && model.bytes == 0) {
            // what cannot be deleted now shows as empty, and can be deleted by hand
            let _ = self.delete(key).await;
        }
    }

    async fn fetch_all(&self, id: u64, model: &RemoteModel) -> Result<Reply, Stop> {
        let manifest = Manifest {
            name: model.name.clone(),
            files: model.files.iter().map(|f| f.name.clone()).collect(),
            remote: Some(model.clone()),
        };
        let folder = self.folder(id, &model.key, &manifest).await?;
        let sizes: Vec<Option<u64>> = model.files.iter().map(|f| f.bytes).collect();
        let mut progress = self.progress(id, &model.key, &sizes);
        let mut targets = Vec::new();
        for file in &model.files {
            let mut target = match &folder {
                Some(folder) => Target::kept(folder, &file.name).await?,
                None => Target::in_memory(&file.name),
            };
            progress.file = file.name.clone();
            let mut tries = PAUSES.iter();
            let mut there = target.pieces.done();
            loop {
                match fetch(file, &mut target, &mut progress).await {
                    Ok(()) => break,
                    Err(Stop::Broken(why)) => {
                        // a pause or a cancel breaks the connection too
                        progress.check()?;
                        let done = target.pieces.done();
                        if done > there {
                            // it moves: a bad line is worth any number of tries
                            tries = PAUSES.iter();
                        }
                        // less than before where another version of the file began
                        there = done;
                        let Some(&seconds) = tries.next() else { return Err(Stop::Broken(why)) };
                        progress.wait(seconds, there).await?;
                    }
                    Err(stop) => return Err(stop),
                }
            }
            progress.before += target.pieces.done();
            let mut target = target;
            if let Some(expected) = &file.sha256 {
                target = check_hash(file, target, expected, folder.as_ref(), &progress).await?;
            }
            targets.push(target);
        }
        self.files(&model.key, &model.name, targets).await
    }

    async fn files(&self, key: &str, name: &str, targets: Vec<Target>) -> Result<Reply, Stop> {
        let kept = targets.iter().all(Target::is_kept);
        let (mut files, mut blobs) = (Vec::new(), Vec::new());
        for target in targets {
            let pieces = Some(target.pieces.hashes());
            files.push(ModelFile { name: target.name().to_owned(), pieces });
            blobs.push(target.into_blob().await?);
        }
        let (key, name) = (key.to_owned(), name.to_owned());
        if !kept {
            let held = (name.clone(), files.clone(), blobs.clone());
            self.memory.borrow_mut().insert(key.clone(), held);
        }
        Ok((FromLoader::Files { key, name, files, kept }, blobs))
    }

    async fn import(
        &self,
        id: u64,
        key: String,
        manifest: Manifest,
        blobs: Vec<Blob>,
        weights: WeightsAs,
    ) -> Result<Reply, Stop> {
        if manifest.files.is_empty() || manifest.files.len() != blobs.len() {
            return Err(Stop::Failed(Failure::new("The files are missing.", "Choose them again.")));
        }
        self.running.begin(&key).await?;
        let result = match self.import_all(id, &key, &manifest, &blobs, weights).await {
            // the user still has the files: half a copy is of no use
            Err(Stop::Cancelled | Stop::Paused) => {
                self.delete(&key).await.and(Err(Stop::Cancelled))
            }
            ended => ended,
        };
        self.running.is_over(&key);
        result
    }

    async fn import_all(
        &self,
        id: u64,
        key: &str,
        manifest: &Manifest,
        blobs: &[Blob],
        weights: WeightsAs,
    ) -> Result<Reply, Stop> {
        let file = |name: &String| ModelFile { name: name.clone(), pieces: None };
        let picked: Vec<ModelFile> = manifest.files.iter().map(file).collect();
        let as_picked = FromLoader::Files {
            key: key.to_owned(),
            name: manifest.name.clone(),
            files: picked.clone(),
            kept: false,
        };
        if let Some(smaller) = Smaller::of(&picked, blobs, weights).await {
            // floats are not copied to be made smaller from the copy
            let kept = self.import_smaller(id, key, manifest, blobs, &smaller).await?;
            return Ok(kept.unwrap_or((as_picked, blobs.to_vec())));
        }
        let Some(folder) = self.folder(id, key, manifest).await? else {
            return Ok((as_picked, blobs.to_vec()));
        };
        let sizes: Vec<Option<u64>> = blobs.iter().map(|b| Some(b.size() as u64)).collect();
        let mut progress = self.progress(id, key, &sizes);
        let mut targets = Vec::new();
        for (file, blob) in manifest.files.iter().zip(blobs) {
            let mut target = Target::kept(&folder, file).await?;
            progress.file = file.clone();
            import(blob, &mut target, &mut progress).await?;
            progress.before += blob.size() as u64;
            targets.push(target);
        }
        self.files(key, &manifest.name, targets).await
    }

    /// Makes a smaller file of a kept model's floats and keeps it in their place, where that is asked for and
    /// there is room. Otherwise the engine makes its weights smaller each time it loads them.
    async fn shrunk(
        &self,
        id: u64,
        key: &str,
        weights: WeightsAs,
        answer: Reply,
    ) -> Result<Reply, Stop> {
        let (FromLoader::Files { files, kept: true, .. }, blobs) = &answer else {
            return Ok(answer);
        };
        let Some(smaller) = Smaller::of(files, blobs, weights).await else { return Ok(answer) };
        let folder = kept::model(key).await?;
        let Some(mut manifest) = kept::about(&folder).await? else { return Ok(answer) };
        let name = smaller.name(key);
        let mut progress = self.progress(id, key, &[]);
        progress.bits = Some(smaller.bits());
        if let Some(full) = smaller.make(&folder, &name, &mut progress).await? {
            progress.warn(format!("{full}. The model is not quantized in storage."));
            return Ok(answer);
        }
        let old = std::mem::replace(&mut manifest.files, vec![name]);
        manifest.files.extend(old.iter().filter(|file| *file == TOKENIZER).cloned());
        kept::set_about(&folder, &manifest).await?;
        for file in old.iter().filter(|file| !manifest.files.contains(file)) {
            kept::forget(&folder, file).await?;
        }
        self.open(key).await
    }

    /// Keeps of picked files of floats only what is made smaller of them; none where nothing can be kept.
    async fn import_smaller(
        &self,
        id: u64,
        key: &str,
        picked: &Manifest,
        blobs: &[Blob],
        smaller: &Smaller,
    ) -> Result<Option<Reply>, Stop> {
        let name = smaller.name(key);
        let tokenizer = picked.files.iter().position(|file| file == TOKENIZER);
        let mut manifest = Manifest { files: vec![name.clone()], ..picked.clone() };
        manifest.files.extend(tokenizer.map(|_| TOKENIZER.to_owned()));
        let Some(folder) = self.folder(id, key, &manifest).await? else { return Ok(None) };
        let mut progress = self.progress(id, key, &[]);
        if let Some(place) = tokenizer {
            import(&blobs[place], &mut Target::kept(&folder, TOKENIZER).await?, &mut progress)
                .await?;
        }
        progress.bits = Some(smaller.bits());
        match smaller.make(&folder, &name, &mut progress).await? {
            None => self.open(key).await.map(Some),
            Some(full) => {
                progress.warn(format!("{full}. The model is used from your files and not stored."));
                kept::models().await?.remove(key).await?;
                Ok(None)
            }
        }
    }

    /// Fetches one piece again and puts it into its place.
    async fn refetch(&self, id: u64, key: &str, file: &str, piece: u64) -> Result<Reply, Stop> {
        self.running.begin(key).await?;
        let result = self.refetch_piece(id, key, file, piece).await;
        self.running.is_over(key);
        result
    }

    async fn refetch_piece(
        &self,
        id: u64,
        key: &str,
        file: &str,
        piece: u64,
    ) -> Result<Reply, Stop> {
        let again = |what: String| {
            Stop::Failed(Failure::new(what, "Delete the model under Model, then load it again."))
        };
        let folder = kept::model(key).await?;
        let manifest = kept::about(&folder).await?;
        let remote = manifest.and_then(|a| a.remote?.files.into_iter().find(|f| f.name == file));
        let none = || again(format!("{file} is damaged, and its source is not known."));
        let remote = remote.ok_or_else(none)?;
        let target = Target::kept(&folder, file).await?;
        let total = target.pieces.total.ok_or_else(none)?;
        let expected = target.pieces.sha256.get(piece as usize).ok_or_else(none)?;
        let mut progress = self.progress(id, key, &[]);
        let fetched = fetch_piece(&remote, piece, total, &mut progress).await;
        // given up: the rest stays, and the piece is asked for again next time
        progress.check().map_err(|_| Stop::Cancelled)?;
        let bytes = fetched?;
        if sha256(&bytes).await? != *expected {
            return Err(again(format!("{file}: the file on the host has changed.")));
        }
        target.repair(piece, &bytes)?;
        drop(target);
        self.open(key).await
    }
}

/// Compares a whole file with its known hash; a wrong one is deleted.
async fn check_hash(
    file: &crate::protocol::RemoteFile,
    target: Target,
    expected: &str,
    folder: Option<&Folder>,
    watch: &dyn Observer,
) -> Result<Target, Stop> {
    let (name, was_kept) = (file.name.clone(), target.is_kept());
    let pieces = target.pieces.clone();
    let blob = target.into_blob().await?;
    let found = sha256_of(&blob, watch).await?;
    if found == expected.to_lowercase() {
        return match folder.filter(|_| was_kept) {
            Some(folder) => Ok(Target::kept(folder, &name).await?),
            None => Ok(Target::of(&name, blob, pieces)),
        };
    }
    if let Some(folder) = folder {
        folder.remove(&name).await?;
        kept::set_pieces(folder, &name, &kept::Pieces::default()).await?;
    }
    Err(Stop::Failed(Failure::new(
        format!(
            "{name}: its sha256 is {found}, expected {expected}: it is a different file, or was damaged on the way."
        ),
        "It was deleted. Load it again; if this happens again, the host has replaced the file.",
    )))
}
