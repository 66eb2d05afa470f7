//! The screen "Using".

use leptos::prelude::*;

/// The screen.
#[component]
pub fn UsingScreen() -> impl IntoView {
    view! { <h1>"Using"</h1> }
}
