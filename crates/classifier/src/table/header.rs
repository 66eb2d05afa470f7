//! Is the first line a header? Names of columns are unlike the cells below them.

use std::collections::HashSet;

/// Column names that are a header wherever they stand and nothing below repeats them.
const KNOWN_NAMES: [&str; 34] = [
    "text",
    "label",
    "comment",
    "class",
    "category",
    "sentence",
    "review",
    "message",
    "id",
    "split",
    "target",
    "content",
    "body",
    "title",
    "tweet",
    "labels",
    "sentiment",
    "ishate",
    "document",
    "query",
    "intent",
    "input",
    "output",
    "utterance",
    "description",
    "topic",
    "tag",
    "rating",
    "score",
    "emotion",
    "answer",
    "name",
    "date",
    "mood",
];

/// What the first line is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderGuess {
    pub header: bool,
    /// In words.
    pub why: String,
    /// Whether it could well be the other way round.
    pub unsure: bool,
}

pub(super) fn is_known_name(name: &str) -> bool {
    KNOWN_NAMES.contains(&name.trim().to_lowercase().as_str())
}

fn is_number(cell: &str) -> bool {
    let cell = cell.trim();
    !cell.is_empty() && cell.replacen(',', ".", 1).parse::<f64>().is_ok()
}

fn words(cell: &str) -> usize {
    cell.split_whitespace().count()
}

/// What a first cell says beside the cells below it.
enum Sign {
    Header(&'static str),
    Data(&'static str),
    None,
}

fn sign(place: usize, first: &str, below: &[&str]) -> Sign {
    let first = first.trim();
    let full: Vec<&str> = below.iter().map(|c| c.trim()).filter(|c| !c.is_empty()).collect();
    if full.is_empty() {
        return Sign::None;
    }
    let numbers = full.iter().filter(|c| is_number(c)).count();
    let counts_up = full.iter().enumerate().all(|(i, c)| {
        let start = full[0].parse::<u64>().ok();
        start.is_some_and(|start| c.parse::<u64>().ok() == Some(start + i as u64))
    });
    if first.is_empty() {
        // pandas gives its index no name
        return if place == 0 && counts_up {
            Sign::Header("the first column numbers the rows")
        } else {
            Sign::Data("one of its cells is empty")
        };
    }
    if full.contains(&first) {
        return Sign::Data("one of its cells occurs again below");
    }
    if is_number(first) {
        let own_place = first.parse::<usize>().is_ok_and(|n| n <= place);
        return if numbers == 0 && own_place {
            Sign::Header("its cells are numbered and those below are texts")
        } else {
            Sign::Data("one of its cells is a number")
        };
    }
    if numbers == full.len() {
        return Sign::Header("it has words above numbers");
    }
    let mut lengths: Vec<usize> = full.iter().map(|c| words(c)).collect();
    lengths.sort_unstable();
    let usual = lengths[lengths.len() / 2];
    if first.len() > 80 || (words(first) > 3 && usual > 2) {
        return Sign::Data("one of its cells is a sentence like those below");
    }
    if usual > 3 && words(first) <= 2 {
        return Sign::Header("it has single words above sentences");
    }
    Sign::None
}

/// Guesses by the first row and those below it.
pub(super) fn guess_header(rows: &[Vec<String>]) -> HeaderGuess {
    let guess = |header, why: &str, unsure| HeaderGuess { header, why: why.to_owned(), unsure };
    let Some((first, below)) = rows.split_first() else {
        return guess(true, "the only line", false);
    };
    let known = first.iter().filter(|name| is_known_name(name)).count();
    if below.is_empty() {
        return guess(true, "the only line", false);
    }
    // files that were joined repeat their header whole
    let others: Vec<&Vec<String>> = below.iter().filter(|row| *row != first).collect();
    let repeated = others.len() < below.len();
    if repeated && known < 2.min(first.len()) {
        return guess(false, "it occurs again below", known > 0);
    }
    let mut signs = (0..first.len()).map(|i| {
        let column: Vec<&str> =
            others.iter().filter_map(|r| r.get(i)).map(String::as_str).collect();
        sign(i, &first[i], &column)
    });
    let mut seen = HashSet::new();
    let twice = first.iter().any(|name| !name.trim().is_empty() && !seen.insert(name.trim()));
    let (mut header, mut data) = (None, None);
    for sign in &mut signs {
        match sign {
            Sign::Header(why) => header = header.or(Some(why)),
            Sign::Data(why) => data = data.or(Some(why)),
            Sign::None => {}
        }
    }
    if twice {
        data = data.or(Some("two of its cells are equal"));
    }
    match (known, header, data) {
        (0, None, None) => guess(true, "nothing contradicts it", true),
        (0, Some(why), None) => guess(true, why, false),
        (0, None, Some(why)) => guess(false, why, false),
        (0, Some(_), Some(why)) => guess(false, why, true),
        (_, _, None) => guess(true, "it has common column names", false),
        // a name that is usual and a cell that is none: two names outweigh one cell
        (1, _, Some(why)) => guess(false, why, true),
        (_, _, Some(_)) => guess(true, "it has common column names", true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (bool, bool) {
        let rows: Vec<Vec<String>> =
            text.lines().map(|l| l.split(',').map(String::from).collect()).collect();
        let guess = guess_header(&rows);
        (guess.header, guess.unsure)
    }

    #[test]
    fn headers_and_rows() {
        assert_eq!(check("text,label\na,b\n"), (true, false));
        assert_eq!(check("Beitrag,Art\nHallo,gut\nTag,böse\n"), (true, true));
        assert_eq!(
            check("Beitrag,Art\nein Satz mit Wörtern,gut\nund noch ein Satz,böse\n"),
            (true, false)
        );
        assert!(!check("you are nice,good\nyou are bad,bad\nwell done,good\n").0);
        assert!(!check("hello,1\nbye,0\n").0);
        assert!(!check("a,\nb,c\n").0);
    }

    #[test]
    fn a_usual_name_that_is_a_class_makes_no_header() {
        assert_eq!(
            check("I lost my key,title\nfoot of it,footer\nthe next one,title\n"),
            (false, true)
        );
        // even where that class occurs once
        assert!(
            !check(
                "I lost my key today,title\nthe foot of a page,footer\nthe next one of all,footer\n"
            )
            .0
        );
        assert!(!check("message,the film was good for me\nspam,buy it all now\nmessage,see you later today\n").0);
    }

    #[test]
    fn headers_with_unnamed_columns() {
        // pandas' index, named columns or numbered ones
        assert_eq!(check(",Beitrag,Art\n0,Hallo da,gut\n1,Tag auch,böse\n"), (true, false));
        assert_eq!(check(",0,1\n0,Hallo da,gut\n1,Tag auch,böse\n"), (true, false));
        // columns that a spreadsheet left empty
        assert_eq!(check("text,label,,\na,b,,\nc,d,,\n"), (true, false));
        // a header that comes again, because files were joined
        assert_eq!(check("text,label\na,b\ntext,label\nc,d\n"), (true, false));
    }
}
