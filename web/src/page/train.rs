//! The screen "Train".

use leptos::prelude::*;

/// The screen.
#[component]
pub fn TrainScreen() -> impl IntoView {
    view! { <h1>"Train"</h1> }
}
