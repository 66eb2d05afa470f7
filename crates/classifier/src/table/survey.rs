//! The first pass over a file: which encoding it is in. Letters beyond ASCII may come late, and a
//! guess by the first of them shows other letters without a word, so all bytes are looked at.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use super::damaged;
use super::decode::Decoder;
use super::detect::detect;
use super::refuse::{SIGNATURE, UTF_32, refuse_other_files, refuse_other_texts};
use super::{EncodingChoice, EncodingKnown, TableError, TableOptions, TableStream, TextEncoding};

/// Text that the dialect is guessed from, in bytes.
const HEAD: usize = 256 << 10;
/// A line is looked at in pieces of this size.
const LONGEST_LINE: usize = 1 << 20;

/// Looks at all bytes of a file, piece by piece; [`Survey::finish`] gives the reader for the second pass.
pub struct Survey {
    options: TableOptions,
    head: Vec<u8>,
    bytes: u64,
    detector: EncodingDetector,
    ascii: bool,
    escape: bool,
    /// Zero bytes at even and at odd places.
    zeros: [u64; 2],
    first_zero: Option<Place>,
    /// The line being read, as far as it came.
    line: Vec<u8>,
    at: Place,
    /// Bytes of the lines before.
    judged: u64,
    utf8: Lines,
    other: Lines,
}

/// A line, by both ways to count them.
#[derive(Clone, Copy, Default)]
struct Place {
    feeds: u64,
    returns: u64,
}

/// Lines with letters beyond ASCII.
#[derive(Default)]
struct Lines {
    count: u64,
    first: Option<Place>,
}

impl Lines {
    fn add(&mut self, at: Place) {
        self.count += 1;
        self.first.get_or_insert(at);
    }
}

impl Survey {
    /// Nothing seen yet.
    pub fn new(options: TableOptions) -> Self {
        Self {
            options,
            head: Vec::new(),
            bytes: 0,
            detector: EncodingDetector::new(Iso2022JpDetection::Allow),
            ascii: true,
            escape: false,
            zeros: [0; 2],
            first_zero: None,
            line: Vec::new(),
            at: Place::default(),
            judged: 0,
            utf8: Lines::default(),
            other: Lines::default(),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// A file that is known to be no table.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TableError> {
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        // early where it can be told, so that a model of gigabytes is not read through
        if self.bytes < SIGNATURE as u64 && self.head.len() >= SIGNATURE {
            refuse_other_files(&self.head)?;
        }
        self.detector.feed(bytes, false);
        self.ascii &= bytes.is_ascii();
        self.escape |= bytes.contains(&0x1B);
        for line in bytes.split_inclusive(|&b| b == b'\n' || b == b'\r') {
            self.take(line);
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// A line with its end, or the part of one that a piece holds.
    fn take(&mut self, part: &[u8]) {
        self.line.extend_from_slice(part);
        let end = matches!(part.last(), Some(b'\n' | b'\r'));
        if end || self.line.len() >= LONGEST_LINE {
            self.judge(end);
        }
        if end {
            self.at.feeds += u64::from(part.ends_with(b"\n"));
            self.at.returns += u64::from(part.ends_with(b"\r"));
        }
    }

    /// Ends the line, or the piece of an overlong one.
    fn judge(&mut self, whole: bool) {
        let place = self.at;
        for (i, _) in self.line.iter().enumerate().filter(|(_, b)| **b == 0) {
            self.zeros[((self.judged + i as u64) % 2) as usize] += 1;
            self.first_zero.get_or_insert(place);
        }
        let mut end = self.line.len();
        if !self.line.is_ascii() {
            match std::str::from_utf8(&self.line) {
                Ok(_) => self.utf8.add(place),
                // a character that the cut of an overlong line divides
                Err(e) if !whole && e.error_len().is_none() => end = e.valid_up_to(),
                Err(_) => self.other.add(place),
            }
        }
        self.judged += end as u64;
        self.line.drain(..end);
    }

    /// The number that an editor shows.
    fn line_of(&self, place: Option<Place>) -> u64 {
        let place = place.unwrap_or_default();
        1 + if self.at.feeds > 0 { place.feeds } else { place.returns }
    }

    /// Ends the first pass: the reader for the second.
    ///
    /// # Errors
    /// An empty file, one that is no table, or one whose encoding or form cannot be told.
    pub fn finish(mut self) -> Result<TableStream, TableError> {
        self.judge(true);
        self.detector.feed(&[], true);
        refuse_other_files(&self.head)?;
        let (choice, mark) = self.encoding()?;
        let complete = self.bytes == self.head.len() as u64;
        let mut text = String::new();
        let mut decoder = Decoder::new(choice.encoding, mark);
        decoder.push(&self.head, complete, &mut text)?;
        refuse_other_texts(&text)?;
        let mut warnings = Vec::new();
        if choice.known.is_guess() {
            let control = |c: char| ('\u{80}'..='\u{9f}').contains(&c) && c != '\u{85}';
            if text.contains(control) {
                let line = 1 + text.split(control).next().map_or(0, |t| t.matches('\n').count());
                return Err(TableError::UnknownEncoding { line: line as u64 });
            }
            warnings.push(guess_in_words(choice.encoding, &text));
        }
        warnings.extend(damaged::words(&text));
        let marked = marked(&self.head);
        if let Some((encoding, _)) = marked.filter(|(e, _)| *e != choice.encoding) {
            warnings.push(format!(
                "the file begins with the byte order mark of {}, but is read as {}, as requested",
                encoding.name(),
                choice.encoding.name()
            ));
        }
        let guessed = detect(&text, complete, &self.options, choice)?;
        warnings.extend(guessed.warnings);
        let decoder = Decoder::new(choice.encoding, mark);
        Ok(TableStream::new(decoder, guessed.dialect, guessed.rules, guessed.known, warnings))
    }

    /// The encoding, and the bytes of its mark.
    fn encoding(&self) -> Result<(EncodingChoice, usize), TableError> {
        let choice = |encoding, known| EncodingChoice { encoding, known };
        let marked = marked(&self.head);
        if let Some(wanted) = self.options.encoding {
            return Ok(match marked {
                // "UTF-16" without a byte order means the one that the mark tells
                Some((encoding, bytes)) if encoding == wanted => {
                    (choice(wanted, EncodingKnown::Given), bytes)
                }
                Some((encoding, bytes)) if encoding.is_utf16() && wanted.is_utf16() => {
                    (choice(encoding, EncodingKnown::Mark), bytes)
                }
                _ => (choice(wanted, EncodingKnown::Given), 0),
            });
        }
        if let Some((encoding, bytes)) = marked {
            return Ok((choice(encoding, EncodingKnown::Mark), bytes));
        }
        if self.is_utf32() {
            return Err(UTF_32);
        }
        if let Some(encoding) = self.zeros_of_utf16() {
            return Ok((choice(encoding, EncodingKnown::Zeros), 0));
        }
        let zeros = self.zeros[0] + self.zeros[1];
        if zeros * 100 > self.bytes {
            let line = Some(self.line_of(self.first_zero));
            return Err(TableError::Binary { kind: None, line });
        }
        if self.ascii {
            let guess = self.detector.guess(None, Utf8Detection::Deny);
            if self.escape && guess == encoding_rs::ISO_2022_JP {
                return Ok((choice(TextEncoding::of(guess), EncodingKnown::Guessed), 0));
            }
            return Ok((choice(TextEncoding::utf8(), EncodingKnown::Ascii), 0));
        }
        if self.other.count == 0 {
            return Ok((choice(TextEncoding::utf8(), EncodingKnown::Fits), 0));
        }
        let guess = TextEncoding::of(self.detector.guess(None, Utf8Detection::Deny));
        self.refuse_mixed(guess)?;
        Ok((choice(guess, EncodingKnown::Guessed), 0))
    }

    /// UTF-32 without a mark: of four bytes two at least are zero, always the same ones.
    fn is_utf32(&self) -> bool {
        let letters = || self.head.chunks_exact(4);
        let whole = self.bytes >= 16 && self.bytes.is_multiple_of(4);
        whole && (letters().all(|l| l[2..] == [0, 0]) || letters().all(|l| l[..2] == [0, 0]))
    }

    /// UTF-16 without a mark: zeros at every second place, and hardly any at the others.
    fn zeros_of_utf16(&self) -> Option<TextEncoding> {
        let [even, odd] = self.zeros;
        let (most, least) = (even.max(odd), even.min(odd));
        if most < 4 || most * 20 < self.bytes / 2 || least * 10 > most {
            return None;
        }
        let encoding = if even > odd { TextEncoding::utf16_be() } else { TextEncoding::utf16_le() };
        let whole = &self.head[..self.head.len() / 2 * 2];
        let text = encoding.inner().decode_without_bom_handling_and_without_replacement(whole)?;
        let strange = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        (!text.contains(strange) && text.contains(['\n', '\r'])).then_some(encoding)
    }

    /// Lines in UTF-8 beside lines in another encoding: whichever is taken, the others show wrong letters.
    /// A few lines of another encoding are valid UTF-8 by chance.
    fn refuse_mixed(&self, guess: TextEncoding) -> Result<(), TableError> {
        let (utf8, other) = (self.utf8.count, self.other.count);
        let several_bytes = !guess.inner().is_single_byte();
        if utf8 == 0 || utf8 * if several_bytes { 4 } else { 10 } < other {
            return Ok(());
        }
        let few = if other <= utf8 { &self.other } else { &self.utf8 };
        Err(TableError::MixedEncodings {
            line: self.line_of(few.first),
            utf8,
            other,
            guess: guess.name(),
        })
    }
}

/// The byte order mark at the start.
fn marked(head: &[u8]) -> Option<(TextEncoding, usize)> {
    match head {
        [0xEF, 0xBB, 0xBF, ..] => Some((TextEncoding::utf8(), 3)),
        [0xFF, 0xFE, ..] => Some((TextEncoding::utf16_le(), 2)),
        [0xFE, 0xFF, ..] => Some((TextEncoding::utf16_be(), 2)),
        _ => None,
    }
}

/// A guessed encoding with some of its letters, for the user to look at.
fn guess_in_words(encoding: TextEncoding, text: &str) -> String {
    let shown = text.lines().find(|line| !line.is_ascii()).map_or_else(String::new, |line| {
        let start = line.char_indices().find(|(_, c)| !c.is_ascii()).map_or(0, |(i, _)| i);
        let from = line[..start].char_indices().rev().nth(20).map_or(0, |(i, _)| i);
        let letters: String = line[from..].chars().take(60).collect();
        format!(", which gives text such as {letters:?}")
    });
    format!(
        "the encoding is guessed: {}{shown}; if characters are wrong, set the encoding (--encoding NAME, \
         or \"Encoding\" on the page), or save the file as UTF-8",
        encoding.name()
    )
}
