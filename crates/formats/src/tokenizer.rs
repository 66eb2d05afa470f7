//! Gemma's tokenizer, from `tokenizer.json` or from the vocabulary in a GGUF file.
//!
//! Gemma splits text into pieces of a fixed vocabulary:
//!
//! 1. Added tokens (`<eos>`, `<start_of_turn>`, `<b>`, runs of newlines) are cut out first,
//!    leftmost and longest first.
//! 2. In the text between them every space becomes '▁'. No space is added before the text.
//! 3. Its characters are merged pairwise, best pair first (BPE). A character that is not a
//!    piece becomes its UTF-8 bytes, which are the pieces `<0x00>` to `<0xFF>`.
//!
//! With `tokenizer.json`, step 3 is done by the `tokenizers` crate. GGUF holds no merges, but scores, from which they
//! follow: see [`scores`].

mod added;
mod error;
mod json;
pub mod kind;
mod scores;
pub mod to_gguf;
mod vocabulary;

use tokenizers::Model;
use tokenizers::models::bpe::BPE;

use crate::gguf::header::{Header, Strings};
use added::AddedTokens;
pub use error::TokenizerError;
use scores::Scores;
use vocabulary::Vocabulary;

/// What represents a space in pieces: U+2581.
const SPACE: &str = "▁";

/// How control tokens that are written out in a text are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `<eos>` is the token that ends a text: for templates, and what the reference does.
    Parse,
    /// `<eos>` is five characters: for text that must not control the model. Tokens that only keep
    /// text together (`<b>`, newlines) are read all the same.
    AsText,
}

/// Converts text to token ids and back.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    added: AddedTokens,
    /// The ids of `<0x00>` to `<0xFF>`, or of the character itself.
    bytes: [u32; 256],
    pairs: Pairs,
    bos: u32,
    eos: u32,
    end_of_turn: Option<u32>,
    notes: Vec<String>,
}

/// Which pairs merge, and which first.
enum Pairs {
    /// By the list of merges in `tokenizer.json`.
    Merges(Box<BPE>),
    /// By the scores in GGUF.
    Scores(Scores),
}

/// What a source provides for its vocabulary; [`Tokenizer::new`] checks it.
struct Parts {
    file: String,
    vocabulary: Vocabulary,
    added: AddedTokens,
    pairs: Pairs,
    bos: Option<u32>,
    eos: Option<u32>,
    notes: Vec<String>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError`] if it is not a tokenizer, not one of Gemma's kind, or lacks tokens.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        Self::new(json::read(bytes)?)
    }

    /// Reads the vocabulary of a GGUF file.
    ///
    /// # Errors
    /// [`TokenizerError`] if it is missing, not one of Gemma's kind, or lacks tokens.
    pub fn from_gguf(header: &Header) -> Result<Self, TokenizerError> {
        Self::new(scores::read(header)?)
    }

    fn new(parts: Parts) -> Result<Self, TokenizerError> {
        let Parts { file, vocabulary, added, pairs, bos, eos, notes } = parts;
        let missing = |token: &str| TokenizerError::MissingToken {
            file: file.clone(),
            token: token.to_owned(),
            tokens: vocabulary.len(),
        };
        let mut bytes = [0; 256];
        for (byte, id) in bytes.iter_mut().enumerate() {
            let piece = format!("<0x{byte:02X}>");
            // Gemma 1's tokenizer.json has '\t' in place of `<0x09>`.
            let character = char::from(byte as u8).to_string();
            let ascii = || vocabulary.id(&character).filter(|_| byte < 0x80);
            *id = vocabulary.id(&piece).or_else(ascii).ok_or_else(|| missing(&piece))?;
        }
        let known = |id: &u32| (*id as usize) < vocabulary.len();
        let named = |id: Option<u32>, piece| match id {
            Some(id) => Some(id).filter(known).ok_or_else(|| missing(&format!("number {id}"))),
            None => vocabulary.id(piece).ok_or_else(|| missing(piece)),
        };
        Ok(Self {
            bos: named(bos, "<bos>")?,
            eos: named(eos, "<eos>")?,
            end_of_turn: vocabulary.id("<end_of_turn>"),
            vocabulary,
            added,
            bytes,
            pairs,
            notes,
        })
    }

    /// The ids of a text, without a leading `<bos>`.
    pub fn encode(&self, text: &str, special: Special) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = 0;
        for found in self.added.find(text) {
            if found.control && special == Special::AsText {
                continue;
            }
            self.encode_plain(&text[rest..found.start], &mut ids);
            ids.push(found.id);
            rest = found.end;
        }
        self.encode_plain(&text[rest..], &mut ids);
        ids
    }

    /// As [`encode`](Self::encode), with one `<bos>` in front, as the model expects for a whole text: if the text
    /// begins with its own ([`has_own_bos`](Self::has_own_bos)), none is added.
    pub fn encode_with_bos(&self, text: &str, special: Special) -> Vec<u32> {
        let mut ids = self.encode(text, special);
        if ids.first() != Some(&self.bos) {
            ids.insert(0, self.bos);
        }
        ids
    }

    /// Whether a text begins with a `<bos>` of its own.
    pub fn has_own_bos(&self, text: &str, special: Special) -> bool {
        self.token(self.bos).is_some_and(|bos| text.starts_with(bos)) && special == Special::Parse
    }

    /// What the user should know about how the vocabulary was read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Encodes text without added tokens.
    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let text = text.replace(' ', SPACE);
        match &self.pairs {
            Pairs::Scores(scores) => scores.encode(&self.vocabulary, &self.bytes, &text, ids),
            Pairs::Merges(bpe) => match bpe.tokenize(&text) {
                Ok(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                // BPE fails if a character is not a piece and has no byte pieces, and all of these exist. Any text can
                // be written as bytes.
                Err(_) => ids.extend(text.bytes().map(|byte| self.bytes[usize::from(byte)])),
            },
        }
    }

    /// The text of some tokens; control tokens appear as written: `<eos>`. Byte tokens that form no UTF-8, and ids
    /// beyond the vocabulary, become U+FFFD.
    ///
    /// (The reference replaces every byte of a run of byte tokens if one is wrong; this replaces only
    /// the wrong ones, so that what has been streamed never changes.)
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = TextStream::default();
        let mut text: String = ids.iter().map(|id| stream.push(self, *id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// The piece with this id, '▁' for space; `None` beyond the vocabulary.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.vocabulary.piece(id)
    }

    /// The id of a piece: `id_of("▁the")`, `id_of("<eos>")`.
    pub fn id_of(&self, piece: &str) -> Option<u32> {
        self.vocabulary.id(piece)
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// `<bos>`: precedes every text.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// `<eos>`: ends a text.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// `<end_of_turn>`: ends an answer of an instruct model.
    pub fn end_of_turn(&self) -> Option<u32> {
        self.end_of_turn
    }

    /// Whether this is a control token, which is not text: `<eos>`, `<start_of_turn>`.
    pub fn is_control(&self, id: u32) -> bool {
        self.added.is_control(id)
    }

    /// The byte that a token represents.
    fn byte(&self, id: u32) -> Option<u8> {
        let digits = self.token(id)?.strip_prefix("<0x")?.strip_suffix('>')?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        (self.bytes[usize::from(byte)] == id).then_some(byte)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.vocab_size())
    }
}

/// Text from tokens that arrive one by one. A character whose bytes are separate tokens appears when it is complete.
#[derive(Debug, Default, Clone)]
pub struct TextStream {
    /// Bytes that may become a character.
    pending: Vec<u8>,
}

impl TextStream {
    /// The text that this token adds; may be empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let mut text = String::new();
        if let Some(byte) = tokenizer.byte(id) {
            self.pending.push(byte);
            match std::str::from_utf8(&self.pending) {
                Err(error) if error.error_len().is_none() => {} // more bytes may follow
                _ => {
                    text.push_str(&String::from_utf8_lossy(&self.pending));
                    // A byte that ended an invalid character may begin a valid one.
                    self.pending.clear();
                    if text.ends_with('\u{fffd}') && byte >= 0xc2 {
                        text.pop();
                        self.pending.push(byte);
                    }
                }
            }
            return text;
        }
        text.push_str(&self.finish());
        match tokenizer.token(id) {
            Some(piece) => text.push_str(&piece.replace(SPACE, " ")),
            None => text.push('\u{fffd}'),
        }
        text
    }

    /// What is left at the end: U+FFFD if a character is incomplete.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// Control tokens of every Gemma. In a file that types them as text, turn markers would be read as letters.
const MARKERS: [&str; 5] = ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"];

/// The note on markers that were not typed as control tokens.
fn untyped_note(file: &str, tokens: &[&str]) -> Option<String> {
    (!tokens.is_empty()).then(|| {
        format!(
            "{file}: {} not marked as control tokens, which is a fault of the file; they are taken for control tokens",
            match tokens {
                [one] => format!("{one} is"),
                all => format!("{} are", all.join(", ")),
            }
        )
    })
}

/// Whether a token controls the model rather than being text, judging by its name. Sources do not
/// agree: `<unused0>` and `<mask>` are not special tokens in `tokenizer.json` but control tokens in
/// GGUF; for the image tokens it is the other way round.
fn is_control_name(piece: &str) -> bool {
    MARKERS.contains(&piece)
        || piece == "<mask>"
        || ["<unused", "<start_of_", "<end_of_"].iter().any(|start| piece.starts_with(start))
}
