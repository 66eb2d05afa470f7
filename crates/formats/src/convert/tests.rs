use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use pollster::block_on;

use super::*;
use crate::checkpoint::Format;
use crate::safetensors::{Dtype, plan_file};
use crate::source::{ByteSource, MemorySource, ReadFuture};

/// A source that counts the bytes read after its header.
struct Counted {
    inner: MemorySource,
    data_start: u64,
    read: Rc<Cell<u64>>,
}

impl ByteSource for Counted {
    fn len(&self) -> u64 {
        self.inner.len()
    }
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> ReadFuture<'a> {
        if offset >= self.data_start {
            self.read.set(self.read.get() + buf.len() as u64);
        }
        self.inner.read_at(offset, buf)
    }
}

const MATRIX: &str = "model.embed_tokens.weight";

/// A bf16 model of one matrix, one norm and a tensor of another model; the count of bytes read from
/// its data.
fn source(rows: u64) -> (Checkpoint, Rc<Cell<u64>>, u64) {
    let entries = [
        (MATRIX.to_owned(), Dtype::BF16, vec![rows, 64]),
        ("model.norm.weight".to_owned(), Dtype::BF16, vec![64]),
        ("vision.bias".to_owned(), Dtype::BF16, vec![4]),
    ];
    let planned = plan_file("m.safetensors", &BTreeMap::new(), entries).unwrap();
    let data: u64 = planned.tensors.iter().map(|t| t.bytes).sum();
    let mut bytes = planned.bytes.clone();
    for i in 0..data / 2 {
        let value = ((i * 2654435761 % 1000) as f32 - 500.0) / 1000.0;
        bytes.extend(half::bf16::from_f32(value).to_le_bytes());
    }
    let read = Rc::new(Cell::new(0));
    let data_start = planned.bytes.len() as u64;
    let inner = MemorySource::new("m.safetensors", bytes);
    let counted = Counted { inner, data_start, read: read.clone() };
    let checkpoint = block_on(Checkpoint::open(vec![Rc::new(counted)])).unwrap();
    (checkpoint, read, data)
}

fn origin() -> Origin {
    Origin { source: "m".to_owned(), config: "{}".to_owned(), ..Origin::default() }
}

#[test]
fn a_model_is_read_once_and_what_is_written_is_what_loading_quantizes() {
    // More than one piece, the last one short.
    let rows = 2 * PIECE / 256 + 5;
    for layout in [WeightLayout::Q4, WeightLayout::Q8] {
        let (checkpoint, read, data) = source(rows);
        let conversion = Conversion::plan(&checkpoint, layout, &[], &origin(), "o").unwrap();
        assert_eq!(conversion.left_out, ["vision.bias"]);
        assert_eq!(conversion.source_bytes(), data - 8);
        let (mut sink, mut told) = (MemorySink::default(), 0);
        let progress = |bytes| {
            assert!(bytes >= told);
            told = bytes;
            true
        };
        let errors = block_on(conversion.run(&mut sink, progress)).unwrap();
        assert_eq!((read.get(), told), (data - 8, data - 8));
        assert_eq!(sink.0.len() as u64, conversion.bytes());
        let written = MemorySource::new("o.safetensors", sink.0);
        let written = block_on(Checkpoint::open(vec![Rc::new(written)])).unwrap();
        assert_eq!(written.format(), Format::Hearth);
        let loaded = block_on(checkpoint.read_rows(MATRIX, layout, 0..rows)).unwrap();
        assert_eq!(block_on(written.read_rows(MATRIX, layout, 0..rows)).unwrap(), loaded);
        let norm = |c: &Checkpoint| block_on(c.read_norm_gain("model.norm.weight")).unwrap();
        assert_eq!(norm(&written), norm(&checkpoint));
        // The error is that of the rows.
        let want = block_on(checkpoint.read_rows_f32(MATRIX, 0..rows)).unwrap();
        let off: f64 =
            loaded.decode().iter().zip(&want).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let rms = (off / want.len() as f64).sqrt();
        assert!((errors[0].rms - rms).abs() < 1e-7 && rms > 0.0, "{:?} {rms}", errors[0]);
        // A second conversion copies.
        let again = Conversion::plan(&written, layout, &[], &origin(), "o").unwrap();
        let mut sink = MemorySink::default();
        let errors = block_on(again.run(&mut sink, |_| true)).unwrap();
        assert_eq!((errors[0].rms, errors[0].max), (0.0, 0.0));
    }
}

/// A sink that is full from the start.
struct Full;

impl ByteSink for Full {
    fn write_at<'a>(&'a mut self, offset: u64, bytes: &'a [u8]) -> WriteFuture<'a> {
        let message = format!("no room for {} bytes at {offset}", bytes.len());
        Box::pin(async move { if offset == 0 { Ok(()) } else { Err(message) } })
    }
}

#[test]
fn a_full_sink_a_stop_and_unknown_parts_are_said() {
    let (checkpoint, ..) = source(9);
    let plan = |keep: &[String]| {
        Conversion::plan(&checkpoint, WeightLayout::Q4, keep, &origin(), "o").map(|c| c.bytes())
    };
    let error = plan(&["down".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("down"), "{error}");
    assert!(plan(&["embed".to_owned()]).unwrap() > plan(&[]).unwrap());
    let conversion = Conversion::plan(&checkpoint, WeightLayout::Q4, &[], &origin(), "o").unwrap();
    let error = block_on(conversion.run(&mut Full, |_| true)).unwrap_err().to_string();
    assert!(error.contains("no room for"), "{error}");
    let stopped = block_on(conversion.run(&mut MemorySink::default(), |_| false));
    assert!(matches!(stopped, Err(ConvertError::Stopped)));
}

#[test]
fn the_matrix_with_outliers_loses_more_and_is_named() {
    let names = ["model.layers.1.mlp.down_proj.weight", "model.layers.11.mlp.down_proj.weight"];
    let entries = names.map(|name| (name.to_owned(), Dtype::F32, vec![1000, 64]));
    let planned = plan_file("m.safetensors", &BTreeMap::new(), entries).unwrap();
    let mut bytes = planned.bytes.clone();
    for i in 0..2 * 64_000_u64 {
        let value = ((i * 2654435761 % 1000) as f32 - 500.0) / 1000.0;
        // in the first one a weight of every 32 is large
        let large = i < 64_000 && i % 32 == 5;
        bytes.extend((if large { 20.0 } else { value }).to_le_bytes());
    }
    let source = MemorySource::new("m.safetensors", bytes);
    let checkpoint = block_on(Checkpoint::open(vec![Rc::new(source)])).unwrap();
    let lose = |layout, limit| block_on(losing(&checkpoint, layout, limit)).unwrap();
    assert_eq!(lose(WeightLayout::Q4, 0.0), names);
    assert_eq!(lose(WeightLayout::Q4, 0.07), names[..1]);
    assert!(lose(WeightLayout::Q4, 0.99).is_empty() && lose(WeightLayout::Q8, 0.05).is_empty());
    let keep = lose(WeightLayout::Q4, 0.07);
    let conversion = Conversion::plan(&checkpoint, WeightLayout::Q4, &keep, &origin(), "o");
    let errors = block_on(conversion.unwrap().run(&mut MemorySink::default(), |_| true)).unwrap();
    let layouts: Vec<WeightLayout> = errors.iter().map(|error| error.layout).collect();
    assert_eq!(layouts, [WeightLayout::Q8, WeightLayout::Q4]);
}

#[test]
fn a_weight_that_would_be_left_out_is_an_error() {
    for (name, dtype) in [
        // One of a type that is not read; one of a kind that no text model has.
        ("model.layers.0.mlp.up_proj.weight", Dtype::BOOL),
        ("score.weight", Dtype::F32),
        ("model.mixer.weight", Dtype::F32),
    ] {
        let entries =
            [("model.norm.weight", Dtype::F32), (name, dtype), ("vision_tower.x", Dtype::F32)];
        let entries = entries.map(|(name, dtype)| (name.to_owned(), dtype, vec![64]));
        let planned = plan_file("m.safetensors", &BTreeMap::new(), entries).unwrap();
        let data: u64 = planned.tensors.iter().map(|tensor| tensor.bytes).sum();
        let mut bytes = planned.bytes;
        bytes.resize(bytes.len() + data as usize, 0);
        let source = MemorySource::new("m.safetensors", bytes);
        let checkpoint = block_on(Checkpoint::open(vec![Rc::new(source)])).unwrap();
        let plan = Conversion::plan(&checkpoint, WeightLayout::Q4, &[], &origin(), "o");
        let error = plan.err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("would be left out"), "{error}");
    }
}
