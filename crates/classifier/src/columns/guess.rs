//! Guesses which column is what, by name first and by content second.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::TextSource;
use crate::split::Part;
use crate::table::Table;

/// What each column is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Roles {
    /// The text to classify.
    pub text: TextSource,
    /// The class, or a number to make a class of; none in a file to predict.
    pub label: Option<usize>,
    /// train, validation or test.
    pub split: Option<usize>,
    /// A name for the row.
    pub id: Option<usize>,
}

const TEXT: [&str; 16] = [
    "text",
    "comment",
    "sentence",
    "review",
    "message",
    "content",
    "body",
    "tweet",
    "document",
    "query",
    "post",
    "description",
    "utterance",
    "input",
    "sms",
    "question",
];
const LABEL: [&str; 14] = [
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "ishate",
    "intent",
    "y",
    "emotion",
    "topic",
    "tag",
    "output",
    "mood",
];
const SPLIT: [&str; 4] = ["split", "part", "partition", "set"];
const ID: [&str; 4] = ["id", "row_id", "uuid", "guid"];
/// Rows looked at.
const SAMPLE: usize = 1000;

/// Roles, how text and label are known, and what else they could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guessed {
    /// The roles.
    pub roles: Roles,
    /// How the text's column is known, in words.
    pub text: &'static str,
    /// How the label's column is known, in words.
    pub label: &'static str,
    /// Other columns that would fit as well, in words.
    pub warnings: Vec<String>,
}

/// The likely roles; the user confirms or changes them.
pub fn guess_roles(table: &Table) -> Roles {
    guess_roles_told(table).roles
}

/// The likely roles, and how sure they are.
pub fn guess_roles_told(table: &Table) -> Guessed {
    let all = 0..table.columns.len();
    let rows = &table.rows[..table.rows.len().min(SAMPLE)];
    let cells = |c: usize| rows.iter().map(move |r| r.fields[c].trim());
    let values = |c: usize| cells(c).collect::<BTreeSet<_>>().len();
    let named = |names: &[&str], fits: &dyn Fn(usize) -> bool| {
        // a field inside an object is known by its own name too, such as label.name
        let is = |column: &str, name: &str| {
            let column = column.trim().to_lowercase();
            column == name || column.split('.').any(|part| part == name)
        };
        let exact = |name: &&str| {
            let fitting = |c: &usize| table.columns[*c].trim().eq_ignore_ascii_case(name);
            all.clone().filter(fitting).find(|&c| fits(c))
        };
        let inside = |name: &&str| {
            let fitting = |c: &usize| is(&table.columns[*c], name) && fits(*c);
            let numeric = |c: usize| cells(c).all(|cell| cell.parse::<f64>().is_ok());
            all.clone().filter(fitting).min_by_key(|&c| numeric(c))
        };
        names.iter().find_map(exact).or_else(|| names.iter().find_map(inside))
    };
    let any = |_: usize| true;
    let split = named(&SPLIT, &|c| cells(c).all(|cell| Part::parse(cell).is_some()));
    let id = named(&ID, &any);
    let free = |c: &usize| Some(*c) != split && Some(*c) != id;
    let length = |c: &usize| cells(*c).map(str::len).sum::<usize>();
    // a column with one value in all rows tells nothing
    let varied = |c: usize| rows.len() < 2 || values(c) > 1;
    let longest = || {
        all.clone()
            .filter(|c| free(c) && varied(*c))
            .max_by_key(|c| (length(c), usize::MAX - c))
            .or_else(|| all.clone().filter(free).max_by_key(|c| (length(c), usize::MAX - c)))
    };
    let text_by_name = named(&TEXT, &|c| free(&c) && varied(c));
    let text = text_by_name.or_else(longest).unwrap_or(0);
    let few = |c: &usize| (2..=50).contains(&values(*c)) && values(*c) * 2 <= rows.len();
    let fitting = |c: &usize| free(c) && *c != text && few(c);
    let label_by_name = named(&LABEL, &|c| c != text && free(&c));
    let label = label_by_name.or_else(|| all.clone().filter(fitting).min_by_key(|&c| values(c)));
    let mut warnings = Vec::new();
    let name = |c: usize| format!("{:?}", table.columns[c]);
    if let (None, Some(chosen)) = (label_by_name, label) {
        let others: Vec<String> = all
            .clone()
            .filter(|c| *c != chosen && fitting(c))
            .map(|c| format!("{} ({} values)", name(c), values(c)))
            .collect();
        if !others.is_empty() {
            warnings.push(format!(
                "the label column is guessed to be {} ({} values); it could also be {}; choose it if that is wrong (--label)",
                name(chosen),
                values(chosen),
                others.join(", ")
            ));
        }
    }
    if text_by_name.is_none() {
        let long = |c: &usize| {
            free(c) && *c != text && Some(*c) != label && length(c) * 2 > length(&text) && !few(c)
        };
        let others: Vec<String> = all.clone().filter(long).map(name).collect();
        if !others.is_empty() {
            warnings.push(format!(
                "the text column is guessed to be {}; it could also be {}; choose it if that is wrong (--text)",
                name(text),
                others.join(", ")
            ));
        }
    }
    Guessed {
        roles: Roles { text: TextSource::Column(text), label, split, id },
        text: if text_by_name.is_some() { "by its name" } else { "guessed: the longest texts" },
        label: if label_by_name.is_some() { "by its name" } else { "guessed: few values" },
        warnings,
    }
}
