//! Tables that can be read in more than one way, and files that are nearly tables: read as meant, told, or refused with
//! what helps.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use hearth_classifier::{
    columns::{ColumnsError, Dataset, DatasetOptions, LabelChoices, guess_roles},
    table::{self, Format, Table, TableError, TableOptions},
};

const FRONTS: [&str; 4] = ["the tram was", "our seats are", "a ticket is", "this stop is"];

fn table(text: impl AsRef<[u8]>) -> Result<Table, TableError> {
    table::read(text.as_ref(), TableOptions::default(), &mut |_| {})
}

fn refused(text: impl AsRef<[u8]>, words: &[&str]) {
    let error = table(text).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in {error}");
    }
}

/// Sixteen rows of a text and a label.
fn rows(between: &str, end: &str) -> String {
    let row =
        |i: usize| format!("{} line {i}{between}{}{end}", FRONTS[i % 4], ["late", "fine"][i % 2]);
    (0..16).map(row).collect()
}

/// Sixteen texts and labels as JSON strings.
fn json() -> Vec<(String, &'static str)> {
    (0..16)
        .map(|i| (format!("\"{} line {i}\"", FRONTS[i % 4]), ["\"late\"", "\"fine\""][i % 2]))
        .collect()
}

fn each(row: impl Fn(usize, &str, &str) -> String, between: &str) -> String {
    json().iter().enumerate().map(|(i, (t, l))| row(i, t, l)).collect::<Vec<_>>().join(between)
}

/// Sixteen rows, two classes.
fn check(text: impl AsRef<[u8]>) -> Table {
    let read = table(text).unwrap();
    let choices = DatasetOptions { positive: Some("late".into()), ..DatasetOptions::default() };
    let data = Dataset::from_table(&read, &guess_roles(&read), &choices).unwrap();
    assert_eq!(data.classes, ["fine", "late"]);
    assert_eq!(data.examples.len(), 16);
    assert!(data.examples.iter().all(|e| e.text.contains(" line ")), "{:?}", data.examples[0]);
    read
}

fn warned(read: &Table, words: &[&str]) {
    let all = read.warnings.join("\n");
    for word in words {
        assert!(all.contains(word), "{word:?} is missing in {all}");
    }
}

#[test]
fn a_title_in_a_row_of_a_spreadsheet_is_no_row() {
    let text = format!("Rides of June,,\n,,\ntext,label,nr\n{}", rows(",", ",1\n"));
    let read = check(&text);
    assert_eq!((read.dialect.skipped, read.rows[0].line), (2, 4));
    warned(&read, &["\"Rides of June,,\""]);
    // a name over a column without one is a header
    let unnamed = check(format!("text,label,\n{}", rows(",", ",1\n")));
    assert_eq!((unnamed.dialect.skipped, unnamed.columns.len()), (0, 3));
}

#[test]
fn commas_in_a_file_of_one_column_are_text() {
    let more = |i: usize| if i.is_multiple_of(3) { ", and again" } else { "" };
    let texts: String = (0..12).map(|i| format!("late, as ever{}\n", more(i))).collect();
    for first in ["text\n", "Bericht\n"] {
        let read = table(first.to_owned() + &texts).unwrap();
        assert_eq!((read.columns.len(), read.rows.len()), (1, 12));
        assert_eq!(read.rows[0].fields, ["late, as ever, and again"]);
        warned(&read, &["read as one column", "--delimiter ','"]);
    }
    // one comma in every line: the name says it
    let even = table("text\n".to_owned() + &"late, as ever\n".repeat(9)).unwrap();
    assert_eq!((even.columns, even.rows.len()), (vec!["text".to_owned()], 9));
    // sentences without a name above
    let sentences =
        table((0..9).map(|i| format!("late {i}, as ever\n")).collect::<String>()).unwrap();
    warned(&sentences, &["every comma is followed by a space", "--delimiter none"]);
    let none = TableOptions { delimiter: Some(String::new()), ..TableOptions::default() };
    let read =
        table::read("late, as ever\nfine, so far\nlate, once more\n".as_bytes(), none, &mut |_| {})
            .unwrap();
    assert_eq!((read.columns.len(), read.dialect.delimiter), (1, None));
}

#[test]
fn ragged_rows_say_what_is_probably_wrong() {
    let returns = rows(",", "\n").replacen("line 3,fine\n", "line 3,fine\r", 1);
    refused(
        format!("text,label\n{returns}"),
        &["line 5: 3 fields", "this line contains a carriage return"],
    );
    let curly: String = (0..8).map(|i| format!("\u{201c}late, {i}\u{201d},no\n")).collect();
    refused(format!("text,label\n{curly}"), &["line 2", "curly quotes"]);
}

#[test]
fn a_line_of_dashes_is_no_row() {
    let row = |line: &str| format!("| {} |\n", line.replace('|', " | "));
    let body: String = rows("|", "\n").lines().map(row).collect();
    let read = check(format!("| text | label |\n|:---|---:|\n{body}"));
    warned(&read, &["line 2: the line of dashes"]);
}

#[test]
fn damaged_letters_are_told() {
    let twice = format!("text,label\n{}", rows(" \u{c3}\u{a9}t\u{c3}\u{a9},", "\n"));
    warned(&check(&twice), &["opened and saved as Windows-1252", "line 0 \u{e9}t\u{e9}"]);
    warned(
        &check(format!("text,label\n{}", rows(" \u{fffd},", "\n"))),
        &["U+FFFD", "16 such lines"],
    );
    let utf32: Vec<u8> =
        "text,label\nlate,no\n".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    refused(utf32, &["UTF-32"]);
}

#[test]
fn one_object_by_columns_or_by_rows() {
    let cells =
        |label: bool| each(|i, t, l| format!("\"r{i:02}\": {}", if label { l } else { t }), ",");
    let columns =
        check(format!("{{\"text\": {{{}}}, \"label\": {{{}}}}}", cells(false), cells(true)));
    assert_eq!(columns.dialect.format, Format::Json);
    let by_rows =
        |i: usize, t: &str, l: &str| format!("\"doc {i}\": {{\"text\": {t}, \"label\": {l}}}");
    check(format!("{{{}}}", each(by_rows, ", ")));
    check(format!("{{\n{}\n}}", each(by_rows, ",\n")));
    // columns whose names are not known, by their shape
    let read =
        table(format!("{{\"Satz\": {{{}}}, \"Art\": {{{}}}}}", cells(false), cells(true))).unwrap();
    assert_eq!(
        (read.rows.len(), &read.columns[..]),
        (16, &["Art".to_owned(), "Satz".to_owned()][..])
    );
    let short = each(|_, _, l| l.to_owned(), ",");
    let long = each(|_, t, _| t.to_owned(), ",") + ",\"one more\"";
    refused(
        format!("{{\"text\": [{long}], \"label\": [{short}]}}"),
        &["differ in length", "\"label\" has 16", "\"text\" has 17"],
    );
}

#[test]
fn a_field_with_two_values_is_refused() {
    let twice = |a: &str, b: &str| {
        each(|_, t, l| format!("{{{a}: {t}, \"label\": {l}, {b}: \"x\"}}"), "\n")
    };
    let text = twice("\"text\"", "\"text\"");
    refused(&text, &["line 1: the field \"text\" is there twice in one row"]);
    refused(format!("[{}]", text.replace('\n', ",\n")), &["line 1: the field \"text\""]);
    let path = each(
        |_, t, l| {
            format!("{{\"meta.text\": \"flat\", \"meta\": {{\"text\": {t}}}, \"label\": {l}}}")
        },
        "\n",
    );
    refused(path, &["\"meta.text\" is there twice"]);
    // the same value twice loses nothing
    check(each(|_, t, l| format!("{{\"text\": {t}, \"label\": {l}, \"label\": {l}}}"), "\n"));
}

#[test]
fn json_with_faults_names_them() {
    let object = |_: usize, t: &str, l: &str| format!("{{\"text\": {t}, \"label\": {l}}}");
    refused(
        format!("[{},\n]", each(object, ",\n")),
        &["line 17", "an extra comma before the bracket"],
    );
    refused(each(object, ""), &["line 1", "several values in one line"]);
    let python = each(object, "\n").replace('"', "'");
    refused(python, &["line 1", "double quotes", "json.dumps"]);
    refused(format!("// my rides\n{}", each(object, "\n")), &["line 1: not a JSON object"]);
    let pairs = each(|i, t, l| format!("[{}, {}]", object(i, t, l), object(i, t, l)), "\n");
    refused(pairs, &["line 1", "every object on its own line"]);
    // texts that are lists
    let tokens =
        table(each(|_, t, l| format!("{{\"text\": [{t}, {t}], \"label\": {l}}}"), "\n")).unwrap();
    let options = DatasetOptions { positive: Some("late".into()), ..DatasetOptions::default() };
    let error = Dataset::from_table(&tokens, &guess_roles(&tokens), &options).unwrap_err();
    assert!(matches!(error, ColumnsError::StructuredText { line: 1, .. }), "{error}");
}

#[test]
fn words_for_a_missing_value_as_texts_and_labels() {
    let text = format!("text,label\n{}nan,late\nNULL,fine\n", rows(",", "\n"));
    let read = table(text).unwrap();
    let labels = LabelChoices { missing: vec!["nul".into()], ..LabelChoices::default() };
    let options =
        DatasetOptions { positive: Some("late".into()), labels, ..DatasetOptions::default() };
    let data = Dataset::from_table(&read, &guess_roles(&read), &options).unwrap();
    assert_eq!(
        data.notes,
        [
            "no row has the label \"nul\", which was to be left out",
            "2 rows have a text that usually means a missing value: \"NULL\" (1 row), \"nan\" (1 row)"
        ]
    );
}

/// A text in single quotes with a delimiter and a line break in it falls into two rows of as many cells.
#[test]
fn a_text_in_single_quotes_that_is_torn_in_two_rows_is_told() {
    let mut lines: Vec<String> =
        (0..10).map(|i| format!("a ride on day {i}|{}", ["no", "yes", "so"][i % 3])).collect();
    let untorn = table(lines.join("\n").as_bytes()).unwrap();
    assert!(untorn.warnings.is_empty(), "{:?}", untorn.warnings);
    lines[7] = "'a ride |\non a day'|yes".to_owned();
    let torn = table(lines.join("\n").as_bytes()).unwrap();
    assert!(
        torn.warnings.iter().any(|told| told.starts_with("line 8: single quotes")),
        "{:?}",
        torn.warnings
    );
    // an apostrophe that no other one follows is no quote
    lines[7] = "'twas a ride|yes".to_owned();
    let apostrophe = table(lines.join("\n").as_bytes()).unwrap();
    assert!(apostrophe.warnings.is_empty(), "{:?}", apostrophe.warnings);
}
