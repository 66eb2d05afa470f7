//! Rows of another width than the header: what is probably wrong with them, and lines that are no rows.

/// What is probably wrong with a row of another width.
pub(super) fn hint(fields: &[String], expected: usize, lone_return: bool) -> &'static str {
    let any = |f: &dyn Fn(&String) -> bool| fields.iter().any(f);
    let number = |c: char| c.is_ascii_digit();
    let comma = fields
        .windows(2)
        .any(|two| two[0].ends_with(number) && !two[1].is_empty() && two[1].chars().all(number));
    let curly =
        |f: &String| f.trim().starts_with(['“', '„', '”']) || f.trim().ends_with(['“', '”']);
    if lone_return {
        "this line contains a carriage return: if it is meant to end a row, use the same line ending in the whole file"
    } else if fields.len() > expected && any(&curly) {
        "curly quotes are read as text: use straight ones (\") around a text with the delimiter in it"
    } else if expected == 1 {
        "if the file has only one column, say so (--delimiter none, or \"none: one column\" on the page)"
    } else if any(&|f| f.ends_with('\\') || f.contains("\\\"")) {
        "if a backslash escapes the next character, say so (--escape '\\')"
    } else if any(&|f| f.trim().starts_with('\'')) && any(&|f| f.trim().ends_with('\'')) {
        "if single quotes enclose the texts, say so (--quote \"'\")"
    } else if fields.len() > expected && comma {
        "if a number has a decimal comma, put quotes around it, or use a semicolon or a tab as the delimiter"
    } else if fields.len() > expected {
        "a text with the delimiter in it needs quotes around it; check the quotes near this line, or choose another delimiter (--delimiter)"
    } else {
        "is a delimiter missing here, or a line break in a text without quotes around it? Check the quotes near this line, or choose another delimiter (--delimiter)"
    }
}

/// Whether a row is the line under a header that Markdown draws, such as `|---|:--|`.
pub(super) fn is_rule(fields: &[String]) -> bool {
    let drawn = |cell: &str| {
        let dashes = cell.trim_matches(':');
        dashes.len() > 2 && dashes.bytes().all(|byte| byte == b'-')
    };
    let mut full = fields.iter().map(|cell| cell.trim()).filter(|cell| !cell.is_empty()).peekable();
    full.peek().is_some() && full.all(drawn)
}
