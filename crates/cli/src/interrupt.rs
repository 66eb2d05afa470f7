//! Ctrl-C: the first asks, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Begins to listen. Where that is impossible, Ctrl-C ends the program as it always does.
pub fn watch() {
    let _ = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
}

/// Whether the user wants to stop. Long loops look here.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
