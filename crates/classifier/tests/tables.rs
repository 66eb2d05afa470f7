//! Tables as people have them: each is read right, or refused or warned of in words that help.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use hearth_classifier::columns::{ColumnsError, Dataset, DatasetOptions, guess_roles};
use hearth_classifier::table::{Format, Table, TableError, TableOptions, read};

const TEXTS: [&str; 6] = [
    "the train was late again",
    "a lovely ride along the coast",
    "the seat next to me was broken",
    "a friendly crew and warm coffee",
    "no heating in the second coach",
    "quick and clean from end to end",
];

fn table(bytes: &[u8]) -> Result<Table, TableError> {
    read(bytes, TableOptions::default(), &mut |_| {})
}

fn with(bytes: &[u8], options: TableOptions) -> Result<Table, TableError> {
    read(bytes, options, &mut |_| {})
}

/// Twenty rows of a text and a label, `first` in front; the label of row i is `classes[i % n]`.
fn rows(first: &str, between: &str, end: &str, classes: &[&str]) -> String {
    let row = |i: usize| {
        let (text, class) = (TEXTS[i % TEXTS.len()], classes[i % classes.len()]);
        format!("{text} on day {i}{between}{class}{end}")
    };
    first.to_owned() + &(0..20).map(row).collect::<String>()
}

fn labels(table: &Table) -> Vec<String> {
    let roles = guess_roles(table);
    let label = roles.label.unwrap();
    let mut all: Vec<String> =
        table.rows.iter().map(|r| r.fields[label].trim().to_owned()).collect();
    all.sort();
    all.dedup();
    all
}

/// Twenty rows of these classes, and texts in the other column.
#[track_caller]
fn check(bytes: &[u8], classes: &[&str]) -> Table {
    let table = table(bytes).unwrap();
    assert_eq!(table.rows.len(), 20, "{:?}", table.warnings);
    assert_eq!(labels(&table), classes);
    let text = guess_roles(&table).text.columns()[0];
    assert!(table.rows[3].fields[text].contains("friendly crew"), "{:?}", table.rows[3]);
    table
}

#[test]
fn a_quote_in_a_tab_file_swallows_no_rows() {
    let whole = rows("text\tlabel\n", "\t", "\n", &["no", "yes"]);
    let text =
        whole.replace("\nthe seat", "\n\"the seat").replace("end on day 17\t", "end on day 17\"\t");
    let text = text.replacen("end on day 5\t", "end on day 5\"\t", 1);
    let read = check(text.as_bytes(), &["no", "yes"]);
    assert_eq!(read.dialect.quote, None);
    assert!(read.warnings[0].contains("--quote '\"'"), "{:?}", read.warnings);
    assert!(read.rows[2].fields[0].starts_with('"'));
}

#[test]
fn a_quote_in_a_comma_file_is_an_error_with_both_lines() {
    let text = rows("text,label\n", ",", "\n", &["no", "yes"])
        .replace("\nthe seat next to me was broken on day 2,", "\n\"the seat, next to me,")
        .replace("coffee on day 9,yes", "coffee on day 9\",yes");
    let error = table(text.as_bytes()).unwrap_err();
    assert_eq!(error, TableError::RowsInQuotes { line: 4, to: 11, rows: 8, quote: '"' });
    assert!(error.to_string().contains("--quote none"), "{error}");
    // a table to sort has no labels, but numbers
    let numbered: String = (0..20).map(|i| format!("{i},{}\n", TEXTS[i % 6])).collect();
    let open = numbered.replace("3,a friendly", "3,\"a friendly").replace("end\n12,", "end\"\n12,");
    let error = table(("id,text\n".to_owned() + &open).as_bytes()).unwrap_err();
    assert!(matches!(error, TableError::RowsInQuotes { line: 5, to: 13, .. }), "{error}");
    // who says that quotes are quotes gets one long text
    let given = TableOptions { quote: Some(Some(b'"')), ..TableOptions::default() };
    assert_eq!(with(text.as_bytes(), given).unwrap().rows.len(), 13);
    // a letter of several lines is a text
    let letter = rows("text,label\n", ",", "\n", &["no", "yes"]).replace(
        "a lovely ride along the coast on day 1,",
        "\"Dear all,\nso, it was\na lovely ride, along\",",
    );
    let read = check(letter.as_bytes(), &["no", "yes"]);
    assert_eq!(read.rows[1].fields[0], "Dear all,\nso, it was\na lovely ride, along");
}

#[test]
fn lines_before_the_header() {
    for (first, between) in [("sep=;\r\ntext;label\r\n", ";"), ("SEP=,\ntext,label\n", ",")] {
        let end = if first.contains('\r') { "\r\n" } else { "\n" };
        let read = check(rows(first, between, end, &["no", "yes"]).as_bytes(), &["no", "yes"]);
        assert_eq!(
            (&read.columns[..], read.dialect.skipped),
            (&["text", "label"].map(String::from)[..], 1)
        );
        assert_eq!(read.rows[0].line, 3);
    }
    let titled = rows("Letters of May\n\ntext,label\n", ",", "\n", &["no", "yes"]);
    let read = check(titled.as_bytes(), &["no", "yes"]);
    assert_eq!((read.dialect.skipped, read.rows[0].line), (2, 4));
    assert!(read.warnings[0].contains("\"Letters of May\""), "{:?}", read.warnings);
    let remarks =
        rows("# by me, in May\n# again, and again\ntext,label\n", ",", "\n", &["no", "yes"]);
    assert_eq!(check(remarks.as_bytes(), &["no", "yes"]).rows[0].line, 4);
    let given = TableOptions { skip_lines: Some(2), ..TableOptions::default() };
    let read = with(titled.as_bytes(), given).unwrap();
    assert_eq!((read.columns, read.rows.len()), (vec!["text".into(), "label".into()], 20));
}

#[test]
fn blanks_before_quotes() {
    let quoted: Vec<String> = rows("", "\", \"", "\n", &["no", "so so", "yes"])
        .lines()
        .map(|line| format!("\"{line}\"\n"))
        .collect();
    let read =
        check(("text, label\n".to_owned() + &quoted.concat()).as_bytes(), &["no", "so so", "yes"]);
    assert!(read.dialect.blanks);
    let first = rows("", "|", "\n", &["no", "yes"]);
    let swapped: String = first
        .lines()
        .map(|l| l.split_once('|').unwrap())
        .map(|(text, label)| format!("{label}, \"{text}, and more\"\n"))
        .collect();
    let read = check(("label, text\n".to_owned() + &swapped).as_bytes(), &["no", "yes"]);
    assert!(read.rows[0].fields[1].ends_with(", and more"));
}

#[test]
fn zeros_and_utf16() {
    let text = rows("text,label\n", ",", "\n", &["no", "yes"]);
    let zero = text.replace(
        "friendly crew and warm coffee on day 9",
        "friend\0ly crew and warm coffee on day 9",
    );
    let read = check(zero.as_bytes(), &["no", "yes"]);
    assert!(read.warnings[0].starts_with("line 11: a NUL character"), "{:?}", read.warnings);
    assert!(read.rows[9].fields[0].contains("friendly"));
    for mark in [false, true] {
        let units = mark.then_some(0xFEFF).into_iter().chain(text.encode_utf16());
        let low: Vec<u8> = units.clone().flat_map(u16::to_le_bytes).collect();
        let high: Vec<u8> = units.flat_map(u16::to_be_bytes).collect();
        for bytes in [low, high] {
            let read = check(&bytes, &["no", "yes"]);
            assert!(read.dialect.encoding.encoding.is_utf16());
            assert_eq!(read.dialect.encoding.known.is_guess(), !mark);
            assert_eq!(read.warnings.is_empty(), mark, "a guess is told");
        }
    }
    let mut json: String = (0..20)
        .map(|i| {
            format!(
                "{{\"text\": \"{} on day {i}\", \"label\": \"{}\"}}\n",
                TEXTS[i % 6],
                ["no", "yes"][i % 2]
            )
        })
        .collect();
    json = json.replace("end on day 5", "end \\u0000on day 5");
    let read = check(json.as_bytes(), &["no", "yes"]);
    assert!(read.warnings[0].starts_with("line 6: a NUL character"), "{:?}", read.warnings);
    let binary = table(b"text,label\nsome,thing\n\0\0\0\0\x01\x02\0\0").unwrap_err().to_string();
    assert!(binary.starts_with("line 3:") && binary.contains("binary"), "{binary}");
}

#[test]
fn encodings_are_decoded_or_told_never_swapped_in_silence() {
    let encode = |name: &str, text: &str| {
        let encoding = encoding_rs::Encoding::for_label(name.as_bytes()).unwrap();
        let (bytes, _, unmappable) = encoding.encode(text);
        assert!(!unmappable);
        bytes.into_owned()
    };
    let lines = |texts: [&str; 2], classes: [&str; 2]| {
        let row = |i: usize| format!("{} {i},{}\n", texts[i % 2], classes[i % 2]);
        "text,label\n".to_owned() + &(0..20).map(row).collect::<String>()
    };
    for (name, texts, classes) in [
        (
            "windows-1251",
            ["поезд опять опоздал", "приятная поездка вдоль моря"],
            ["плохо", "хорошо"],
        ),
        ("koi8-r", ["поезд опять опоздал", "приятная поездка вдоль моря"], ["плохо", "хорошо"]),
        ("shift_jis", ["電車がまた遅れました", "海沿いの素敵な旅でした"], ["悪い", "良い"]),
        ("euc-jp", ["電車がまた遅れました", "海沿いの素敵な旅でした"], ["悪い", "良い"]),
        ("gbk", ["火车又晚点了真是糟糕", "沿着海边的旅行很愉快"], ["坏", "好"]),
        ("euc-kr", ["기차가 또 늦었습니다", "바닷가를 따라 즐거운 여행"], ["나쁨", "좋음"]),
        (
            "windows-1252",
            ["le train était encore en retard", "un très beau voyage à la mer"],
            ["désolé", "très bien"],
        ),
        (
            "windows-1253",
            ["το τρένο άργησε πάλι", "ένα όμορφο ταξίδι στη θάλασσα"],
            ["κακό", "καλό"],
        ),
    ] {
        let read = table(&encode(name, &lines(texts, classes))).unwrap();
        assert_eq!(labels(&read), classes, "{name}");
        assert!(read.dialect.encoding.known.is_guess());
        assert!(read.warnings[0].contains("encoding is guessed"), "{:?}", read.warnings);
        assert!(read.warnings[0].contains("--encoding"), "{:?}", read.warnings);
        // and where it is named there is nothing to tell
        let encoding = hearth_classifier::table::TextEncoding::named(name);
        let given = TableOptions { encoding, ..TableOptions::default() };
        let read = with(&encode(name, &lines(texts, classes)), given).unwrap();
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    }
    // two encodings in one file
    let french =
        lines(["le train était en retard", "une très belle journée"], ["désolé", "très bien"]);
    let mut mixed = french.clone().into_bytes();
    mixed.extend(b"un caf\xE9 ferm\xE9,d\xE9sol\xE9\n");
    let error = table(&mixed).unwrap_err().to_string();
    assert!(error.starts_with("line 22: the file mixes encodings"), "{error}");
    assert!(error.contains("--encoding windows-1252"), "{error}");
    let mut other =
        b"text,label\nun caf\xE9 ferm\xE9,d\xE9sol\xE9\nun caf\xE9 froid,d\xE9sol\xE9\n".to_vec();
    other.extend(french.lines().skip(1).flat_map(|l| [l.as_bytes(), b"\n"].concat()));
    assert!(table(&other).unwrap_err().to_string().starts_with("line 2: the file mixes"));
}

#[test]
fn line_ends() {
    let plain = rows("text,label\n", ",", "\n", &["no", "yes"]);
    let inside = plain.replace("a lovely ride", "a lovely\rride");
    let read = check(inside.as_bytes(), &["no", "yes"]);
    assert!(read.rows[1].fields[0].contains("lovely\rride"));
    assert!(read.warnings[0].starts_with("line 3: a carriage return"), "{:?}", read.warnings);
    check(plain.replace('\n', "\r").as_bytes(), &["no", "yes"]);
    check(plain.replace('\n', "\r\r\n").as_bytes(), &["no", "yes"]);
    let wrong = plain.replace('\n', "\r\r\n").replace("on day 4,no", "on, day 4,no");
    let error = table(wrong.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("line 6: 3 fields, expected 2"), "{error}");
    // joined files: a second mark, a second header
    let joined = format!("\u{FEFF}{plain}\u{FEFF}{plain}");
    let read = table(joined.as_bytes()).unwrap();
    assert_eq!((read.rows.len(), labels(&read)), (40, vec!["no".into(), "yes".into()]));
    assert!(
        read.warnings.iter().any(|w| w.starts_with("line 22: a byte order mark")),
        "{:?}",
        read.warnings
    );
    assert!(
        read.warnings.iter().any(|w| w.starts_with("line 22: the header is repeated")),
        "{:?}",
        read.warnings
    );
}

#[test]
fn rows_without_a_header_stay_rows() {
    for classes in [["title", "text"], ["query", "review"], ["message", "label"]] {
        let mut sorted = classes;
        sorted.sort_unstable();
        check(rows("", ",", "\n", &classes).as_bytes(), &sorted);
        check(rows("", "\t", "\n", &classes).as_bytes(), &sorted);
    }
    // pandas' index column has no name
    let numbered: String = rows("", ",", "\n", &["no", "yes"])
        .lines()
        .enumerate()
        .map(|(i, line)| format!("{i},{line}\n"))
        .collect();
    let read = check((",Beitrag,Art\n".to_owned() + &numbered).as_bytes(), &["no", "yes"]);
    assert_eq!(read.columns, ["column 1", "Beitrag", "Art"]);
    let tagged: String = rows("", "|", "\n", &["no", "yes"])
        .lines()
        .map(|l| l.split_once('|').unwrap())
        .map(|(text, label)| format!("__label__{label} {text}\n"))
        .collect();
    let error = table(tagged.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("fastText") && error.contains("two columns"), "{error}");
}

#[test]
fn what_spreadsheets_leave_behind() {
    let empty = rows("text,label,,\n", ",", ",,\n", &["no", "yes"]) + ",,,\n,,,\n ,,,\n";
    let read = table(empty.as_bytes()).unwrap();
    let roles = guess_roles(&read);
    let options = DatasetOptions { positive: Some("yes".into()), ..Default::default() };
    let data = Dataset::from_table(&read, &roles, &options).unwrap();
    assert_eq!((data.examples.len(), &data.notes[0][..]), (20, "3 empty rows are skipped"));
    let trailing = rows("text,label\n", ",", ",\n", &["no", "yes"]);
    let read = check(trailing.as_bytes(), &["no", "yes"]);
    assert!(read.warnings[0].contains("ends with an extra delimiter"), "{:?}", read.warnings);
    check(rows("text,label,\n", ",", ",\n", &["no", "yes"]).as_bytes(), &["no", "yes"]);
}

#[test]
fn delimiters() {
    check(rows("text||label\n", "||", "\n", &["no", "yes"]).as_bytes(), &["no", "yes"]);
    let given = TableOptions { delimiter: Some("§".into()), ..TableOptions::default() };
    let read = with(rows("text§label\n", "§", "\n", &["no", "yes"]).as_bytes(), given).unwrap();
    assert_eq!(labels(&read), ["no", "yes"]);
    // two delimiters divide all lines alike
    let both: String =
        (0..20).map(|i| format!("{}, day {i};{}\n", TEXTS[i % 6], ["x", "y"][i % 2])).collect();
    let read = table(both.as_bytes()).unwrap();
    assert_eq!(read.dialect.delimiter.as_deref(), Some(";"), "the labels are in one column");
    assert!(read.warnings.iter().any(|w| w.contains("two delimiters")), "{:?}", read.warnings);
    let error = |text: &str| table(text.as_bytes()).unwrap_err().to_string();
    let comma = error("text,label,cost\nlate,no,3\nnice,yes,1,5\nbroken,no,2\n");
    assert!(comma.starts_with("line 3: 4 fields") && comma.contains("decimal comma"), "{comma}");
    let single = rows("text,label\n", ",", "\n", &["no", "yes"])
        .replace("a lovely ride", "a lovely, long ride");
    assert!(error(&single).contains("needs quotes around it"), "{}", error(&single));
}

#[test]
fn single_quotes_and_backslashes() {
    let single: String = rows("", "', '", "\n", &["no", "yes"])
        .lines()
        .map(|line| {
            format!("'{}'\n", line.replace("', '", "','").replace("ride along", "ride, along"))
        })
        .collect();
    let read = check(("'text','label'\n".to_owned() + &single).as_bytes(), &["no", "yes"]);
    assert_eq!((read.dialect.quote, &read.columns[0][..]), (Some('\''), "text"));
    let escaped: String = rows("", "\",\"", "\n", &["no", "yes"])
        .lines()
        .map(|line| format!("\"{}\"\n", line.replace("lovely ride", "\\\"lovely\\\", long ride")))
        .collect();
    let read = check(("\"text\",\"label\"\n".to_owned() + &escaped).as_bytes(), &["no", "yes"]);
    assert_eq!(read.dialect.escape, Some('\\'));
    assert!(read.rows[1].fields[0].starts_with("a \"lovely\", long ride"));
}

#[test]
fn json_in_many_shapes() {
    let cells = |i: usize| (format!("{} on day {i}", TEXTS[i % 6]), ["no", "yes"][i % 2]);
    let each = |f: &dyn Fn(usize, &str, &str) -> String, between: &str| {
        let all: Vec<String> =
            (0..20).map(&cells).enumerate().map(|(i, (t, l))| f(i, &t, l)).collect();
        all.join(between)
    };
    let object = |_: usize, t: &str, l: &str| format!("{{\"text\": \"{t}\", \"label\": \"{l}\"}}");
    let array = |_: usize, t: &str, l: &str| format!("[\"{t}\", \"{l}\"]");
    for (text, format) in [
        (format!("[\n {}\n]", each(&object, ",\n ")), Format::Json),
        (format!("[{}]", each(&object, ",")), Format::Json),
        (format!("{{\"version\": 1, \"data\": [{}]}}", each(&object, ",")), Format::Json),
        (each(&object, "\n"), Format::JsonLines),
        (each(&object, "\n").replace(", \"label\"", ",\n\"label\""), Format::Json),
        (format!("[\"text\", \"label\"]\n{}", each(&array, "\n")), Format::JsonLines),
        (
            format!(
                "{{\"columns\": [\"text\", \"label\"], \"index\": [1], \"data\": [{}]}}",
                each(&array, ",")
            ),
            Format::Json,
        ),
        (
            format!(
                "{{\"text\": {{{}}}, \"label\": {{{}}}}}",
                each(&|i, t, _| format!("\"{i}\": \"{t}\""), ","),
                each(&|i, _, l| format!("\"{i}\": \"{l}\""), ",")
            ),
            Format::Json,
        ),
        (
            format!(
                "{{\"text\": [{}], \"label\": [{}]}}",
                each(&|_, t, _| format!("\"{t}\""), ","),
                each(&|_, _, l| format!("\"{l}\""), ",")
            ),
            Format::Json,
        ),
        (
            format!("{{{}}}", each(&|i, t, l| format!("\"{i}\": {}", object(i, t, l)), ",")),
            Format::Json,
        ),
        (
            each(&|_, t, l| format!("{{\"text\": \"{t}\", \"label\": [\"{l}\"]}}"), "\n"),
            Format::JsonLines,
        ),
        (
            each(
                &|i, t, l| {
                    format!(
                        "{{\"text\": \"{t}\", \"label\": {{\"id\": {}, \"name\": \"{l}\"}}}}",
                        i % 2
                    )
                },
                "\n",
            ),
            Format::JsonLines,
        ),
        (
            each(
                &|_, t, l| format!("{{\"meta\": {{\"text\": \"{t}\"}}, \"label\": \"{l}\"}}"),
                "\n",
            ),
            Format::JsonLines,
        ),
        (
            each(
                &|_, t, l| {
                    format!(
                        "{{\"instruction\": \"Say in one word whether the writer of the sentence below liked it.\", \"input\": \"{t}\", \"output\": \"{l}\"}}"
                    )
                },
                "\n",
            ),
            Format::JsonLines,
        ),
    ] {
        let read = check(text.as_bytes(), &["no", "yes"]);
        assert_eq!(read.dialect.format, format, "{text}");
    }
    // physical lines, also of an array
    let pretty = format!("[\n {}\n]", each(&object, ",\n "));
    assert_eq!(table(pretty.as_bytes()).unwrap().rows[4].line, 6);
}

#[test]
fn json_that_is_no_table_says_so() {
    let error = |text: &str| table(text.as_bytes()).unwrap_err().to_string();
    let line = "{\"text\": \"late\", \"label\": \"no\"}\n";
    let nan = error(&format!("{line}{{\"text\": \"x\", \"label\": NaN}}\n"));
    assert!(
        nan.starts_with("line 2:") && nan.contains("write null") && !nan.contains("at line 1"),
        "{nan}"
    );
    let comma = error(&line.replace("}\n", "},\n").repeat(3));
    assert!(comma.starts_with("line 1:") && comma.contains("an extra comma"), "{comma}");
    let half = error(&format!("{line}{{\"text\": \"a \\ud83d b\", \"label\": \"no\"}}\n"));
    assert!(half.starts_with("line 2:") && half.contains("half of a character"), "{half}");
    let chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"late\"}, {\"role\": \"assistant\", \"content\": \"no\"}]}\n";
    assert!(error(&chat.repeat(2)).contains("\"messages\""), "{}", error(chat));
    let cut = error("[{\"text\": \"a\"},\n {\"text\": \"b\"}");
    assert!(cut.starts_with("line 2:") && cut.contains("incomplete"), "{cut}");
    let two = error("{\"a\": [{\"t\": 1}], \"b\": [{\"t\": 1}]}");
    assert!(two.contains("several lists"), "{two}");
    let label = |text: &str| {
        let read = table(text.as_bytes()).unwrap();
        Dataset::from_table(&read, &guess_roles(&read), &DatasetOptions::default()).unwrap_err()
    };
    let several = "{\"text\": \"late\", \"label\": [\"no\", \"slow\"]}\n{\"text\": \"nice\", \"label\": [\"yes\"]}\n";
    assert!(matches!(label(several), ColumnsError::StructuredLabel { line: 1, .. }));
    let studio =
        "[{\"id\": 1, \"data\": {\"text\": \"late\"}, \"annotations\": [{\"result\": []}]}]";
    assert!(label(studio).to_string().contains("Label Studio"), "{}", label(studio));
    assert!(label("{\"error\":\"sign in first\"}").to_string().contains("\"error\""));
}

#[test]
fn files_that_are_no_tables() {
    let error = |text: &str| table(text.as_bytes()).unwrap_err().to_string();
    assert!(error("<!DOCTYPE html>\n<html><body>Sign in</body></html>").contains("web page"));
    let workbook =
        "<?xml version=\"1.0\"?>\n<?mso-application progid=\"Excel.Sheet\"?>\n<Workbook/>";
    assert!(error(workbook).contains("Excel workbook in XML"));
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    assert!(error(pointer).contains("git lfs pull"));
}

#[test]
fn a_text_in_every_line() {
    let lines = TableOptions { format: Some(Format::Lines), ..TableOptions::default() };
    let text = |bytes: &[u8]| -> Vec<String> {
        with(bytes, lines.clone())
            .unwrap()
            .rows
            .into_iter()
            .map(|mut r| r.fields.remove(0))
            .collect()
    };
    let expected = ["a \"quoted, text", "", "grün"];
    let plain = "a \"quoted, text\n\ngrün\n";
    assert_eq!(text(plain.as_bytes()), expected);
    assert_eq!(text(format!("\u{FEFF}{plain}").as_bytes()), expected);
    assert_eq!(text(plain.replace('\n', "\r\n").trim_end().as_bytes()), expected);
    let utf16: Vec<u8> =
        "\u{FEFF}".encode_utf16().chain(plain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(text(&utf16), expected);
    assert_eq!(text(b"a \"quoted, text\n\ngr\xFCn\n"), expected);
}
