//! The tables of the vocabulary, embedding and output head: whole on the device, or left in the
//! model's file, from which single rows are read when they are needed.
//!
//! Gemma 2B's table is a fifth of the model, and scoring among classes reads a few hundred of its
//! 256,000 rows. Rows that come from the file are uploaded in the layout that the whole table would
//! have had and decoded by the same kernel, so the numbers are the same to the bit. What needs the
//! whole table, such as generation, loads it lazily ([`Model::load_tables`]).

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use hearth_formats::{
    checkpoint::Checkpoint,
    layout::{PackedRows, WeightLayout},
};
use hearth_gpu::{Commands, Gpu, Slice};
use hearth_kernels::{
    embed::{self, Embed},
    matrix::Matrix,
};

use crate::{
    ModelError,
    flat::matrix,
    load::{LoadOptions, LoadProgress, Loader, layout_of, stays_in_file},
};

/// A table of the vocabulary, `(V, C)`.
#[allow(clippy::large_enum_variant, reason = "one or two a model")]
pub enum Table {
    /// The whole table.
    OnDevice(Matrix),
    /// Rows are read from the file until the table is loaded.
    FromSource(TableRows),
}

impl Table {
    /// Loads a table onto the device or leaves it in the file, as the options say.
    pub(crate) async fn load<F: FnMut(LoadProgress) -> bool>(
        loader: &mut Loader<'_, F>,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Self, ModelError> {
        let (checkpoint, options) = loader.source();
        if !stays_in_file(name, options) {
            return Ok(Self::OnDevice(loader.matrix(name, rows, columns).await?));
        }
        loader.check_shape(name, rows, columns)?;
        Ok(Self::FromSource(TableRows::new(checkpoint, name, options, [rows, columns])?))
    }

    /// The whole table.
    ///
    /// # Errors
    /// [`ModelError::Options`] if it was left in the file.
    pub fn on_device(&self) -> Result<&Matrix, ModelError> {
        let rows = match self.location() {
            Location::Device(matrix) => return Ok(matrix),
            Location::File(rows) => rows,
        };
        Err(ModelError::Options(format!(
            "{}: {} was left in the file, which is enough for scoring and the choice loss; \
             generation and losses over the vocabulary need the model loaded with it",
            rows.checkpoint.name(),
            rows.name
        )))
    }

    /// The layout of its rows, on the device or read from the file.
    pub fn layout(&self) -> WeightLayout {
        match self {
            Self::OnDevice(matrix) => matrix.layout(),
            Self::FromSource(rows) => rows.layout,
        }
    }

    fn location(&self) -> Location<'_> {
        match self {
            Self::OnDevice(matrix) => Location::Device(matrix),
            Self::FromSource(rows) => {
                rows.whole.get().map_or(Location::File(rows), Location::Device)
            }
        }
    }
}

/// Where a table is now.
enum Location<'a> {
    Device(&'a Matrix),
    File(&'a TableRows),
}

/// Reads rows of a table that stays in the file.
pub struct TableRows {
    checkpoint: Checkpoint,
    name: String,
    layout: WeightLayout,
    options: LoadOptions,
    rows: usize,
    columns: usize,
    /// The whole table, once it is loaded.
    whole: OnceCell<Matrix>,
    /// Rows that were read recently: texts repeat words, and epochs repeat texts.
    recent: RefCell<HashMap<u32, PackedRows>>,
}

/// Maximum bytes of rows on the host.
const RECENT_BYTES: usize = 4 << 20;

impl TableRows {
    /// Keeps the files open and none of their contents in memory.
    ///
    /// # Errors
    /// A missing tensor.
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        name: &str,
        options: LoadOptions,
        [rows, columns]: [usize; 2],
    ) -> Result<Self, ModelError> {
        let layout = layout_of(checkpoint, name, options.precision)?;
        let (checkpoint, name) = (checkpoint.only(name)?, name.to_owned());
        let (whole, recent) = (OnceCell::new(), RefCell::default());
        Ok(Self { checkpoint, name, layout, options, rows, columns, whole, recent })
    }

    fn bytes(&self) -> u64 {
        self.rows as u64 * self.layout.row_bytes(self.columns) as u64
    }

    /// The rows of `tokens`, in their order.
    async fn read(&self, tokens: &[u32]) -> Result<PackedRows, ModelError> {
        let mut all = PackedRows {
            layout: self.layout,
            columns: self.columns,
            rows: tokens.len(),
            quants: Vec::with_capacity(tokens.len() * self.layout.quant_words(self.columns)),
            scales: Vec::with_capacity(tokens.len() * self.layout.scale_words(self.columns)),
        };
        let most = RECENT_BYTES / self.layout.row_bytes(self.columns).max(1);
        for &token in tokens {
            if !self.recent.borrow().contains_key(&token) {
                let row = u64::from(token)..u64::from(token) + 1;
                let packed = self.checkpoint.read_rows(&self.name, self.layout, row).await?;
                let mut recent = self.recent.borrow_mut();
                if recent.len() >= most {
                    recent.clear();
                }
                recent.insert(token, packed);
            }
            if let Some(row) = self.recent.borrow().get(&token) {
                all.quants.extend(&row.quants);
                all.scales.extend(&row.scales);
            }
        }
        Ok(all)
    }
}

impl Table {
    /// Bytes on the device that [`Table::load_rest`] would still allocate.
    pub(crate) fn missing_bytes(&self) -> u64 {
        match self.location() {
            Location::Device(_) => 0,
            Location::File(rows) => rows.bytes(),
        }
    }

    /// Loads the table if it is still in the file.
    pub(crate) async fn load_rest(
        &self,
        gpu: &Gpu,
        progress: impl FnMut(LoadProgress) -> bool,
    ) -> Result<(), ModelError> {
        let Location::File(rows) = self.location() else { return Ok(()) };
        let mut loader = Loader::new(gpu, &rows.checkpoint, rows.options, progress, |_| true);
        let matrix = loader.matrix(&rows.name, rows.rows, rows.columns).await?;
        gpu.finish().await?;
        // on failure, a concurrent call has already set the same rows
        let _ = rows.whole.set(matrix);
        Ok(())
    }

    /// Bytes on the device for the input rows of a batch of `tokens` tokens, 0 if the table is on
    /// the device.
    pub(crate) fn input_bytes(&self, tokens: usize) -> u64 {
        match self.location() {
            Location::Device(_) => 0,
            Location::File(rows) => tokens as u64 * rows.layout.row_bytes(rows.columns) as u64,
        }
    }

    /// If the table is not on the device, uploads the rows of a batch's tokens into `uploaded`,
    /// which is allocated for `most` tokens if it does not exist yet, and returns the row of each
    /// token.
    pub(crate) async fn upload_rows(
        &self,
        gpu: &Gpu,
        tokens: &[u32],
        most: usize,
        uploaded: &mut Option<Matrix>,
    ) -> Result<Option<Vec<u32>>, ModelError> {
        let Location::File(rows) = self.location() else { return Ok(None) };
        let mut ids = tokens.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let packed = rows.read(&ids).await?;
        let matrix = match uploaded {
            Some(matrix) => matrix,
            None => {
                let (most, columns) = (most as u32, rows.columns as u32);
                let matrix = Matrix::new(gpu, "input rows", most, columns, rows.layout)?;
                uploaded.insert(matrix)
            }
        };
        matrix.write_rows(gpu, 0, &packed);
        let index = |token: &u32| ids.partition_point(|id| id < token) as u32;
        Ok(Some(tokens.iter().map(index).collect()))
    }

    /// The matrix that a batch's ids index: the table, or the rows that [`Table::upload_rows`]
    /// uploaded.
    pub(crate) fn input_matrix<'a>(&'a self, uploaded: Option<&'a Matrix>) -> Option<&'a Matrix> {
        match self.location() {
            Location::Device(matrix) => Some(matrix),
            Location::File(_) => uploaded,
        }
    }

    /// Rows of some tokens in f32, `(tokens, C)`, computed into a buffer.
    pub(crate) async fn rows_into(
        &self,
        gpu: &Gpu,
        tokens: &[u32],
        columns: u32,
        into: &Slice,
    ) -> Result<Matrix, ModelError> {
        let count = tokens.len() as u32;
        let (table, ids) = match self.location() {
            Location::Device(matrix) => (matrix.clone(), tokens.to_vec()),
            Location::File(rows) => {
                let matrix = Matrix::new(gpu, "class rows", count, columns, rows.layout)?;
                matrix.write_rows(gpu, 0, &rows.read(tokens).await?);
                (matrix, (0..count).collect())
            }
        };
        let tokens = &gpu.buffer_from("class tokens", &ids)?.all();
        let mut c = Commands::new();
        embed::record(&mut c, &Embed { tokens, table: &table, y: into, count, scale: 1.0 });
        gpu.run(&c).await?;
        Ok(matrix(into.clone(), count, columns))
    }
}
