//! A smaller file made of a model's floats, so that the next start reads a third of the bytes.

use std::rc::Rc;

use hearth_formats::{
    checkpoint::Checkpoint,
    convert::{ByteSink, Conversion, ConvertError, WriteFuture},
    hearth::Origin,
    layout::WeightLayout,
    source::ByteSource,
};
use hearth_gemma::config::config_json;
use js_sys::Uint8Array;
use web_sys::Blob;

use super::{
    Stop,
    desk::{Answer, Desk},
    fetch::Watch,
    import::import,
    kept::{self, About, Pieces},
    target::Target,
};
use crate::{
    engine::blob_source::{BlobSource, sha256},
    protocol::{Failure, FromLoader, ModelFile, PIECE, WeightsAs},
    storage::{Folder, StorageError, SyncFile, read_blob},
    weights::smaller,
};

/// What a smaller copy takes along of the files beside it.
const TOKENIZER: &str = "tokenizer.json";

impl Desk {
    /// Makes a smaller file of a kept model's floats and keeps it in their place, where that is asked for and
    /// there is room. Otherwise the engine makes its weights smaller each time it loads them.
    pub(super) async fn shrunk(
        &self,
        id: u64,
        key: &str,
        weights: WeightsAs,
        answer: Answer,
    ) -> Result<Answer, Stop> {
        let (FromLoader::Files { files, kept: true, .. }, blobs) = &answer else {
            return Ok(answer);
        };
        let Some(smaller) = Smaller::of(files, blobs, weights).await else { return Ok(answer) };
        let folder = kept::model(key).await?;
        let Some(mut about) = kept::about(&folder).await? else { return Ok(answer) };
        let name = smaller.name(key);
        let mut teller = self.teller(id, key, &[]);
        teller.bits = Some(smaller.bits());
        if let Some(full) = smaller.make(&folder, &name, &mut teller).await? {
            teller.warn(format!("{full}. The model stays as large as it is."));
            return Ok(answer);
        }
        let old = std::mem::replace(&mut about.files, vec![name]);
        about.files.extend(old.iter().filter(|file| *file == TOKENIZER).cloned());
        kept::set_about(&folder, &about).await?;
        for file in old.iter().filter(|file| !about.files.contains(file)) {
            kept::forget(&folder, file).await?;
        }
        self.open(key).await
    }

    /// Keeps of picked files of floats only what is made smaller of them; none where nothing can be kept.
    pub(super) async fn import_smaller(
        &self,
        id: u64,
        key: &str,
        picked: &About,
        blobs: &[Blob],
        smaller: &Smaller,
    ) -> Result<Option<Answer>, Stop> {
        let name = smaller.name(key);
        let tokenizer = picked.files.iter().position(|file| file == TOKENIZER);
        let mut about = About { files: vec![name.clone()], ..picked.clone() };
        about.files.extend(tokenizer.map(|_| TOKENIZER.to_owned()));
        let Some(folder) = self.folder(id, key, &about).await? else { return Ok(None) };
        let mut teller = self.teller(id, key, &[]);
        if let Some(place) = tokenizer {
            import(&blobs[place], &mut Target::kept(&folder, TOKENIZER).await?, &mut teller)
                .await?;
        }
        teller.bits = Some(smaller.bits());
        match smaller.make(&folder, &name, &mut teller).await? {
            None => self.open(key).await.map(Some),
            Some(full) => {
                teller.warn(format!("{full}. The model is used from your files and not kept."));
                kept::models().await?.remove(key).await?;
                Ok(None)
            }
        }
    }
}

/// What is to be made of a model.
pub struct Smaller {
    checkpoint: Checkpoint,
    layout: WeightLayout,
}

impl Smaller {
    /// None where the files would not get smaller. Files that cannot be read are the engine's to complain about.
    pub async fn of(files: &[ModelFile], blobs: &[Blob], weights: WeightsAs) -> Option<Self> {
        let source = |(file, blob): (&ModelFile, &Blob)| {
            let pieces = file.pieces.clone();
            let source = BlobSource::new(&file.name, blob.clone(), pieces, Rc::default());
            Rc::new(source) as Rc<dyn ByteSource>
        };
        let sources = files.iter().zip(blobs).map(source).collect();
        let checkpoint = Checkpoint::open(sources).await.ok()?;
        let layout = smaller(weights, &checkpoint)?;
        Some(Self { checkpoint, layout })
    }

    /// Bits of a weight in the new file.
    pub fn bits(&self) -> u32 {
        if self.layout == WeightLayout::Q8 { 8 } else { 4 }
    }

    fn name(&self, key: &str) -> String {
        format!("{key}-q{}.safetensors", self.bits())
    }

    /// Makes the file `name` in a folder, with the hashes of its pieces. Where the storage is full nothing is
    /// left of it, and the reason comes back.
    pub async fn make(
        &self,
        folder: &Folder,
        name: &str,
        watch: &mut dyn Watch,
    ) -> Result<Option<StorageError>, Stop> {
        let written = self.write(folder, name, watch).await;
        if !matches!(written, Ok(None)) {
            folder.remove(name).await?;
        }
        written
    }

    async fn write(
        &self,
        folder: &Folder,
        name: &str,
        watch: &mut dyn Watch,
    ) -> Result<Option<StorageError>, Stop> {
        let failed = |what: String| Stop::Failed(Failure::new(what, ""));
        let config = config_json(&self.checkpoint).map_err(|e| failed(e.to_string()))?;
        let source = self.checkpoint.name().to_owned();
        let origin = Origin { source, source_sha256: String::new(), config };
        let conversion = Conversion::plan(&self.checkpoint, self.layout, &[], &origin, name)
            .map_err(|e| failed(e.to_string()))?;
        let total = conversion.source_bytes();
        let mut sink = Sink { file: folder.open(name).await?, fault: None };
        sink.file.truncate(0)?;
        let mut stopped = None;
        let progress = |read| {
            stopped = watch.see(read, Some(total)).err();
            stopped.is_none()
        };
        if let Err(error) = conversion.run(&mut sink, progress).await {
            return match (error, sink.fault.take(), stopped) {
                (ConvertError::Sink(_), Some(full @ StorageError::Full(_)), _) => Ok(Some(full)),
                (ConvertError::Sink(_), Some(fault), _) => Err(fault.into()),
                (ConvertError::Stopped, _, Some(stop)) => Err(stop),
                (error, ..) => Err(failed(error.to_string())),
            };
        }
        sink.file.flush()?;
        drop(sink);
        let pieces = hashed(folder, name).await?;
        kept::set_pieces(folder, name, &pieces).await?;
        Ok(None)
    }
}

/// Hashes of the pieces of a file that is whole.
async fn hashed(folder: &Folder, name: &str) -> Result<Pieces, Stop> {
    let gone = || StorageError::Other { name: name.to_owned(), what: "it is gone".to_owned() };
    let blob: Blob = folder.file(name).await?.ok_or_else(gone)?.into();
    let total = blob.size() as u64;
    let mut hashes = Vec::new();
    for at in (0..total).step_by(PIECE as usize) {
        hashes.push(sha256(&read_blob(&blob, at, (at + PIECE).min(total)).await?).await?);
    }
    Ok(Pieces { total: Some(total), etag: None, sha256: hashes, whole: true })
}

/// A file of the site's storage.
struct Sink {
    file: SyncFile,
    /// Why it could not be written.
    fault: Option<StorageError>,
}

impl ByteSink for Sink {
    fn write_at<'a>(&'a mut self, offset: u64, bytes: &'a [u8]) -> WriteFuture<'a> {
        let written = self.file.write_at(offset, &Uint8Array::from(bytes));
        let told = written.map_err(|error| {
            let words = error.to_string();
            self.fault = Some(error);
            words
        });
        Box::pin(async move { told })
    }
}
