//! The heap while a model streams through: at most 64 MiB, however large the file; less while one is merged.

// Clippy recognizes only the marked test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::rc::Rc;
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use hearth_formats::checkpoint::Checkpoint;
use hearth_formats::convert::{ByteSink, WriteFuture};
use hearth_formats::gguf::header::TensorType;
use hearth_formats::gguf::write::Metadata;
use hearth_formats::layout::WeightLayout;
use hearth_formats::merge::{Form, Merge};
use hearth_formats::peft::{Adapter, Base, LoraPair};
use hearth_formats::source::{ByteSource, FileSource, ReadFuture, check_range};
use pollster::block_on;

/// The system's allocator, counting bytes in use and their peak.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMIT: usize = 64 << 20;
/// What a loader uploads at once.
const SLAB: u64 = 4 << 20;

/// Reads every matrix slab by slab as a loader does; returns the bytes of all slabs.
fn stream(model: &Checkpoint, layout: Option<WeightLayout>) -> u64 {
    let mut total = 0;
    for tensor in model.tensors() {
        if tensor.shape.len() < 2 {
            total += 4 * block_on(model.read_norm_gain(&tensor.name)).unwrap().len() as u64;
            continue;
        }
        let layout = layout.unwrap_or(tensor.layout.unwrap());
        let step = model.rows_within(&tensor.name, layout, SLAB).unwrap();
        let mut row = 0;
        while row < tensor.rows() {
            let end = (row + step).min(tensor.rows());
            let slab = block_on(model.read_rows(&tensor.name, layout, row..end)).unwrap();
            assert_eq!(slab.rows as u64, end - row);
            total += 4 * (slab.quants.len() + slab.scales.len()) as u64;
            row = end;
        }
    }
    total
}

/// Three large bf16 matrices that are never in memory.
struct Endless {
    header: Vec<u8>,
    len: u64,
}

impl Endless {
    fn new(rows: u64, columns: u64) -> Self {
        let names = ["embed_tokens", "layers.0.mlp.up_proj", "layers.0.mlp.down_proj"];
        let tensors = names.map(|name| {
            let dtype = hearth_formats::safetensors::Dtype::BF16;
            (format!("model.{name}.weight"), dtype, vec![rows, columns])
        });
        let plan =
            hearth_formats::safetensors::plan_file("big", &Default::default(), tensors).unwrap();
        let len = plan.tensors.iter().map(|t| t.bytes).sum::<u64>() + plan.bytes.len() as u64;
        Self { header: plan.bytes, len }
    }
}

impl ByteSource for Endless {
    fn len(&self) -> u64 {
        self.len
    }

    fn name(&self) -> &str {
        "big.safetensors"
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> ReadFuture<'a> {
        Box::pin(async move {
            check_range(self, offset, buf.len() as u64)?;
            // 0x3c.. in the high byte: small bf16 numbers.
            buf.fill(0x3c);
            if let Some(header) = self.header.get(offset as usize..) {
                let count = header.len().min(buf.len());
                buf[..count].copy_from_slice(&header[..count]);
            }
            Ok(())
        })
    }
}

/// The counters see every thread, so one measurement runs at a time.
static MEASURING: Mutex<()> = Mutex::new(());

/// Peak of the heap while a source streams through, and the bytes for the GPU.
fn measure(what: &str, source: Rc<dyn ByteSource>, layout: Option<WeightLayout>) -> (usize, u64) {
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let len = source.len();
    let model = block_on(Checkpoint::open(vec![source])).unwrap();
    let total = stream(&model, layout);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!("{what}: {len} bytes read, {total} for the GPU, peak heap {peak}");
    assert!(peak <= LIMIT, "{what}: peak heap {peak} bytes");
    (peak, total)
}

#[test]
fn the_heap_stays_small_whatever_the_file() {
    let _one_at_a_time = MEASURING.lock();
    // As f32 nothing is computed, so a gigabyte is quick; q4 shows that quantizing adds nothing.
    let (small, _) = measure("synthetic", Rc::new(Endless::new(1_000, 3_072)), None);
    let (large, total) = measure("synthetic", Rc::new(Endless::new(60_000, 3_072)), None);
    assert_eq!(total, 3 * 60_000 * 3_072 * 4);
    assert!(large < small + (1 << 20), "{small} grew to {large}");
    measure("to q4", Rc::new(Endless::new(2_000, 3_072)), Some(WeightLayout::Q4));
}

/// Takes every byte and keeps none.
struct Nowhere;

impl ByteSink for Nowhere {
    fn write_at<'a>(&'a mut self, _offset: u64, _bytes: &'a [u8]) -> WriteFuture<'a> {
        Box::pin(async { Ok(()) })
    }
}

/// Peak of the heap while an adapter is merged into matrices of this many rows.
fn merge_into(rows: u64) -> usize {
    let model = block_on(Checkpoint::open(vec![Rc::new(Endless::new(rows, 3_072))])).unwrap();
    let outputs = rows as usize;
    let pair = LoraPair { inputs: 3_072, outputs, a: vec![0.01; 3_072], b: vec![0.01; outputs] };
    let adapter = Adapter {
        rank: 1,
        alpha: 1.0,
        rslora: false,
        dropout: 0.0,
        base: Base::text(),
        targets: ["up_proj".to_owned()].into(),
        tensors: [("model.layers.0.mlp.up_proj".to_owned(), pair)].into(),
    };
    let metadata = Metadata::default();
    let form = Form::Gguf { architecture: "gemma3", metadata: &metadata };
    let merge = Merge::plan(&model, &adapter, TensorType::Q8_0, &form, "out").unwrap();
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let merged = block_on(merge.run(&mut Nowhere, |_| true)).unwrap();
    assert_eq!(merged.iter().filter(|tensor| tensor.change > 0.0).count(), 1);
    PEAK.load(Ordering::Relaxed) - before
}

#[test]
fn the_heap_does_not_grow_with_a_merged_model() {
    let _one_at_a_time = MEASURING.lock();
    let (small, large) = (merge_into(1_000), merge_into(8_000));
    println!("merging: peak heap {small} and {large}");
    assert!(large < small + (1 << 20) && large < 16 << 20, "{small} grew to {large}");
}

#[test]
fn the_heap_stays_small_with_the_real_model() {
    let Some(path) = hearth_testing::real_model() else { return };
    let _one_at_a_time = MEASURING.lock();
    measure("270M", Rc::new(FileSource::open(&path).unwrap()), None);
}
