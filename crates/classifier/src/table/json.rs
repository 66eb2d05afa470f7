//! Rows out of JSON: a value a line, or one value that holds them all in one of the forms that
//! programs write.

mod strict;
mod whole;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use self::strict::{Strict, field_with_two_values};
use self::whole::Whole;
use super::{Format, MAX_COLUMNS, Row, TableError, column_names};

/// Rows of arrays looked at for a header.
const SAMPLE_ROWS: usize = 200;

/// Whether a text that begins with a brace or a bracket is JSON, and in which form.
pub(super) fn form(sample: &str, complete: bool) -> Option<Format> {
    let text = sample.trim_start();
    let (line, rest) = text.split_once(['\n', '\r']).unwrap_or((text, ""));
    let more = !rest.trim().is_empty();
    match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(object)) if !more && complete && holds_rows(&object) => Some(Format::Json),
        Ok(Value::Array(_)) if !more => Some(Format::Json),
        Ok(Value::Object(_) | Value::Array(_)) => Some(Format::JsonLines),
        Ok(_) => None,
        Err(error) if error.is_eof() => Some(Format::Json),
        // objects in an array, wherever the error stands
        Err(_) => {
            let inside = text.strip_prefix('[').map(str::trim_start)?;
            let objects = inside.strip_prefix('{').is_some_and(|i| i.trim_start().starts_with('"'));
            objects.then_some(Format::Json)
        }
    }
}

/// Cells of the first rows, where rows are arrays.
pub(super) fn array_rows(sample: &str) -> Vec<Vec<String>> {
    let values = serde_json::Deserializer::from_str(sample).into_iter::<Value>();
    let mut rows = Vec::new();
    for value in values.map_while(Result::ok).take(SAMPLE_ROWS) {
        let Value::Array(cells) = value else { return Vec::new() };
        if cells.iter().all(Value::is_array) {
            let inner = cells.into_iter().take(SAMPLE_ROWS).filter_map(|c| match c {
                Value::Array(cells) => Some(cells.into_iter().map(cell).collect()),
                _ => None,
            });
            rows.extend(inner);
        } else if cells.iter().any(Value::is_object) {
            return Vec::new();
        } else {
            rows.push(cells.into_iter().map(cell).collect());
        }
    }
    rows
}

/// Makes rows of values; columns come as they are met.
#[derive(Default)]
pub(super) struct JsonRows {
    pub columns: Vec<String>,
    places: HashMap<String, usize>,
    header: bool,
    /// Rows are arrays; the first one set the columns.
    arrays: bool,
}

impl JsonRows {
    pub fn new(header: bool) -> Self {
        Self { header, ..Self::default() }
    }

    /// A line of JSON lines; none for a blank one and a header.
    pub fn line(&mut self, line: u64, text: &str) -> Result<Option<Row>, TableError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let Strict(value) = serde_json::from_str(text).map_err(|e| broken(line, &e, text))?;
        self.row(line, value)
    }

    fn row(&mut self, line: u64, value: Value) -> Result<Option<Row>, TableError> {
        match value {
            Value::Object(object) => {
                refuse_chats(&object)?;
                let fields = vec![String::new(); self.columns.len()];
                let mut flat = Flat { line, fields, filled: HashSet::new() };
                self.flatten("", object, &mut flat)?;
                Ok(Some(Row { line, fields: flat.fields }))
            }
            Value::Array(cells) => self.array(line, cells),
            other => {
                let why = format!("found {}", kind(&other));
                Err(TableError::Json { line, why })
            }
        }
    }

    fn array(&mut self, line: u64, cells: Vec<Value>) -> Result<Option<Row>, TableError> {
        if cells.iter().any(Value::is_object) {
            let why = "an array with objects in it: write every object on its own line, or put one array around all of them";
            return Err(TableError::Json { line, why: why.to_owned() });
        }
        let fields: Vec<String> = cells.into_iter().map(cell).collect();
        if !self.arrays && self.columns.is_empty() {
            self.arrays = true;
            if fields.len() > MAX_COLUMNS {
                let found = fields.len();
                return Err(TableError::TooManyColumns { line, found, limit: MAX_COLUMNS });
            }
            self.columns = column_names(&fields, self.header);
            if self.header {
                return Ok(None);
            }
        }
        if fields.len() != self.columns.len() {
            let (found, expected) = (fields.len(), self.columns.len());
            return Err(TableError::Json {
                line,
                why: format!("an array of {found} cells, expected {expected}"),
            });
        }
        Ok(Some(Row { line, fields }))
    }

    /// Nested objects become columns by their path, such as `meta.text`.
    fn flatten(
        &mut self,
        path: &str,
        object: Map<String, Value>,
        row: &mut Flat,
    ) -> Result<(), TableError> {
        for (key, value) in object {
            let name = if path.is_empty() { key } else { format!("{path}.{key}") };
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    self.flatten(&name, inner, row)?;
                }
                value => {
                    let (place, cell) = (self.place(row.line, name.clone())?, cell(value));
                    let fields = &mut row.fields;
                    if fields.len() <= place {
                        fields.resize(place + 1, String::new());
                    }
                    // a field `a.b` beside a field `b` inside `a`
                    if !row.filled.insert(place) && fields[place] != cell {
                        return Err(TableError::JsonTwoValues { line: row.line, field: name });
                    }
                    fields[place] = cell;
                }
            }
        }
        Ok(())
    }

    fn place(&mut self, line: u64, name: String) -> Result<usize, TableError> {
        if let Some(&place) = self.places.get(&name) {
            return Ok(place);
        }
        let place = self.columns.len();
        if place == MAX_COLUMNS {
            let found = MAX_COLUMNS + 1;
            return Err(TableError::TooManyColumns { line, found, limit: MAX_COLUMNS });
        }
        self.places.insert(name.clone(), place);
        self.columns.push(name);
        Ok(place)
    }

    /// The rows of one value, or of several one after the other.
    pub fn document(&mut self, text: &str) -> Result<Vec<Row>, TableError> {
        let mut rows = Vec::new();
        let mut at = 0;
        let mut first = true;
        let line_at = |at: usize| {
            let skipped = text[at..].len() - text[at..].trim_start().len();
            1 + text[..at + skipped].matches('\n').count() as u64
        };
        while !text[at..].trim_start().is_empty() {
            let line = line_at(at);
            let rest = &text[at..];
            // an array of objects is read element by element, so that each has its line
            let inside = rest.trim_start().strip_prefix('[').map(str::trim_start);
            if first && inside.is_some_and(|i| i.starts_with('{') || i.starts_with('[')) {
                return self.elements(text, text.len() - inside.map_or(0, str::len));
            }
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Strict>();
            let Some(value) = values.next() else { break };
            let Strict(value) = value.map_err(|e| broken(line_in(line, &e), &e, rest))?;
            at += values.byte_offset();
            let last = text[at..].trim_start().is_empty();
            match value {
                Value::Object(object) if first && last => {
                    return self.one_object(line, object);
                }
                value => rows.extend(self.row(line, value)?),
            }
            first = false;
        }
        Ok(rows)
    }

    /// The elements of an array whose first one begins at `at`.
    fn elements(&mut self, text: &str, mut at: usize) -> Result<Vec<Row>, TableError> {
        let (mut rows, mut line, mut counted) = (Vec::new(), 1, 0);
        loop {
            line += text[counted..at].matches('\n').count() as u64;
            counted = at;
            let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Strict>();
            let broken = |e| broken(line_in(line, &e), &e, &text[at..]);
            let Some(Strict(value)) = values.next().transpose().map_err(broken)? else { break };
            let end = at + values.byte_offset();
            rows.extend(self.row(line, value)?);
            let rest = text[end..].trim_start();
            let cut = |why: &str| Err(TableError::Json { line, why: why.to_owned() });
            match rest.chars().next() {
                Some(',') => at = text.len() - rest[1..].trim_start().len(),
                Some(']') if rest[1..].trim().is_empty() => return Ok(rows),
                Some(']') => return cut("there is something after the end of the array"),
                Some(_) => return cut("there is no comma after this object"),
                None => return cut("the array is incomplete: it has no end"),
            }
        }
        Ok(rows)
    }

    /// One object with all rows: a list inside it, or columns.
    fn one_object(
        &mut self,
        line: u64,
        object: Map<String, Value>,
    ) -> Result<Vec<Row>, TableError> {
        if let (Some(Value::Array(names)), Some(Value::Array(data))) =
            (object.get("columns"), object.get("data"))
            && data.iter().all(Value::is_array)
        {
            self.header = true;
            self.array(line, names.clone())?;
            let rows = data.clone().into_iter().map(|row| self.row(line, row));
            return rows.filter_map(Result::transpose).collect();
        }
        let of_objects = |v: &Value| {
            v.as_array().is_some_and(|a| !a.is_empty() && a.iter().all(Value::is_object))
        };
        let mut lists: Vec<&String> =
            object.iter().filter(|(_, v)| of_objects(v)).map(|(k, _)| k).collect();
        if lists.len() > 1 {
            let why = format!("this is one JSON object with several lists of objects: {lists:?}");
            return Err(TableError::JsonShape { why });
        }
        if let Some(key) = lists.pop().cloned()
            && key != "messages"
            && key != "conversations"
        {
            let Some(Value::Array(rows)) = object.get(&key) else { return Ok(Vec::new()) };
            let rows = rows.clone().into_iter().map(|row| self.row(line, row));
            return rows.filter_map(Result::transpose).collect();
        }
        match whole::of(&object) {
            Some(Whole::Columns) => return self.columns_of(line, object),
            Some(Whole::Rows) => {
                let rows = in_order(object).into_iter().map(|(_, row)| self.row(line, row));
                return rows.filter_map(Result::transpose).collect();
            }
            Some(Whole::Uneven(why)) => return Err(TableError::JsonShape { why }),
            None => {}
        }
        Ok(self.row(line, Value::Object(object))?.into_iter().collect())
    }

    /// `{"text": ["…", "…"], "label": […]}`, or with numbered objects instead of lists.
    fn columns_of(
        &mut self,
        line: u64,
        object: Map<String, Value>,
    ) -> Result<Vec<Row>, TableError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        for (name, column) in object {
            let place = self.place(line, name)?;
            let cells: Vec<(String, Value)> = match column {
                Value::Array(cells) => {
                    cells.into_iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect()
                }
                Value::Object(cells) => in_order(cells),
                _ => Vec::new(),
            };
            for (key, value) in cells {
                let row = *index.entry(key).or_insert_with(|| {
                    rows.push(Row { line, fields: Vec::new() });
                    rows.len() - 1
                });
                let fields = &mut rows[row].fields;
                if fields.len() <= place {
                    fields.resize(place + 1, String::new());
                }
                fields[place] = cell(value);
            }
        }
        Ok(rows)
    }
}

/// A row that nested fields are being put into.
struct Flat {
    line: u64,
    fields: Vec<String>,
    /// Places that have their value.
    filled: HashSet<usize>,
}

/// Numbered entries by their numbers.
fn in_order(object: Map<String, Value>) -> Vec<(String, Value)> {
    let mut all: Vec<(String, Value)> = object.into_iter().collect();
    all.sort_by_key(|(key, _)| key.parse::<u64>().ok());
    all
}

fn holds_rows(object: &Map<String, Value>) -> bool {
    let list =
        |v: &Value| v.as_array().is_some_and(|a| !a.is_empty() && a.iter().all(Value::is_object));
    let chat = object.contains_key("messages") || object.contains_key("conversations");
    whole::of(object).is_some()
        || (!chat && object.values().any(list))
        || (object.get("columns").is_some_and(Value::is_array)
            && object.get("data").is_some_and(Value::is_array))
}

fn refuse_chats(object: &Map<String, Value>) -> Result<(), TableError> {
    let chat = |key: &&str| {
        object
            .get(*key)
            .is_some_and(|v| v.as_array().is_some_and(|a| a.iter().all(Value::is_object)))
    };
    let Some(key) = ["messages", "conversations"].iter().find(|k| chat(k)) else { return Ok(()) };
    let why = format!(
        "the rows are chats (a list of {key:?}), and a classifier needs one text and one label per row: write them as two fields"
    );
    Err(TableError::JsonShape { why })
}

/// A value as a cell. A list of one text is that text.
fn cell(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        Value::Array(mut list) if list.len() == 1 && list[0].is_string() => cell(list.remove(0)),
        Value::Array(list) if list.is_empty() => String::new(),
        Value::Object(object) if object.is_empty() => String::new(),
        other => other.to_string(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The line of an error in a text that begins in line `first`.
fn line_in(first: u64, error: &serde_json::Error) -> u64 {
    first + error.line().saturating_sub(1) as u64
}

fn broken(line: u64, error: &serde_json::Error, text: &str) -> TableError {
    match field_with_two_values(&error.to_string()) {
        Some(field) => TableError::JsonTwoValues { line, field: field.to_owned() },
        None => TableError::Json { line, why: why(error, text) },
    }
}

/// What is wrong with a JSON text, without the parser's own line number.
fn why(error: &serde_json::Error, text: &str) -> String {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before: String = line.chars().take(error.column()).collect();
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    let at = line.chars().nth(error.column().saturating_sub(1));
    let hint = if at == Some('\'') {
        ": JSON needs texts in double quotes; Python writes single ones if values are printed instead of dumped \
         (json.dumps)"
    } else if words.contains("trailing char") && matches!(at, Some('{' | '[')) {
        ": several values in one line; write each on its own line"
    } else if words.contains("expected value") && matches!(at, Some(']' | '}')) {
        ": there is an extra comma before the bracket"
    } else if before.ends_with("Na") || before.ends_with('N') || before.ends_with("NaN") {
        ": NaN is not valid JSON; write null for a missing value"
    } else if words.contains("surrogate") || words.contains("hex escape") {
        ": half of a character; an emoji needs two \\u escapes"
    } else if words.contains("trailing comma")
        || (words.contains("trailing char") && line.trim_end().ends_with(','))
    {
        ": an extra comma; lines of JSON Lines do not end with one"
    } else {
        ""
    };
    format!("{words} at column {}{hint}", error.column())
}
