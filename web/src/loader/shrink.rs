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
    fetch::Observer,
    kept::{self, Pieces},
};
use crate::{
    engine::blob_source::{BlobSource, sha256},
    protocol::{Failure, ModelFile, PIECE, WeightsAs},
    storage::{Folder, StorageError, SyncFile, read_blob},
    weights::smaller,
};

/// What a smaller copy takes along of the files beside it.
pub const TOKENIZER: &str = "tokenizer.json";

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

    /// Of the new file.
    pub fn name(&self, key: &str) -> String {
        format!("{key}-q{}.safetensors", self.bits())
    }

    /// Makes the file `name` in a folder, with the hashes of its pieces. Where the storage is full nothing is
    /// left of it, and the reason comes back.
    pub async fn make(
        &self,
        folder: &Folder,
        name: &str,
        watch: &mut dyn Observer,
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
        watch: &mut dyn Observer,
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
        let pieces = hashed(folder, name, watch).await?;
        kept::set_pieces(folder, name, &pieces).await?;
        Ok(None)
    }
}

/// Hashes of the pieces of a file that is whole.
async fn hashed(folder: &Folder, name: &str, watch: &dyn Observer) -> Result<Pieces, Stop> {
    let gone = || StorageError::Other { name: name.to_owned(), what: "it is gone".to_owned() };
    let blob: Blob = folder.file(name).await?.ok_or_else(gone)?.into();
    let total = blob.size() as u64;
    let mut hashes = Vec::new();
    for at in (0..total).step_by(PIECE as usize) {
        watch.check()?;
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

#[cfg(test)]
mod tests {
    use hearth_formats::{convert::MemorySink, source::MemorySource};
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;
    use crate::wire::blob;

    const MODEL: &[u8] =
        include_bytes!("../../../crates/gemma/tests/golden/tiny_gemma3/model/model.safetensors");
    const CONFIG: &[u8] =
        include_bytes!("../../../crates/gemma/tests/golden/tiny_gemma3/model/config.json");
    const GGUF: &[u8] = include_bytes!("../../fixtures/tiny-gemma3.gguf");

    /// Counts what it sees; stops when the bytes are there.
    struct Seen {
        last: u64,
        stop_at: u64,
    }

    impl Observer for Seen {
        fn see(&mut self, done: u64, total: Option<u64>) -> Result<(), Stop> {
            assert!(done >= self.last && Some(done) <= total);
            self.last = done;
            if done >= self.stop_at { Err(Stop::Cancelled) } else { Ok(()) }
        }
        fn warn(&mut self, what: String) {
            panic!("{what}");
        }
    }

    async fn of(files: &[(&str, &[u8])], weights: WeightsAs) -> Option<Smaller> {
        let file = |(name, _): &(&str, &[u8])| ModelFile { name: (*name).to_owned(), pieces: None };
        let names: Vec<ModelFile> = files.iter().map(file).collect();
        let blobs: Vec<Blob> = files.iter().map(|(_, bytes)| blob(bytes, "").unwrap()).collect();
        Smaller::of(&names, &blobs, weights).await
    }

    #[wasm_bindgen_test]
    async fn a_smaller_file_is_what_quantizing_makes_and_has_the_hashes_of_its_pieces() {
        let root = Folder::root().await.unwrap().folder("tests").await.unwrap();
        root.remove("shrink").await.unwrap();
        let folder = root.folder("shrink").await.unwrap();
        let files = [("model.safetensors", MODEL), ("config.json", CONFIG)];
        let smaller = of(&files, WeightsAs::Q4).await.unwrap();
        assert_eq!((smaller.bits(), smaller.name("m").as_str()), (4, "m-q4.safetensors"));
        let mut seen = Seen { last: 0, stop_at: u64::MAX };
        assert!(smaller.make(&folder, "m", &mut seen).await.unwrap().is_none());

        let source = |(name, bytes): (&str, &'static [u8])| {
            Rc::new(MemorySource::new(name, bytes)) as Rc<dyn ByteSource>
        };
        let checkpoint = Checkpoint::open(files.map(source).to_vec()).await.unwrap();
        let config = config_json(&checkpoint).unwrap();
        let source = checkpoint.name().to_owned();
        let origin = Origin { source, source_sha256: String::new(), config };
        let wanted = Conversion::plan(&checkpoint, WeightLayout::Q4, &[], &origin, "m").unwrap();
        assert_eq!(seen.last, wanted.source_bytes());
        let mut sink = MemorySink::default();
        wanted.run(&mut sink, |_| true).await.unwrap();
        let made = folder.read("m").await.unwrap().unwrap();
        assert!(made == sink.0 && made.len() < MODEL.len() / 3, "{} bytes", made.len());
        let pieces = kept::pieces(&folder, "m").await.unwrap();
        assert_eq!((pieces.whole, pieces.total), (true, Some(made.len() as u64)));
        assert_eq!(pieces.sha256, [sha256(&Uint8Array::from(&made[..])).await.unwrap()]);
    }

    #[wasm_bindgen_test]
    async fn what_is_stopped_leaves_nothing() {
        let root = Folder::root().await.unwrap().folder("tests").await.unwrap();
        let folder = root.folder("shrink-stopped").await.unwrap();
        let files = [("model.safetensors", MODEL), ("config.json", CONFIG)];
        let smaller = of(&files, WeightsAs::Q8).await.unwrap();
        let mut seen = Seen { last: 0, stop_at: MODEL.len() as u64 / 2 };
        let stopped = smaller.make(&folder, "m", &mut seen).await;
        assert!(matches!(stopped, Err(Stop::Cancelled)));
        assert!(folder.file("m").await.unwrap().is_none());
    }

    #[wasm_bindgen_test]
    async fn what_is_small_stays() {
        let files = [("model.safetensors", MODEL), ("config.json", CONFIG)];
        for weights in [WeightsAs::Exact, WeightsAs::Auto] {
            assert!(of(&files, weights).await.is_none());
        }
        assert!(of(&[("m.gguf", GGUF)], WeightsAs::Q4).await.is_none());
        assert!(of(&[("m.gguf", &MODEL[..100])], WeightsAs::Q4).await.is_none());
    }
}
