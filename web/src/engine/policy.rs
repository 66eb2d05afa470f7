//! The engine holds the user's data, so it starts only where the browser keeps it from foreign hosts.

use std::{cell::RefCell, rc::Rc};

use wasm_bindgen::{JsCast, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{RequestInit, RequestMode, SecurityPolicyViolationEvent};

use crate::{storage::scope, wire::words};

/// A host that cannot exist (RFC 2606): should no policy stand in the way, nobody is reached.
const NOBODY: &str = "https://hearth.invalid/";

const REFUSAL: &str = "The engine does not start: nothing would keep it from sending your texts elsewhere, as its file \
     came without a Content Security Policy. Reload the page once, so that its service worker can add the \
     policy. If that does not help, the server of this page must send it.";

/// Tries to leave, and says which rule was in the way.
///
/// # Errors
/// In words, where none was.
pub async fn test() -> Result<String, String> {
    let found = Rc::new(RefCell::new(None));
    let seen = found.clone();
    let listener = Closure::<dyn FnMut(SecurityPolicyViolationEvent)>::new(
        move |event: SecurityPolicyViolationEvent| {
            if event.blocked_uri().starts_with("https://hearth.invalid")
                && event.disposition() == web_sys::SecurityPolicyViolationEventDisposition::Enforce
            {
                *seen.borrow_mut() = Some(event.original_policy());
            }
        },
    );
    let (scope, name) = (scope(), "securitypolicyviolation");
    let listener = listener.as_ref().unchecked_ref();
    scope.add_event_listener_with_callback(name, listener).map_err(|e| words(&e))?;
    let init = RequestInit::new();
    init.set_mode(RequestMode::NoCors);
    // it fails either way: by the policy, or because nobody is there
    let _ = JsFuture::from(scope.fetch_with_str_and_init(NOBODY, &init)).await;
    // the event is a task of its own and may come after the failure
    for _ in 0..20 {
        if found.borrow().is_some() {
            break;
        }
        let wait = js_sys::Promise::new(&mut |resolve, _| {
            // where there is no timer, the loop just ends sooner
            let _ = scope.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, 25);
        });
        let _ = JsFuture::from(wait).await;
    }
    scope.remove_event_listener_with_callback(name, listener).map_err(|e| words(&e))?;
    found.borrow_mut().take().ok_or_else(|| REFUSAL.to_owned())
}
