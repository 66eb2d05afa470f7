//! Streams made-up tensors into files that get their names when all is written.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use hearth_formats::gguf::header::TensorType;

use super::{
    Tensor,
    pool::{self, Norms, PIECE, Pool, Storage},
};
use crate::{interrupt, options::Options, output::Bar};

/// Bytes between two looks at Ctrl-C.
const STEP: usize = 1 << 20;

/// One tensor of a file, or one part of a tensor that has several.
pub struct Piece {
    name: String,
    weights: u64,
    storage: Storage,
    part: usize,
    /// 1/√K.
    deviation: f32,
    norm: Option<Norms>,
}

impl Piece {
    pub fn new(tensor: &Tensor, storage: Storage, part: usize, norms: Norms) -> Self {
        Self {
            name: tensor.name.clone(),
            weights: tensor.weights(),
            storage,
            part,
            deviation: (tensor.columns as f32).powf(-0.5),
            norm: tensor.is_norm().then_some(norms),
        }
    }

    pub fn of_gguf(tensor: &Tensor, kind: TensorType) -> Self {
        let storage = match kind {
            TensorType::Q8_0 => Storage::Q8_0,
            TensorType::Q6_K => Storage::Q6K,
            _ => Storage::Q4K,
        };
        Self::new(tensor, storage, 0, Norms::GainF32)
    }
}

/// Everything that is written for one model.
pub struct Out {
    target: PathBuf,
    /// What is written until all is there: OUT.part.
    staged: PathBuf,
    seed: u64,
    pools: HashMap<(Storage, u32), Rc<Pool>>,
    bar: Bar,
    bytes: u64,
    files: usize,
    finished: bool,
}

impl Out {
    /// Nothing is written yet.
    pub fn new(options: &Options, target: &Path, seed: u64) -> Result<Self> {
        if target.exists() {
            bail!("{}: it exists already; remove it, or give another name", target.display());
        }
        let mut staged = target.as_os_str().to_owned();
        staged.push(".part");
        let staged = PathBuf::from(staged);
        if staged.exists() {
            bail!("{}: left over from a run that was killed; remove it", staged.display());
        }
        Ok(Self {
            target: target.to_owned(),
            staged,
            seed,
            pools: HashMap::new(),
            bar: Bar::of_bytes(options, "writing", 0),
            bytes: 0,
            files: 0,
            finished: false,
        })
    }

    /// Where `path`, which is OUT or in it, is written for now.
    fn place(&self, path: &Path) -> Result<PathBuf> {
        let Ok(inside) = path.strip_prefix(&self.target) else { return Ok(self.staged.clone()) };
        if inside.as_os_str().is_empty() {
            return Ok(self.staged.clone());
        }
        std::fs::create_dir_all(&self.staged)
            .with_context(|| format!("{}: creating the folder", self.staged.display()))?;
        Ok(self.staged.join(inside))
    }

    /// A small file in the folder OUT.
    pub fn small(&mut self, folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.place(&folder.join(name))?;
        std::fs::write(&path, bytes).with_context(|| format!("{}: writing", path.display()))?;
        self.bytes += bytes.len() as u64;
        self.files += 1;
        Ok(())
    }

    /// A file of a header and tensors that begin at multiples of `alignment`.
    pub fn file(
        &mut self,
        path: &Path,
        header: &[u8],
        pieces: &[Piece],
        alignment: u64,
    ) -> Result<()> {
        let path = self.place(path)?;
        let at = || format!("{}: writing", path.display());
        let mut file = BufWriter::with_capacity(STEP, File::create(&path).with_context(at)?);
        file.write_all(header).with_context(at)?;
        let mut written = header.len() as u64;
        let size = |piece: &Piece| match piece.norm {
            Some(_) => 4 * piece.weights,
            None => piece.weights / PIECE as u64 * piece.storage.bytes()[piece.part] as u64,
        };
        let total = self.bytes + written + pieces.iter().map(size).sum::<u64>();
        for piece in pieces {
            let mut rng = pool::rng_of(&piece.name, self.seed);
            let pool = self.pool(piece);
            let mut buffer = match piece.norm {
                Some(norms) => pool::norm(norms, piece.weights, &mut rng),
                None => Vec::with_capacity(STEP + 512),
            };
            let pieces = if piece.norm.is_some() { 0 } else { piece.weights / PIECE as u64 };
            for _ in 0..pieces {
                pool.push(piece.part, &mut rng, &mut buffer);
                if buffer.len() >= STEP {
                    file.write_all(&buffer).with_context(at)?;
                    written += buffer.len() as u64;
                    buffer.clear();
                    self.bar.at_of(self.bytes + written, total);
                    if interrupt::asked() {
                        bail!("stopped");
                    }
                }
            }
            written += buffer.len() as u64;
            buffer
                .resize(buffer.len() + (written.next_multiple_of(alignment) - written) as usize, 0);
            written = written.next_multiple_of(alignment);
            file.write_all(&buffer).with_context(at)?;
        }
        let file = file.into_inner().map_err(|error| error.into_error()).with_context(at)?;
        file.sync_all().with_context(at)?;
        self.bytes += written;
        self.files += 1;
        Ok(())
    }

    fn pool(&mut self, piece: &Piece) -> Rc<Pool> {
        let key = (piece.storage, piece.deviation.to_bits());
        let make = || Rc::new(Pool::new(piece.storage, piece.deviation, self.seed));
        self.pools.entry(key).or_insert_with(make).clone()
    }

    /// Gives everything its name: number of files, bytes.
    pub fn finish(mut self) -> Result<(usize, u64)> {
        std::fs::rename(&self.staged, &self.target)
            .with_context(|| format!("{}: renaming to it", self.target.display()))?;
        self.finished = true;
        Ok((self.files, self.bytes))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        // Nothing half written stays; what cannot be removed is named at the next run.
        if !self.finished && self.staged.is_dir() {
            let _ = std::fs::remove_dir_all(&self.staged);
        } else if !self.finished {
            let _ = std::fs::remove_file(&self.staged);
        }
    }
}
