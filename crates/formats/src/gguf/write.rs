//! Headers of GGUF files that are written piece by piece. The format is in [`header`](super::header).

use super::header::{TensorInfo, TensorType};

/// Tensors begin at multiples of this: the format's default, so that no key has to say it.
pub const ALIGNMENT: u64 = 32;

const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Metadata to be written, in the order of the calls.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        push_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, len: usize) {
        self.key(key, ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((len as u64).to_le_bytes());
    }

    /// A string.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key, TEXT);
        push_text(&mut self.bytes, value);
    }

    /// A u32, as llama.cpp expects most numbers.
    pub fn number(&mut self, key: &str, value: u32) {
        self.key(key, U32);
        self.bytes.extend(value.to_le_bytes());
    }

    /// An f32.
    pub fn float(&mut self, key: &str, value: f32) {
        self.key(key, F32);
        self.bytes.extend(value.to_le_bytes());
    }

    /// A bool.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.key(key, BOOL);
        self.bytes.push(value.into());
    }

    /// A list of bools.
    pub fn flags(&mut self, key: &str, values: &[bool]) {
        self.array(key, BOOL, values.len());
        self.bytes.extend(values.iter().map(|&value| u8::from(value)));
    }

    /// A list of strings.
    pub fn texts<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        self.array(key, TEXT, values.len());
        values.for_each(|value| push_text(&mut self.bytes, value));
    }

    /// A list of f32.
    pub fn floats(&mut self, key: &str, values: impl ExactSizeIterator<Item = f32>) {
        self.array(key, F32, values.len());
        values.for_each(|value| self.bytes.extend(value.to_le_bytes()));
    }

    /// A list of i32.
    pub fn integers(&mut self, key: &str, values: impl ExactSizeIterator<Item = i32>) {
        self.array(key, I32, values.len());
        values.for_each(|value| self.bytes.extend(value.to_le_bytes()));
    }

    /// A key with its value as another file has them
    /// ([`raw_metadata`](super::header::raw_metadata)).
    pub fn raw(&mut self, pair: &[u8]) {
        self.count += 1;
        self.bytes.extend(pair);
    }
}

/// A header to be written: write `bytes`, then every tensor's data at its `offset`, and zeros up to the next multiple of
/// [`ALIGNMENT`].
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// The first bytes of the file.
    pub bytes: Vec<u8>,
    /// The tensors in the order of their data.
    pub tensors: Vec<TensorInfo>,
}

/// Plans a file of version 3. Each tensor has its name in the file, its type, and its sizes with the slowest first;
/// `None` if the sizes exceed u64 or a row does not consist of whole blocks.
pub fn plan_file(
    metadata: &Metadata,
    tensors: impl IntoIterator<Item = (String, TensorType, Vec<u64>)>,
) -> Option<PlannedFile> {
    let (mut planned, mut infos, mut offset) = (Vec::new(), Vec::new(), 0u64);
    for (name, kind, shape) in tensors {
        if !shape.last()?.is_multiple_of(kind.block_weights()) {
            return None;
        }
        push_text(&mut infos, &name);
        infos.extend((shape.len() as u32).to_le_bytes());
        // the fastest first
        shape.iter().rev().for_each(|size| infos.extend(size.to_le_bytes()));
        infos.extend(kind.id().to_le_bytes());
        infos.extend(offset.to_le_bytes());
        let weights = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size))?;
        let bytes = (weights / kind.block_weights()).checked_mul(kind.block_bytes())?;
        planned.push(TensorInfo { name, shape, kind, offset, bytes });
        offset = offset.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT)?;
    }
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((planned.len() as u64).to_le_bytes());
    bytes.extend(metadata.count.to_le_bytes());
    bytes.extend(&metadata.bytes);
    bytes.extend(infos);
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    for tensor in &mut planned {
        tensor.offset = tensor.offset.checked_add(bytes.len() as u64)?;
    }
    Some(PlannedFile { bytes, tensors: planned })
}

/// Appends a string: its length in bytes as u64, then UTF-8.
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::header::{Header, Strings, raw_metadata};
    use crate::source::MemorySource;
    use pollster::block_on;

    #[test]
    fn what_is_written_is_read_and_copied() {
        let mut metadata = Metadata::default();
        metadata.text("general.architecture", "gemma3");
        metadata.number("n", 7);
        metadata.float("x", 0.5);
        metadata.flag("yes", true);
        metadata.flags("flags", &[true, false]);
        metadata.texts("tokens", ["a", "▁é"].into_iter());
        metadata.floats("scores", [0.0, -1.0].into_iter());
        metadata.integers("types", [1, -2].into_iter());
        let tensors = [
            ("a.weight".to_owned(), TensorType::Q8_0, vec![3, 32]),
            ("b.weight".to_owned(), TensorType::F32, vec![5]),
        ];
        let written = |metadata: &Metadata| {
            let planned = plan_file(metadata, tensors.clone()).unwrap();
            let last = planned.tensors.last().unwrap();
            let end = (last.offset + last.bytes).next_multiple_of(ALIGNMENT);
            let mut bytes = planned.bytes;
            bytes.resize(end as usize, 0);
            (MemorySource::new("m.gguf", bytes), planned.tensors)
        };
        let (source, planned) = written(&metadata);
        let header = block_on(Header::read(&source)).unwrap();
        assert_eq!(header.tensors(), planned);
        assert_eq!(header.require::<u32>("n").unwrap(), 7);
        assert_eq!(header.require::<f32>("x").unwrap(), 0.5);
        assert!(header.require::<bool>("yes").unwrap());
        assert_eq!(header.require::<Vec<i64>>("flags").unwrap(), [1, 0]);
        assert_eq!(header.require::<Vec<i64>>("types").unwrap(), [1, -2]);
        let tokens: Vec<_> = header.require::<&Strings>("tokens").unwrap().iter().collect();
        assert_eq!(tokens, ["a", "▁é"]);

        // the pairs of a file, copied, give the same file
        let mut copy = Metadata::default();
        let pairs = block_on(raw_metadata(&source)).unwrap();
        assert_eq!(pairs.len(), 8);
        pairs.iter().for_each(|(_, pair)| copy.raw(pair));
        assert_eq!(plan_file(&copy, tensors.clone()).unwrap().bytes, {
            plan_file(&metadata, tensors).unwrap().bytes
        });
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let one = |kind, shape: &[u64]| {
            plan_file(&Metadata::default(), [("a".to_owned(), kind, shape.to_vec())]).is_some()
        };
        assert!(one(TensorType::Q8_0, &[2, 64]));
        assert!(!one(TensorType::Q8_0, &[2, 40]));
        assert!(!one(TensorType::F32, &[u64::MAX, 4]));
    }
}
