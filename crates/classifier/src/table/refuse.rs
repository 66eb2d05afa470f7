//! Files that are no tables, by their first bytes.

use super::TableError;

/// Signatures are looked for in this many bytes.
pub(super) const SIGNATURE: usize = 512;

pub(super) const UTF_32: TableError =
    TableError::Other { kind: "UTF-32 text", todo: "save it as UTF-8, then choose that file" };

/// Refuses files that are known to be something else.
pub(super) fn refuse_other_files(head: &[u8]) -> Result<(), TableError> {
    let head = &head[..head.len().min(SIGNATURE)];
    let within = |needle: &[u8]| head.windows(needle.len()).any(|w| w == needle);
    if head.starts_with(b"PK\x03\x04") {
        let kind = if within(b"opendocument.spreadsheet") {
            "OpenDocument spreadsheet (.ods)"
        } else if within(b"[Content_Types].xml") || within(b"_rels/") || within(b"xl/") {
            "Excel (.xlsx)"
        } else {
            "zip or spreadsheet"
        };
        return Err(TableError::Spreadsheet { kind });
    }
    if head.starts_with(&[0xD0, 0xCF, 0x11, 0xE0]) {
        return Err(TableError::Spreadsheet { kind: "old Excel (.xls)" });
    }
    let known: [(&[u8], &'static str); 11] = [
        (b"%PDF", "PDF"),
        (b"GGUF", "GGUF model"),
        (b"PAR1", "Parquet"),
        (b"ARROW1", "Arrow"),
        (&[0x1F, 0x8B], "gzip: unpack it first"),
        (b"BZh", "bzip2: unpack it first"),
        (b"\xFD7zXZ", "xz: unpack it first"),
        (&[0x28, 0xB5, 0x2F, 0xFD], "zstd: unpack it first"),
        (b"\x89PNG", "PNG image"),
        (&[0xFF, 0xD8, 0xFF], "JPEG image"),
        (b"SQLite format 3", "SQLite"),
    ];
    if let Some((_, kind)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(TableError::Binary { kind: Some(kind), line: None });
    }
    if head.starts_with(&[0xFF, 0xFE, 0, 0]) || head.starts_with(&[0, 0, 0xFE, 0xFF]) {
        return Err(UTF_32);
    }
    Ok(())
}

/// Refuses text that is no table: web pages, workbooks in XML, pointers to files that were not fetched.
pub(super) fn refuse_other_texts(text: &str) -> Result<(), TableError> {
    let start: String = text.trim_start().chars().take(400).collect::<String>().to_lowercase();
    let other = |kind, todo| Err(TableError::Other { kind, todo });
    let page =
        "servers often send one instead of a file: sign in there, or download the file itself";
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return other("a web page (HTML)", page);
    }
    if start.starts_with("<?xml") || start.starts_with("<workbook") {
        if start.contains("excel") || start.contains("office:spreadsheet") {
            return other(
                "an Excel workbook in XML",
                "open it in its program and save it as CSV (UTF-8), then choose that file",
            );
        }
        return other("an XML file", "save the rows as CSV or JSON Lines");
    }
    if start.starts_with("version https://git-lfs.github.com/spec/") {
        return other(
            "a git-lfs pointer, not the file it stands for",
            "fetch the file with `git lfs pull`, or download it from the site's own download link",
        );
    }
    if start.starts_with("{\\rtf") {
        return other("an RTF document", "save the rows as CSV (UTF-8)");
    }
    Ok(())
}
