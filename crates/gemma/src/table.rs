//! The tables of the vocabulary, embedding and output head: whole on the device, or left in the
//! model's file, from which single rows are read when they are needed.
//!
//! Gemma 2B's table is a fifth of the model, and scoring among classes reads a few hundred of its
//! 256,000 rows. Rows that come from the file are uploaded in the layout that the whole table would
//! have had and decoded by the same kernel, so the numbers are the same to the bit. Whoever needs the
//! whole table after all, to write text say, has it loaded behind ([`Model::load_tables`]).

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use hearth_formats::{
    checkpoint::Checkpoint,
    layout::{PackedRows, WeightLayout},
};
use hearth_gpu::Commands;
use hearth_kernels::{
    embed::{self, Embed},
    matrix::Matrix,
};

use crate::{
    Model, ModelError, Packed,
    weights::{LoadOptions, LoadProgress, Loader, layout_of},
    workspace::Workspace,
};

/// Where the tables of the vocabulary are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Embedding {
    /// On the device, split over bindings: for everything, and the only choice for generation and
    /// for losses over the whole vocabulary.
    #[default]
    OnDevice,
    /// In the model's file: for scoring among classes and the `choice` loss, which need the rows
    /// of a batch's tokens and of the classes only.
    FromSource,
}

/// A table of the vocabulary, `(V, C)`.
#[allow(clippy::large_enum_variant, reason = "one or two a model")]
pub enum Table {
    /// All of it.
    OnDevice(Matrix),
    /// Rows are read from the file, until the table is loaded behind.
    FromSource(TableRows),
}

impl Table {
    /// The whole table.
    ///
    /// # Errors
    /// [`ModelError::Options`] when it was left in the file.
    pub fn on_device(&self) -> Result<&Matrix, ModelError> {
        let rows = match self.place() {
            Place::Device(matrix) => return Ok(matrix),
            Place::File(rows) => rows,
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
            Self::OnDevice(matrix) => matrix.layout,
            Self::FromSource(rows) => rows.layout,
        }
    }

    fn place(&self) -> Place<'_> {
        match self {
            Self::OnDevice(matrix) => Place::Device(matrix),
            Self::FromSource(rows) => rows.whole.get().map_or(Place::File(rows), Place::Device),
        }
    }
}

/// Where a table is by now.
enum Place<'a> {
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
    /// All of it, once it was loaded behind.
    whole: OnceCell<Matrix>,
    /// Rows that were read lately: texts repeat their words, epochs all of them.
    lately: RefCell<HashMap<u32, PackedRows>>,
}

/// Bytes of rows on the host at most.
const LATELY: usize = 4 << 20;

impl TableRows {
    /// Keeps the files open, and nothing of them in memory.
    ///
    /// # Errors
    /// A tensor that is not there.
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        name: &str,
        options: LoadOptions,
        [rows, columns]: [usize; 2],
    ) -> Result<Self, ModelError> {
        let layout = layout_of(checkpoint, name, options.precision)?;
        let (checkpoint, name) = (checkpoint.only(name)?, name.to_owned());
        let (whole, lately) = (OnceCell::new(), RefCell::default());
        Ok(Self { checkpoint, name, layout, options, rows, columns, whole, lately })
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
        let most = LATELY / self.layout.row_bytes(self.columns).max(1);
        for &token in tokens {
            if !self.lately.borrow().contains_key(&token) {
                let row = u64::from(token)..u64::from(token) + 1;
                let packed = self.checkpoint.read_rows(&self.name, self.layout, row).await?;
                let mut lately = self.lately.borrow_mut();
                if lately.len() >= most {
                    lately.clear();
                }
                lately.insert(token, packed);
            }
            if let Some(row) = self.lately.borrow().get(&token) {
                all.quants.extend(&row.quants);
                all.scales.extend(&row.scales);
            }
        }
        Ok(all)
    }
}

/// Bytes on the device for the input rows of a batch of `tokens`, 0 where the table is there.
pub(crate) fn input_bytes(table: &Table, tokens: usize) -> u64 {
    match table.place() {
        Place::Device(_) => 0,
        Place::File(rows) => (tokens * rows.layout.row_bytes(rows.columns)) as u64,
    }
}

impl Model {
    fn tables(&self) -> impl Iterator<Item = &Table> {
        [Some(&self.weights.embedding), self.weights.head.as_ref()].into_iter().flatten()
    }

    /// Bytes on the device that [`Model::load_tables`] would still take.
    pub fn missing_table_bytes(&self) -> u64 {
        let missing = |table: &Table| match table.place() {
            Place::Device(_) => 0,
            Place::File(rows) => rows.bytes(),
        };
        self.tables().map(missing).sum()
    }

    /// Loads the tables of the vocabulary that were left in the file, for text and for losses over the
    /// vocabulary. Where they are on the device already nothing happens. `progress` as in [`Model::load`].
    ///
    /// # Errors
    /// A file that cannot be read any more, device memory, a stop by `progress`: the tables then stay
    /// in the file.
    pub async fn load_tables(
        &self,
        mut progress: impl FnMut(LoadProgress) -> bool,
    ) -> Result<(), ModelError> {
        for table in self.tables() {
            let Place::File(rows) = table.place() else { continue };
            let mut loader =
                Loader::new(&self.gpu, &rows.checkpoint, rows.options, &mut progress, |_| true);
            let matrix = loader.matrix(&rows.name, rows.rows, rows.columns).await?;
            self.gpu.finish().await?;
            // whoever was faster has the same rows
            let _ = rows.whole.set(matrix);
        }
        Ok(())
    }

    /// Uploads a batch, and the positions on which the last layer's MLP and the head run (`None`:
    /// all of them). Input rows that are not on the device are read from the file.
    ///
    /// # Errors
    /// A batch that is larger than the workspace, or a file that cannot be read any more.
    pub async fn set_batch(
        &self,
        ws: &mut Workspace,
        batch: Packed,
        chosen: Option<Vec<u32>>,
    ) -> Result<(), ModelError> {
        ws.set_batch(&self.gpu, batch, chosen)?;
        let Place::File(rows) = self.weights.embedding.place() else { return Ok(()) };
        let mut ids = ws.batch.tokens.clone();
        ids.sort_unstable();
        ids.dedup();
        let packed = rows.read(&ids).await?;
        if ws.input_rows.is_none() {
            let (most, columns) = (ws.sizes.tokens as u32, rows.columns as u32);
            let matrix = Matrix::new(&self.gpu, "input rows", most, columns, rows.layout)?;
            ws.input_rows = Some(matrix);
        }
        if let Some(matrix) = &ws.input_rows {
            matrix.write_rows(&self.gpu, 0, &packed);
        }
        // Tokens become places among the rows.
        let place = |token: &u32| ids.partition_point(|id| id < token) as u32;
        let places: Vec<u32> = ws.batch.tokens.iter().map(place).collect();
        self.gpu.write(&ws.tokens, 0, &places);
        Ok(())
    }

    /// The table that the batch's ids in `ws.tokens` count in.
    pub(crate) fn input_table<'a>(&'a self, ws: &'a Workspace) -> Option<&'a Matrix> {
        match self.weights.embedding.place() {
            Place::Device(matrix) => Some(matrix),
            Place::File(_) => ws.input_rows.as_ref(),
        }
    }

    /// Rows of the output head in f32, `(tokens, C)`: what a softmax over classes needs of it.
    ///
    /// # Errors
    /// Tokens beyond the vocabulary, an unreadable file, device memory.
    pub(crate) async fn head_rows(&self, tokens: &[u32]) -> Result<Matrix, ModelError> {
        let vocab = self.config.vocab;
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(ModelError::Token { token, position: 0, vocab });
        }
        let (count, columns) = (tokens.len() as u32, self.config.hidden as u32);
        let head = self.weights.head.as_ref().unwrap_or(&self.weights.embedding);
        let (table, ids) = match head.place() {
            Place::Device(matrix) => (matrix.clone(), tokens.to_vec()),
            Place::File(rows) => {
                let matrix = Matrix::new(&self.gpu, "class rows", count, columns, rows.layout)?;
                matrix.write_rows(&self.gpu, 0, &rows.read(tokens).await?);
                (matrix, (0..count).collect())
            }
        };
        let matrix = Matrix::new(&self.gpu, "class rows", count, columns, WeightLayout::F32)?;
        let tokens = &self.gpu.buffer_from("class tokens", &ids)?.all();
        let (table, y) = (&table, &matrix.slabs[0].quants);
        let mut c = Commands::new();
        embed::record(&mut c, &Embed { tokens, table, y, count, scale: 1.0 });
        self.gpu.run(&c).await?;
        Ok(matrix)
    }
}
