//! Guesses which column is what, by name first and by content second.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::TextSource;
use crate::split::Part;
use crate::table::Table;

/// What each column is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

const TEXT: [&str; 12] = [
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
];
const LABEL: [&str; 9] =
    ["label", "labels", "class", "category", "target", "sentiment", "ishate", "intent", "y"];
const SPLIT: [&str; 4] = ["split", "part", "partition", "set"];
const ID: [&str; 4] = ["id", "row_id", "uuid", "guid"];
/// Rows looked at.
const SAMPLE: usize = 1000;

/// The likely roles; the user confirms or changes them.
pub fn guess_roles(table: &Table) -> Roles {
    let named = |names: &[&str]| {
        let by_name =
            |name: &&str| table.columns.iter().position(|c| c.trim().eq_ignore_ascii_case(name));
        names.iter().find_map(by_name)
    };
    let rows = &table.rows[..table.rows.len().min(SAMPLE)];
    let cells = |c: usize| rows.iter().map(move |r| r.fields[c].trim());
    let split = named(&SPLIT).filter(|&c| cells(c).all(|cell| Part::parse(cell).is_some()));
    let id = named(&ID);
    let free = |c: &usize| Some(*c) != split && Some(*c) != id;
    let length = |c: &usize| cells(*c).map(str::len).sum::<usize>();
    let longest =
        || (0..table.columns.len()).filter(free).max_by_key(|c| (length(c), usize::MAX - c));
    let text = named(&TEXT).or_else(longest).unwrap_or(0);
    let values = |c: usize| cells(c).collect::<BTreeSet<_>>().len();
    let few = |c: &usize| (2..=50).contains(&values(*c)) && values(*c) * 2 <= rows.len();
    let fewest = || {
        (0..table.columns.len())
            .filter(|c| free(c) && *c != text && few(c))
            .min_by_key(|&c| values(c))
    };
    let label = named(&LABEL).filter(|&c| c != text).or_else(fewest);
    Roles { text: TextSource::Column(text), label, split, id }
}
