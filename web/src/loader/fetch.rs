//! One file from the network, by ranges, from where it broke.

use std::{cell::Cell, rc::Rc};

use gloo_timers::callback::Interval;
use js_sys::{Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, Headers, ReadableStreamDefaultReader, RequestCache, RequestCredentials,
    RequestInit, Response,
};

use super::{Stop, target::Target};
use crate::{
    protocol::{Failure, PIECE, RemoteFile},
    storage::scope,
    wire::words,
};

/// Seconds without a byte after which a connection counts as broken.
const SILENCE: u32 = 20;

/// What the fetching tells its caller.
pub trait Observer {
    /// Bytes of this file that are there. An error ends the fetching.
    fn see(&mut self, done: u64, total: Option<u64>) -> Result<(), Stop>;
    /// Something that the user should know.
    fn warn(&mut self, what: String);
    /// A connection is about to be opened; aborting it ends every wait for its bytes. An error ends the fetching.
    fn connecting(&mut self, _abort: &AbortController) -> Result<(), Stop> {
        Ok(())
    }
    /// An error ends what takes long and fetches nothing.
    fn check(&self) -> Result<(), Stop> {
        Ok(())
    }
}

/// `bytes 100-199/1000`: first byte and size of the whole.
pub fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()?))
}

/// A connection. It is aborted after [`SILENCE`] seconds without a byte, and when it is dropped: what is not read
/// must not go on arriving.
struct Connection {
    abort: AbortController,
    /// Seconds since the host was heard. Counted, so that a machine that slept has not waited.
    silent: Rc<Cell<u32>>,
    _clock: Interval,
}

impl Connection {
    fn new(watch: &mut dyn Observer) -> Result<Self, Stop> {
        let (abort, silent) = (AbortController::new()?, Rc::new(Cell::new(0)));
        watch.connecting(&abort)?;
        let (seconds, to_abort) = (silent.clone(), abort.clone());
        let clock = Interval::new(1000, move || {
            seconds.set(seconds.get() + 1);
            if seconds.get() >= SILENCE {
                to_abort.abort();
            }
        });
        Ok(Self { abort, silent, _clock: clock })
    }

    /// Waits for something from the host.
    async fn hear(&self, promise: Promise) -> Result<JsValue, Stop> {
        let heard = JsFuture::from(promise).await;
        let silent = self.silent.replace(0) >= SILENCE;
        heard.map_err(|error| {
            Stop::Broken(if silent {
                format!("the host was silent for {SILENCE} seconds")
            } else {
                words(&error)
            })
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// An answer that has begun.
struct OpenResponse {
    response: Response,
    connection: Connection,
}

impl OpenResponse {
    fn header(&self, name: &str) -> Option<String> {
        self.response.headers().get(name).ok().flatten()
    }
}

async fn request(
    url: &str,
    range: Option<String>,
    etag: Option<&str>,
    watch: &mut dyn Observer,
) -> Result<OpenResponse, Stop> {
    let connection = Connection::new(watch)?;
    let (init, headers) = (RequestInit::new(), Headers::new()?);
    if let Some(range) = range {
        headers.set("Range", &range)?;
        // to other hosts this header would need their consent; there the marks are compared afterwards
        let own = !url.contains("://") || url.starts_with(&scope().location().origin());
        if let Some(etag) = etag.filter(|e| own && !e.starts_with("W/")) {
            headers.set("If-Range", etag)?;
        }
    }
    init.set_headers(&headers);
    // nobody is told who asks, and nothing is kept twice
    init.set_credentials(RequestCredentials::Omit);
    init.set_cache(RequestCache::NoStore);
    init.set_signal(Some(&connection.abort.signal()));
    let response = connection.hear(scope().fetch_with_str_and_init(url, &init)).await?;
    Ok(OpenResponse { response: response.unchecked_into(), connection })
}

fn refusal(file: &RemoteFile, status: u16) -> Stop {
    let name = &file.name;
    match status {
        401 | 403 => Stop::Failed(Failure::new(
            format!(
                "{name}: the host requires you to be signed in and to have accepted its terms."
            ),
            "Hearth never asks for an account. Download the file yourself, then open it here from your disk.",
        )),
        404 | 410 => Stop::Failed(Failure::new(
            format!("{name}: there is no such file on the host."),
            "Choose another model, or open a file from your disk.",
        )),
        500..=599 | 429 | 408 => Stop::Broken(format!("the host answered {status}")),
        _ => Stop::Failed(Failure::new(
            format!("{name}: the host answered {status}."),
            "Try again later, choose another model, or open a file from your disk.",
        )),
    }
}

/// Fetches what is missing of a file.
pub async fn fetch(
    file: &RemoteFile,
    target: &mut Target,
    watch: &mut dyn Observer,
) -> Result<(), Stop> {
    if target.pieces.whole {
        return watch.see(target.pieces.done(), target.pieces.total);
    }
    let mut from = target.pieces.done();
    let range = (from > 0).then(|| format!("bytes={from}-"));
    let etag = target.pieces.etag.clone();
    let mut answer = request(&file.url, range, etag.as_deref(), watch).await?;
    if answer.response.status() == 416 {
        watch.warn(format!(
            "{}: the file on the host is shorter now; it is downloaded from the start.",
            file.name
        ));
        target.begin(None, None).await?;
        from = 0;
        answer = request(&file.url, None, None, watch).await?;
    }
    let new_etag = answer.header("ETag");
    let total = match answer.response.status() {
        206 => {
            let range = answer.header("Content-Range").as_deref().and_then(content_range);
            // to other hosts the header may be hidden
            let total = range.map(|r| r.1).or(target.pieces.total);
            let moved = range.is_some_and(|r| r.0 != from);
            let changed = etag.is_some() && new_etag.is_some() && etag != new_etag;
            let resized = target.pieces.total.is_some() && total != target.pieces.total;
            if moved || changed || resized {
                drop(answer);
                watch.warn(format!(
                    "{}: the file on the host has changed; it is downloaded from the start.",
                    file.name
                ));
                target.begin(None, None).await?;
                // the next try has nothing to go on from
                return Err(Stop::Broken("the file has changed".to_owned()));
            }
            total
        }
        200 => {
            if from > 0 {
                let why = if etag.is_some() && new_etag.is_some() && etag != new_etag {
                    "the file on the host has changed"
                } else {
                    "the host cannot resume in the middle of a file"
                };
                watch.warn(format!("{}: {why}; it is downloaded from the start.", file.name));
            }
            let length = answer.header("Content-Length").and_then(|t| t.parse().ok());
            // a length of packed bytes says nothing about the file's
            let packed = answer.header("Content-Encoding").is_some_and(|e| e != "identity");
            let total = length.filter(|_| !packed).or(file.bytes);
            target.begin(new_etag, total).await?;
            from = 0;
            total
        }
        status => return Err(refusal(file, status)),
    };
    check_size(file, total)?;
    receive(file, target, watch, &answer, from, total).await
}

fn check_size(file: &RemoteFile, found: Option<u64>) -> Result<(), Stop> {
    match (file.bytes, found) {
        (Some(expected), Some(found)) if expected != found => Err(Stop::Failed(Failure::new(
            format!("{}: the host's file has {found} bytes, expected {expected}.", file.name),
            "The file is not this model's; choose another model, or open a file from your disk.",
        ))),
        _ => Ok(()),
    }
}

async fn receive(
    file: &RemoteFile,
    target: &mut Target,
    watch: &mut dyn Observer,
    answer: &OpenResponse,
    from: u64,
    total: Option<u64>,
) -> Result<(), Stop> {
    let nothing = || Stop::Broken("the host's response is empty".to_owned());
    let body = answer.response.body().ok_or_else(nothing)?;
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let room = Uint8Array::new_with_length(PIECE as u32);
    let (mut held, mut done) = (0u32, from);
    loop {
        watch.see(done, total)?;
        let Some(chunk) = next(answer, &reader).await? else { break };
        done += u64::from(chunk.length());
        let mut at = 0;
        while at < chunk.length() {
            let take = (chunk.length() - at).min(PIECE as u32 - held);
            room.set(&chunk.subarray(at, at + take), held);
            (held, at) = (held + take, at + take);
            if held == PIECE as u32 {
                add(target, watch, &room).await?;
                held = 0;
            }
        }
    }
    if total.is_some_and(|total| done < total) {
        return Err(Stop::Broken(format!("the connection ended after {done} bytes")));
    }
    check_size(file, Some(done))?;
    if held > 0 {
        add(target, watch, &room.subarray(0, held)).await?;
    }
    target.finish(done).await?;
    watch.see(done, Some(done))
}

async fn add(
    target: &mut Target,
    watch: &mut dyn Observer,
    bytes: &Uint8Array,
) -> Result<(), Stop> {
    if let Some(full) = target.add(bytes).await? {
        watch.warn(format!(
            "{full}. The model is in memory only and must be downloaded again next time."
        ));
    }
    Ok(())
}

async fn next(
    answer: &OpenResponse,
    reader: &ReadableStreamDefaultReader,
) -> Result<Option<Uint8Array>, Stop> {
    let result = answer.connection.hear(reader.read()).await?;
    let get = |name: &str| Reflect::get(&result, &JsValue::from(name));
    if get("done")?.is_truthy() {
        return Ok(None);
    }
    Ok(Some(get("value")?.unchecked_into()))
}

/// A single piece, again.
pub async fn fetch_piece(
    file: &RemoteFile,
    piece: u64,
    total: u64,
    watch: &mut dyn Observer,
) -> Result<Uint8Array, Stop> {
    let from = piece * PIECE;
    let to = (from + PIECE).min(total);
    let answer = request(&file.url, Some(format!("bytes={from}-{}", to - 1)), None, watch).await?;
    let status = answer.response.status();
    if status != 206 && status != 200 {
        return Err(refusal(file, status));
    }
    let nothing = || Stop::Broken("the host's response is empty".to_owned());
    let body = answer.response.body().ok_or_else(nothing)?;
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let bytes = Uint8Array::new_with_length((to - from) as u32);
    // a host without ranges sends everything: what comes before is let go, and what comes after not waited for
    let mut at = if status == 200 { 0 } else { from };
    while at < to {
        let Some(chunk) = next(&answer, &reader).await? else {
            return Err(Stop::Broken(format!("the connection ended after {at} bytes")));
        };
        let end = at + u64::from(chunk.length());
        let (first, last) = (at.max(from), end.min(to));
        if first < last {
            let wanted = chunk.subarray((first - at) as u32, (last - at) as u32);
            bytes.set(&wanted, (first - from) as u32);
        }
        at = end;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;
    use web_sys::Url;

    use super::*;
    use crate::{storage::read_blob, wire::blob};

    #[derive(Default)]
    struct Seen {
        done: u64,
        stop_at: Option<u64>,
        warnings: Vec<String>,
    }

    impl Observer for Seen {
        fn see(&mut self, done: u64, _total: Option<u64>) -> Result<(), Stop> {
            self.done = done;
            if self.stop_at.is_some_and(|at| done >= at) { Err(Stop::Paused) } else { Ok(()) }
        }
        fn warn(&mut self, what: String) {
            self.warnings.push(what);
        }
    }

    /// A file of a little more than two pieces, at an address.
    fn served() -> (RemoteFile, Vec<u8>) {
        let bytes: Vec<u8> = (0..2 * PIECE as u32 + 77).map(|i| (i % 253) as u8).collect();
        let url = Url::create_object_url_with_blob(&blob(&bytes, "").unwrap()).unwrap();
        let bytes_known = Some(bytes.len() as u64);
        (RemoteFile { name: "m.bin".into(), url, bytes: bytes_known, sha256: None }, bytes)
    }

    #[wasm_bindgen_test]
    async fn a_file_arrives_whole_in_hashed_pieces() {
        let (file, bytes) = served();
        let mut target = Target::in_memory("m.bin");
        let mut seen = Seen::default();
        fetch(&file, &mut target, &mut seen).await.unwrap();
        assert_eq!((seen.done, target.pieces.sha256.len()), (bytes.len() as u64, 3));
        let whole = target.into_blob().await.unwrap();
        assert_eq!(read_blob(&whole, 0, u64::MAX >> 12).await.unwrap().to_vec(), bytes);
    }

    #[wasm_bindgen_test]
    async fn a_pause_keeps_whole_pieces_and_the_rest_comes_later() {
        let (file, bytes) = served();
        let mut target = Target::in_memory("m.bin");
        let mut seen = Seen { stop_at: Some(PIECE + 1), ..Seen::default() };
        let stopped = fetch(&file, &mut target, &mut seen).await.unwrap_err();
        assert!(matches!(stopped, Stop::Paused));
        assert!(target.pieces.done() >= PIECE && !target.pieces.whole);
        let mut seen = Seen::default();
        fetch(&file, &mut target, &mut seen).await.unwrap();
        let whole = target.into_blob().await.unwrap();
        assert_eq!(read_blob(&whole, 0, u64::MAX >> 12).await.unwrap().to_vec(), bytes);
    }

    #[wasm_bindgen_test]
    async fn a_file_of_another_size_is_refused() {
        let (mut file, _) = served();
        file.bytes = Some(5);
        let mut target = Target::in_memory("m.bin");
        let stopped = fetch(&file, &mut target, &mut Seen::default()).await.unwrap_err();
        let Stop::Failed(failure) = stopped else { panic!("{stopped:?}") };
        assert!(failure.what.contains("expected 5"), "{failure:?}");
    }

    #[wasm_bindgen_test]
    async fn a_single_piece_comes_again() {
        let (file, bytes) = served();
        let piece = fetch_piece(&file, 2, bytes.len() as u64, &mut Seen::default()).await.unwrap();
        assert_eq!(piece.to_vec(), &bytes[2 * PIECE as usize..]);
    }

    #[wasm_bindgen_test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 100-199/1000"), Some((100, 1000)));
        for wrong in ["", "bytes */1000", "bytes 1-2/*", "items 1-2/3"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
