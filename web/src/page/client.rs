//! A worker, asked in requests: every answer goes to the request whose id it carries.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{Blob, ErrorEvent, MessageEvent, Worker, WorkerOptions, WorkerType};

use crate::{
    protocol::{Envelope, Failure, FromEngine, FromLoader, ToEngine, ToLoader, UNASKED},
    wire::{pack, unpack, words},
};

/// One of the two workers: its messages and its file.
pub trait WorkerKind: 'static {
    type To: Serialize;
    type From: DeserializeOwned;
    const SCRIPT: &'static str;

    fn ends(answer: &Self::From) -> bool;
    fn failed(failure: Failure) -> Self::From;
    fn failure(answer: &Self::From) -> Option<&Failure>;
}

/// The engine worker.
pub struct EngineWorker;

impl WorkerKind for EngineWorker {
    type To = ToEngine;
    type From = FromEngine;
    const SCRIPT: &'static str = "./worker_loader.js";

    fn ends(answer: &FromEngine) -> bool {
        answer.ends()
    }

    fn failed(failure: Failure) -> FromEngine {
        FromEngine::Failed(failure)
    }

    fn failure(answer: &FromEngine) -> Option<&Failure> {
        if let FromEngine::Failed(failure) = answer { Some(failure) } else { None }
    }
}

/// The loader worker.
pub struct LoaderWorker;

impl WorkerKind for LoaderWorker {
    type To = ToLoader;
    type From = FromLoader;
    const SCRIPT: &'static str = "./loader_loader.js";

    fn ends(answer: &FromLoader) -> bool {
        answer.ends()
    }

    fn failed(failure: Failure) -> FromLoader {
        FromLoader::Failed(failure)
    }

    fn failure(answer: &FromLoader) -> Option<&Failure> {
        if let FromLoader::Failed(failure) = answer { Some(failure) } else { None }
    }
}

/// An answer and the files that ride along.
pub type Reply<S> = (<S as WorkerKind>::From, Vec<Blob>);

type Waiting<S> = RefCell<HashMap<u64, UnboundedSender<Reply<S>>>>;

struct Inner<S: WorkerKind> {
    worker: RefCell<Option<Worker>>,
    /// Requests to post once the worker has said its first word: what comes before it listens is lost.
    early: RefCell<Option<Vec<JsValue>>>,
    waiting: Waiting<S>,
    next: Cell<u64>,
    unasked: RefCell<Box<dyn Fn(S::From)>>,
}

/// A worker. Cheap to clone.
pub struct Client<S: WorkerKind>(Rc<Inner<S>>);

impl<S: WorkerKind> Clone for Client<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: WorkerKind> Client<S> {
    /// No worker yet. `unasked` gets what answers no request, failures of the worker itself among it.
    pub fn new(unasked: impl Fn(S::From) + 'static) -> Self {
        Self(Rc::new(Inner {
            worker: RefCell::new(None),
            early: RefCell::new(None),
            waiting: RefCell::new(HashMap::new()),
            next: Cell::new(UNASKED + 1),
            unasked: RefCell::new(Box::new(unasked)),
        }))
    }

    /// Starts the worker, anew where it runs. Requests under way fail with `why`.
    pub fn start(&self, why: &str) {
        if let Some(worker) = self.0.worker.take() {
            worker.set_onmessage(None);
            worker.set_onerror(None);
            worker.terminate();
        }
        self.fail_all(&Failure::new(why, ""));
        *self.0.early.borrow_mut() = Some(Vec::new());
        match self.spawn() {
            Ok(worker) => *self.0.worker.borrow_mut() = Some(worker),
            Err(error) => {
                let what = format!("A worker of this page did not start: {}", words(&error));
                self.broke(Failure::new(what, "Reload the page."));
            }
        }
    }

    fn spawn(&self) -> Result<Worker, JsValue> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options(S::SCRIPT, &options)?;
        let client = self.clone();
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            client.receive(&event.data());
        });
        let client = self.clone();
        let on_error = Closure::<dyn FnMut(ErrorEvent)>::new(move |event: ErrorEvent| {
            event.prevent_default();
            let what = format!("A worker of this page crashed: {}", event.message());
            client.broke(Failure { fatal: true, ..Failure::new(what, "It restarts.") });
        });
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        // they live as long as the page: a worker is started a few times at most
        on_message.forget();
        on_error.forget();
        Ok(worker)
    }

    /// Sends a request. Its answers end with one for which [`WorkerKind::ends`] holds.
    pub fn ask(&self, body: S::To, blobs: &[Blob]) -> (u64, UnboundedReceiver<Reply<S>>) {
        let id = self.0.next.get();
        self.0.next.set(id + 1);
        let (sender, receiver) = unbounded();
        let posted = match (pack(&Envelope::new(id, body), blobs), &*self.0.worker.borrow()) {
            (Err(error), _) => Err(error.to_string()),
            (_, None) => Err("a worker of this page is not running; reload the page".to_owned()),
            (Ok(value), Some(worker)) => match &mut *self.0.early.borrow_mut() {
                Some(early) => {
                    early.push(value);
                    Ok(())
                }
                None => worker.post_message(&value).map_err(|e| words(&e)),
            },
        };
        match posted {
            Ok(()) => {
                self.0.waiting.borrow_mut().insert(id, sender);
            }
            // the receiver is ours and open
            Err(what) => {
                let _ = sender.unbounded_send((S::failed(Failure::new(what, "")), Vec::new()));
            }
        }
        (id, receiver)
    }

    fn receive(&self, value: &JsValue) {
        if let Some(early) = self.0.early.take()
            && let Some(worker) = &*self.0.worker.borrow()
        {
            for request in early {
                if let Err(error) = worker.post_message(&request) {
                    let what = format!("A worker of this page does not respond: {}", words(&error));
                    return self.broke(Failure::new(what, "Reload the page."));
                }
            }
        }
        let (message, blobs) = match unpack::<S::From>(value) {
            Ok(message) => message,
            Err(error) => {
                return self.broke(Failure::new(error.to_string(), "Reload the page."));
            }
        };
        if let Some(failure) = S::failure(&message.body)
            && failure.fatal
        {
            return self.broke(failure.clone());
        }
        if message.id == UNASKED {
            return (self.0.unasked.borrow())(message.body);
        }
        let ends = S::ends(&message.body);
        let sender = self.0.waiting.borrow().get(&message.id).cloned();
        if let Some(sender) = sender {
            // whoever asked may have lost interest
            let _ = sender.unbounded_send((message.body, blobs));
        }
        if ends {
            self.0.waiting.borrow_mut().remove(&message.id);
        }
    }

    /// The worker is of no more use: all who wait are told, then the page.
    fn broke(&self, failure: Failure) {
        self.fail_all(&failure);
        (self.0.unasked.borrow())(S::failed(failure));
    }

    fn fail_all(&self, failure: &Failure) {
        for (_, sender) in self.0.waiting.take() {
            let _ = sender.unbounded_send((S::failed(failure.clone()), Vec::new()));
        }
    }
}
