//! The rows of a file one after the other, for files that do not fit in memory. JSON documents are the exception: they
//! are one value and are read whole; JSON Lines are not.

use std::collections::VecDeque;
use std::io::{self, Read};

use super::{Row, Survey, Table, TableError, TableOptions, TableStream};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Gives a file's rows. The file is read twice, first to find out how it is written ([`Survey`]).
pub struct RowReader<R> {
    source: R,
    stream: TableStream,
    ready: VecDeque<Row>,
    piece: Vec<u8>,
    ended: bool,
}

impl<R: Read> RowReader<R> {
    /// Surveys a file, which `open` opens each time. `seen` gets all of its bytes, piece by piece.
    ///
    /// # Errors
    /// A file that cannot be read or is no table.
    pub fn new(
        open: impl Fn() -> io::Result<R>,
        options: TableOptions,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<Self, TableError> {
        let io = |error: io::Error| TableError::Io(error.to_string());
        let mut survey = Survey::new(options);
        let mut source = open().map_err(io)?;
        let mut piece = vec![0; PIECE];
        loop {
            let bytes = fill(&mut source, &mut piece)?;
            if bytes.is_empty() {
                break;
            }
            survey.push(bytes)?;
            seen(bytes);
        }
        let (stream, source) = (survey.finish()?, open().map_err(io)?);
        Ok(Self { source, stream, ready: VecDeque::new(), piece, ended: false })
    }

    /// The table without its rows, or with the first of them: columns, dialect, and warnings about all rows, once the
    /// iterator has ended.
    ///
    /// # Errors
    /// As the iterator.
    pub fn into_table(self, rows: Vec<Row>) -> Result<Table, TableError> {
        self.stream.into_table(rows)
    }
}

/// The next bytes: a full piece, or what is left.
fn fill<'p>(source: &mut impl Read, piece: &'p mut [u8]) -> Result<&'p [u8], TableError> {
    let mut filled = 0;
    while filled < piece.len() {
        match source.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(TableError::Io(error.to_string())),
        }
    }
    Ok(&piece[..filled])
}

impl<R: Read> Iterator for RowReader<R> {
    type Item = Result<Row, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Some(Ok(row));
            }
            if self.ended {
                return None;
            }
            let rows = match fill(&mut self.source, &mut self.piece) {
                Ok([]) => {
                    self.ended = true;
                    self.stream.finish()
                }
                Ok(bytes) => self.stream.push(bytes),
                Err(error) => Err(error),
            };
            match rows {
                Ok(rows) => self.ready.extend(rows),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::read;

    /// Gives a few bytes at a time, as a pipe does.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = buf.len().min(7);
            self.0.read(&mut buf[..count])
        }
    }

    #[test]
    fn rows_are_those_of_the_whole_table() {
        let long: String = (0..40_000).map(|i| format!("{i},\"a text, {i}\"\n")).collect();
        let lines: String =
            (0..50).map(|i| format!("{{\"text\": \"t{i}\", \"k{}\": 1}}\n", i / 40)).collect();
        for text in [
            "text,label\n\"a\nb\",x\nc,y\n",
            "only\na\nb\n",
            &("nr,text\n".to_owned() + &long),
            &lines,
        ] {
            let whole = read(text.as_bytes(), TableOptions::default(), &mut |_| {}).unwrap();
            let mut seen = 0;
            let open = || Ok(Slow(text.as_bytes()));
            let count = |bytes: &[u8]| seen += bytes.len();
            let mut reader = RowReader::new(open, TableOptions::default(), count).unwrap();
            let rows: Vec<Row> = reader.by_ref().map(Result::unwrap).collect();
            assert_eq!(seen, text.len());
            assert_eq!(reader.into_table(rows).unwrap(), whole);
        }
    }

    #[test]
    fn a_fault_ends_the_rows_and_is_said_once() {
        let text = "a,b\n1,2\n3,4,5,6\n7,8\n";
        let open = || Ok(text.as_bytes());
        let mut reader = RowReader::new(open, TableOptions::default(), |_| {}).unwrap();
        let faults: Vec<_> = reader.by_ref().filter_map(Result::err).collect();
        assert!(matches!(faults[..], [TableError::Ragged { line: 3, .. }]), "{faults:?}");
        let nowhere = || Err::<&[u8], _>(io::Error::other("gone"));
        assert!(RowReader::new(nowhere, TableOptions::default(), |_| {}).is_err());
    }
}
