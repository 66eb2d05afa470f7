//! Messages from the page, in order; those that change a request under way take effect at once.

use std::{
    cell::{Cell, RefCell},
    collections::{HashSet, VecDeque},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use wasm_bindgen::JsValue;
use web_sys::Blob;

use super::outbox::post;
use crate::{
    protocol::{Classified, Failure, FromEngine, ProtocolError, ToEngine, UNASKED},
    wire::unpack,
};

/// What a running training is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    /// Nothing.
    #[default]
    Continue,
    /// Keep a snapshot and stand still.
    Pause,
    /// End now, keep the best; while test rows are scored: do without their results.
    Stop,
}

/// A request that waits.
pub struct Incoming {
    pub id: u64,
    pub body: ToEngine,
    pub blobs: Vec<Blob>,
}

#[derive(Default)]
struct State {
    waiting: RefCell<VecDeque<Incoming>>,
    waker: RefCell<Option<Waker>>,
    cancelled: RefCell<HashSet<u64>>,
    training: Cell<bool>,
    control: Cell<Control>,
    refused: RefCell<Option<String>>,
}

/// The messages. Cheap to clone.
#[derive(Clone, Default)]
pub struct Inbox(Rc<State>);

impl Inbox {
    /// Takes a posted value.
    pub fn receive(&self, value: &JsValue) {
        match unpack::<ToEngine>(value) {
            Ok((message, blobs)) => {
                self.take(Incoming { id: message.id, body: message.body, blobs });
            }
            Err(error) => {
                let fatal = matches!(error, ProtocolError::OtherBuild { .. });
                let failure = Failure { fatal, ..Failure::new(error.to_string(), "") };
                post(UNASKED, &FromEngine::Failed(failure), &[]);
            }
        }
    }

    /// Takes a request.
    pub fn take(&self, request: Incoming) {
        let state = &self.0;
        if let Some(reason) = state.refused.borrow().as_ref() {
            return refuse(&request, reason);
        }
        match request.body {
            ToEngine::Cancel { request: given_up } => {
                self.cancel(given_up);
                post(request.id, &FromEngine::Done, &[]);
            }
            ToEngine::Pause | ToEngine::Stop if !state.training.get() => {
                let none = Failure::new("No run is training.", "Start one under Train.");
                post(request.id, &FromEngine::Failed(none), &[]);
            }
            ToEngine::Pause => self.set_control(request.id, Control::Pause),
            ToEngine::Stop => self.set_control(request.id, Control::Stop),
            _ => {
                if matches!(request.body, ToEngine::Classify { .. }) {
                    self.overtake();
                }
                // it can be paused from here on, also while it waits or is being set up
                if request.body.trains() {
                    self.training(true);
                }
                state.waiting.borrow_mut().push_back(request);
                if let Some(waker) = state.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// A request that waits ends now; one under way ends where it next polls.
    fn cancel(&self, id: u64) {
        let mut waiting = self.0.waiting.borrow_mut();
        let Some(at) = waiting.iter().position(|request| request.id == id) else {
            self.0.cancelled.borrow_mut().insert(id);
            return;
        };
        if waiting.remove(at).is_some_and(|request| request.body.trains()) {
            self.training(false);
        }
        post(id, &FromEngine::Cancelled, &[]);
    }

    fn set_control(&self, id: u64, control: Control) {
        self.0.control.set(control);
        post(id, &FromEngine::Done, &[]);
    }

    /// Answers the texts that wait: a newer one is there.
    fn overtake(&self) {
        self.0.waiting.borrow_mut().retain(|request| {
            let old = matches!(request.body, ToEngine::Classify { .. });
            if old {
                let nothing = Classified {
                    classes: Vec::new(),
                    probabilities: Vec::new(),
                    predicted: 0,
                    cut: false,
                    milliseconds: 0.0,
                };
                post(request.id, &FromEngine::Classified(nothing), &[]);
            }
            !old
        });
    }

    /// The next request.
    pub async fn next(&self) -> Incoming {
        poll_fn(|context| match self.0.waiting.borrow_mut().pop_front() {
            Some(request) => Poll::Ready(request),
            None => {
                *self.0.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Whether a request was given up.
    pub fn is_cancelled(&self, id: u64) -> bool {
        self.0.cancelled.borrow().contains(&id)
    }

    /// Forgets that a request was given up: it is over.
    pub fn is_over(&self, id: u64) {
        self.0.cancelled.borrow_mut().remove(&id);
    }

    /// A training was asked for, its steps are over, or it is: only in between it can be paused or stopped. What was
    /// asked before is void.
    pub fn training(&self, on: bool) {
        self.0.training.set(on);
        self.0.control.set(Control::Continue);
    }

    /// What the training is asked to do.
    pub fn control(&self) -> Control {
        self.0.control.get()
    }

    /// Refuses everything that waits or comes.
    pub fn refuse_all(&self, reason: &str) {
        *self.0.refused.borrow_mut() = Some(reason.to_owned());
        self.0.waiting.borrow_mut().drain(..).for_each(|request| refuse(&request, reason));
    }
}

fn refuse(request: &Incoming, reason: &str) {
    post(request.id, &FromEngine::Failed(Failure::new(reason, "")), &[]);
}
