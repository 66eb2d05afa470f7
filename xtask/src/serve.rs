//! `cargo xtask serve`: builds the page and serves it with the headers that keep data in the tab.

mod answer;
pub mod policy;
mod site;

use crate::{root, run, tools};
use anyhow::{Result, anyhow};
pub use site::{Offer, Plan};
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tiny_http::Server;

#[derive(clap::Args)]
pub struct Options {
    /// The port to listen on; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The address to listen on: by default nobody else's machine can reach the page
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: String,
    /// Serve the page as it was built last (`trunk build`), without building it again
    #[arg(long)]
    built: bool,
    /// Offer the tiny model of the tests too
    #[arg(long)]
    fixture: bool,
    /// Do not fetch and offer the real Gemma 3 270M (253 MB)
    #[arg(long)]
    no_model: bool,
    /// Let the loader fetch weights from here too; may be repeated
    #[arg(long = "weight-host", value_name = "ORIGIN")]
    weight_hosts: Vec<String>,
    /// Write a line for every request into this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// How long a connection may be overlooked.
const WAKE: Duration = Duration::from_millis(100);
/// Requests answered at the same time: a model download must not hold up the page.
const THREADS: usize = 8;

pub fn serve(options: &Options) -> Result<()> {
    let page = if options.built { dist() } else { build(&tools::for_page()?)? };
    let mut models = Vec::new();
    if !options.no_model {
        match Offer::real() {
            Ok(model) => models.push(model),
            // the page also opens models from the disk
            Err(error) => println!("serving without the real model: {error:#}"),
        }
    }
    if options.fixture {
        models.push(Offer::fixture()?);
    }
    let plan = Plan {
        models,
        weight_hosts: options.weight_hosts.clone(),
        log: options.log.clone(),
        ..Plan::default()
    };
    let address = start(&page, plan, &options.host, options.port)?;
    if !["127.0.0.1", "localhost", "::1"].contains(&options.host.as_str()) {
        println!("browsers on other machines offer WebGPU over https only: put a proxy in front");
    }
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
    Ok(dist())
}

/// Where the page is built.
pub fn dist() -> PathBuf {
    root().join("dist")
}

/// Serves a built page in the background. Returns its address.
pub fn start(page: &Path, plan: Plan, host: &str, port: u16) -> Result<String> {
    let site = site::Site::new(page, plan)?;
    let server = Server::http((host, port))
        .map_err(|error| anyhow!("cannot listen on {host}, port {port} ({error}): try --port 0"))?;
    let address = format!("http://{}/", server.server_addr());
    if let Some(socket) = server.server_addr().to_ip() {
        thread::spawn(move || wake(socket));
    }
    let shared = Arc::new((server, site));
    for _ in 0..THREADS {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let (server, site) = &*shared;
            while let Ok(request) = server.recv() {
                // a browser that went away is no error of ours
                let _ = answer::answer(request, site);
            }
        });
    }
    Ok(address)
}

/// Opens a connection now and then, and closes it. Where several come at once, `tiny_http` 0.12 counts one
/// waiting thread for all of them, and some are left without until the next one comes: a browser's first
/// visit, six connections wide, then stands still.
#[allow(clippy::disallowed_methods, reason = "a thread of its own, in no browser")]
fn wake(socket: SocketAddr) {
    loop {
        thread::sleep(WAKE);
        // a server that has ended needs none
        let _ = TcpStream::connect_timeout(&socket, WAKE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::sync::Barrier;

    const GET: &str = "GET";

    /// A page that is served, and what it answers.
    const INDEX: &str =
        "<meta http-equiv=\"Content-Security-Policy\"\n content=\"connect-src 'self'\"><p>warm";

    struct Served {
        folder: PathBuf,
        address: String,
    }

    impl Served {
        fn new(name: &str, plan: impl FnOnce(&Path) -> Plan) -> Self {
            let folder =
                std::env::temp_dir().join(format!("hearth-serve-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("index.html"), INDEX).unwrap();
            // longer than what tiny_http would send in chunks, without a length
            fs::write(folder.join("data.bin"), vec![7; 100_000]).unwrap();
            fs::write(folder.join("loader_loader.js"), "1").unwrap();
            let address = start(&folder, plan(&folder), "127.0.0.1", 0).unwrap();
            Self { folder, address }
        }

        /// The answer's head in lower case, and its body.
        fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (String, Vec<u8>) {
            let host = self.address.trim_start_matches("http://").trim_end_matches('/');
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

        /// Asks and compares the status.
        fn check(&self, status: u16, path: &str, headers: &[&str]) -> (String, Vec<u8>) {
            let (head, body) = self.ask(GET, path, headers);
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path}: {head}");
            (head, body)
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }

    fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[test]
    fn a_file_is_served_whole_and_in_part() {
        let served = Served::new("part", |_| Plan::default());
        let (head, body) = served.check(200, "/", &[]);
        assert_eq!(body, INDEX.as_bytes());
        assert_eq!(value(&head, "content-type"), Some("text/html; charset=utf-8"));
        let (head, body) = served.check(200, "/data.bin", &[]);
        assert_eq!((value(&head, "content-length"), body.len()), (Some("100000"), 100_000));
        let tag = format!("If-Range: {}", value(&head, "etag").unwrap());
        for condition in [None, Some(tag.as_str())] {
            let headers: Vec<&str> = ["Range: bytes=99990-"].into_iter().chain(condition).collect();
            let (head, body) = served.check(206, "/data.bin", &headers);
            assert_eq!(body, [7; 10]);
            assert_eq!(value(&head, "content-range"), Some("bytes 99990-99999/100000"));
        }
        let stale = ["Range: bytes=99990-", "If-Range: \"old\""];
        assert_eq!(served.check(200, "/data.bin", &stale).1.len(), 100_000);
        let (head, _) = served.check(416, "/data.bin", &["Range: bytes=100000-"]);
        assert_eq!(value(&head, "content-range"), Some("bytes */100000"));
        let known = tag.replace("If-Range", "If-None-Match");
        assert!(served.check(304, "/data.bin", &[&known]).1.is_empty());
        let (head, body) = served.ask("HEAD", "/data.bin", &[]);
        assert_eq!((value(&head, "content-length"), body.len()), (Some("100000"), 0));
        assert!(served.ask("POST", "/", &[]).0.starts_with("http/1.1 405 "));
        served.check(404, "/nothing", &[]);
        served.check(404, "/../Cargo.toml", &[]);
    }

    #[test]
    fn many_connections_at_once_are_all_answered() {
        for attempt in 0..20 {
            let served = Served::new(&format!("many-{attempt}"), |_| Plan::default());
            let (served, line) = (&served, &Barrier::new(12));
            thread::scope(|scope| {
                for _ in 0..12 {
                    scope.spawn(move || {
                        let host = served.address.trim_start_matches("http://");
                        let host = host.trim_end_matches('/');
                        line.wait();
                        // kept open, as browsers do, until all are answered
                        let mut stream = TcpStream::connect(host).unwrap();
                        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
                        assert!(stream.read(&mut [0; 100]).unwrap() > 0);
                        line.wait();
                    });
                }
            });
        }
    }

    #[test]
    fn a_packed_file_beside_the_plain_one_goes_to_who_reads_it() {
        let served = Served::new("packed", |folder| {
            fs::write(folder.join("a.js"), "plain").unwrap();
            fs::write(folder.join("a.js.gz"), "gz").unwrap();
            fs::write(folder.join("a.js.br"), "br").unwrap();
            Plan::default()
        });
        for (accepted, expected) in
            [("gzip, deflate, br", "br"), ("gzip;q=1.0", "gz"), ("deflate", "plain")]
        {
            let accepted = format!("Accept-Encoding: {accepted}");
            let (head, body) = served.check(200, "/a.js", &[&accepted]);
            assert_eq!(body, expected.as_bytes());
            assert_eq!(value(&head, "content-type"), Some("text/javascript; charset=utf-8"));
            assert_eq!(value(&head, "content-encoding").is_some(), expected != "plain");
        }
        let part = ["Accept-Encoding: br", "Range: bytes=0-0"];
        assert_eq!(served.check(206, "/a.js", &part).1, b"p");
    }

    #[test]
    fn models_and_samples_are_offered() {
        let served = Served::new("models", |folder| {
            // as the build copies them
            fs::create_dir_all(folder.join("samples")).unwrap();
            for entry in fs::read_dir(root().join("web/samples")).unwrap() {
                let from = entry.unwrap().path();
                fs::copy(&from, folder.join("samples").join(from.file_name().unwrap())).unwrap();
            }
            Plan { models: vec![Offer::fixture().unwrap()], ..Plan::default() }
        });
        let (head, list) = served.check(200, "/models/index.json", &[]);
        assert_eq!(value(&head, "content-type"), Some("application/json"));
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        let file = &list[0]["files"][0];
        let url = file["url"].as_str().unwrap().trim_start_matches('.');
        let (_, model) = served.check(200, url, &[]);
        assert_eq!(file["bytes"].as_u64().unwrap(), model.len() as u64);
        assert!(model.starts_with(b"GGUF"));
        served.check(404, "/models/another.gguf", &[]);
        let (_, samples) = served.check(200, "/samples/index.json", &[]);
        let samples: serde_json::Value = serde_json::from_slice(&samples).unwrap();
        for sample in samples.as_array().unwrap() {
            let path = format!("/samples/{}", sample["file"].as_str().unwrap());
            let (head, body) = served.check(200, &path, &[]);
            assert_eq!(value(&head, "content-type"), Some("text/csv; charset=utf-8"));
            let lines = String::from_utf8(body).unwrap().lines().count() as u64;
            assert_eq!(sample["rows"].as_u64().unwrap() + 1, lines);
        }
    }

    #[test]
    fn every_request_is_noted_and_the_policy_can_be_left_out() {
        let log = |folder: &Path| Some(folder.join("requests"));
        let served = Served::new("log", |folder| Plan { log: log(folder), ..Plan::default() });
        let (page, _) = served.check(200, "/", &[]);
        let (loader, _) = served.check(200, "/loader_loader.js?x", &[]);
        served.check(404, "/nothing", &[]);
        let noted = fs::read_to_string(served.folder.join("requests")).unwrap();
        assert_eq!(noted, "GET /\nGET /loader_loader.js?x\nGET /nothing\n");
        let policy = |head: &str| value(head, "content-security-policy").map(str::to_owned);
        assert!(policy(&page).unwrap().contains("connect-src 'self';"), "{page}");
        assert!(policy(&loader).unwrap().contains("https://huggingface.co"), "{loader}");
        let open = |_: &Path| Plan { without_policy: true, ..Plan::default() };
        let open = Served::new("open", open);
        let (head, body) = open.check(200, "/", &[]);
        assert_eq!(policy(&head), None);
        assert_eq!(body, INDEX.as_bytes());
    }
}
