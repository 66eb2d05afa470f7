//! From bytes in any piece size to text, strictly: what an encoding does not allow is an error with its
//! line. What no text has (NUL characters, byte order marks of joined files) is left out and counted.

use encoding_rs::{Decoder as RsDecoder, DecoderResult};

use super::{TableError, TextEncoding};

/// Decodes a file piece by piece.
pub(super) struct Decoder {
    encoding: TextEncoding,
    decoder: RsDecoder,
    /// Bytes of the mark that are still to be passed over.
    mark: usize,
    lines: LineCount,
    /// NUL characters left out, and the line of the first.
    zeros: (u64, u64),
    /// Lines that began with a byte order mark.
    marks: Vec<u64>,
}

/// Lines as an editor counts them.
#[derive(Clone, Copy)]
struct LineCount {
    feeds: u64,
    returns: u64,
    /// The last character was a line end, or there was none yet.
    at_start: bool,
}

impl LineCount {
    fn see(&mut self, text: &str) {
        for byte in text.bytes() {
            self.feeds += u64::from(byte == b'\n');
            self.returns += u64::from(byte == b'\r');
        }
        if let Some(last) = text.chars().next_back() {
            self.at_start = matches!(last, '\n' | '\r');
        }
    }

    fn line(self) -> u64 {
        1 + if self.feeds > 0 { self.feeds } else { self.returns }
    }
}

impl Decoder {
    /// Of a file that begins with a mark of `mark` bytes.
    pub fn new(encoding: TextEncoding, mark: usize) -> Self {
        Self {
            encoding,
            decoder: encoding.inner().new_decoder_without_bom_handling(),
            mark,
            lines: LineCount { feeds: 0, returns: 0, at_start: true },
            zeros: (0, 0),
            marks: Vec::new(),
        }
    }

    /// Appends the text of `bytes` to `out`; `last` says that the file ends here.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        last: bool,
        out: &mut String,
    ) -> Result<(), TableError> {
        let passed = self.mark.min(bytes.len());
        self.mark -= passed;
        bytes = &bytes[passed..];
        let mut text = String::new();
        loop {
            text.reserve(bytes.len().max(16) + 16);
            let (result, read) =
                self.decoder.decode_to_string_without_replacement(bytes, &mut text, last);
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    self.lines.see(&text);
                    let (line, encoding) = (self.lines.line(), self.encoding.name());
                    return Err(TableError::Encoding { line, encoding });
                }
            }
        }
        self.clean(&text, out);
        Ok(())
    }

    /// Appends the text without what no text has.
    fn clean(&mut self, text: &str, out: &mut String) {
        if !text.contains(['\0', MARK]) {
            self.lines.see(text);
            out.push_str(text);
            return;
        }
        let mut start = 0;
        for (at, found) in text.match_indices(['\0', MARK]) {
            self.lines.see(&text[start..at]);
            out.push_str(&text[start..at]);
            start = at + found.len();
            if found == "\0" {
                if self.zeros.0 == 0 {
                    self.zeros.1 = self.lines.line();
                }
                self.zeros.0 += 1;
            } else if self.lines.at_start {
                self.marks.push(self.lines.line());
            } else {
                out.push(MARK);
                self.lines.at_start = false;
            }
        }
        self.lines.see(&text[start..]);
        out.push_str(&text[start..]);
    }

    /// What was left out, in words.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        let (zeros, line) = self.zeros;
        if zeros > 0 {
            let what = if zeros == 1 { "a NUL character is" } else { "NUL characters are" };
            let count = if zeros == 1 { String::new() } else { format!("{zeros} ") };
            all.push(format!("line {line}: {count}{what} left out of the text"));
        }
        if let Some(line) = self.marks.first() {
            let more = if self.marks.len() > 1 {
                format!(" ({} such lines)", self.marks.len())
            } else {
                String::new()
            };
            all.push(format!(
                "line {line}: a byte order mark in the middle of the file is left out{more}; were several files joined?"
            ));
        }
        all
    }
}

const MARK: char = '\u{FEFF}';

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], encoding: TextEncoding) -> Result<(String, Vec<String>), TableError> {
        let run = |size: usize| {
            let (mut decoder, mut out) = (Decoder::new(encoding, 0), String::new());
            for piece in bytes.chunks(size) {
                decoder.push(piece, false, &mut out)?;
            }
            decoder.push(&[], true, &mut out)?;
            Ok((out, decoder.warnings()))
        };
        let whole = run(bytes.len().max(1));
        for size in [1, 2, 3, 7] {
            assert_eq!(run(size), whole, "pieces of {size}");
        }
        whole
    }

    #[test]
    fn wrong_bytes_name_the_line() {
        let utf8 = TextEncoding::utf8();
        let at = |line, encoding| Err(TableError::Encoding { line, encoding });
        assert_eq!(decode(b"\xC3\xA9\n\xC3\xBC\n\xFF\n", utf8), at(3, "UTF-8"));
        assert_eq!(decode(b"\xC3\xA9\n\xC3", utf8), at(2, "UTF-8"));
        // old Macs end lines by a carriage return
        assert_eq!(decode(b"a\rb\r\xFF\r", utf8), at(3, "UTF-8"));
        let japanese = TextEncoding::named("shift_jis").unwrap();
        assert_eq!(decode(b"a\r\n\x82\n", japanese), at(2, "Shift_JIS"));
    }

    #[test]
    fn what_no_text_has_is_left_out_and_told() {
        let (text, told) =
            decode("a,b\n\u{FEFF}c\u{FEFF},d\0\0\n".as_bytes(), TextEncoding::utf8()).unwrap();
        assert_eq!(text, "a,b\nc\u{FEFF},d\n");
        assert!(told[0].starts_with("line 2: 2 NUL characters"), "{told:?}");
        assert!(told[1].starts_with("line 2: a byte order mark in the middle"), "{told:?}");
        assert_eq!(decode(b"a,b\n", TextEncoding::utf8()).unwrap().1, Vec::<String>::new());
    }
}
