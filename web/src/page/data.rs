//! The screen "Data".

use leptos::prelude::*;

/// The screen.
#[component]
pub fn DataScreen() -> impl IntoView {
    view! { <h1>"Data"</h1> }
}
