//! Which tab trains a run. The browser releases a lock when its worker ends, however it ends.

use js_sys::{Array, Function, JsString, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure, prelude::wasm_bindgen};
use wasm_bindgen_futures::{JsFuture, spawn_local};

#[wasm_bindgen]
extern "C" {
    // web-sys has the Web Locks API for builds with unstable APIs only
    #[wasm_bindgen(js_namespace = ["navigator", "locks"], js_name = request, catch)]
    fn request(name: &str, held: &Function) -> Result<Promise, JsValue>;
    #[wasm_bindgen(js_namespace = ["navigator", "locks"], js_name = query, catch)]
    fn query() -> Result<Promise, JsValue>;
}

/// Before a run's key.
const NAME: &str = "hearth-run-";

/// Held as long as a run trains. Browsers without locks get none: there the runs of other tabs look interrupted.
pub struct RunLock(Option<Function>);

impl RunLock {
    /// Takes it. The run's files are open by now, so no other tab has it.
    pub fn hold(key: &str) -> Self {
        let mut release = None;
        let released = Promise::new(&mut |resolve, _| release = Some(resolve));
        let held = Closure::once_into_js(move |_: JsValue| JsValue::from(released));
        let taken = request(&name(key), held.unchecked_ref());
        spawn_local(async move {
            if let Ok(taken) = taken {
                let _ = JsFuture::from(taken).await;
            }
        });
        Self(release)
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if let Some(release) = &self.0 {
            let _ = release.call0(&JsValue::NULL);
        }
    }
}

fn name(key: &str) -> String {
    format!("{NAME}{key}")
}

/// Keys of the runs that train now, in any tab.
pub async fn training() -> Vec<String> {
    let names = async {
        let locks = JsFuture::from(query().ok()?).await.ok()?;
        let held: Array = Reflect::get(&locks, &"held".into()).ok()?.dyn_into().ok()?;
        let name = |lock: JsValue| Reflect::get(&lock, &"name".into()).ok()?.dyn_into().ok();
        Some(held.iter().filter_map(name).map(|name: JsString| String::from(name)).collect())
    };
    let names: Vec<String> = names.await.unwrap_or_default();
    names.iter().filter_map(|name| name.strip_prefix(NAME).map(str::to_owned)).collect()
}

/// Calls back when a run that trains now does so no more.
pub fn when_over(key: &str, call: impl FnOnce() + 'static) {
    let nothing = Closure::once_into_js(|_: JsValue| {});
    let over = request(&name(key), nothing.unchecked_ref());
    spawn_local(async move {
        if let Ok(over) = over
            && JsFuture::from(over).await.is_ok()
        {
            call();
        }
    });
}
