//! Labels as a set: values that look alike or are the same number, words for a missing value. They are
//! pointed out, and united or left out only when asked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{ClassCount, ColumnsError};

/// What to do with labels beside taking them as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(default)]
pub struct LabelChoices {
    /// Unite labels that look alike or are the same number.
    pub merge: bool,
    /// Rows with these labels are left out, as if they had none.
    pub missing: Vec<String>,
    /// Rows of these classes are left out.
    pub drop: Vec<String>,
}

/// What stands out among the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(default)]
pub struct LabelFindings {
    /// Labels that differ by letter case, width, invisible characters, normal form or blanks only.
    pub alike: Vec<Vec<ClassCount>>,
    /// Labels that are the same number or truth value.
    pub equal: Vec<Vec<ClassCount>>,
    /// Words for a missing value.
    pub missing: Vec<ClassCount>,
    /// Numbers with a decimal comma.
    pub decimal_commas: Vec<ClassCount>,
    /// Different numbers, where the labels are numbers and many.
    pub numbers: Option<usize>,
    /// Whether labels that look alike or are equal were united.
    pub merged: bool,
}

/// Words that programs write for a missing value, in small letters.
const MISSING: [&str; 13] =
    ["nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nil", "n.a.", "missing", "-", "--", "?"];
/// More different numbers than this are measurements, not classes.
const MANY_NUMBERS: usize = 10;

/// Characters that nobody sees.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2069}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

/// A text without what the eye does not tell apart: width and normal form (NFKC), letter case,
/// invisible characters, kinds and numbers of blanks.
pub fn plain_form(text: &str) -> String {
    let lower = if text.is_ascii() {
        // the same, and most texts are
        text.to_ascii_lowercase()
    } else {
        composed_form(text)
    };
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text in normal form and lower case, without invisible characters.
fn composed_form(text: &str) -> String {
    let seen: String = text.nfkc().filter(|c| !is_invisible(*c)).collect();
    // lower case may need composing again
    seen.to_lowercase().nfkc().collect()
}

/// Letters of other scripts that look like Latin ones, small ones first.
const LOOKALIKES: [(&str, &str); 2] = [
    ("аеорсухіјѕһԁԛԝοα", "aeopcyxijshdqwoa"),
    ("АВЕКМНОРСТУХІЈЅΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEKMHOPCTYXIJSABEZHIKMNOPTYX"),
];
/// Zeros of scripts whose digits follow it: Arabic, Persian, Devanagari, Bengali, Thai.
const ZEROS: [char; 5] = ['\u{660}', '\u{6F0}', '\u{966}', '\u{9E6}', '\u{E50}'];

/// The Latin letter that a letter looks like, in one of the tables.
fn latin(c: char, (others, latin): (&str, &str)) -> Option<char> {
    others.chars().position(|other| other == c).and_then(|place| latin.chars().nth(place))
}

/// A label without what the eye does not tell apart: [`plain_form`], and beyond it digits of other scripts, hyphens and
/// underscores between letters, and letters of other scripts among Latin ones or where all of them look Latin.
fn look(label: &str) -> String {
    let [small, large] = LOOKALIKES;
    let is_other =
        |c: char| c.is_alphabetic() && latin(c, small).or_else(|| latin(c, large)).is_some();
    let mixed = label.chars().any(|c| c.is_ascii_alphabetic()) && label.chars().any(is_other);
    let plain = plain_form(label);
    let alike = plain.chars().filter(|c| c.is_alphabetic()).all(|c| latin(c, small).is_some());
    let form = if mixed || alike {
        let to_latin = |c: char| latin(c, small).or_else(|| latin(c, large)).unwrap_or(c);
        plain_form(&label.chars().map(to_latin).collect::<String>())
    } else {
        plain
    };
    let digit = |c: char| {
        let value =
            |zero: &char| u32::from(c).checked_sub(u32::from(*zero)).filter(|value| *value < 10);
        ZEROS.iter().find_map(value).and_then(|value| char::from_digit(value, 10)).unwrap_or(c)
    };
    let all: Vec<char> = form.chars().map(digit).collect();
    let is_letter =
        |place: Option<usize>| place.and_then(|p| all.get(p)).is_some_and(|c| c.is_alphabetic());
    let joined = |(i, &c): (usize, &char)| {
        let between = is_letter(i.checked_sub(1)) && is_letter(Some(i + 1));
        if matches!(c, '-' | '_') && between { ' ' } else { c }
    };
    all.iter().enumerate().map(joined).collect()
}

/// A finite number, with a decimal point or a decimal comma.
pub fn number(cell: &str) -> Option<f64> {
    let cell = cell.trim();
    let point = cell.parse::<f64>().ok().filter(|x| x.is_finite());
    point.or_else(|| has_decimal_comma(cell).then(|| cell.replace(',', ".").parse().ok())?)
}

fn has_decimal_comma(cell: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    cell.trim_start_matches(['-', '+'])
        .split_once(',')
        .is_some_and(|(whole, part)| digits(whole) && digits(part))
}

/// What labels of one class share: the number that they are, or the form that the eye sees.
fn key(label: &str, with_numbers: bool) -> String {
    let form = look(label);
    match (number(&form), form.as_str()) {
        (Some(value), _) => format!("#{}", value + 0.0),
        (None, "true") if with_numbers => "#1".to_owned(),
        (None, "false") if with_numbers => "#0".to_owned(),
        _ => form,
    }
}

fn any_number<'a>(labels: impl IntoIterator<Item = &'a str>) -> bool {
    labels.into_iter().any(|label| number(&plain_form(label)).is_some())
}

/// Labels with their rows, in their natural order.
fn counts<'a>(labels: impl IntoIterator<Item = &'a str>) -> Vec<ClassCount> {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    labels.into_iter().for_each(|label| *rows.entry(label).or_default() += 1);
    rows.into_iter().map(|(class, rows)| ClassCount { class: class.to_owned(), rows }).collect()
}

fn groups(all: &[ClassCount]) -> Vec<Vec<ClassCount>> {
    let with_numbers = any_number(all.iter().map(|c| c.class.as_str()));
    let mut groups: BTreeMap<String, Vec<ClassCount>> = BTreeMap::new();
    for count in all {
        groups.entry(key(&count.class, with_numbers)).or_default().push(count.clone());
    }
    groups.into_values().filter(|group| group.len() > 1).collect()
}

impl LabelFindings {
    /// Of the labels of all rows.
    pub fn of<'a>(labels: impl IntoIterator<Item = &'a str>) -> Self {
        let all = counts(labels);
        let (alike, equal) = groups(&all).into_iter().partition(|group: &Vec<ClassCount>| {
            group.iter().all(|c| look(&c.class) == look(&group[0].class))
        });
        let chosen = |test: &dyn Fn(&ClassCount) -> bool| -> Vec<ClassCount> {
            all.iter().filter(|c| test(c)).cloned().collect()
        };
        let numeric = all.iter().all(|c| number(&c.class).is_some());
        Self {
            alike,
            equal,
            missing: chosen(&|c| MISSING.contains(&plain_form(&c.class).as_str())),
            decimal_commas: chosen(&|c| has_decimal_comma(&c.class)),
            numbers: (numeric && all.len() > MANY_NUMBERS).then_some(all.len()),
            merged: false,
        }
    }

    /// In words, one for each kind of finding.
    pub fn words(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut several = |groups: &[Vec<ClassCount>], what: &str| {
            let shown: Vec<String> = groups.iter().take(5).map(|g| shown(g)).collect();
            let more = if groups.len() > 5 { "; …" } else { "" };
            if groups.is_empty() {
            } else if self.merged {
                all.push(format!("merged labels that {what}: {}{more}", shown.join("; ")));
            } else {
                all.push(format!(
                    "labels {what}, but each is a separate class: {}{more}; merge them if they mean the same (--merge-labels)",
                    shown.join("; ")
                ));
            }
        };
        several(
            &self.alike,
            "look alike (letter case, invisible characters, width, normal form, hyphens, letters of another script)",
        );
        several(&self.equal, "have the same value");
        if !self.missing.is_empty() {
            let names: Vec<&str> = self.missing.iter().map(|c| c.class.as_str()).collect();
            all.push(format!(
                "labels that usually mean a missing value count as classes: {}; leave their rows out (--missing {})",
                shown(&self.missing),
                shell_word(&names.join(","))
            ));
        }
        if !self.decimal_commas.is_empty() {
            all.push(format!(
                "labels are numbers with a decimal comma: {}",
                shown(&self.decimal_commas)
            ));
        }
        if let Some(numbers) = self.numbers {
            all.push(format!(
                "the labels are {numbers} different numbers, each a separate class; make two classes of them by their median or a threshold (--median, --cut)"
            ));
        }
        all
    }
}

/// A word of a command as a shell takes it.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./,:+%@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Texts that are usual words for a missing value, in words.
pub(super) fn missing_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let is_word = |text: &&str| MISSING.contains(&plain_form(text).as_str());
    let found = counts(texts.filter(|text| text.len() < 16).filter(is_word));
    let rows = found.iter().map(|c| c.rows).sum::<usize>();
    (rows > 0).then(|| {
        let have = if rows == 1 { "row has" } else { "rows have" };
        format!("{rows} {have} a text that usually means a missing value: {}", shown(&found))
    })
}

/// Labels with their rows. What cannot be seen or told apart is shown by its codes too.
fn shown(counts: &[ClassCount]) -> String {
    let codes = |c: char| {
        if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }
    };
    let one = |c: &ClassCount| {
        let rows = if c.rows == 1 { "row" } else { "rows" };
        let name = match c.class.is_ascii() {
            true => format!("{:?}", c.class),
            false => {
                format!("{:?} = {}", c.class, c.class.chars().map(codes).collect::<String>())
            }
        };
        format!("{name} ({} {rows})", c.rows)
    };
    let all: Vec<String> = counts.iter().take(8).map(one).collect();
    all.join(", ") + if counts.len() > 8 { ", …" } else { "" }
}

/// The name under which each label counts when labels are united: the most frequent of its group.
pub(super) fn united(labels: &[String]) -> Vec<String> {
    let all = counts(labels.iter().map(String::as_str));
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for group in groups(&all) {
        let Some(most) = group.iter().map(|c| c.rows).max() else { continue };
        let Some(name) = group.iter().find(|c| c.rows == most) else { continue };
        for count in &group {
            names.insert(count.class.clone(), name.class.clone());
        }
    }
    labels.iter().map(|label| names.get(label).unwrap_or(label).clone()).collect()
}

/// Labels with their rows, united: each group under its most frequent name.
pub fn unite_counts(all: &[ClassCount]) -> Vec<ClassCount> {
    let groups = groups(all);
    let in_group = |c: &&ClassCount| groups.iter().flatten().any(|g| g.class == c.class);
    let mut left: Vec<ClassCount> = all.iter().filter(|c| !in_group(c)).cloned().collect();
    for group in &groups {
        let most = group.iter().map(|c| c.rows).max().unwrap_or(0);
        if let Some(name) = group.iter().find(|c| c.rows == most) {
            let rows = group.iter().map(|c| c.rows).sum();
            left.push(ClassCount { class: name.class.clone(), rows });
        }
    }
    left
}

/// The one class that a name equals or resembles.
pub(super) fn resembling<'c>(name: &str, classes: &'c [String]) -> Option<&'c String> {
    let with_numbers = any_number(classes.iter().map(String::as_str));
    let wanted = key(name, with_numbers && number(&plain_form(name)).is_some());
    let mut like = classes.iter().filter(|class| key(class, false) == wanted);
    like.next().filter(|_| like.next().is_none())
}

/// The labels of a list with commas between them, such as `nan,NA`. Labels have commas too: from each place
/// the longest part that is one of `labels` is taken, else the part up to the next comma.
pub fn labels_in_list(list: &str, labels: &BTreeSet<&str>) -> Vec<String> {
    let is_label = |part: &str| labels.iter().any(|label| label.eq_ignore_ascii_case(part.trim()));
    let (mut rest, mut found) = (list, Vec::new());
    loop {
        let mut ends = rest.match_indices(',').map(|(at, _)| at);
        let first = ends.next();
        let longest = std::iter::once(rest.len()).chain(ends.rev()).chain(first);
        let end = longest.clone().find(|&end| is_label(&rest[..end])).or(first);
        let end = end.unwrap_or(rest.len());
        found.push(rest[..end].trim().to_owned());
        if end == rest.len() {
            return found;
        }
        rest = &rest[end + 1..];
    }
}

/// Whether a label is the word for a missing one, in whatever letter case.
pub(super) fn is_word(word: &str, label: &str) -> bool {
    word.trim().eq_ignore_ascii_case(label)
}

impl LabelChoices {
    /// Whether a row with this label is left out.
    pub(super) fn is_missing(&self, label: &str) -> bool {
        self.missing.iter().any(|word| is_word(word, label))
    }

    /// Classes to leave out that there are none of.
    pub(super) fn check_dropped(&self, classes: &[String]) -> Result<(), ColumnsError> {
        match self.drop.iter().find(|name| !classes.contains(name)) {
            Some(name) => {
                Err(ColumnsError::UnknownDropped { name: name.clone(), classes: classes.to_vec() })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(groups: &[Vec<ClassCount>]) -> Vec<Vec<&str>> {
        groups.iter().map(|g| g.iter().map(|c| c.class.as_str()).collect()).collect()
    }

    #[test]
    fn ascii_is_in_normal_form() {
        let all: String = (0..128_u8).map(char::from).collect();
        assert_eq!(all.to_ascii_lowercase(), composed_form(&all));
    }

    #[test]
    fn labels_that_look_alike() {
        let labels =
            ["grün", "gru\u{308}n", "Grün", "rot", "ro\u{200B}t", "ＲＯＴ", "blau", "blau"];
        let found = LabelFindings::of(labels);
        assert_eq!(
            names(&found.alike),
            [vec!["Grün", "gru\u{308}n", "grün"], vec!["rot", "ro\u{200B}t", "ＲＯＴ"]]
        );
        assert!(found.equal.is_empty() && found.missing.is_empty());
        let words = found.words().join("\n");
        assert!(words.contains("look alike") && words.contains("--merge-labels"), "{words}");
        assert!(words.contains("\\u{308}") && words.contains("\\u{200b}"), "{words}");
        assert_eq!(LabelFindings::of(["a", "b", "a"]), LabelFindings::default());
    }

    #[test]
    fn letters_and_digits_of_other_scripts_and_hyphens() {
        // Cyrillic and Greek letters
        let labels =
            ["spam", "sp\u{430}m", "\u{410}", "A", "\u{391}", "not-ok", "not_ok", "Not ok"];
        let found = LabelFindings::of(labels);
        assert_eq!(
            names(&found.alike),
            [
                vec!["A", "\u{391}", "\u{410}"],
                vec!["Not ok", "not-ok", "not_ok"],
                vec!["spam", "sp\u{430}m"]
            ]
        );
        assert_eq!(names(&LabelFindings::of(["7", "\u{667}", "8"]).alike), [vec!["7", "\u{667}"]]);
        // grades, words of one script, and numbers with a sign are what they are
        let different = [
            "A-",
            "A",
            "B+",
            "B",
            "\u{432}\u{43e}\u{440}",
            "bop",
            "-1",
            "1",
            "\u{43d}\u{435}\u{442}",
        ];
        assert_eq!(LabelFindings::of(different), LabelFindings::default());
    }

    #[test]
    fn texts_that_stand_for_a_missing_one() {
        let found = missing_texts(["nan", "a text", "NULL", "nan"].into_iter()).unwrap();
        assert_eq!(
            found,
            "3 rows have a text that usually means a missing value: \"NULL\" (1 row), \"nan\" (2 rows)"
        );
        assert_eq!(missing_texts(["nana", "x"].into_iter()), None);
        assert_eq!(shell_word("nan,NA"), "nan,NA");
        assert_eq!(shell_word("#N/A,it's"), r"'#N/A,it'\''s'");
    }

    #[test]
    fn labels_of_one_value() {
        let found = LabelFindings::of(["2", "2.0", "02", "0", "true", "1", "2,0", "False"]);
        let expected = [vec!["0", "False"], vec!["1", "true"], vec!["02", "2", "2,0", "2.0"]];
        assert_eq!(names(&found.equal), expected);
        // without numbers truth values are words
        assert_eq!(names(&LabelFindings::of(["True", "TRUE", "no"]).alike), [vec!["TRUE", "True"]]);
        let found = LabelFindings::of(["1,5", "2,5", "1,5"]);
        assert_eq!(found.decimal_commas.iter().map(|c| c.rows).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn words_for_missing_values_and_many_numbers() {
        let found = LabelFindings::of(["NaN", "x", "n/a", "None", "y", "NaN"]);
        assert_eq!(names(std::slice::from_ref(&found.missing)), [vec!["NaN", "None", "n/a"]]);
        assert!(found.words()[0].contains("--missing NaN,None,n/a"), "{:?}", found.words());
        let many: Vec<String> = (0..12).map(|i| format!("{i}.5")).collect();
        assert_eq!(LabelFindings::of(many.iter().map(String::as_str)).numbers, Some(12));
    }

    #[test]
    fn united_labels_take_the_most_frequent_name() {
        let labels = ["Yes", "yes", "YES", "yes", "no", "1", "1.0"].map(String::from);
        assert_eq!(united(&labels), ["yes", "yes", "yes", "yes", "no", "1", "1"]);
    }

    #[test]
    fn lists_of_labels_with_commas_in_them() {
        let labels = BTreeSet::from(["so, so", "so", "n/a", "good", "a,b,c", "NaN"]);
        for (list, expected) in [
            ("nan,NA", &["nan", "NA"][..]),
            ("so, so", &["so, so"]),
            ("so,n/a", &["so", "n/a"]),
            ("nan, so, so,a,b,c, none", &["nan", "so, so", "a,b,c", "none"]),
            ("a,b", &["a", "b"]),
            ("x", &["x"]),
        ] {
            assert_eq!(labels_in_list(list, &labels), expected, "{list}");
        }
    }

    #[test]
    fn a_name_resembles_one_class_or_none() {
        let classes = ["0", "1", "Maybe"].map(String::from);
        assert_eq!(resembling("1.0", &classes), Some(&classes[1]));
        assert_eq!(resembling("MAYBE", &classes), Some(&classes[2]));
        assert_eq!(resembling("True", &classes), None);
        assert_eq!(resembling("x", &["X".into(), "ｘ".into()]), None);
    }
}
