//! Guesses a table's dialect from its first text: format, delimiter, quotes, header. Several readings
//! are made and compared by what is plausible; where two are, the user is told of both.

use serde::{Deserialize, Serialize};

use super::before::{lines_before, looks_like_sentences, names_one_column, separator_line};
use super::header::guess_header;
use super::json;
use super::reading::{KnownValues, Reading};
use super::records::Rules;
use super::{EncodingChoice, TableError, TableOptions};

/// What a file consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Fields separated by a delimiter.
    Delimited,
    /// One JSON value a line: an object, or an array with a cell for each column.
    JsonLines,
    /// One JSON value that holds all rows.
    Json,
    /// One text a line, and no table.
    Lines,
}

impl Format {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delimited => "delimited text",
            Self::JsonLines => "JSON Lines",
            Self::Json => "one JSON value",
            Self::Lines => "one text per line",
        }
    }
}

/// How the file was read; shown to the user, who can override each part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Dialect {
    /// What the file consists of.
    pub format: Format,
    /// The delimiter; none for a file of one column and for JSON.
    pub delimiter: Option<String>,
    /// The quote character; none where quotes are ordinary characters.
    pub quote: Option<char>,
    /// The character that takes the next one as it is.
    pub escape: Option<char>,
    /// Blanks around quotes are passed over.
    pub blanks: bool,
    /// Is the first line a header?
    pub header: bool,
    /// Lines passed over at the start.
    pub skipped: usize,
    /// The encoding, and how it is known.
    pub encoding: EncodingChoice,
    /// How delimiter, quotes and header are known, in words.
    pub why: Why,
}

/// How the parts of a dialect are known, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Why {
    /// The delimiter.
    pub delimiter: String,
    /// The quotes.
    pub quote: String,
    /// The header.
    pub header: String,
}

/// A dialect and what the reader needs for it.
pub(super) struct Guess {
    pub dialect: Dialect,
    pub rules: Rules,
    pub known: Option<KnownValues>,
    pub warnings: Vec<String>,
}

/// In the order in which they win a tie.
const DELIMITERS: [&str; 6] = ["\t", ",", ";", "||", "|", "::"];
/// Delimiters of files that often have no quoting at all.
const UNQUOTED: [&str; 5] = ["\t", "||", "|", "::", ""];

/// The dialect of a file that starts with `sample`; `complete` says that the sample is the whole file.
pub(super) fn detect(
    sample: &str,
    complete: bool,
    options: &TableOptions,
    encoding: EncodingChoice,
) -> Result<Guess, TableError> {
    let first = sample.trim_start().chars().next().ok_or(TableError::Empty)?;
    let plain = |format| Guess {
        dialect: Dialect {
            format,
            delimiter: None,
            quote: None,
            escape: None,
            blanks: false,
            header: false,
            skipped: 0,
            encoding,
            why: Why::default(),
        },
        rules: Rules::default(),
        known: None,
        warnings: Vec::new(),
    };
    let delimited = options.delimiter.is_some() || options.format == Some(Format::Delimited);
    if options.format == Some(Format::Lines) {
        let returns = !sample.contains('\n');
        let rules = Rules { keep_empty: true, returns, ..Rules::default() };
        return Ok(Guess { rules, ..plain(Format::Lines) });
    }
    if let Some(format) = options.format.filter(|f| *f != Format::Delimited) {
        return Ok(json_text(sample, plain(format), options));
    }
    if !delimited && (first == '{' || first == '[') {
        if let Some(format) = json::form(sample, complete) {
            return Ok(json_text(sample, plain(format), options));
        }
        if first == '{' && !sample.trim_start().starts_with("{{") {
            return Ok(plain(Format::JsonLines));
        }
    }
    if !delimited && mostly_objects(sample) {
        // what the other lines are is told by their numbers
        return Ok(plain(Format::JsonLines));
    }
    if sample.lines().take(20).all(|l| l.starts_with("__label__")) {
        return Err(TableError::Other {
            kind: "a file in fastText format (one column, each line begins with __label__ and its class)",
            todo: "write a header line and two columns, such as text and label",
        });
    }
    delimited_text(sample, complete, options, encoding)
}

/// Most lines are JSON objects: remarks or damaged lines stand between them.
fn mostly_objects(sample: &str) -> bool {
    let (mut lines, mut objects) = (0, 0);
    for line in sample.lines().filter(|line| !line.trim().is_empty()).take(50) {
        lines += 1;
        let object = line.trim_start().starts_with('{');
        objects += usize::from(object && serde_json::from_str::<serde_json::Value>(line).is_ok());
    }
    lines > 2 && objects * 5 >= lines * 4
}

/// JSON needs no guess, but where rows are arrays: is the first of them a header?
fn json_text(sample: &str, mut guess: Guess, options: &TableOptions) -> Guess {
    let rows = json::array_rows(sample);
    if rows.is_empty() {
        return guess;
    }
    let found = guess_header(&rows);
    let header = options.header.unwrap_or(found.header);
    guess.dialect.header = header;
    guess.dialect.why.header = match options.header {
        Some(_) => "as given".to_owned(),
        None => format!("guessed: {}", found.why),
    };
    if options.header.is_none() && found.unsure {
        guess.warnings.push(header_warning(&rows, header, false));
    }
    guess
}

fn delimited_text(
    sample: &str,
    complete: bool,
    options: &TableOptions,
    encoding: EncodingChoice,
) -> Result<Guess, TableError> {
    let mut warnings = Vec::new();
    let named = separator_line(sample);
    let given = options.delimiter.clone();
    let (delimiter, said) = match (given, named) {
        (Some(given), _) => (Some(given), "as given"),
        (None, Some(named)) => (Some(named.to_string()), "by the file's first line, sep="),
        (None, None) => (None, ""),
    };
    let mut skipped = options.skip_lines.unwrap_or(usize::from(named.is_some()));
    let returns = ends_by_returns(sample);
    let base = Rules { returns, quote: Some(b'"'), ..Rules::default() };
    let rest = |skipped: usize| after_lines(sample, skipped, returns);
    let read = |skipped: usize, rules: Rules| Reading::of(rest(skipped), complete, rules);
    let whole = |delimiter: &str| {
        let rules = Rules { delimiter: delimiter.to_owned(), ..base.clone() };
        best_quotes(&|rules| read(skipped, rules), rest(skipped), rules, options)
    };
    let (chosen, why_delimiter) = match delimiter {
        Some(delimiter) => (whole(&delimiter), said.to_owned()),
        None => {
            let all = DELIMITERS.iter().filter(|d| rest(skipped).contains(**d)).map(|d| whole(d));
            match choose(all.collect(), &mut warnings) {
                Some(((reading, ..), _))
                    if options.skip_lines.is_none() && names_one_column(&reading) =>
                {
                    let name = delimiter_name(Some(&reading.rules.delimiter));
                    warnings.push(format!(
                        "the first line has one cell ({:?}), so the file is read as one column and every {name} as text; \
                         choose the delimiter to split the lines (--delimiter '{}')",
                        reading.rows[0][0],
                        reading.rules.delimiter.escape_default()
                    ));
                    (whole(""), "the first line names one column".to_owned())
                }
                Some((quoted, why)) => {
                    let unquoted = !rest(skipped).contains('"');
                    if unquoted && looks_like_sentences(&quoted.0) {
                        warnings.push(format!(
                            "every {} is followed by a space, as in sentences, and splits the lines into {} columns; \
                             if they are sentences, read every line as one text (--delimiter none)",
                            delimiter_name(Some(&quoted.0.rules.delimiter)),
                            quoted.0.width
                        ));
                    }
                    (quoted, why)
                }
                None => (
                    whole(""),
                    "no delimiter gives the lines the same number of columns".to_owned(),
                ),
            }
        }
    };
    let (mut reading, why_quote, told) = chosen;
    warnings.extend(told);
    if options.skip_lines.is_none() && named.is_none() {
        let before = lines_before(&reading);
        if before > 0 {
            let line = sample.lines().next().unwrap_or_default();
            let shown: String = line.chars().take(60).collect();
            warnings.push(format!(
                "{} before the table skipped, the first is {shown:?}; skip none if it is a row (--skip-lines 0)",
                if before == 1 { "a line is".to_owned() } else { format!("{before} lines are") }
            ));
            skipped = before;
            reading = read(skipped, reading.rules.clone());
        }
    }
    if let Some(line) = reading.single_quotes().filter(|_| options.quote.is_none()) {
        let line = line + skipped as u64;
        warnings.push(format!(
            "line {line}: single quotes around a cell are kept as text; set the quote character if they enclose it (--quote \"'\")"
        ));
    }
    let guess = guess_header(&reading.rows);
    let (header, why_header) = match options.header {
        Some(header) => (header, "as given".to_owned()),
        None => (guess.header, format!("guessed: {}", guess.why)),
    };
    if options.header.is_none() && guess.unsure {
        warnings.push(header_warning(&reading.rows, header, complete));
    }
    let rules = reading.rules.clone();
    let dialect = Dialect {
        format: Format::Delimited,
        delimiter: Some(rules.delimiter.clone()).filter(|d| !d.is_empty()),
        quote: rules.quote.map(char::from),
        escape: rules.escape.map(char::from),
        blanks: rules.blanks,
        header,
        skipped,
        encoding,
        why: Why { delimiter: why_delimiter, quote: why_quote, header: why_header },
    };
    let known = options.quote.is_none().then_some(reading.known);
    Ok(Guess { dialect, rules, known, warnings })
}

/// Both readings of the first line, with their rows.
fn header_warning(all: &[Vec<String>], header: bool, complete: bool) -> String {
    let cells: Vec<String> = all
        .first()
        .map(|row| row.iter().take(6).map(|c| c.chars().take(40).collect()).collect())
        .unwrap_or_default();
    let rows = all.len();
    let counts = if complete {
        [format!(" ({} rows)", rows.saturating_sub(1)), format!(" ({rows} rows)")]
    } else {
        [String::new(), String::new()]
    };
    let [with, without] = counts;
    if header {
        format!(
            "the first line is read as column names{with}: {cells:?}; if it is a row{without}, say so (--header no)"
        )
    } else {
        format!(
            "the first line is read as a row{without}: {cells:?}; if it has column names{with}, say so (--header yes)"
        )
    }
}

/// A quoting, with why and what to tell.
type Quoted = (Reading, String, Vec<String>);

/// The reading whose quotes are plausible.
fn best_quotes(
    read: &dyn Fn(Rules) -> Reading,
    text: &str,
    rules: Rules,
    options: &TableOptions,
) -> Quoted {
    let escape = options.escape;
    let blanks_possible = |text: &str, delimiter: &str, quote: u8| {
        let quote = char::from(quote);
        let near = [format!("{delimiter} {quote}"), format!("{quote} {delimiter}")];
        near.iter().any(|n| text.contains(n.as_str()))
            || text.starts_with(&format!(" {quote}"))
            || text.contains(&format!("\n {quote}"))
    };
    let with = |quote: Option<u8>, escape: Option<u8>, blanks: bool| {
        read(Rules { quote, escape, blanks, ..rules.clone() })
    };
    if let Some(quote) = options.quote {
        let plain = with(quote, escape, false);
        let possible = quote.is_some_and(|q| blanks_possible(text, &rules.delimiter, q));
        if possible {
            let blanks = with(quote, escape, true);
            if blanks.is_good() && (!plain.is_good() || blanks.left_quotes < plain.left_quotes) {
                return (blanks, "as given".into(), vec![]);
            }
        }
        return (plain, "as given".into(), vec![]);
    }
    let plain = with(Some(b'"'), escape, false);
    let usual = "the default".to_owned();
    let why = if text.contains('"') { usual } else { "the default; there are none".into() };
    if blanks_possible(text, &rules.delimiter, b'"') {
        let blanks = with(Some(b'"'), escape, true);
        let better = !plain.is_good() || blanks.left_quotes < plain.left_quotes;
        if blanks.is_good() && better {
            return (blanks, "spaces around them are ignored".into(), vec![]);
        }
    }
    if escape.is_none() && text.contains("\\\"") {
        let escaped = with(Some(b'"'), Some(b'\\'), false);
        if escaped.is_good() && !plain.is_good() {
            return (escaped, "a quote after a backslash is text".into(), vec![]);
        }
        if escaped.is_good() && escaped.rows != plain.rows {
            let told = two_readings(
                "a backslash",
                "as text",
                &plain,
                "as an escape (--escape '\\')",
                &escaped,
            );
            return (plain, why, vec![told]);
        }
    }
    if plain.left_quotes > 0.5 || !plain.is_good() {
        let single = with(Some(b'\''), escape, false);
        let fewer = single.left_quotes < plain.left_quotes;
        if single.is_good() && fewer && text.contains('\'') {
            return (single, "most rows have them around a field".into(), vec![]);
        }
    }
    if !plain.is_good() && UNQUOTED.contains(&rules.delimiter.as_str()) {
        let none = with(None, escape, false);
        if none.is_good() {
            let why = "quotes are plain characters: the lines cannot be read with them as quotes"
                .to_owned();
            let told = two_readings(
                "quotes",
                "as plain characters",
                &none,
                "as quotes (--quote '\"')",
                &plain,
            );
            return (none, why, vec![told]);
        }
    }
    (plain, why, vec![])
}

fn two_readings(what: &str, one: &str, a: &Reading, other: &str, b: &Reading) -> String {
    format!(
        "{what} can be read in two ways: {one} {}, which is used; {other} {}",
        a.says(),
        b.says()
    )
}

/// The delimiter under which most rows have as many fields; none for one column.
fn choose(mut all: Vec<Quoted>, warnings: &mut Vec<String>) -> Option<(Quoted, String)> {
    all.retain(|(reading, ..)| reading.score() > 0.5);
    // the first of equals wins: sorting is stable
    let rank = |(r, ..): &Quoted| {
        let names = if r.error.is_none() { r.known_names() } else { 0 };
        let good = u8::from(r.is_good());
        let fit = if r.is_good() { 1.0 } else { r.score() };
        (good, names, fit, r.label_like(), std::cmp::Reverse(r.fewest_values()))
    };
    all.sort_by(|a, b| rank(b).partial_cmp(&rank(a)).unwrap_or(std::cmp::Ordering::Equal));
    let first = all.first()?;
    if let Some((other, ..)) = all.get(1).filter(|(r, ..)| r.is_good())
        && first.0.is_good()
        && first.0.known_names() == other.known_names()
        && !first.0.rules.delimiter.contains(&other.rules.delimiter)
    {
        let name = |r: &Reading| delimiter_name(Some(&r.rules.delimiter));
        warnings.push(format!(
            "two delimiters split the lines equally well: {} {}, which is used; {} {} (--delimiter '{}')",
            name(&first.0),
            first.0.says(),
            name(other),
            other.says(),
            other.rules.delimiter.escape_default()
        ));
    }
    let fits = (first.0.fit * first.0.rows.len() as f64).round();
    let why =
        format!("guessed: {fits} of {} lines have {} fields", first.0.rows.len(), first.0.width);
    Some((all.swap_remove(0), why))
}

/// The delimiter in words.
pub(super) fn delimiter_name(delimiter: Option<&str>) -> String {
    match delimiter {
        Some(",") => "comma".into(),
        Some(";") => "semicolon".into(),
        Some("\t") => "tab".into(),
        Some("|") => "vertical bar".into(),
        Some(other) => format!("'{}'", other.escape_debug()),
        None => "none".into(),
    }
}

/// Old Macs end lines by a carriage return. Where a line feed stands outside quotes, a return is text.
fn ends_by_returns(sample: &str) -> bool {
    let (mut quoted, mut feeds) = (false, 0);
    for byte in sample.bytes() {
        quoted ^= byte == b'"';
        feeds += usize::from(byte == b'\n' && !quoted);
    }
    sample.contains('\r') && (feeds == 0 && !sample.contains("\r\n") || !sample.contains('\n'))
}

/// The text behind so many lines.
pub(super) fn after_lines(text: &str, lines: usize, returns: bool) -> &str {
    let mut rest = text;
    for _ in 0..lines {
        let end = if returns { rest.find(['\r', '\n']) } else { rest.find('\n') };
        let Some(end) = end else { return "" };
        rest = &rest[end + 1..];
        if returns && text.as_bytes().get(text.len() - rest.len() - 1) == Some(&b'\r') {
            rest = rest.strip_prefix('\n').unwrap_or(rest);
        }
    }
    rest
}
