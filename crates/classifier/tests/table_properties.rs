//! Any table in any dialect, written by public writers (the csv crate, Python's csv module and codecs),
//! reads back as it was or is refused; so does what Hearth writes itself.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use csv::{QuoteStyle, Terminator, WriterBuilder};
use hearth_classifier::columns::{Dataset, DatasetOptions, guess_roles};
use hearth_classifier::predictions::PredictionsWriter;
use hearth_classifier::table::{ENCODINGS, Format, TableOptions, TextEncoding, read};
use proptest::prelude::*;
use serde::Deserialize;

/// Characters that readers trip over, and letters of many scripts. NUL and byte order marks are left out
/// of tables with a warning.
const AWKWARD: [&str; 40] = [
    ",", ";", "\t", "|", "\"", "'", "\n", "\r", "\r\n", " ", "\"\"", "\\", "a", "b", "1", "-3.5",
    "=1+1", "@x", "#", "\u{1}", "\u{7f}", "\u{1f}", "\u{85}", "é", "ß", "ж", "Щ", "ש", "ع", "ไ",
    "漢", "字", "あ", "한", "🚋", "e\u{301}", "\u{200b}", "\u{2028}", "sep=", "{\"",
];

fn cell() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(AWKWARD.to_vec()), 0..6).prop_map(|p| p.concat())
}

fn rows() -> impl Strategy<Value = Vec<Vec<String>>> {
    (1..5usize)
        .prop_flat_map(|width| prop::collection::vec(prop::collection::vec(cell(), width), 1..12))
}

/// How a table is written.
#[derive(Debug, Clone)]
struct Written {
    delimiter: u8,
    quote: u8,
    style: QuoteStyle,
    windows: bool,
    encoding: &'static str,
}

fn written() -> impl Strategy<Value = Written> {
    let delimiter = prop::sample::select(b",;\t|:~".to_vec());
    let quote = prop::sample::select(b"\"'".to_vec());
    let style = prop::sample::select(vec![
        QuoteStyle::Always,
        QuoteStyle::Necessary,
        QuoteStyle::NonNumeric,
    ]);
    let encoding = prop::sample::select(ENCODINGS.to_vec());
    (delimiter, quote, style, any::<bool>(), encoding).prop_map(
        |(delimiter, quote, style, windows, encoding)| Written {
            delimiter,
            quote,
            style,
            windows,
            encoding,
        },
    )
}

fn write(all: &[Vec<String>], how: &Written) -> String {
    let terminator = if how.windows { Terminator::CRLF } else { Terminator::Any(b'\n') };
    let mut writer = WriterBuilder::new()
        .delimiter(how.delimiter)
        .quote(how.quote)
        .quote_style(how.style)
        .terminator(terminator)
        .from_writer(Vec::new());
    all.iter().for_each(|row| writer.write_record(row).unwrap());
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

/// In the encoding, where it has all the letters and gives them back; in UTF-8 elsewhere.
fn encode(text: &str, name: &str) -> (Vec<u8>, TextEncoding) {
    let encoding = TextEncoding::named(name).unwrap();
    if encoding.is_utf16() {
        let units = text.encode_utf16();
        let bytes = match encoding == TextEncoding::utf16_le() {
            true => units.flat_map(u16::to_le_bytes).collect(),
            false => units.flat_map(u16::to_be_bytes).collect(),
        };
        return (bytes, encoding);
    }
    let inner = encoding_rs::Encoding::for_label(name.as_bytes()).unwrap();
    let (bytes, _, unmappable) = inner.encode(text);
    let back = inner.decode_without_bom_handling_and_without_replacement(&bytes);
    if unmappable || back.as_deref() != Some(text) {
        return (text.as_bytes().to_vec(), TextEncoding::utf8());
    }
    (bytes.into_owned(), encoding)
}

fn names(width: usize) -> Vec<String> {
    (1..=width).map(|i| format!("field {i}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_table_in_a_named_dialect_reads_back(rows in rows(), how in written()) {
        let names = names(rows[0].len());
        let text = write(&[std::slice::from_ref(&names), &rows[..]].concat(), &how);
        let (bytes, encoding) = encode(&text, how.encoding);
        let options = TableOptions {
            format: Some(Format::Delimited),
            delimiter: Some(char::from(how.delimiter).to_string()),
            quote: Some(Some(how.quote)),
            escape: None,
            header: Some(true),
            skip_lines: Some(0),
            encoding: Some(encoding),
        };
        let table = read(&bytes[..], options, &mut |_| {}).unwrap();
        let found: Vec<Vec<String>> = table.rows.into_iter().map(|r| r.fields).collect();
        prop_assert_eq!(table.columns, names);
        prop_assert_eq!(found, rows);
    }

    /// Nothing is named: the guess is right, refused, or told.
    #[test]
    fn a_table_of_texts_and_labels_is_guessed_or_refused(
        texts in prop::collection::vec(("[a-z]{2,7}( [a-z]{1,7}){2,5}", cell()), 9..20),
        how in written(),
        header in any::<bool>(),
    ) {
        let row = |(i, (words, awkward)): (usize, &(String, String))| {
            let label = ["calm", "loud", "odd"][i % 3];
            vec![format!("{words} {awkward} {words}"), label.to_owned()]
        };
        let rows: Vec<Vec<String>> = texts.iter().enumerate().map(row).collect();
        let mut all = rows.clone();
        if header {
            all.insert(0, vec!["text".into(), "label".into()]);
        }
        let text = write(&all, &how);
        let (bytes, _) = encode(&text, how.encoding);
        if let Ok(table) = read(&bytes[..], TableOptions::default(), &mut |_| {}) {
            // one column without a label is refused as soon as it is to train
            prop_assume!(guess_roles(&table).label.is_some());
            let found: Vec<Vec<String>> = table.rows.into_iter().map(|r| r.fields).collect();
            prop_assert!(found == rows || !table.warnings.is_empty(), "{:?} {:?}", found, table.dialect);
        }
    }

    /// What Hearth writes it reads: texts byte for byte, any labels.
    #[test]
    fn predictions_read_back(
        texts in prop::collection::vec(cell(), 4..12),
        labels in prop::collection::btree_set(cell(), 2..6),
    ) {
        let labels: Vec<String> = labels.into_iter().filter(|l| l.trim() == l && !l.is_empty()).collect();
        prop_assume!(labels.len() > 1);
        let mut bytes = Vec::new();
        let names = ["text", "label"].map(String::from);
        let mut writer = PredictionsWriter::new(&mut bytes, &names, &labels, false).unwrap();
        let share = vec![1.0 / labels.len() as f64; labels.len()];
        for (i, text) in texts.iter().enumerate() {
            let label = i % labels.len();
            writer.write(&[text.clone(), labels[label].clone()], Some(label), &share).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        let given = TableOptions { quote: Some(Some(b'"')), ..TableOptions::default() };
        let table = read(&bytes[..], given, &mut |_| {}).unwrap();
        let back: Vec<&str> = table.rows.iter().map(|r| r.fields[0].as_str()).collect();
        prop_assert_eq!(&back, &texts);
        prop_assert!(table.rows.iter().all(|r| r.fields[1] == r.fields[2]));
        let options = DatasetOptions { drop_bad: true, ..DatasetOptions::default() };
        let known = Dataset::labelled_as(&table, &guess_roles(&table), &options, &labels);
        if texts.iter().any(|t| !t.trim().is_empty()) {
            for example in known.unwrap().0 {
                prop_assert_eq!(example.label, (example.row - 1) % labels.len());
            }
        }
    }
}

/// A file that Python wrote.
#[derive(Deserialize)]
struct Case {
    file: String,
    /// Codec of Python; none: nothing is named.
    codec: String,
    delimiter: String,
    /// None where fields are not quoted.
    quote: Option<char>,
    escape: Option<char>,
    rows: Vec<Vec<String>>,
}

#[test]
fn files_written_by_python_read_back() {
    let folder = format!("{}/tests/fixtures/tables", env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(format!("{folder}/cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&list).unwrap();
    assert!(cases.len() > 50, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let bytes = std::fs::read(format!("{folder}/{}", case.file)).unwrap();
        let named = TableOptions {
            delimiter: Some(case.delimiter.clone()),
            quote: Some(case.quote.map(|c| c as u8)),
            escape: case.escape.map(|c| c as u8),
            encoding: Some(TextEncoding::named(&case.codec).unwrap()),
            ..TableOptions::default()
        };
        let fields = |options: TableOptions| {
            read(&bytes[..], options, &mut |_| {}).map(|table| {
                let rows: Vec<Vec<String>> = table.rows.into_iter().map(|row| row.fields).collect();
                ([&[table.columns], &rows[..]].concat(), table.warnings)
            })
        };
        match fields(named) {
            Ok((rows, _)) if rows == case.rows => {}
            other => wrong.push(format!("{} as named: {other:?}", case.file)),
        }
        // with nothing named it is right, refused, or the user is warned
        if let Ok((rows, warnings)) = fields(TableOptions::default())
            && rows != case.rows
            && warnings.is_empty()
        {
            wrong.push(format!("{} guessed in silence: {rows:?}", case.file));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
