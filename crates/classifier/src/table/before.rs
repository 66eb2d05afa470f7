//! What stands before a table's header: a line that names the delimiter, titles, remarks.

use super::header::is_known_name;
use super::reading::Reading;

/// Excel's first line that names the delimiter, `sep=;`.
pub(super) fn separator_line(sample: &str) -> Option<char> {
    let line = sample.split(['\n', '\r']).next()?.trim_matches('"');
    let named = line.get(..4).filter(|start| start.eq_ignore_ascii_case("sep="))?;
    let mut rest = line[named.len()..].chars();
    rest.next().filter(|_| rest.next().is_none())
}

/// Lines that are looked at.
const FIRST: usize = 10;

fn full_cells(row: &[String]) -> usize {
    row.iter().filter(|cell| !cell.trim().is_empty()).count()
}

/// Lines of one field before rows of several: a title, a remark.
pub(super) fn lines_before(reading: &Reading) -> usize {
    if reading.width < 2 || reading.rows.len() < 4 || reading.fit < 0.8 {
        return 0;
    }
    let rows = &reading.rows;
    let names_at =
        |row: usize| rows.get(row).is_some_and(|row| row.iter().any(|n| is_known_name(n)));
    // remarks with delimiters in them, before a header of usual names
    let remark = |row: &&Vec<String>| row[0].starts_with('#');
    let marked = rows.iter().take(FIRST).take_while(remark).count();
    if marked > 0 && names_at(marked) {
        return (reading.lines[marked] - 1) as usize;
    }
    // a title in one cell, with empty ones behind it, as spreadsheets write it
    let title =
        |row: &&Vec<String>| full_cells(row) < 2 && !row.iter().any(|cell| is_known_name(cell));
    let titles = rows.iter().take(FIRST).take_while(title).count();
    if titles > 0
        && names_at(titles)
        && rows[titles].len() == reading.width
        && full_cells(&rows[titles]) == reading.width
    {
        return (reading.lines[titles] - 1) as usize;
    }
    let start = rows.iter().take(FIRST).position(|row| row.len() == reading.width);
    let Some(start) = start.filter(|&start| start > 0) else { return 0 };
    let remarks = rows[..start].iter().all(|row| match &row[..] {
        [only] => !is_known_name(only),
        [_, others @ ..] => others.iter().all(|cell| cell.trim().is_empty()),
        [] => true,
    });
    if remarks { (reading.lines[start] - 1) as usize } else { 0 }
}

/// Whether the first line names the only column of a file whose texts have the delimiter in them: it is a usual name,
/// or the lines are of different widths.
pub(super) fn names_one_column(reading: &Reading) -> bool {
    let lone = reading.rows.first().is_some_and(|row| row.len() == 1 && full_cells(row) == 1);
    lone && reading.rows.len() > 1
        && reading.width > 1
        && (is_known_name(&reading.rows[0][0]) || reading.fit < 0.8)
}

/// Whether a blank follows the delimiter wherever it stands, as in sentences.
pub(super) fn looks_like_sentences(reading: &Reading) -> bool {
    let blank = |cell: &String| cell.starts_with(' ');
    reading.width > 1
        && reading.rows.len() > 1
        && reading.rows.iter().all(|row| row.len() > 1 && row[1..].iter().all(blank))
}
