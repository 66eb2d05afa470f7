//! Each screen has an address, `#/train`: back, forward and a reload work, and a screen that opens takes the focus.

use leptos::{ev, prelude::*};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::HtmlElement;

use super::state::{App, Screen};

/// The screen of an address's fragment; none for another one.
fn screen_of(fragment: &str) -> Option<Screen> {
    let key = fragment.strip_prefix("#/")?;
    Screen::ALL.into_iter().find(|screen| screen.key() == key)
}

fn fragment() -> String {
    window().location().hash().unwrap_or_default()
}

/// Keeps the screen and the address equal, from now on.
pub fn keep(app: App) {
    let follow = move || {
        if let Some(screen) = screen_of(&fragment()).filter(|at| *at != app.screen.get_untracked())
        {
            app.screen.set(screen);
        }
    };
    follow();
    // the page listens as long as it is open
    let _ = window_event_listener(ev::hashchange, move |_| follow());
    Effect::new(move |before: Option<Screen>| {
        let screen = app.screen.get();
        write(screen, before.is_none());
        if before.is_some_and(|before| before != screen) {
            window().scroll_to_with_x_and_y(0.0, 0.0);
            // the heading is there once the page is drawn
            request_animation_frame(|| focus("#screen h1"));
        }
        screen
    });
}

/// Writes a screen's address and title. The first one is no step that one could go back from.
fn write(screen: Screen, first: bool) {
    document().set_title(&format!("{} · Hearth", screen.title()));
    let address = format!("#/{}", screen.key());
    if fragment() == address {
        return;
    }
    let Ok(history) = window().history() else { return };
    // a browser that refuses (Safari does after a hundred in 30 s) shows the old address
    let _ = if first {
        history.replace_state_with_url(&JsValue::NULL, "", Some(&address))
    } else {
        history.push_state_with_url(&JsValue::NULL, "", Some(&address))
    };
}

/// Moves the focus to an element that is read, not used.
pub fn focus(selector: &str) {
    let found = document().query_selector(selector).ok().flatten();
    if let Some(element) = found.and_then(|element| element.dyn_into::<HtmlElement>().ok()) {
        element.set_tab_index(-1);
        let _ = element.focus();
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn every_screen_is_found_by_its_address() {
        for screen in Screen::ALL {
            assert_eq!(screen_of(&format!("#/{}", screen.key())), Some(screen));
        }
        assert!(["", "#", "#/", "#train", "#/nowhere"].iter().all(|at| screen_of(at).is_none()));
    }
}
