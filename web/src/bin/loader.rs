//! The worker that fetches model files. It never sees the user's data.

fn main() {
    #[cfg(target_arch = "wasm32")]
    hearth_web::loader::start();
}
