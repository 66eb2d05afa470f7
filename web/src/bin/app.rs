//! The page.

fn main() {
    #[cfg(target_arch = "wasm32")]
    page::start();
}

#[cfg(target_arch = "wasm32")]
mod page {
    use hearth_web::{FromWorker, ToWorker};
    use leptos::prelude::*;
    use wasm_bindgen::{JsCast, JsValue, closure::Closure};
    use web_sys::{ErrorEvent, MessageEvent, Worker, WorkerOptions, WorkerType};

    /// What the page knows of the engine.
    #[derive(Clone, PartialEq)]
    enum Engine {
        Starting,
        On(String),
        Failed(String),
    }

    pub fn start() {
        console_error_panic_hook::set_once();
        let (engine, set_engine) = signal(Engine::Starting);
        if let Err(error) = start_worker(set_engine) {
            set_engine.set(Engine::Failed(format!("The worker did not start: {error:?}")));
        }
        mount_to_body(move || view! { <Page engine /> });
    }

    fn start_worker(set_engine: WriteSignal<Engine>) -> Result<(), JsValue> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options("./worker_loader.js", &options)?;
        let to = worker.clone();
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let text = event.data().as_string().unwrap_or_default();
            match serde_json::from_str(&text) {
                Ok(FromWorker::Ready) => {
                    if let Err(error) = send(&to, &ToWorker::OpenGpu) {
                        set_engine.set(Engine::Failed(error));
                    }
                }
                Ok(FromWorker::Gpu { name }) => set_engine.set(Engine::On(name)),
                Ok(FromWorker::NoGpu { reason }) => set_engine.set(Engine::Failed(reason)),
                Err(_) => set_engine.set(Engine::Failed(
                    "The page and its worker are of different builds: reload the page.".into(),
                )),
            }
        });
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        let on_error = Closure::<dyn FnMut(ErrorEvent)>::new(move |event: ErrorEvent| {
            set_engine.set(Engine::Failed(format!("The worker stopped: {}", event.message())));
        });
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        // both live as long as the page
        on_message.forget();
        on_error.forget();
        Ok(())
    }

    fn send(worker: &Worker, message: &ToWorker) -> Result<(), String> {
        let text = serde_json::to_string(message).map_err(|error| error.to_string())?;
        worker.post_message(&text.into()).map_err(|error| format!("{error:?}"))
    }

    #[component]
    fn Page(
        /// The engine's state, as the worker reports it.
        engine: ReadSignal<Engine>,
    ) -> impl IntoView {
        view! {
            <main>
                <svg class="mark" viewBox="0 0 64 64" aria-hidden="true">
                    <path class="flame" d="M33 4c3 12 17 17 17 34a18 18 0 0 1-36 0c0-9 5-13 8-20 2 4 4 6 6 7 3-6 5-12 5-21z" />
                    <path class="ember" d="M32 34c2 5 9 8 9 14a9 9 0 0 1-18 0c0-6 7-8 9-14z" />
                </svg>
                <h1>"Hearth"</h1>
                <p class="promise">
                    "Teach Gemma to sort your texts, in this tab. Not a byte of them leaves it."
                </p>
                <p class="engine" role="status" data-state=move || state(&engine.get())>
                    {move || match engine.get() {
                        Engine::Starting => "Looking for your graphics processor …".to_owned(),
                        Engine::On(name) if name.is_empty() => "Ready to compute.".to_owned(),
                        Engine::On(name) => format!("Ready to compute on {name}."),
                        Engine::Failed(reason) => reason,
                    }}
                </p>
            </main>
        }
    }

    fn state(engine: &Engine) -> &'static str {
        match engine {
            Engine::Starting => "starting",
            Engine::On(_) => "ready",
            Engine::Failed(_) => "failed",
        }
    }
}
