//! The engine worker: it owns the GPU, the model, the user's data and the runs.
//!
//! Requests are done one after the other by one task ([`session`]); what changes a request that is under way
//! (cancel, pause, stop, a newer text) is noted the moment it arrives ([`inbox`]).

mod active;
pub mod blob_source;
mod data;
mod evaluate;
mod exports;
mod generate;
mod inbox;
mod model;
mod outbox;
mod plan;
mod policy;
mod problem;
mod request;
mod results;
mod runs;
mod scoring;
mod self_test;
mod session;
mod state;
mod stored;
mod table_file;
#[cfg(test)]
mod tests;
mod threshold;
mod train;

use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

use crate::{
    protocol::{Failure, FromEngine, UNASKED},
    traffic::observe,
};

/// Starts the worker. Messages that arrive before the policy is tested wait.
pub fn start() {
    watch_panics();
    let inbox = inbox::Inbox::default();
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    let incoming = inbox.clone();
    let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        incoming.receive(&event.data());
    });
    scope.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // it lives as long as the worker
    on_message.forget();
    wasm_bindgen_futures::spawn_local(async move {
        match policy::test().await {
            Ok(policy) => {
                outbox::post(UNASKED, &FromEngine::Ready { policy }, &[]);
                observe(|more| outbox::post(UNASKED, &FromEngine::Traffic(more), &[]));
                session::serve(inbox).await;
            }
            Err(reason) => {
                outbox::post(UNASKED, &FromEngine::Refused { reason: reason.clone() }, &[]);
                inbox.refuse_all(&reason);
            }
        }
    });
}

/// A panic is a bug, but the user is told in words, and the page starts the engine anew.
fn watch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let failure = Failure {
            what: format!("The engine crashed: {info}"),
            advice: "It restarts.".to_owned(),
            fatal: true,
            piece: None,
        };
        outbox::post(UNASKED, &FromEngine::Failed(failure), &[]);
        console_error_panic_hook::hook(info);
    }));
}
