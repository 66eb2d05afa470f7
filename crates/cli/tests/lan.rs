//! A room: thirty visitors fetch a model at once over TLS, some of them slowly, and one goes away.
//!
//! `HEARTH_REAL=1 cargo test -p hearth-cli --test lan -- --nocapture` does so with a model of 253 MB.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests and what they call")]

mod serving;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serving::{PATIENCE, Serving, ask, folder, get, sparse_model};

const VISITORS: usize = 30;
/// Visitors who stop reading in the middle of an answer, until all the others are done.
const SLOW: usize = 10;
/// Ranges that a visitor fetches the model in.
const PARTS: u64 = 8;
const MIB: u64 = 1 << 20;

/// How far every visitor is.
struct Room {
    done: Mutex<Vec<u64>>,
    changed: Condvar,
}

impl Room {
    fn reached(&self, visitor: usize, parts: u64) {
        self.done.lock().unwrap()[visitor] = parts;
        self.changed.notify_all();
    }

    /// Waits until all quick visitors have that many parts. If one of them gets nothing, this fails.
    fn wait_for_all(&self, parts: u64) {
        let start = Instant::now();
        let mut done = self.done.lock().unwrap();
        while done[SLOW..].iter().any(|one| *one < parts) {
            assert!(start.elapsed() < PATIENCE, "somebody starves: {done:?}");
            done = self.changed.wait_timeout(done, Duration::from_secs(1)).unwrap().0;
        }
    }
}

/// Reads the bytes of a model from `from` to `to` and checks those that tell their place.
fn read_part(stream: &mut impl Read, from: u64, to: u64, mut pause: impl FnMut()) {
    let mut buffer = vec![0; MIB as usize];
    let mut at = from;
    while at < to {
        let step = (to - at).min(MIB - at % MIB) as usize;
        stream.read_exact(&mut buffer[..step]).unwrap();
        if at.is_multiple_of(MIB) && at > 0 && step >= 8 {
            assert_eq!(buffer[..8], at.to_le_bytes(), "at {at}");
        }
        if at == from {
            pause();
        }
        at += step as u64;
    }
}

fn visit(serving: &Serving, room: &Room, visitor: usize, url: &str, bytes: u64) {
    let mut stream = serving.connect_tls();
    if visitor < SLOW {
        // one range over all: what is not read piles up at the server, if it can
        let head = ask(&mut stream, url, "Range: bytes=0-\r\n");
        assert!(head.starts_with("http/1.1 206 "), "{head}");
        return read_part(&mut stream, 0, bytes, || room.wait_for_all(PARTS));
    }
    for part in 0..PARTS {
        let (from, to) = (bytes * part / PARTS, bytes * (part + 1) / PARTS);
        let head = ask(&mut stream, url, &format!("Range: bytes={from}-{}\r\n", to - 1));
        assert!(
            head.contains(&format!("content-range: bytes {from}-{}/{bytes}", to - 1)),
            "{head}"
        );
        read_part(&mut stream, from, to, || ());
        room.reached(visitor, part + 1);
        // nobody is ahead of the others by more than a part
        room.wait_for_all(part + 1);
    }
}

/// Open sockets and model files of a process, and the most memory that it ever had, in kB. Linux tells.
fn open_and_memory(process: u32) -> Option<(usize, u64)> {
    let folder = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let links = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let open = links
        .filter(|link| {
            link.to_string_lossy().starts_with("socket:")
                || link.extension() == Some("gguf".as_ref())
        })
        .count();
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some((open, line.trim().strip_suffix("kB")?.trim().parse().ok()?))
}

fn room(test: &str, bytes: u64) {
    let folder = folder(test);
    let model = folder.join("model.gguf");
    sparse_model(&model, bytes);
    let args = ["--lan", "--host", "127.0.0.1", "--model", model.to_str().unwrap()];
    let serving = Serving::start(&folder, &args);
    let process = serving.child.id();
    let before = open_and_memory(process);
    let room = Room { done: Mutex::new(vec![0; VISITORS]), changed: Condvar::new() };
    let url = "/models/model/model.gguf";
    let start = Instant::now();
    thread::scope(|scope| {
        for visitor in 0..VISITORS {
            let (serving, room) = (&serving, &room);
            scope.spawn(move || visit(serving, room, visitor, url, bytes));
        }
        scope.spawn(|| {
            let mut stream = serving.connect_tls();
            ask(&mut stream, url, "");
            stream.read_exact(&mut [0; 100_000]).unwrap();
            // and away
        });
    });
    let seconds = start.elapsed().as_secs_f64();
    if let Some((open, _)) = before {
        let start = Instant::now();
        while open_and_memory(process).unwrap().0 > open {
            assert!(start.elapsed() < PATIENCE, "a connection or a file is left open");
            thread::park_timeout(Duration::from_millis(20));
        }
        let (_, kilobytes) = open_and_memory(process).unwrap();
        println!(
            "{VISITORS} visitors, {SLOW} of them slow, {:.0} MB each: {seconds:.1} s, {:.0} MB/s in all; \
             the server's memory was at most {:.1} MB",
            bytes as f64 / 1e6,
            bytes as f64 * VISITORS as f64 / 1e6 / seconds,
            kilobytes as f64 / 1e3,
        );
        assert!(kilobytes < 200_000, "{kilobytes} kB");
    }
    drop(serving);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn thirty_visitors_fetch_a_model_at_once() {
    room("room", 8 * MIB + 4096);
}

#[test]
fn thirty_visitors_fetch_253_mb_at_once() {
    if hearth_testing::slow() {
        room("full-room", 253_000_000);
    }
}

#[test]
fn visitors_get_the_page_over_tls_and_are_sent_there() {
    let folder = folder("page-tls");
    let serving = Serving::start(&folder, &["--lan", "--host", "127.0.0.1"]);
    let (head, body) = get(&mut serving.connect_tls(), "/", "");
    assert!(head.starts_with("http/1.1 200 ") && head.contains("connect-src 'self';"), "{head}");
    assert_eq!(body, b"<p>warm");
    // whoever types the address without https
    let head = ask(&mut serving.connect(), "/x?y", "");
    assert!(head.starts_with("http/1.1 307 "), "{head}");
    assert!(head.contains("location: https://hearth.test/x?y\r\n"), "{head}");
    drop(serving);
    // the next certificate is another one
    let fingerprint =
        |serving: &Serving| serving.report["fingerprint"].as_str().unwrap().to_owned();
    let [first, second] =
        [(); 2].map(|()| fingerprint(&Serving::start(&folder, &["--lan", "--host", "127.0.0.1"])));
    assert_eq!(first.len(), 95);
    assert_ne!(first, second);
    fs::remove_dir_all(Path::new(&folder)).unwrap();
}
