use super::*;
use crate::{
    columns::{guess_roles, parse_template},
    prepare::{Prepared, Preparing},
    table::read,
};

fn table_as(text: &str, options: TableOptions) -> Table {
    read(text.as_bytes(), options, &mut |_| {}).unwrap()
}

fn table(text: &str) -> Table {
    table_as(text, TableOptions::default())
}

/// Reads a table as a front end does: the first attempt that finds the columns, else the file's own look.
fn open(reading: &TextReading, text: &str) -> (Table, Result<TextSource, Vec<String>>) {
    for options in reading.attempts() {
        if let Ok(table) = read(text.as_bytes(), options, &mut |_| {})
            && let Ok(found) = reading.find(&table)
        {
            return (table, Ok(found));
        }
    }
    let table = table(text);
    let found = reading.find(&table);
    (table, found)
}

const SURVEY: &str =
    "text;answer;mood\nwhat is it like;rather damp;sad\nhow was it;it went well;happy\n";

#[test]
fn a_text_is_found_by_its_columns_name_wherever_it_is() {
    let survey = table(SURVEY);
    let reading = TextReading::of(&survey, &TextSource::Column(1));
    assert_eq!((reading.words(), reading.header), ("\"answer\"".to_owned(), true));
    let (_, found) = open(&reading, "id,ANSWER ,text\n1,dry enough,a question\n2,wet,another\n");
    assert_eq!(found, Ok(TextSource::Column(1)));
    let (_, found) = open(&reading, "id,text\n1,a question\n2,another\n");
    assert_eq!(found, Err(vec!["answer".to_owned()]));
}

#[test]
fn a_template_is_found_column_by_column() {
    let source = parse_template("{mood}: {answer}", &table(SURVEY)).unwrap();
    let reading = TextReading::of(&table(SURVEY), &source);
    let (other, found) = open(&reading, "answer,note,mood\nfine,a,glad\nbad,b,low\n");
    assert_eq!(found.unwrap().of(&other.rows[0]), "glad: fine");
    let (_, found) = open(&reading, "answer,note\nfine,a\nbad,b\n");
    assert_eq!(found, Err(vec!["mood".to_owned()]));
}

#[test]
fn a_file_of_one_column_without_a_header_keeps_its_first_row() {
    let options = TableOptions {
        header: Some(false),
        delimiter: Some(String::new()),
        ..TableOptions::default()
    };
    let lines = table_as("the soup was cold\nthe bread, though, was warm\n", options);
    let reading = TextReading::of(&lines, &TextSource::Column(0));
    let (other, found) = open(&reading, "text\nthe tea was cold\nthe cake was dry\n");
    assert_eq!((other.rows.len(), found), (3, Ok(TextSource::Column(0))));
}

#[test]
fn a_header_that_was_there_is_looked_for() {
    let reading = TextReading::of(&table(SURVEY), &TextSource::Column(1));
    // no row is taken for a header in silence: the column is missing
    let (_, found) = open(&reading, "the tea was cold\nthe cake was dry\n");
    assert_eq!(found, Err(vec!["answer".to_owned()]));
}

#[test]
fn only_a_guessed_encoding_gives_way() {
    let trained =
        TableOptions { encoding: TextEncoding::named("windows-1251"), ..TableOptions::default() };
    let bytes = |letters: &[u8]| [b"text,mood\n", letters, b",sad\nwell,happy\n"].concat();
    let read = |bytes: Vec<u8>, options| read(&bytes[..], options, &mut |_| {}).unwrap();
    let russian = read(bytes(&[0xef, 0xeb, 0xee, 0xf5, 0xee]), trained.clone());
    let reading = TextReading::of(&russian, &TextSource::Column(0));
    let french = read(bytes(&[b'r', 0xe9, b's', b'u', b'm', 0xe9]), TableOptions::default());
    assert!(french.dialect.encoding.known.is_guess());
    let expected = trained.encoding.filter(|&e| e != french.dialect.encoding.encoding);
    assert_eq!(reading.encoding_for(&french), expected);
    let utf8 = read(bytes("плохо".as_bytes()), TableOptions::default());
    assert_eq!(reading.encoding_for(&utf8), None);
}

#[test]
fn texts_that_were_seen_are_known_again() {
    let seen = SeenTexts::of(["The soup", "a pie"].into_iter(), ["tea"].into_iter());
    let lookup = seen.lookup();
    assert_eq!(lookup.part("the  soup "), Some(Part::Train));
    assert_eq!(lookup.part("tea"), Some(Part::Validation));
    assert_eq!(lookup.part("coffee"), None);
    let rows = ["tea", "cake", "a pie", "bread"];
    assert_eq!(lookup.unseen(rows, |row| *row), (vec!["cake", "bread"], 2));
    // the same training gives the same file, and another one other hashes of the same text
    assert_eq!(seen, SeenTexts::of(["The soup", "a pie"].into_iter(), ["tea"].into_iter()));
    let other = SeenTexts::of(["The soup", "a pie"].into_iter(), ["milk"].into_iter());
    assert_ne!(seen.train, other.train);
    let json = serde_json::to_string(&seen).unwrap();
    assert!(!json.contains("soup") && !json.contains("tea"), "{json}");
}

#[test]
fn an_origin_names_its_rows() {
    let rows = |i: usize| format!("row number {i},{}\n", ["yes", "no"][i % 2]);
    let table = table(&("text,label\n".to_owned() + &(0..40).map(rows).collect::<String>()));
    let how = Preparing { positive: Some("yes".into()), ..Preparing::default() };
    let roles = guess_roles(&table);
    let mut prepared = Prepared::new("a.csv", &table, &roles, &how).unwrap();
    prepared.hold_out(0.25, 7).unwrap();
    let origin = Origin::of(&table, &roles.text, &prepared);
    assert_eq!(origin.threshold, Some(ThresholdFrom::Default));
    let lookup = origin.seen.unwrap().lookup();
    let all = prepared.data.examples.iter().map(|e| e.text.as_str());
    let (fresh, left_out) = lookup.unseen(all, |text| *text);
    assert_eq!((fresh.len(), left_out), (8, 32));
    let test: Vec<&str> = prepared.rows(Part::Test).iter().map(|row| row.0).collect();
    assert!(fresh.iter().all(|text| test.contains(text)));
}

#[test]
fn strangers_origins_are_checked() {
    let good = || Origin {
        reading: Some(TextReading::of(&table(SURVEY), &TextSource::Column(1))),
        seen: Some(SeenTexts::of(["a"].into_iter(), ["b"].into_iter())),
        threshold: Some(ThresholdFrom::Test(40)),
    };
    assert_eq!(good().fault(), None);
    let mut beyond = good();
    beyond.reading.as_mut().unwrap().text = TextSource::Column(1);
    assert_eq!(beyond.fault().unwrap().0, "origin.reading");
    let mut odd = good();
    odd.seen.as_mut().unwrap().train.push('0');
    assert_eq!(odd.fault().unwrap().0, "origin.seen");
    let mut short = good();
    short.seen.as_mut().unwrap().key.clear();
    assert_eq!(short.fault().unwrap().0, "origin.seen");
}
