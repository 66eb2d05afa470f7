//! The screen "Results".

use leptos::prelude::*;

/// The screen.
#[component]
pub fn ResultsScreen() -> impl IntoView {
    view! { <h1>"Results"</h1> }
}
