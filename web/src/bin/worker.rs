//! The worker that owns the engine: the page stays responsive whatever the GPU does.

fn main() {
    #[cfg(target_arch = "wasm32")]
    hearth_web::engine::start();
}
