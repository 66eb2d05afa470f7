//! The screen "Model".

use leptos::prelude::*;

/// The screen.
#[component]
pub fn ModelScreen() -> impl IntoView {
    view! { <h1>"Model"</h1> }
}
