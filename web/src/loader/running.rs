//! Requests under way, by the key of their model, and what the page wants of them by now.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use web_sys::AbortController;

use super::Stop;
use crate::{protocol::Failure, storage::pause};

/// Milliseconds between two looks whether a request that was asked to end has ended.
const ENDING: i32 = 20;

/// What the user wants of a running request.
#[derive(Clone, Copy, PartialEq)]
pub enum Control {
    Continue,
    Pause,
    Cancel,
}

/// A running request.
struct Request {
    control: Control,
    /// Its connection, which a control ends at once.
    connection: Option<AbortController>,
}

/// The requests. Cheap to clone.
#[derive(Clone, Default)]
pub struct Running(Rc<RefCell<HashMap<String, Request>>>);

impl Running {
    /// Notes that a request begins.
    ///
    /// # Errors
    /// One of the same model runs already.
    pub async fn begin(&self, key: &str) -> Result<(), Stop> {
        // what was paused or given up a moment ago
        self.ended(key).await;
        if self.0.borrow().contains_key(key) {
            return Err(Stop::Failed(Failure::new(
                "This model is already being downloaded.",
                "Wait for that, or cancel it under Model.",
            )));
        }
        let request = Request { control: Control::Continue, connection: None };
        self.0.borrow_mut().insert(key.to_owned(), request);
        Ok(())
    }

    /// Notes that a request has ended.
    pub fn is_over(&self, key: &str) {
        self.0.borrow_mut().remove(key);
    }

    /// Notes the connection that a running request waits for.
    pub fn connects(&self, key: &str, connection: &AbortController) {
        if let Some(request) = self.0.borrow_mut().get_mut(key) {
            request.connection = Some(connection.clone());
        }
    }

    /// What a running request was asked to do by now.
    pub fn control_of(&self, key: &str) -> Control {
        self.0.borrow().get(key).map_or(Control::Continue, |request| request.control)
    }

    /// The models of all.
    pub fn keys(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }

    /// Ends a running request, and waits until it has ended. Returns whether there was one.
    pub async fn end(&self, key: &str, control: Control) -> bool {
        let Some(connection) = self.0.borrow_mut().get_mut(key).map(|request| {
            request.control = control;
            request.connection.take()
        }) else {
            return false;
        };
        // it may be waiting for a host that never answers
        connection.inspect(AbortController::abort);
        self.ended(key).await;
        true
    }

    /// Waits for a request to end that was asked to.
    async fn ended(&self, key: &str) {
        while self.control_of(key) != Control::Continue {
            pause(ENDING).await;
        }
    }
}
