//! Kinds of tokens in a GGUF vocabulary: llama.cpp, `enum llama_token_type`.

/// A piece of text.
pub const NORMAL: i64 = 1;
/// What stands for text that no piece covers.
pub const UNKNOWN: i64 = 2;
/// Markers such as `<bos>`.
pub const CONTROL: i64 = 3;
/// In Gemma's vocabularies `<b>`, runs of newlines, tabs and spaces.
pub const USER_DEFINED: i64 = 4;
/// An id that means nothing.
pub const UNUSED: i64 = 5;
/// A byte, such as `<0x0A>`.
pub const BYTE: i64 = 6;

/// Whether a piece has the form of a byte: `<0x0A>`.
pub fn is_byte(piece: &str) -> bool {
    piece.len() == 6 && piece.starts_with("<0x") && piece.ends_with('>')
}
