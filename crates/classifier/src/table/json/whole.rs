//! One JSON object that holds all rows: by columns or by rows, as pandas and others write it.

use serde_json::{Map, Value};

use crate::table::header::is_known_name;

/// How an object holds rows.
pub(super) enum Whole {
    /// A field a column, with a list of cells or an object of cells by their row.
    Columns,
    /// A field a row.
    Rows,
    /// Lists of different lengths, in words.
    Uneven(String),
}

/// How an object holds rows; none where it is a row itself.
pub(super) fn of(object: &Map<String, Value>) -> Option<Whole> {
    if object.is_empty() {
        return None;
    }
    let plain = |v: &Value| !v.is_array() && !v.is_object();
    if let Some(lists) = all::<Vec<Value>>(object, Value::as_array) {
        if !lists.iter().all(|(_, list)| list.iter().all(plain)) {
            return None;
        }
        let first = lists[0].1.len();
        let even = lists.iter().all(|(_, list)| list.len() == first);
        return match (even, lists.iter().any(|(_, list)| list.len() > 1)) {
            (_, false) => None,
            (true, true) => Some(Whole::Columns),
            (false, true) => {
                let one =
                    |(name, list): &(&String, &Vec<Value>)| format!("{name:?} has {}", list.len());
                let lengths: Vec<String> = lists.iter().take(6).map(one).collect();
                let lengths = lengths.join(", ");
                Some(Whole::Uneven(format!(
                    "this is one JSON object of lists that differ in length ({lengths}), so they are no columns of one table"
                )))
            }
        };
    }
    let objects = all::<Map<String, Value>>(object, Value::as_object)?;
    // pandas' "index": the outer keys number the rows
    if numbered(object) {
        return Some(Whole::Rows);
    }
    let first = objects[0].1;
    let shared = |name: &&String| objects.iter().all(|(_, inner)| inner.contains_key(*name));
    if objects.len() > 1 && first.keys().filter(shared).any(|name| is_known_name(name)) {
        return Some(Whole::Rows);
    }
    let alike =
        |inner: &Map<String, Value>| inner.len() == first.len() && inner.keys().eq(first.keys());
    let cells = objects.iter().all(|(_, inner)| alike(inner) && inner.values().all(plain));
    if !cells || first.len() < 2 {
        return None;
    }
    let named = object.keys().any(|name| is_known_name(name));
    match numbered(first) || named {
        true => Some(Whole::Columns),
        false if objects.len() < 2 => None,
        false if objects.len() > first.len() => Some(Whole::Rows),
        false => Some(Whole::Columns),
    }
}

fn numbered(object: &Map<String, Value>) -> bool {
    object.keys().all(|key| key.parse::<u64>().is_ok())
}

/// All fields as what `read` makes of them; none where one is something else.
fn all<'o, T>(
    object: &'o Map<String, Value>,
    read: impl Fn(&'o Value) -> Option<&'o T>,
) -> Option<Vec<(&'o String, &'o T)>> {
    object.iter().map(|(name, value)| Some((name, read(value)?))).collect()
}
