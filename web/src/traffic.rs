//! What a part of the page asks the network for, as the browser itself records it: requests made, and
//! attempts that the policy stopped.

use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{
    EventTarget, PerformanceEntry, PerformanceObserver, PerformanceObserverEntryList,
    PerformanceObserverInit, SecurityPolicyViolationEvent,
};

use crate::protocol::Traffic;

/// Milliseconds in which two policies tell of the same attempt.
const SAME_ATTEMPT: f64 = 20.0;

/// Tells `news` whenever there is more, in this window or worker, until it ends.
pub fn observe(news: impl Fn(Traffic) + Clone + 'static) {
    let tell = news.clone();
    let on_entries = Closure::<dyn FnMut(PerformanceObserverEntryList)>::new(
        move |list: PerformanceObserverEntryList| {
            let requests = list.get_entries().into_iter().filter(|entry| {
                let entry: &PerformanceEntry = entry.unchecked_ref();
                // an object URL of our own is no request
                !entry.name().starts_with("blob:") && !entry.name().starts_with("data:")
            });
            let requests = requests.count() as u32;
            if requests > 0 {
                tell(Traffic { requests, blocked: 0 });
            }
        },
    );
    if let Ok(observer) = PerformanceObserver::new(on_entries.as_ref().unchecked_ref()) {
        let kinds = js_sys::Array::of1(&"resource".into());
        observer.observe(&PerformanceObserverInit::new(&kinds));
    }
    let mut last = (String::new(), f64::NEG_INFINITY);
    let on_violation = Closure::<dyn FnMut(SecurityPolicyViolationEvent)>::new(
        move |event: SecurityPolicyViolationEvent| {
            // one attempt breaks the policy of the headers and that of the page itself, and both tell
            let this = (event.blocked_uri(), event.time_stamp());
            if this.0 != last.0 || this.1 - last.1 > SAME_ATTEMPT {
                news(Traffic { requests: 0, blocked: 1 });
            }
            last = this;
        },
    );
    let target: Result<EventTarget, JsValue> = js_sys::global().dyn_into().map_err(JsValue::from);
    if let Ok(target) = target {
        let listener = on_violation.as_ref().unchecked_ref();
        // a browser without the event has no policy to tell of
        let _ = target.add_event_listener_with_callback("securitypolicyviolation", listener);
    }
    // they live as long as the window or worker
    on_entries.forget();
    on_violation.forget();
}
