//! The page.

fn main() {
    #[cfg(target_arch = "wasm32")]
    hearth_web::page::start();
}
