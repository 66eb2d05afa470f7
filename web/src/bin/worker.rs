//! The worker that owns the engine: the page stays responsive whatever the GPU does.

fn main() {
    #[cfg(target_arch = "wasm32")]
    worker::start();
}

#[cfg(target_arch = "wasm32")]
mod worker {
    use hearth_gpu::{GpuOptions, Profile};
    use hearth_web::{FromWorker, ToWorker};
    use js_sys::{Function, Promise, Reflect};
    use wasm_bindgen::{JsCast, JsValue, closure::Closure};
    use wasm_bindgen_futures::JsFuture;
    use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

    pub fn start() {
        console_error_panic_hook::set_once();
        let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(|event: MessageEvent| {
            let text = event.data().as_string().unwrap_or_default();
            if let Ok(ToWorker::OpenGpu) = serde_json::from_str(&text) {
                wasm_bindgen_futures::spawn_local(async { say(&open_gpu().await) });
            }
        });
        scope.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        on_message.forget();
        say(&FromWorker::Ready);
    }

    async fn open_gpu() -> FromWorker {
        match hearth_gpu::Gpu::open(&GpuOptions::with_profile(Profile::Full)).await {
            Ok(_) => FromWorker::Gpu { name: browsers_name().await.unwrap_or_default() },
            Err(error) => FromWorker::NoGpu { reason: error.to_string() },
        }
    }

    /// The browser's words for its adapter, "google swiftshader" say; wgpu does not pass them on.
    async fn browsers_name() -> Result<String, JsValue> {
        let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
        let get = |object: &JsValue, name: &str| Reflect::get(object, &name.into());
        let gpu = get(&scope.navigator(), "gpu")?;
        let request: Function = get(&gpu, "requestAdapter")?.dyn_into()?;
        let adapter = JsFuture::from(Promise::from(request.call0(&gpu)?)).await?;
        let info = get(&adapter, "info")?;
        let words = ["vendor", "architecture", "description"];
        let words = words.iter().filter_map(|word| get(&info, word).ok()?.as_string());
        Ok(words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
    }

    fn say(message: &FromWorker) {
        let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
        if let Ok(text) = serde_json::to_string(message) {
            // a page that is gone has nobody left to tell
            let _ = scope.post_message(&text.into());
        }
    }
}
