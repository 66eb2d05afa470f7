//! From bytes in any piece size to text.
//!
//! Without an order mark or an override, the first character beyond ASCII decides between UTF-8 and
//! Windows-1252: in a Windows-1252 file an accented letter is practically never a valid UTF-8 sequence.

use encoding_rs::{Decoder as RsDecoder, DecoderResult, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use serde::{Deserialize, Serialize};

use super::TableError;

/// How a file writes its characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextEncoding {
    /// UTF-8, with or without an order mark.
    Utf8,
    /// UTF-16, low byte first.
    Utf16Le,
    /// UTF-16, high byte first.
    Utf16Be,
    /// Windows' western code page; contains Latin-1's letters.
    Windows1252,
}

impl TextEncoding {
    /// The name people know.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16Le | Self::Utf16Be => "UTF-16",
            Self::Windows1252 => "Windows-1252",
        }
    }

    fn decoder(self) -> RsDecoder {
        match self {
            Self::Utf8 => UTF_8,
            Self::Utf16Le => UTF_16LE,
            Self::Utf16Be => UTF_16BE,
            Self::Windows1252 => WINDOWS_1252,
        }
        .new_decoder_without_bom_handling()
    }
}

/// The encoding in use and whether it was guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodingChoice {
    /// The encoding.
    pub encoding: TextEncoding,
    /// True where neither the caller nor an order mark named it. A guess is shown to the user.
    pub guessed: bool,
}

enum State {
    /// Fewer bytes than the longest signature have arrived.
    Start,
    /// Only ASCII so far: UTF-8 and Windows-1252 still agree.
    Ascii,
    Decoding(RsDecoder, TextEncoding),
}

/// Decodes a file piece by piece.
pub(super) struct Decoder {
    state: State,
    choice: EncodingChoice,
    wanted: Option<TextEncoding>,
    /// Bytes that wait for more: the signature, or a character cut by the end of a piece.
    held: Vec<u8>,
    line: u64,
}

impl Decoder {
    pub fn new(wanted: Option<TextEncoding>) -> Self {
        let choice = EncodingChoice {
            encoding: wanted.unwrap_or(TextEncoding::Utf8),
            guessed: wanted.is_none(),
        };
        Self { state: State::Start, choice, wanted, held: Vec::new(), line: 1 }
    }

    pub fn choice(&self) -> EncodingChoice {
        self.choice
    }

    /// Appends the text of `bytes` to `out`; `last` says that the file ends here.
    pub fn push(&mut self, bytes: &[u8], last: bool, out: &mut String) -> Result<(), TableError> {
        self.held.extend_from_slice(bytes);
        if matches!(self.state, State::Start) {
            if self.held.len() < SIGNATURE_BYTES && !last {
                return Ok(());
            }
            self.start()?;
        }
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        if matches!(self.state, State::Ascii) {
            let ascii = encoding_rs::Encoding::ascii_valid_up_to(rest);
            self.decode(
                TextEncoding::Utf8.decoder(),
                &rest[..ascii],
                false,
                TextEncoding::Utf8,
                out,
            )?;
            rest = &rest[ascii..];
            if rest.is_empty() {
                return Ok(());
            }
            match first_character(rest) {
                First::Incomplete if !last => {
                    self.held = rest.to_vec();
                    return Ok(());
                }
                First::Valid => self.settle(TextEncoding::Utf8, true),
                First::Incomplete | First::Invalid => self.settle(TextEncoding::Windows1252, true),
            }
        }
        if let State::Decoding(decoder, encoding) = std::mem::replace(&mut self.state, State::Start)
        {
            let decoder = self.decode(decoder, rest, last, encoding, out)?;
            self.state = State::Decoding(decoder, encoding);
        }
        Ok(())
    }

    /// Looks at the first bytes: signatures of other files, order marks, NUL bytes.
    fn start(&mut self) -> Result<(), TableError> {
        let head = &self.held;
        refuse_other_files(head)?;
        let mark = match head.as_slice() {
            [0xEF, 0xBB, 0xBF, ..] => Some((TextEncoding::Utf8, 3)),
            [0xFF, 0xFE, ..] => Some((TextEncoding::Utf16Le, 2)),
            [0xFE, 0xFF, ..] => Some((TextEncoding::Utf16Be, 2)),
            _ => None,
        };
        match (mark, self.wanted) {
            (Some((encoding, len)), wanted) if wanted.is_none_or(|w| w == encoding) => {
                self.held.drain(..len);
                self.settle(encoding, false);
            }
            (_, Some(encoding)) => self.settle(encoding, false),
            (_, None) => {
                if head[..head.len().min(SIGNATURE_BYTES)].contains(&0) {
                    return Err(TableError::Binary { kind: None });
                }
                self.state = State::Ascii;
            }
        }
        Ok(())
    }

    fn settle(&mut self, encoding: TextEncoding, guessed: bool) {
        self.choice = EncodingChoice { encoding, guessed };
        self.state = State::Decoding(encoding.decoder(), encoding);
    }

    fn decode(
        &mut self,
        mut decoder: RsDecoder,
        mut bytes: &[u8],
        last: bool,
        encoding: TextEncoding,
        out: &mut String,
    ) -> Result<RsDecoder, TableError> {
        let start = out.len();
        loop {
            out.reserve(bytes.len().max(16) + 16);
            let (result, read) = decoder.decode_to_string_without_replacement(bytes, out, last);
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    let line = self.line + newlines(&out[start..]);
                    return Err(TableError::Encoding { line, encoding: encoding.name() });
                }
            }
        }
        if out[start..].contains('\0') {
            return Err(TableError::Binary { kind: None });
        }
        self.line += newlines(&out[start..]);
        Ok(decoder)
    }
}

fn newlines(text: &str) -> u64 {
    text.bytes().filter(|&b| b == b'\n').count() as u64
}

enum First {
    Valid,
    Incomplete,
    Invalid,
}

/// Is the character at the start of `bytes` (not ASCII, not empty) valid UTF-8?
fn first_character(bytes: &[u8]) -> First {
    match std::str::from_utf8(&bytes[..bytes.len().min(4)]) {
        Ok(_) => First::Valid,
        Err(e) if e.valid_up_to() > 0 => First::Valid,
        Err(e) if e.error_len().is_none() => First::Incomplete,
        Err(_) => First::Invalid,
    }
}

/// Signatures and NUL bytes are looked for in this many bytes.
const SIGNATURE_BYTES: usize = 512;

fn refuse_other_files(head: &[u8]) -> Result<(), TableError> {
    let within = |needle: &[u8]| head.windows(needle.len()).any(|w| w == needle);
    if head.starts_with(b"PK\x03\x04") {
        let kind = if within(b"opendocument.spreadsheet") {
            "OpenDocument spreadsheet (.ods)"
        } else if within(b"[Content_Types].xml") || within(b"_rels/") || within(b"xl/") {
            "Excel (.xlsx)"
        } else {
            "zip or spreadsheet"
        };
        return Err(TableError::Spreadsheet { kind });
    }
    if head.starts_with(&[0xD0, 0xCF, 0x11, 0xE0]) {
        return Err(TableError::Spreadsheet { kind: "old Excel (.xls)" });
    }
    let known: [(&[u8], &'static str); 7] = [
        (b"%PDF", "PDF"),
        (b"GGUF", "GGUF model"),
        (b"PAR1", "Parquet"),
        (b"ARROW1", "Arrow"),
        (&[0x1F, 0x8B], "gzip: unpack it first"),
        (b"\x89PNG", "PNG image"),
        (b"SQLite format 3", "SQLite"),
    ];
    match known.iter().find(|(magic, _)| head.starts_with(magic)) {
        Some((_, kind)) => Err(TableError::Binary { kind: Some(kind) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same answer whatever the pieces.
    fn check(
        bytes: &[u8],
        wanted: Option<TextEncoding>,
    ) -> Result<(String, EncodingChoice), TableError> {
        let whole = in_pieces(bytes, wanted, bytes.len().max(1));
        for size in [1, 2, 3, 7, 513] {
            assert_eq!(in_pieces(bytes, wanted, size), whole, "pieces of {size}");
        }
        whole
    }

    fn in_pieces(
        bytes: &[u8],
        wanted: Option<TextEncoding>,
        size: usize,
    ) -> Result<(String, EncodingChoice), TableError> {
        let (mut decoder, mut out) = (Decoder::new(wanted), String::new());
        for piece in bytes.chunks(size) {
            decoder.push(piece, false, &mut out)?;
        }
        decoder.push(&[], true, &mut out)?;
        Ok((out, decoder.choice()))
    }

    #[test]
    fn marks_and_guesses() {
        let guess = |encoding, guessed| EncodingChoice { encoding, guessed };
        let text = "naïve 漢 🤦";
        assert_eq!(
            check(text.as_bytes(), None).unwrap(),
            (text.into(), guess(TextEncoding::Utf8, true))
        );
        let marked = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
        assert_eq!(check(&marked, None).unwrap(), (text.into(), guess(TextEncoding::Utf8, false)));
        let le: Vec<u8> = [0xFF, 0xFE]
            .into_iter()
            .chain(text.encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        assert_eq!(check(&le, None).unwrap(), (text.into(), guess(TextEncoding::Utf16Le, false)));
        let be: Vec<u8> = [0xFE, 0xFF]
            .into_iter()
            .chain(text.encode_utf16().flat_map(u16::to_be_bytes))
            .collect();
        assert_eq!(check(&be, None).unwrap(), (text.into(), guess(TextEncoding::Utf16Be, false)));
        let western = [&b"a,b\n".repeat(200)[..], b"caf\xE9 \x93so\x94 10\x80"].concat();
        let (out, choice) = check(&western, None).unwrap();
        assert!(out.ends_with("café “so” 10€"));
        assert_eq!(choice, guess(TextEncoding::Windows1252, true));
        assert_eq!(check(b"caf\xC3", None).unwrap().0, "cafÃ");
        assert_eq!(check(b"\xC3\xA9", Some(TextEncoding::Windows1252)).unwrap().0, "Ã©");
    }

    #[test]
    fn wrong_bytes_name_the_line() {
        let bad = "é\nü\n".bytes().chain(*b"\xFF\n").collect::<Vec<_>>();
        assert_eq!(
            check(&bad, None).unwrap_err(),
            TableError::Encoding { line: 3, encoding: "UTF-8" }
        );
        let cut = "é\nü".bytes().chain([0xC3]).collect::<Vec<_>>();
        assert_eq!(
            check(&cut, None).unwrap_err(),
            TableError::Encoding { line: 2, encoding: "UTF-8" }
        );
    }

    #[test]
    fn other_files_are_refused() {
        let message = |bytes: &[u8]| check(bytes, None).unwrap_err().to_string();
        assert!(message(b"PK\x03\x04....[Content_Types].xml").contains("Excel (.xlsx)"));
        assert!(
            message(b"PK\x03\x04mimetypeapplication/vnd.oasis.opendocument.spreadsheet")
                .contains(".ods")
        );
        assert!(message(b"PK\x03\x04").contains("save it as CSV"));
        assert!(message(b"\xD0\xCF\x11\xE0").contains(".xls"));
        assert!(message(b"%PDF-1.7").contains("PDF"));
        assert!(message(b"a,b\n1,\0\n").contains("binary"));
        let late = [&b"a,b\n".repeat(500)[..], b"\0"].concat();
        assert!(message(&late).contains("binary"));
    }
}
