//! Damaged files of every format: an error or other values, never a panic, a hang or a huge
//! allocation. Seeds are fixed, so a failure is reproducible.

// Clippy recognizes only the marked test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use hearth_formats::checkpoint::Checkpoint;
use hearth_formats::hearth::{NewTensor, Origin, plan};
use hearth_formats::layout::WeightLayout;
use hearth_formats::peft::Adapter;
use hearth_formats::source::{ByteSource, MemorySource};
use hearth_rng::Rng;
use pollster::block_on;

/// The system's allocator, recording the largest request of each thread.
struct Largest;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

/// Files of a few kilobytes; buffers of a megabyte are the readers' own.
const LARGEST_ALLOCATION: usize = 4 << 20;
const CASES: u64 = 10_000;

/// A file under the name that its reader knows it by.
type File = (&'static str, Vec<u8>);

fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/fixtures");
    std::fs::read(folder.join(name)).unwrap()
}

fn source((name, bytes): &File) -> Rc<dyn ByteSource> {
    Rc::new(MemorySource::new(*name, bytes.clone()))
}

/// Opens a model and reads all of it; returns whether everything succeeded.
fn read_model(files: &[File]) -> bool {
    let Ok(model) = block_on(Checkpoint::open(files.iter().map(source).collect())) else {
        return false;
    };
    let mut good = block_on(model.identity()).is_ok();
    for tensor in model.tensors() {
        // What a loader reads at once is bounded by the loader.
        let layout = tensor.layout.unwrap_or(WeightLayout::F32);
        let rows = model.rows_within(&tensor.name, layout, 1 << 20).unwrap();
        good &= block_on(model.read_rows(&tensor.name, layout, 0..rows)).is_ok();
        good &= block_on(model.read_rows_f32(&tensor.name, 0..tensor.rows().min(8))).is_ok();
    }
    good
}

fn read_adapter(files: &[File]) -> bool {
    block_on(Adapter::read(&*source(&files[0]), &*source(&files[1]))).is_ok()
}

/// One to four faults, three quarters of them in the first `header` bytes.
fn corrupt(bytes: &mut Vec<u8>, header: usize, random: &mut Rng) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let within = if random.below(4) == 0 { bytes.len() } else { header.min(bytes.len()) };
        let at = random.below(within);
        match random.below(8) {
            0 => bytes[at] = random.next_u64() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = [0, 0xff, 0x7f, 0x80][random.below(4)],
            // In JSON, another digit or sign keeps the file readable more often.
            3 => bytes[at] = b"0123456789-.eE,:{}[]\"\\ "[random.below(23)],
            // Eight bytes as one length: 0, 2^60, 2^64 − 1 or small.
            4 => {
                let value = [0, 1 << 60, u64::MAX, random.next_u64() % 64][random.below(4)];
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            5 => bytes.truncate(at),
            6 => {
                bytes.remove(at);
            }
            _ => {
                let end = (at + random.below(32)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}

fn check(files: &[File], headers: &[usize], read: fn(&[File]) -> bool, seed: u64) {
    assert!(read(files), "the files are good before they are damaged");
    let mut random = Rng::new(seed);
    let mut refused = 0;
    for case in 0..CASES {
        let mut damaged = files.to_vec();
        let which = random.below(files.len());
        corrupt(&mut damaged[which].1, headers[which], &mut random);
        LARGEST.set(0);
        refused += usize::from(!read(&damaged));
        let largest = LARGEST.get();
        assert!(largest <= LARGEST_ALLOCATION, "case {case} allocates {largest} bytes at once");
    }
    // Most faults hit the header, which is checked.
    assert!(refused > CASES as usize / 3, "only {refused} were refused");
}

/// Truncates each file at every length; only cuts in `padding`, at the end of the last file, are
/// valid.
fn cut(files: &[File], read: fn(&[File]) -> bool, padding: usize) {
    for which in 0..files.len() {
        let len = files[which].1.len();
        for end in 0..len - if which + 1 == files.len() { padding } else { 1 } {
            let mut damaged = files.to_vec();
            damaged[which].1.truncate(end);
            assert!(!read(&damaged), "{} cut at {end} of {len}", files[which].0);
        }
    }
}

fn gguf() -> Vec<File> {
    vec![("small.gguf", fixture("small.gguf"))]
}

fn mlx() -> Vec<File> {
    // Two modules of the fixture are enough, and they are small.
    let all = fixture("mlx.safetensors");
    let all = safetensors::SafeTensors::deserialize(&all).unwrap();
    let kept = ["b4g64bf16", "b8g32f16"];
    let tensors = all.iter().filter(|(name, _)| kept.iter().any(|k| name.contains(k)));
    let weights = safetensors::serialize(tensors, None).unwrap();
    let config = br#"{"quantization": {"group_size": 64, "bits": 4, "model.b8g32f16": {"group_size": 32, "bits": 8}}}"#;
    vec![("config.json", config.to_vec()), ("m.safetensors", weights)]
}

fn sharded() -> Vec<File> {
    let shard = |name: &str| {
        let data = [0x3f; 32];
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 4], &data);
        safetensors::serialize([(name, view.unwrap())], None).unwrap()
    };
    let index = br#"{"metadata": {"total_size": 64}, "weight_map": {"model.embed_tokens.weight": "a.safetensors", "lm_head.weight": "b.safetensors"}}"#;
    vec![
        ("model.safetensors.index.json", index.to_vec()),
        ("a.safetensors", shard("model.embed_tokens.weight")),
        ("b.safetensors", shard("lm_head.weight")),
    ]
}

fn hearth() -> Vec<File> {
    let matrix = |name: &str, layout| NewTensor::Matrix {
        name: name.to_owned(),
        rows: 2,
        columns: 64,
        layout,
    };
    let tensors = [
        matrix("model.embed_tokens.weight", WeightLayout::Q4),
        matrix("lm_head.weight", WeightLayout::Q8),
    ];
    let plan = plan("out", &Origin::default(), &tensors).unwrap();
    let mut bytes = plan.bytes;
    let last = plan.tensors.last().unwrap();
    bytes.resize((last.offset + last.bytes) as usize, 0x11);
    vec![("own.safetensors", bytes)]
}

fn adapter() -> Vec<File> {
    vec![
        ("adapter_config.json", fixture("adapter/adapter_config.json")),
        ("adapter_model.safetensors", fixture("adapter/adapter_model.safetensors")),
    ]
}

#[test]
fn damaged_gguf() {
    check(&gguf(), &[900], read_model, 1);
}

#[test]
fn damaged_safetensors() {
    let files = vec![("small.safetensors", fixture("small.safetensors"))];
    check(&files, &[450], read_model, 2);
}

#[test]
fn damaged_index_and_shards() {
    check(&sharded(), &[200, 90, 90], read_model, 3);
}

#[test]
fn damaged_mlx() {
    check(&mlx(), &[110, 700], read_model, 4);
}

#[test]
fn damaged_hearth_files() {
    check(&hearth(), &[600], read_model, 5);
}

#[test]
fn damaged_adapters() {
    check(&adapter(), &[1_000, 900], read_adapter, 6);
}

#[test]
fn files_cut_anywhere() {
    // The public writer pads the end to 32 bytes, and the last tensor here ends at such a boundary.
    cut(&gguf(), read_model, 1);
    cut(&[("small.safetensors", fixture("small.safetensors"))], read_model, 1);
    cut(&sharded(), read_model, 1);
    cut(&mlx(), read_model, 1);
    cut(&hearth(), read_model, 1);
    cut(&adapter(), read_adapter, 1);
}
