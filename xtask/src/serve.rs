//! `cargo xtask serve`: builds the page and serves it with the headers that keep data in the tab.

use crate::{root, run, tools};
use anyhow::{Context, Result, anyhow};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::UNIX_EPOCH;
use tiny_http::{Header, Method, Request, Response, Server};

#[derive(clap::Args)]
pub struct Options {
    /// The port to listen on, on this machine only; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

/// Requests answered at the same time: a model download must not hold up the page.
const THREADS: usize = 8;

pub fn serve(options: &Options) -> Result<()> {
    let folder = build(&tools::for_page()?)?;
    let address = start(&folder, options.port)?;
    println!("Hearth is at {address} (Ctrl-C ends it)");
    loop {
        thread::park();
    }
}

/// Builds the page for release. Returns the folder to serve.
pub fn build(path: &OsStr) -> Result<PathBuf> {
    let mut trunk = Command::new("trunk");
    trunk.args(["build", "--release"]).current_dir(root()).env("PATH", path);
    // any value but true and false of it stops Trunk
    trunk.env_remove("NO_COLOR");
    run(&mut trunk)?;
    Ok(root().join("dist"))
}

/// Serves a folder in the background. Returns its address.
pub fn start(folder: &Path, port: u16) -> Result<String> {
    let page = folder.join("index.html");
    let html = std::fs::read_to_string(&page).with_context(|| format!("no {}", page.display()))?;
    let policy = policy(&html);
    let server = Server::http(("127.0.0.1", port))
        .map_err(|error| anyhow!("cannot listen on port {port} ({error}): try --port 0"))?;
    let address = format!("http://{}/", server.server_addr());
    let shared = Arc::new((server, folder.to_owned(), policy));
    for _ in 0..THREADS {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let (server, folder, policy) = &*shared;
            while let Ok(request) = server.recv() {
                // a browser that went away is no error of ours
                let _ = answer(request, folder, policy);
            }
        });
    }
    Ok(address)
}

/// The content security policy: everything from this address only, and of inline scripts only those in
/// the page itself, by hash. Workers get it with their own response: a page's policy does not bind them.
fn policy(html: &str) -> String {
    let mut scripts = "'self' 'wasm-unsafe-eval'".to_owned();
    for script in inline_scripts(html) {
        let hash = STANDARD.encode(Sha256::digest(script));
        scripts.push_str(&format!(" 'sha256-{hash}'"));
    }
    format!(
        "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data: blob:; \
         connect-src 'self'; worker-src 'self'; manifest-src 'self'; object-src 'none'; \
         base-uri 'none'; form-action 'none'; frame-src 'none'; frame-ancestors 'none'"
    )
}

fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    html.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (script, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=")).then_some(script)
    })
}

fn answer(request: Request, folder: &Path, policy: &str) -> std::io::Result<()> {
    let plain = |status: u16| Response::from_string(reason(status)).with_status_code(status);
    if !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(plain(405).with_header(header("Allow", "GET, HEAD")));
    }
    let Some((path, mut file, metadata)) = file_of(request.url()).and_then(|name| {
        let path = folder.join(name);
        let file = File::open(&path).ok()?;
        let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
        Some((path, file, metadata))
    }) else {
        return request.respond(plain(404));
    };
    let length = metadata.len();
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let tag = format!("\"{length:x}-{:x}\"", changed.unwrap_or_default().as_nanos());
    let headers = vec![
        header("Content-Type", content_type(&path)),
        header("Content-Security-Policy", policy),
        header("X-Content-Type-Options", "nosniff"),
        header("Referrer-Policy", "no-referrer"),
        header("Cross-Origin-Opener-Policy", "same-origin"),
        header("Cross-Origin-Resource-Policy", "same-origin"),
        // worker files keep their names from build to build: always ask
        header("Cache-Control", "no-cache"),
        header("Accept-Ranges", "bytes"),
        header("ETag", &tag),
    ];
    let asked = |name: &'static str| {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.as_str())
    };
    if asked("If-None-Match") == Some(&tag) {
        return request.respond(Response::new(
            304.into(),
            headers,
            std::io::empty(),
            Some(0),
            None,
        ));
    }
    // a resumed download of a file that has changed since starts again from the beginning
    let range = asked("Range").filter(|_| asked("If-Range").is_none_or(|wanted| wanted == tag));
    let (status, part) = match range.and_then(|range| requested(range, length)) {
        None => (200, 0..length),
        Some(Some(part)) => (206, part),
        Some(None) => {
            let found = header("Content-Range", &format!("bytes */{length}"));
            return request.respond(plain(416).with_header(found));
        }
    };
    file.seek(SeekFrom::Start(part.start))?;
    let size = part.end - part.start;
    let mut response =
        Response::new(status.into(), headers, file.take(size), usize::try_from(size).ok(), None)
            // with a Content-Length, which the page shows progress by
            .with_chunked_threshold(usize::MAX);
    if status == 206 {
        let found = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        response.add_header(header("Content-Range", &found));
    }
    request.respond(response)
}

fn reason(status: u16) -> &'static str {
    match status {
        404 => "Not found",
        405 => "Only GET and HEAD",
        _ => "That range is outside the file",
    }
}

#[allow(clippy::expect_used, reason = "only ASCII is ever given")]
fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("an ASCII header")
}

/// The file that a URL means, relative to the served folder; `None` if it would lie outside.
fn file_of(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?.strip_prefix('/')?;
    let inside = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '%'])
    };
    match path {
        "" => Some("index.html"),
        _ => path.split('/').all(inside).then_some(path),
    }
}

/// Reads a Range header against the file's length. `None`: not a form that is served in part, so the
/// whole file is sent; `Some(None)`: outside the file.
fn requested(range: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let part = match (from, to) {
        ("", last) => length.saturating_sub(last.parse().ok()?)..length,
        (from, "") => from.parse().ok()?..length,
        (from, to) => from.parse().ok()?..to.parse::<u64>().ok()?.saturating_add(1).min(length),
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
        "csv" => "text/csv; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpStream;

    #[test]
    fn ranges_are_read_as_http_says() {
        assert_eq!(requested("bytes=0-9", 100), Some(Some(0..10)));
        assert_eq!(requested("bytes=90-", 100), Some(Some(90..100)));
        assert_eq!(requested("bytes=-10", 100), Some(Some(90..100)));
        assert_eq!(requested("bytes=90-500", 100), Some(Some(90..100)));
        assert_eq!(requested("bytes=0-18446744073709551615", 100), Some(Some(0..100)));
        assert_eq!(requested("bytes=100-", 100), Some(None));
        assert_eq!(requested("bytes=5-4", 100), Some(None));
        assert_eq!(requested("bytes=0-1,5-6", 100), None);
        assert_eq!(requested("rows=0-1", 100), None);
    }

    #[test]
    fn no_file_outside_the_folder_is_served() {
        assert_eq!(file_of("/"), Some("index.html"));
        assert_eq!(file_of("/a/b.js?x=1"), Some("a/b.js"));
        for url in ["/../secret", "/a/../../b", "//etc/passwd", "/%2e%2e/x", "/C:/x", "/a\\b", "x"]
        {
            assert_eq!(file_of(url), None, "{url}");
        }
    }

    #[test]
    fn only_the_pages_own_inline_script_is_allowed() {
        let html = "<script type=\"module\">1</script><script src=\"x.js\"></script>";
        let policy = policy(html);
        // the base64 of the sha256 of "1"
        assert!(
            policy.contains("'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='"),
            "{policy}"
        );
        assert_eq!(policy.matches("sha256-").count(), 1);
        assert!(policy.contains("connect-src 'self';") && !policy.contains("unsafe-inline"));
    }

    #[test]
    fn a_file_is_served_whole_and_in_part() {
        let folder = std::env::temp_dir().join(format!("hearth-serve-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("index.html"), "<p>warm").unwrap();
        // longer than what tiny_http would send in chunks, without a length
        std::fs::write(folder.join("data.bin"), vec![7; 100_000]).unwrap();
        let address = start(&folder, 0).unwrap();
        let host = address.trim_start_matches("http://").trim_end_matches('/');
        let ask = |head: &str| {
            let mut stream = TcpStream::connect(host).unwrap();
            write!(stream, "{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        let page = ask("GET / HTTP/1.1");
        assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("<p>warm"), "{page}");
        assert!(page.contains("Content-Security-Policy: default-src 'none'"), "{page}");
        assert!(page.contains("text/html"), "{page}");
        let whole = ask("GET /data.bin HTTP/1.1");
        assert!(whole.contains("Content-Length: 100000\r\n"), "{}", &whole[..600]);
        let part = ask("GET /data.bin HTTP/1.1\r\nRange: bytes=99990-");
        assert!(
            part.starts_with("HTTP/1.1 206")
                && part.ends_with("\r\n\r\n\u{7}\u{7}\u{7}\u{7}\u{7}\u{7}\u{7}\u{7}\u{7}\u{7}"),
            "{part}"
        );
        assert!(part.contains("Content-Range: bytes 99990-99999/100000"), "{part}");
        let stale = ask("GET /data.bin HTTP/1.1\r\nRange: bytes=99990-\r\nIf-Range: \"old\"");
        assert!(stale.starts_with("HTTP/1.1 200"));
        assert!(ask("GET /data.bin HTTP/1.1\r\nRange: bytes=100000-").starts_with("HTTP/1.1 416"));
        assert!(ask("GET /nothing HTTP/1.1").starts_with("HTTP/1.1 404"));
        assert!(ask("POST / HTTP/1.1").starts_with("HTTP/1.1 405"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
