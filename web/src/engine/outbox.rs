//! Messages to the page.

use wasm_bindgen::JsCast;
use web_sys::{Blob, DedicatedWorkerGlobalScope};

use crate::{
    protocol::{Envelope, FromEngine},
    wire,
};

/// An answer and the files that go with it.
pub type Reply = (FromEngine, Vec<Blob>);

/// Posts a message to the page.
pub fn post(id: u64, message: &FromEngine, blobs: &[Blob]) {
    #[cfg(test)]
    super::tests::hear(id, message, blobs);
    #[cfg(not(test))]
    send(id, message, blobs);
}

#[cfg_attr(test, expect(dead_code))] // tests take the page's place
fn send(id: u64, message: &FromEngine, blobs: &[Blob]) {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    if let Ok(value) = wire::pack(&Envelope::new(id, message), blobs) {
        // a page that is gone has nobody left to tell
        let _ = scope.post_message(&value);
    }
}
