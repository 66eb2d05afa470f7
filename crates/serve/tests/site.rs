//! What a browser gets from the server, asked for over plain sockets.
#![allow(clippy::unwrap_used, reason = "tests and what they call")]

use hearth_serve::{EmbeddedFile, Listen, Offer, Page, Plan, Served, Timeouts, start};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;
use std::{fs, thread};

const GET: &str = "GET";

/// A page that is served, and what it answers.
const INDEX: &str =
    "<meta http-equiv=\"Content-Security-Policy\"\n content=\"connect-src 'self'\"><p>warm";

struct Site {
    folder: PathBuf,
    served: Served,
}

impl Site {
    fn new(name: &str, plan: impl FnOnce(&Path) -> Plan) -> Self {
        Self::with(name, plan, Listen::http("127.0.0.1", 0))
    }

    fn with(name: &str, plan: impl FnOnce(&Path) -> Plan, listen: Listen) -> Self {
        let folder =
            std::env::temp_dir().join(format!("hearth-serve-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("index.html"), INDEX).unwrap();
        fs::write(folder.join("data.bin"), vec![7; 100_000]).unwrap();
        fs::write(folder.join("loader_loader.js"), "1").unwrap();
        let plan = plan(&folder);
        let served = start(&Page::Folder(folder.clone()), plan, listen).unwrap();
        Self { folder, served }
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (String, Vec<u8>) {
        ask(&self.served, method, path, headers)
    }

    /// Asks and compares the status.
    #[track_caller]
    fn check(&self, status: u16, path: &str, headers: &[&str]) -> (String, Vec<u8>) {
        check(&self.served, status, path, headers)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// The answer's head in lower case, and its body.
fn ask(served: &Served, method: &str, path: &str, headers: &[&str]) -> (String, Vec<u8>) {
    let host = served.address();
    let mut stream = TcpStream::connect(host).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}");
    write!(stream, "{head}Connection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end + 2].to_vec()).unwrap().to_lowercase();
    (head, answer[end + 4..].to_vec())
}

#[track_caller]
fn check(served: &Served, status: u16, path: &str, headers: &[&str]) -> (String, Vec<u8>) {
    let (head, body) = ask(served, GET, path, headers);
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path} {headers:?}: {head}");
    (head, body)
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn fixture() -> PathBuf {
    let package = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    package.join("../../web/fixtures/tiny-gemma3.gguf")
}

#[test]
fn a_file_is_served_whole_and_in_part() {
    let site = Site::new("part", |_| Plan::default());
    let (head, body) = site.check(200, "/", &[]);
    assert_eq!(body, INDEX.as_bytes());
    assert_eq!(value(&head, "content-type"), Some("text/html; charset=utf-8"));
    for (name, expected) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
        ("vary", "accept-encoding"),
    ] {
        assert_eq!(value(&head, name), Some(expected), "{name}");
    }
    let (head, body) = site.check(200, "/data.bin", &[]);
    assert_eq!((value(&head, "content-length"), body.len()), (Some("100000"), 100_000));
    let tag = format!("If-Range: {}", value(&head, "etag").unwrap());
    for condition in [None, Some(tag.as_str())] {
        let headers: Vec<&str> = ["Range: bytes=99990-"].into_iter().chain(condition).collect();
        let (head, body) = site.check(206, "/data.bin", &headers);
        assert_eq!(body, [7; 10]);
        assert_eq!(value(&head, "content-range"), Some("bytes 99990-99999/100000"));
    }
    for stale in ["If-Range: \"old\"", "If-Range: Sun, 06 Nov 1994 08:49:37 GMT"] {
        let (_, body) = site.check(200, "/data.bin", &["Range: bytes=99990-", stale]);
        assert_eq!(body.len(), 100_000);
    }
    let (head, _) = site.check(416, "/data.bin", &["Range: bytes=100000-"]);
    assert_eq!(value(&head, "content-range"), Some("bytes */100000"));
    // what is not served in part is served whole (RFC 9110, 14.2)
    for other in ["Range: rows=0-1", "Range: bytes=0-1,5-6"] {
        assert_eq!(site.check(200, "/data.bin", &[other]).1.len(), 100_000);
    }
    let known = tag.replace("If-Range", "If-None-Match");
    let (head, body) = site.check(304, "/data.bin", &[&known]);
    assert!(body.is_empty() && value(&head, "etag").is_some(), "{head}");
    let (head, body) = site.ask("HEAD", "/data.bin", &[]);
    assert_eq!((value(&head, "content-length"), body.len()), (Some("100000"), 0));
    let (head, _) = site.ask("POST", "/", &[]);
    assert!(head.starts_with("http/1.1 405 ") && value(&head, "allow").is_some(), "{head}");
}

#[test]
fn nothing_outside_is_served() {
    let site = Site::new("outside", |folder| {
        fs::create_dir_all(folder.join("samples")).unwrap();
        Plan::default()
    });
    for path in [
        "/nothing",
        "/../Cargo.toml",
        "/samples/../../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/..%2fCargo.toml",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/C:/x",
        "/a\\b",
        "/%00",
        "/data.bin/",
        "/samples",
        "/samples/",
        "/models/",
        "/models/../data.bin",
    ] {
        let (head, body) = site.check(404, path, &[]);
        assert!(body.is_empty(), "{path}: {body:?}");
        assert_eq!(value(&head, "content-security-policy"), Some("default-src 'none'"), "{path}");
    }
}

#[test]
fn many_connections_at_once_are_all_answered() {
    let site = Site::new("many", |_| Plan::default());
    let line = Barrier::new(60);
    let address = site.served.address();
    thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                line.wait();
                // kept open, as browsers do, until all are answered
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
                assert!(stream.read(&mut [0; 100]).unwrap() > 0);
                line.wait();
            });
        }
    });
}

#[test]
fn a_packed_file_beside_the_plain_one_goes_to_who_reads_it() {
    let site = Site::new("packed", |folder| {
        fs::write(folder.join("a.js"), "plain").unwrap();
        fs::write(folder.join("a.js.gz"), "gz").unwrap();
        fs::write(folder.join("a.js.br"), "br").unwrap();
        Plan::default()
    });
    for (accepted, expected) in
        [("gzip, deflate, br", "br"), ("gzip;q=1.0", "gz"), ("deflate", "plain")]
    {
        let accepted = format!("Accept-Encoding: {accepted}");
        let (head, body) = site.check(200, "/a.js", &[&accepted]);
        assert_eq!(body, expected.as_bytes());
        assert_eq!(value(&head, "content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(value(&head, "content-encoding").is_some(), expected != "plain");
    }
    let part = ["Accept-Encoding: br", "Range: bytes=0-0"];
    assert_eq!(site.check(206, "/a.js", &part).1, b"p");
}

#[test]
fn models_are_offered() {
    let plan = |folder: &Path| {
        let spaced = folder.join("my model.gguf");
        fs::write(&spaced, "GGUF mine").unwrap();
        let models = [fixture(), spaced].map(|path| Offer::file("M", &path, None));
        Plan { models: models.into(), ..Plan::default() }
    };
    let site = Site::new("models", plan);
    let (head, list) = site.check(200, "/models/index.json", &[]);
    assert_eq!(value(&head, "content-type"), Some("application/json"));
    let known = format!("If-None-Match: {}", value(&head, "etag").unwrap());
    site.check(304, "/models/index.json", &[&known]);
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    for (at, begins) in [b"GGUF\x03".as_slice(), b"GGUF mine"].into_iter().enumerate() {
        let file = &list[at]["files"][0];
        let url = file["url"].as_str().unwrap().trim_start_matches('.');
        let (head, model) = site.check(200, url, &[]);
        assert_eq!(file["bytes"].as_u64().unwrap(), model.len() as u64);
        assert!(model.starts_with(begins));
        assert_eq!(value(&head, "content-type"), Some("application/octet-stream"));
        let tag = format!("If-Range: {}", value(&head, "etag").unwrap());
        assert_eq!(site.check(206, url, &["Range: bytes=1-3", &tag]).1, b"GUF");
        let (head, body) = site.ask("HEAD", url, &[]);
        let length = model.len().to_string();
        assert_eq!((value(&head, "content-length"), body.len()), (Some(length.as_str()), 0));
    }
    site.check(404, "/models/tiny-gemma3/another.gguf", &[]);
    site.check(404, "/models/another/tiny-gemma3.gguf", &[]);
    assert!(site.ask("POST", "/models/tiny-gemma3/tiny-gemma3.gguf", &[]).0.contains(" 405 "));
}

#[test]
fn every_request_is_noted_and_the_policy_can_be_left_out() {
    let log = |folder: &Path| Some(folder.join("requests"));
    let site = Site::new("log", |folder| Plan { log: log(folder), ..Plan::default() });
    let (page, _) = site.check(200, "/", &[]);
    let (loader, _) = site.check(200, "/loader_loader.js?x", &[]);
    site.check(404, "/nothing", &[]);
    site.ask("HEAD", "/models/index.json", &[]);
    let noted = fs::read_to_string(site.folder.join("requests")).unwrap();
    let expected = "GET /\nGET /loader_loader.js?x\nGET /nothing\nHEAD /models/index.json\n";
    assert_eq!(noted, expected);
    let policy = |head: &str| value(head, "content-security-policy").map(str::to_owned);
    assert!(policy(&page).unwrap().contains("connect-src 'self';"), "{page}");
    assert!(policy(&loader).unwrap().contains("https://huggingface.co"), "{loader}");
    let open = |_: &Path| Plan { without_policy: true, ..Plan::default() };
    let open = Site::new("open", open);
    let (head, body) = open.check(200, "/", &[]);
    assert_eq!(policy(&head), None);
    assert_eq!(body, INDEX.as_bytes());
}

/// gzip of "plain\n".
const PACKED: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 255, 43, 200, 73, 204, 204, 227, 2, 0, 208, 249, 21, 57, 6, 0, 0,
    0,
];

#[test]
fn an_embedded_page_is_served_packed_and_unpacked() {
    const FILES: &[EmbeddedFile] = &[
        EmbeddedFile { name: "index.html", bytes: b"<script>1</script>" },
        EmbeddedFile { name: "samples/a.csv.gz", bytes: PACKED },
    ];
    let page = Page::Embedded { files: FILES, built: 1_700_000_000 };
    let served = start(&page, Plan::default(), Listen::http("127.0.0.1", 0)).unwrap();
    let (head, body) = check(&served, 200, "/", &["Accept-Encoding: gzip"]);
    assert_eq!(body, b"<script>1</script>");
    assert!(value(&head, "content-security-policy").unwrap().contains("'sha256-"), "{head}");
    assert_eq!(value(&head, "last-modified"), Some("tue, 14 nov 2023 22:13:20 gmt"));
    let (head, body) = check(&served, 200, "/samples/a.csv", &["Accept-Encoding: gzip"]);
    assert_eq!((body.as_slice(), value(&head, "content-encoding")), (PACKED, Some("gzip")));
    assert_eq!(value(&head, "content-type"), Some("text/csv; charset=utf-8"));
    let (head, body) = check(&served, 200, "/samples/a.csv", &[]);
    assert_eq!((body.as_slice(), value(&head, "content-encoding")), (b"plain\n".as_slice(), None));
    let part = ["Accept-Encoding: gzip", "Range: bytes=1-3"];
    assert_eq!(check(&served, 206, "/samples/a.csv", &part).1, b"lai");
    let (head, _) = ask(&served, "HEAD", "/samples/a.csv", &[]);
    assert_eq!(value(&head, "content-length"), Some("6"));
    for path in ["/samples", "/samples/b.csv", "/samples/../index.html/x"] {
        check(&served, 404, path, &[]);
    }
}

#[test]
fn whoever_takes_nothing_or_asks_nothing_is_let_go() {
    let timeouts =
        Timeouts { request: Duration::from_millis(200), taking: Duration::from_millis(200) };
    let listen = Listen { timeouts, ..Listen::http("127.0.0.1", 0) };
    let plan = |folder: &Path| {
        let model = folder.join("large.gguf");
        // more than the buffers of two sockets hold
        fs::File::create(&model).unwrap().set_len(64 << 20).unwrap();
        Plan { models: vec![Offer::file("Large", &model, None)], ..Plan::default() }
    };
    let site = Site::with("let-go", plan, listen);
    let connect = || TcpStream::connect(site.served.address()).unwrap();
    let (silent, mut half, mut full) = (connect(), connect(), connect());
    write!(half, "GET / HTTP/1.1\r\n").unwrap();
    write!(full, "GET /models/large/large.gguf HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    full.read_exact(&mut [0; 100]).unwrap();
    // the clients stay, and the server ends them
    while site.served.connections() > 0 {
        thread::park_timeout(Duration::from_millis(10));
    }
    drop((silent, half, full));
}

#[test]
fn what_cannot_be_served_is_said() {
    let listen = || Listen::http("127.0.0.1", 0);
    let refused = |page: &Page, plan: Plan, listen: Listen| {
        start(page, plan, listen).unwrap_err().to_string()
    };
    let nowhere = Page::Folder("no/such/folder".into());
    let error = refused(&nowhere, Plan::default(), listen());
    assert!(error.starts_with("no/such/folder: there is no built page in this folder"), "{error}");
    let site = Site::new("said", |_| Plan::default());
    let page = Page::Folder(site.folder.clone());
    let port = site.served.address().port();
    let error = refused(&page, Plan::default(), Listen::http("127.0.0.1", port));
    assert!(
        error.contains(&format!("127.0.0.1, port {port}")) && error.contains("port"),
        "{error}"
    );
    let models = vec![Offer::file("Gone", Path::new("gone.gguf"), None)];
    let error = refused(&page, Plan { models, ..Plan::default() }, listen());
    assert!(error.starts_with("gone.gguf: cannot offer this model"), "{error}");
    let weight_hosts = vec!["https://a; img-src *".to_owned()];
    let error = refused(&page, Plan { weight_hosts, ..Plan::default() }, listen());
    assert!(error.contains("is not the origin of a host"), "{error}");
    let log = Some(PathBuf::from("no/such/folder/log"));
    let error = refused(&page, Plan { log, ..Plan::default() }, listen());
    assert!(error.starts_with("no/such/folder/log: cannot write"), "{error}");
}
