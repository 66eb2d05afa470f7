use super::*;

fn table(bytes: &[u8]) -> Result<Table, TableError> {
    read(bytes, TableOptions::default(), &mut |_| {})
}

/// Reads in pieces of several sizes and expects one answer.
fn check(bytes: &[u8], options: TableOptions) -> Result<Table, TableError> {
    let whole = read(bytes, options.clone(), &mut |_| {});
    for size in [1, 3, 64] {
        let mut survey = Survey::new(options.clone());
        let found = bytes.chunks(size).try_for_each(|piece| survey.push(piece)).and_then(|()| {
            let mut stream = survey.finish()?;
            let mut rows = Vec::new();
            for piece in bytes.chunks(size) {
                rows.extend(stream.push(piece)?);
            }
            rows.extend(stream.finish()?);
            stream.into_table(rows)
        });
        assert_eq!(found, whole, "pieces of {size}");
    }
    whole
}

#[test]
fn a_csv_with_everything() {
    let text = "id;text;label\r\n1;\"two\r\nlines; \"\"quoted\"\"\";good\r\n\r\n2;plain, 漢;bad";
    let table = check(text.as_bytes(), TableOptions::default()).unwrap();
    assert_eq!(table.columns, ["id", "text", "label"]);
    assert_eq!(table.rows[0].fields, ["1", "two\r\nlines; \"quoted\"", "good"]);
    assert_eq!((table.rows[0].line, table.rows[1].line), (2, 5));
    assert_eq!(table.rows[1].fields[1], "plain, 漢");
    assert_eq!(table.dialect.delimiter.as_deref(), Some(";"));
}

#[test]
fn overrides_win() {
    let options = TableOptions {
        delimiter: Some(",".into()),
        header: Some(false),
        quote: Some(None),
        ..Default::default()
    };
    let table = check(b"text,\"label\na,b\n", options).unwrap();
    assert_eq!(table.columns, ["column 1", "column 2"]);
    assert_eq!(table.rows[0].fields, ["text", "\"label"]);
    let quoted = TableOptions { quote: Some(Some(b'\'')), ..Default::default() };
    assert_eq!(check(b"text,label\n'a,b',c\n", quoted).unwrap().rows[0].fields, ["a,b", "c"]);
}

#[test]
fn header_names_become_unique() {
    let table = table(b"text,text,,label\na,b,c,d\n").unwrap();
    assert_eq!(table.columns, ["text", "text (2)", "column 3", "label"]);
}

#[test]
fn json_lines() {
    let text = "{\"text\":\"a\\nb\",\"label\":1}\n\n{\"text\":null,\"label\":true,\"more\":[1]}\n";
    let table = check(text.as_bytes(), TableOptions::default()).unwrap();
    let field = |row: usize, name: &str| {
        &*table.rows[row].fields[table.columns.iter().position(|c| c == name).unwrap()]
    };
    assert_eq!((field(0, "text"), field(0, "label"), field(0, "more")), ("a\nb", "1", ""));
    assert_eq!((field(1, "text"), field(1, "label"), field(1, "more")), ("", "true", "[1]"));
    let bad = check(b"{\"text\":\"a\"}\n{\"text\":\n", TableOptions::default()).unwrap_err();
    assert!(matches!(bad, TableError::Json { line: 2, .. }), "{bad}");
}

#[test]
fn bad_files_say_what_to_do() {
    let message = |bytes: &[u8]| check(bytes, TableOptions::default()).unwrap_err().to_string();
    assert!(message(b"text,label\na,b\n\"c,d\n").starts_with("line 3: the quote"));
    assert!(
        message(b"text,label\na,b\n\"c\" d,e\n").starts_with("line 3: ' ' follows a closing quote")
    );
    assert!(message(b"text,label\na,b\nc,d,e\nf,g\n").starts_with("line 3: 3 fields, expected 2"));
    assert!(message(b"").contains("empty"));
    assert!(message(b"text,label\n").contains("no rows"));
    assert!(message(b"PK\x03\x04xl/").contains("save it as CSV"));
    assert!(message(b"text,label\n\0\x01\x02").contains("binary"));
    let wide = ",".repeat(MAX_COLUMNS);
    assert!(message(format!("{wide}\n{wide}\n").as_bytes()).contains("columns"));
}

#[test]
fn a_long_row_and_western_letters_late_in_the_file() {
    let long = "x".repeat(200_000);
    let mut bytes = format!("text,label\n\"{long}\",a\n").into_bytes();
    bytes.extend(b"caf\xE9,b\n");
    let table = table(&bytes).unwrap();
    assert_eq!(table.rows[0].fields[0].len(), 200_000);
    assert_eq!(table.rows[1].fields[0], "café");
    assert_eq!(
        table.dialect.encoding,
        EncodingChoice { encoding: TextEncoding::windows_1252(), known: EncodingKnown::Guessed }
    );
    assert!(
        table.warnings.iter().any(|w| w.contains("encoding is guessed")),
        "{:?}",
        table.warnings
    );
}

/// Gives a million rows without holding them.
struct Rows(u32, Vec<u8>);
impl Read for Rows {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.1.len() < out.len() && self.0 < 1_000_000 {
            self.0 += 1;
            self.1.extend(format!("t{},x\n", self.0).bytes());
        }
        let n = out.len().min(self.1.len());
        out[..n].copy_from_slice(&self.1[..n]);
        self.1.drain(..n);
        Ok(n)
    }
}

#[test]
fn a_million_rows_stream_with_progress() {
    let mut piece = vec![0; 1 << 20];
    let mut survey = Survey::new(TableOptions::default());
    let mut first = Rows(0, b"text,label\n".to_vec());
    loop {
        let n = first.read(&mut piece).unwrap();
        if n == 0 {
            break;
        }
        survey.push(&piece[..n]).unwrap();
    }
    let mut stream = survey.finish().unwrap();
    let mut source = Rows(0, b"text,label\n".to_vec());
    let (mut told, mut last) = (0, 0);
    loop {
        let n = source.read(&mut piece).unwrap();
        let rows =
            if n == 0 { stream.finish().unwrap() } else { stream.push(&piece[..n]).unwrap() };
        assert!(rows.len() < 200_000, "rows come piece by piece");
        last = rows.last().map_or(last, |r| r.line);
        told += usize::from(stream.progress().rows > 0);
        if n == 0 {
            break;
        }
    }
    assert_eq!((stream.progress().rows, last), (1_000_000, 1_000_001));
    assert!(told > 5);
}

#[test]
fn utf16_reads_like_utf8() {
    let text = "text;label\n\"é\n漢\";a\n";
    let utf16: Vec<u8> =
        [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(
        check(&utf16, TableOptions::default()).unwrap().rows,
        table(text.as_bytes()).unwrap().rows
    );
}
