//! The loader worker: fetches model files from the named hosts and keeps them. It never sees the user's data.

mod fetch;
mod import;
mod kept;
mod progress;
mod requests;
mod running;
mod shrink;
mod speed;
mod target;

use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{Blob, DedicatedWorkerGlobalScope, MessageEvent};

use crate::{
    protocol::{Envelope, Failure, FromLoader, ToLoader, UNASKED},
    storage::StorageError,
    traffic::observe,
    wire::{pack, unpack, words},
};

/// Starts the worker.
pub fn start() {
    console_error_panic_hook::set_once();
    let loader = requests::Loader::default();
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        match unpack::<ToLoader>(&event.data()) {
            Ok((message, blobs)) => {
                let loader = loader.clone();
                // requests do not wait for each other: the list can be seen while a model is fetched
                wasm_bindgen_futures::spawn_local(async move {
                    let (answer, blobs) = loader.handle(message.id, message.body, blobs).await;
                    post(message.id, &answer, &blobs);
                });
            }
            Err(error) => {
                let failure = Failure { fatal: true, ..Failure::new(error.to_string(), "") };
                post(UNASKED, &FromLoader::Failed(failure), &[]);
            }
        }
    });
    scope.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // it lives as long as the worker
    on_message.forget();
    observe(|more| post(UNASKED, &FromLoader::Traffic(more), &[]));
    post(UNASKED, &FromLoader::Ready, &[]);
}

/// Posts a message to the page.
fn post(id: u64, message: &FromLoader, blobs: &[Blob]) {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    if let Ok(value) = pack(&Envelope::new(id, message), blobs) {
        // a page that is gone has nobody left to tell
        let _ = scope.post_message(&value);
    }
}

/// Why fetching ended early.
#[derive(Debug)]
enum Stop {
    /// As asked; what is there stays.
    Paused,
    /// As asked; what is there goes.
    Cancelled,
    /// The connection broke: worth another try.
    Broken(String),
    /// It failed.
    Failed(Failure),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Failed(Failure::new(error.to_string(), ""))
    }
}

impl From<wasm_bindgen::JsValue> for Stop {
    fn from(error: wasm_bindgen::JsValue) -> Self {
        Self::Failed(Failure::new(words(&error), ""))
    }
}
