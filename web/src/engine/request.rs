//! A request under way: answers, cancelling, and a breath now and then.

use std::cell::Cell;

use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::MessageChannel;
use web_time::{Duration, Instant};

use super::{inbox::Inbox, outbox::post, problem::Problem};
use crate::protocol::{FromEngine, on_page};

/// Longest time without listening to messages.
const YIELD_AFTER: Duration = Duration::from_millis(50);
/// Progress is told at most this often.
const OFTEN: Duration = Duration::from_millis(100);

/// A request.
pub struct Request {
    /// Its id.
    pub id: u64,
    inbox: Inbox,
    last_yield: Cell<Instant>,
    last_told: Cell<Option<Instant>>,
}

impl Request {
    pub fn new(id: u64, inbox: Inbox) -> Self {
        let now = Instant::now();
        Self { id, inbox, last_yield: Cell::new(now), last_told: Cell::new(None) }
    }

    /// Where it came from.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Tells something on the way.
    pub fn tell(&self, message: &FromEngine) {
        post(self.id, message, &[]);
    }

    /// Tells progress, unless it was told just before.
    pub fn tell_now_and_then(&self, message: impl FnOnce() -> FromEngine) {
        let now = Instant::now();
        if self.last_told.get().is_none_or(|last| now - last >= OFTEN) {
            self.last_told.set(Some(now));
            self.tell(&message());
        }
    }

    /// Tells the user something.
    pub fn warn(&self, what: impl Into<String>) {
        self.tell(&FromEngine::Warning { what: on_page(&what.into()) });
    }

    /// Whether the page gave it up.
    pub fn is_cancelled(&self) -> bool {
        self.inbox.is_cancelled(self.id)
    }

    /// Ends here if the page gave it up.
    pub fn check(&self) -> Result<(), Problem> {
        if self.is_cancelled() { Err(Problem::Cancelled) } else { Ok(()) }
    }

    /// Listens to messages if that is due, and ends here if the page cancelled it; to be awaited in long loops.
    pub async fn poll(&self) -> Result<(), Problem> {
        if self.last_yield.get().elapsed() >= YIELD_AFTER {
            let _ = turn().await;
            self.last_yield.set(Instant::now());
        }
        self.check()
    }
}

/// Lets one turn of the event loop go by: a message to oneself comes after those that wait. (A timer would
/// be slowed down to 4 ms.)
pub(super) async fn turn() -> Result<JsValue, JsValue> {
    let channel = MessageChannel::new()?;
    let (near, far) = (channel.port1(), channel.port2());
    let arrived = js_sys::Promise::new(&mut |resolve, _| near.set_onmessage(Some(&resolve)));
    far.post_message(&JsValue::NULL)?;
    let arrived = JsFuture::from(arrived).await;
    near.close();
    arrived
}
