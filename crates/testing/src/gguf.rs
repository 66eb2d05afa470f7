//! Small GGUF files, written value by value (ggml's `docs/gguf.md`).

/// Type numbers of values.
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// A GGUF file under construction.
#[derive(Debug, Clone, Default)]
pub struct GgufFile {
    values: Vec<(String, u32, Vec<u8>)>,
    tensors: Vec<TensorEntry>,
    data: usize,
}

#[derive(Debug, Clone)]
struct TensorEntry {
    name: String,
    shape: Vec<u64>,
    kind: u32,
    /// Offset in the data, if it is not the next free one.
    offset: Option<u64>,
    bytes: Vec<u8>,
}

/// A string as the file stores it: its length and its bytes.
pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// An array of any type, given by the type's number, as the file stores it.
pub fn array(kind: u32, count: usize, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes(), bytes].concat()
}

impl GgufFile {
    /// Adds a value of any type, given by the type's number and the file's bytes; replaces one with
    /// the same key.
    pub fn value(mut self, key: &str, kind: u32, bytes: impl AsRef<[u8]>) -> Self {
        self.values.retain(|(other, ..)| other != key);
        self.repeated(key, kind, bytes)
    }

    /// The same, without replacing a value with the same key: a damaged file may have two.
    pub fn repeated(mut self, key: &str, kind: u32, bytes: impl AsRef<[u8]>) -> Self {
        self.values.push((key.to_owned(), kind, bytes.as_ref().to_vec()));
        self
    }

    /// Adds a string.
    pub fn text(self, key: &str, text: &str) -> Self {
        self.value(key, TEXT, string(text))
    }

    /// Adds a u32.
    pub fn number(self, key: &str, number: u32) -> Self {
        self.value(key, 4, number.to_le_bytes())
    }

    /// Adds an f32.
    pub fn float(self, key: &str, number: f32) -> Self {
        self.value(key, 6, number.to_le_bytes())
    }

    /// Adds an array of strings.
    pub fn texts(self, key: &str, texts: &[&str]) -> Self {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| string(text)).collect();
        self.array(key, TEXT, texts.len(), &bytes)
    }

    /// Adds an array of any type, given by the type's number and the file's bytes.
    pub fn array(self, key: &str, kind: u32, count: usize, bytes: &[u8]) -> Self {
        self.value(key, ARRAY, array(kind, count, bytes))
    }

    /// Removes this key.
    pub fn without(mut self, key: &str) -> Self {
        self.values.retain(|(other, ..)| other != key);
        self
    }

    /// Adds a tensor, given by the number of its type and its sizes, slowest first.
    pub fn tensor(mut self, name: &str, shape: &[u64], kind: u32, bytes: Vec<u8>) -> Self {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        self.tensors.push(TensorEntry { name, shape, kind, offset: None, bytes });
        self
    }

    /// Adds a tensor at any offset of the data, without its own bytes: see [`GgufFile::data`].
    pub fn tensor_at(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        let entry = TensorEntry { name, shape, kind, offset: Some(offset), bytes: Vec::new() };
        self.tensors.push(entry);
        self
    }

    /// Puts this many zeros after the header.
    pub fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    /// Adds an f32 tensor.
    pub fn floats(self, name: &str, shape: &[u64], values: &[f32]) -> Self {
        self.tensor(name, shape, 0, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.values.len() as u64).to_le_bytes());
        for (key, kind, bytes) in &self.values {
            out.extend(string(key));
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for size in tensor.shape.iter().rev() {
                out.extend(size.to_le_bytes());
            }
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset += (tensor.bytes.len() as u64).next_multiple_of(32);
        }
        for tensor in self.tensors.iter().filter(|tensor| tensor.offset.is_none()) {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        if self.data > 0 {
            out.resize(out.len().next_multiple_of(32) + self.data, 0);
        }
        out
    }
}
