//! The page: what the user sees. It computes nothing long itself; the workers do.
//!
//! ```text
//! client   a worker, asked in requests        actions  what a click sets off, in several requests
//! address  the screen in the address bar
//! offline  the page kept for times without a network
//! state    what the page knows                shell    header, steps, notices
//! notices  what it tells beside the screens   plot     paths of the pictures that it draws itself
//! trusted  what may become markup or a script
//! model, data, train, results, using          the five screens
//! ```

mod actions;
mod address;
mod client;
mod data;
mod format;
mod model;
mod notices;
mod offline;
mod plot;
mod results;
mod shell;
mod state;
mod train;
mod trusted;
mod using;
mod widgets;

use leptos::prelude::*;

/// Starts the page.
pub fn start() {
    console_error_panic_hook::set_once();
    // a host's own policy may forbid it: what needs the types says so then
    let _ = trusted::keep_types();
    mount_to_body(|| {
        let app = state::App::new();
        provide_context(app);
        actions::begin(app);
        address::keep(app);
        view! { <shell::Shell /> }
    });
}
