//! Answers to requests: whole files, parts of them, what has not changed, and what there is not.

use super::site::{Found, Site};
use crate::offline::SERVICE_WORKER;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Cursor, Read, Result, Seek, SeekFrom, empty};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use tiny_http::{Header, Method, Request, Response};

/// A body and what has to be said about it.
struct Content {
    body: Box<dyn ReadSeek>,
    length: u64,
    /// Changes whenever the bytes do.
    tag: String,
    kind: &'static str,
    encoding: Option<&'static str>,
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

pub fn answer(request: Request, site: &Site) -> Result<()> {
    site.note(request.method().as_str(), request.url());
    if !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(plain(405).with_header(header("Allow", "GET, HEAD")));
    }
    let asked = |name: &'static str| {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.as_str())
    };
    // a part is a part of the plain file
    let accepted = asked("Accept-Encoding").filter(|_| asked("Range").is_none()).unwrap_or("");
    let found = site.find(request.url());
    let Some(mut content) = found.and_then(|found| open(found, accepted)) else {
        return request.respond(plain(404));
    };
    let mut headers = vec![
        header("Content-Type", content.kind),
        header("X-Content-Type-Options", "nosniff"),
        header("Referrer-Policy", "no-referrer"),
        header("Cross-Origin-Opener-Policy", "same-origin"),
        header("Cross-Origin-Resource-Policy", "same-origin"),
        header("Cache-Control", caching(request.url())),
        header("Accept-Ranges", "bytes"),
        header("Vary", "Accept-Encoding"),
        header("ETag", &content.tag),
    ];
    headers.extend(site.policy(request.url()).map(|policy| header(POLICY, policy)));
    headers.extend(content.encoding.map(|encoding| header("Content-Encoding", encoding)));
    if asked("If-None-Match").is_some_and(|tags| names(tags, &content.tag)) {
        return request.respond(Response::new(304.into(), headers, empty(), Some(0), None));
    }
    // a resumed download of a file that has changed since starts again from the beginning
    let range = asked("Range").filter(|_| asked("If-Range").is_none_or(|tag| tag == content.tag));
    let length = content.length;
    let (status, part) = match range.and_then(|range| requested(range, length)) {
        None => (200, 0..length),
        Some(Some(part)) => (206, part),
        Some(None) => {
            let found = header("Content-Range", &format!("bytes */{length}"));
            return request.respond(plain(416).with_header(found));
        }
    };
    content.body.seek(SeekFrom::Start(part.start))?;
    let size = part.end - part.start;
    if status == 206 {
        let found = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        headers.push(header("Content-Range", &found));
    }
    let size_known = usize::try_from(size).ok();
    let body = content.body.take(size);
    let response = Response::new(status.into(), headers, body, size_known, None)
        // with a Content-Length, which the page shows progress by
        .with_chunked_threshold(usize::MAX);
    request.respond(response)
}

const POLICY: &str = "Content-Security-Policy";

/// How long a browser may use what it has. The files of the page's workers keep their names from build to build,
/// so they are always asked for. The service worker is asked for by the page when it opens, past any cache, and
/// need not be by the browser's own checks in between.
fn caching(url: &str) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    if path.ends_with(SERVICE_WORKER) { "max-age=86400" } else { "no-cache" }
}

/// A short answer in words, without anything of the site.
fn plain(status: u16) -> Response<Cursor<Vec<u8>>> {
    let words = match status {
        404 => "Not found",
        405 => "Only GET and HEAD",
        _ => "That range is outside the file",
    };
    // shown in a tab of its own it could do nothing either
    Response::from_string(words)
        .with_status_code(status)
        .with_header(header(POLICY, "default-src 'none'"))
}

fn open(found: Found, accepted: &str) -> Option<Content> {
    let path = match found {
        Found::Made(bytes, kind) => {
            let length = bytes.len() as u64;
            let tag = format!("\"{:x}\"", <sha2::Sha256 as sha2::Digest>::digest(&bytes));
            let body = Box::new(Cursor::new(bytes));
            return Some(Content { body, length, tag, kind, encoding: None });
        }
        Found::File(path) => path,
    };
    let kind = content_type(&path);
    let (file, metadata) = open_file(&path)?;
    // a packed file lies beside the plain one, and goes where the browser reads it
    let packed = [("br", "br"), ("gz", "gzip")].into_iter().find_map(|(ending, encoding)| {
        let wanted =
            accepted.split(',').any(|word| word.trim().split(';').next() == Some(encoding));
        let (file, packed) = open_file(&beside(&path, ending)).filter(|_| wanted)?;
        // one that an older build left is of no use
        let fresh = packed.modified().ok()? >= metadata.modified().ok()?;
        fresh.then_some((file, packed, encoding))
    });
    let (file, metadata, encoding) = match packed {
        Some((file, metadata, encoding)) => (file, metadata, Some(encoding)),
        None => (file, metadata, None),
    };
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (length, changed) = (metadata.len(), changed.unwrap_or_default().as_nanos());
    let tag = format!("\"{length:x}-{changed:x}{}\"", encoding.unwrap_or_default());
    Some(Content { body: Box::new(file), length, tag, kind, encoding })
}

fn open_file(path: &Path) -> Option<(File, std::fs::Metadata)> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
    Some((file, metadata))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(ending);
    name.into()
}

#[allow(clippy::expect_used, reason = "only ASCII is ever given")]
fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("an ASCII header")
}

/// Whether an If-None-Match names this tag.
fn names(tags: &str, tag: &str) -> bool {
    tags.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

/// Reads a Range header against the file's length. `None`: not a form that is served in part, so the
/// whole file is sent; `Some(None)`: outside the file.
fn requested(range: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let part = match (from, to) {
        ("", last) => length.saturating_sub(last.parse().ok()?)..length,
        (from, "") => from.parse().ok()?..length,
        (from, to) => {
            let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
            // backwards is no range at all (RFC 9110, 14.1.1)
            if to < from {
                return None;
            }
            from..to.saturating_add(1).min(length)
        }
    };
    Some((part.start < part.end).then_some(part))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(OsStr::to_str).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "csv" => "text/csv; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        assert_eq!(requested("bytes=0-9", 100), Some(Some(0..10)));
        assert_eq!(requested("bytes=90-", 100), Some(Some(90..100)));
        assert_eq!(requested("bytes=-10", 100), Some(Some(90..100)));
        assert_eq!(requested("bytes=-500", 100), Some(Some(0..100)));
        assert_eq!(requested("bytes=90-500", 100), Some(Some(90..100)));
        assert_eq!(requested("bytes=0-18446744073709551615", 100), Some(Some(0..100)));
        assert_eq!(requested("bytes=100-", 100), Some(None));
        assert_eq!(requested("bytes=200-300", 100), Some(None));
        assert_eq!(requested("bytes=-0", 100), Some(None));
        assert_eq!(requested("bytes=0-", 0), Some(None));
        for wrong in ["bytes=5-4", "bytes=0-1,5-6", "rows=0-1", "bytes=-", "bytes=a-b", "bytes=1"] {
            assert_eq!(requested(wrong, 100), None, "{wrong}");
        }
    }

    #[test]
    fn tags_are_compared_one_by_one() {
        assert!(names("\"a\"", "\"a\"") && names("\"b\", W/\"a\"", "\"a\"") && names("*", "\"a\""));
        assert!(!names("\"ab\"", "\"a\"") && !names("", "\"a\""));
    }
}
