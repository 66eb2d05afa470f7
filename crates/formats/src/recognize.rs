//! Identifies a file by its first bytes, so that the error for a wrong file says what it is.
//!
//! Downloads go wrong in a few known ways: git-lfs leaves a pointer, a site answers with a page or an error
//! message, and models come in formats that Hearth does not read.

use thiserror::Error;

use crate::source::{ByteSource, SourceError, read_vec};

/// Bytes that are examined.
const HEAD: u64 = 1024;
/// A server's error message is shorter than this; a longer text is just a text.
const LONGEST_ANSWER: u64 = 4096;

const FETCH: &str = "fetch the file itself again";
const TAKE: &str = "take the model in safetensors, or as a GGUF in Q4_K_M or Q8_0";

/// A recognized file that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}: this is {what}; {advice}")]
pub struct WrongFile {
    /// Name of the file.
    pub file: String,
    /// What it is, with an article.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl WrongFile {
    /// A file that is `what`.
    pub fn new(file: &str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { file: file.to_owned(), what: what.into(), advice: advice.into() }
    }
}

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// GGUF: see [`crate::gguf::role`] for what it holds.
    Gguf,
    /// Safetensors.
    Safetensors,
    /// JSON.
    Json,
    /// Recognized, but not a format that Hearth reads.
    Wrong(WrongFile),
    /// None of these.
    Unknown,
}

/// What a file is.
///
/// # Errors
/// [`SourceError`] if it cannot be read.
pub async fn content_of(source: &dyn ByteSource) -> Result<Content, SourceError> {
    let head = read_vec(source, 0, source.len().min(HEAD)).await?;
    Ok(content(source.name(), &head, source.len()))
}

/// Refuses a file that is recognized as something other than JSON.
///
/// # Errors
/// [`WrongFile`].
pub fn check_json(file: &str, bytes: &[u8]) -> Result<(), WrongFile> {
    let head = &bytes[..bytes.len().min(HEAD as usize)];
    match content(file, head, bytes.len() as u64) {
        Content::Wrong(wrong) => Err(wrong),
        Content::Gguf => {
            Err(WrongFile::new(file, "a GGUF file", "give the JSON file of this name"))
        }
        _ => Ok(()),
    }
}

/// Identifies a file of `length` bytes that begins with `head`.
pub fn content(file: &str, head: &[u8], length: u64) -> Content {
    let wrong = |what: String, advice: &str| Content::Wrong(WrongFile::new(file, what, advice));
    if length == 0 {
        return wrong("an empty file".to_owned(), FETCH);
    }
    if head.starts_with(b"GGUF") {
        return Content::Gguf;
    }
    if let Some(size) = lfs_pointer(head) {
        let size = size.map_or(String::new(), |size| format!(" for a file of {size} bytes"));
        return wrong(
            format!("a git-lfs pointer of {length} bytes that stands{size}"),
            "fetch the file itself: run \"git lfs pull\" in the repository, or download it from the site",
        );
    }
    if let Some((what, advice)) = magic(head) {
        return wrong(what.to_owned(), advice);
    }
    if head.len() >= 8 && head.iter().all(|byte| *byte == 0) {
        return wrong(
            "a file that begins with zeros only: its download did not finish".to_owned(),
            FETCH,
        );
    }
    if is_safetensors(head) {
        return Content::Safetensors;
    }
    let Some(text) = text_of(head, length) else { return Content::Unknown };
    text_content(file, text, length)
}

/// The length of a JSON header, then the JSON. A truncated file begins like this too.
fn is_safetensors(head: &[u8]) -> bool {
    let Some((length, rest)) = head.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) < 1 << 32 && rest.first() == Some(&b'{')
}

/// The size that a git-lfs pointer states.
fn lfs_pointer(head: &[u8]) -> Option<Option<u64>> {
    let text = std::str::from_utf8(head).ok()?.trim_start_matches('\u{feff}').trim_start();
    let is_pointer = ["version https://git-lfs.github.com/spec/", "version https://hawser"];
    if !is_pointer.iter().any(|start| text.starts_with(start)) {
        return None;
    }
    Some(text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok()))
}

/// Formats with magic bytes: their offset, the bytes, what the file is, what to do.
const MAGICS: [(usize, &[u8], &str, &str); 19] = [
    (0, b"PK\x03\x04", "a zip archive", "unpack it first"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (0, b"\xfd7zXZ\0", "an xz archive", "unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (0, b"Rar!\x1a\x07", "a rar archive", "unpack it first"),
    (0, b"BZh", "a bzip2 archive", "unpack it first"),
    (257, b"ustar", "a tar archive", "unpack it first"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes models", TAKE),
    (0, b"\x93NUMPY", "a NumPy array", TAKE),
    (0, b"LITERTLM", "a LiteRT-LM model", TAKE),
    (4, b"TFL3", "a TensorFlow Lite model", TAKE),
    (0, b"lmgg", "a GGML file of the time before GGUF", TAKE),
    (0, b"fmgg", "a GGML file of the time before GGUF", TAKE),
    (0, b"tjgg", "a GGML file of the time before GGUF", TAKE),
    (0, b"algg", "a LoRA adapter in GGML's old format", "convert it again to safetensors or GGUF"),
    (
        0,
        b"\0\x05\x16\x07",
        "a file of macOS that only describes another",
        "take the file without '._' in front",
    ),
    (0, b"%PDF", "a PDF", TAKE),
    (0, b"\x89PNG", "an image", TAKE),
];

fn magic(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let has = |bytes: &[u8]| head.windows(bytes.len()).any(|window| window == bytes);
    // A pickle: PROTO, then a version from 2 to 5.
    if head.len() > 2 && head[0] == 0x80 && (2..=5).contains(&head[1]) {
        return Some(("a pickled PyTorch checkpoint", TAKE));
    }
    if head.first() == Some(&b'\n') && (has(b"<unk>") || has(b"<pad>")) {
        return Some((
            "a SentencePiece vocabulary (tokenizer.model)",
            "give tokenizer.json of the same model instead",
        ));
    }
    let (_, bytes, what, advice) = MAGICS
        .iter()
        .find(|(at, bytes, ..)| head.get(*at..).is_some_and(|h| h.starts_with(bytes)))?;
    if bytes.starts_with(b"PK") && (has(b".pkl") || has(b"data/") || has(b".storage")) {
        return Some(("a pickled PyTorch checkpoint", TAKE));
    }
    if bytes.starts_with(b"PK") && has(b"TF_LITE") {
        return Some(("a MediaPipe task with a TensorFlow Lite model", TAKE));
    }
    Some((what, advice))
}

/// The beginning as text, if it is text: UTF-8 without control characters. Its last character may be cut.
fn text_of(head: &[u8], length: u64) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && length > head.len() as u64 => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let plain = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n' | '\x0c');
    text.chars().all(plain).then_some(text)
}

fn text_content(file: &str, text: &str, length: u64) -> Content {
    let wrong = |what: String, advice: &str| Content::Wrong(WrongFile::new(file, what, advice));
    let text = text.trim_start_matches('\u{feff}').trim();
    let lower = text.to_ascii_lowercase();
    let shown = || text.lines().next().unwrap_or_default().chars().take(80).collect::<String>();
    let is_page = ["<!doctype html", "<html", "<head", "<body", "<script", "<title"]
        .iter()
        .any(|start| lower.starts_with(start) || lower.contains(&format!("\n{start}")));
    if is_page && lower.starts_with('<') {
        return wrong(
            "a web page".to_owned(),
            "the site answered instead of sending the file: sign in, accept the model's terms there, and download it again",
        );
    }
    if lower.starts_with("<?xml") || lower.starts_with("<error") {
        return wrong(format!("an XML answer of a server (\"{}\")", shown()), FETCH);
    }
    let is_answer = length <= LONGEST_ANSWER && !text.is_empty();
    if text.starts_with(['{', '[']) {
        let is_error = is_answer
            && ["\"error\"", "\"detail\"", "\"message\""].iter().any(|key| lower.contains(key));
        return match is_error
            && !lower.contains("\"model_type\"")
            && !lower.contains("\"weight_map\"")
        {
            true => wrong(format!("an error message of a server (\"{}\")", shown()), FETCH),
            false => Content::Json,
        };
    }
    if is_answer {
        return wrong(format!("a text (\"{}\")", shown()), FETCH);
    }
    wrong("a text".to_owned(), "give a .gguf or .safetensors file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(head: &[u8]) -> String {
        match content("m.gguf", head, head.len() as u64) {
            Content::Wrong(wrong) => wrong.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn wrong_downloads_are_called_by_their_name() {
        let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 1234567\n";
        for (head, expected) in [
            (
                &lfs[..],
                "a git-lfs pointer of 72 bytes that stands for a file of 1234567 bytes; fetch the file itself",
            ),
            (b"\n\n <!DOCTYPE HTML>\n<html>", "a web page; the site answered"),
            (b"\xef\xbb\xbf<html lang='en'>", "a web page"),
            (b"<?xml version='1.0'?>\n<html xmlns='x'>", "a web page"),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "an XML answer of a server"),
            (b"Entry not found", "a text (\"Entry not found\"); fetch"),
            (
                b"{\"error\": \"restricted\"}",
                "an error message of a server (\"{\"error\": \"restricted\"}\")",
            ),
            (
                b"PK\x03\x04\0\0\0\0archive/data.pkl",
                "a pickled PyTorch checkpoint; take the model in safetensors",
            ),
            (b"PK\x03\x04\0\0\0\0word/document.xml", "a zip archive; unpack"),
            (b"\x80\x02\x8a\x0a", "a pickled PyTorch checkpoint"),
            (b"\x1f\x8b\x08\0", "a gzip archive"),
            (b"tjgg\x03\0\0\0", "a GGML file of the time before GGUF"),
            (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
            (b"\n\x0e\n\x05<pad>\x15", "a SentencePiece vocabulary"),
            (&[0; 64], "begins with zeros only"),
            (b"", "an empty file"),
        ] {
            let found = words(head);
            assert!(found.starts_with("m.gguf: this is ") && found.contains(expected), "{found}");
        }
    }

    #[test]
    fn models_and_configurations_are_not_taken_for_answers() {
        for (head, expected) in [
            (&b"GGUF\x03\0\0\0"[..], "Gguf"),
            (b"\x20\0\0\0\0\0\0\0{\"a\":{}}", "Safetensors"),
            (b"{\"model_type\": \"gemma\", \"message\": 1}", "Json"),
            (b"{\"metadata\": {}}", "Json"),
            (b"GG", "m.gguf: this is a text (\"GG\"); fetch the file itself again"),
            (b"\xff\xfe\0\x01", "Unknown"),
        ] {
            assert_eq!(words(head), expected);
        }
    }
}
