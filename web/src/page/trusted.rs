//! What the page may turn into markup or start as a script. Its policy asks for Trusted Types, so that every such text
//! of the whole program passes through here: browsers that know them refuse what this refuses.
//!
//! Source: W3C Trusted Types, the default policy.

use js_sys::{Function, Object, Reflect};
use leptos::prelude::window;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::Url;

use super::{
    client::{EngineWorker, LoaderWorker, WorkerKind},
    offline,
};

/// The scripts that the page starts, beside its own.
const SCRIPTS: [&str; 3] = [EngineWorker::SCRIPT, LoaderWorker::SCRIPT, offline::SCRIPT];

/// Elements that run or fetch something, or change what others mean.
const ACTIVE: [&str; 12] = [
    "base",
    "embed",
    "form",
    "frame",
    "iframe",
    "link",
    "meta",
    "object",
    "script",
    "style",
    "template",
    "foreignobject",
];

/// Makes the default policy. A browser without Trusted Types has none.
pub fn keep_types() -> Result<(), JsValue> {
    let types = Reflect::get(&window(), &"trustedTypes".into())?;
    if types.is_undefined() {
        return Ok(());
    }
    let rules = Object::new();
    let markup = Closure::<dyn Fn(String) -> Option<String>>::new(|html: String| {
        is_inert(&html).then_some(html)
    });
    let script = Closure::<dyn Fn(String) -> Option<String>>::new(|url: String| {
        let page = window().location().href().unwrap_or_default();
        is_own_script(&url, &page).then_some(url)
    });
    Reflect::set(&rules, &"createHTML".into(), markup.as_ref())?;
    Reflect::set(&rules, &"createScriptURL".into(), script.as_ref())?;
    // both live as long as the page
    markup.forget();
    script.forget();
    let create: Function = Reflect::get(&types, &"createPolicy".into())?.dyn_into()?;
    create.call2(&types, &"default".into(), &rules)?;
    Ok(())
}

/// Whether this is the address of a script that the page starts, beside the page itself.
fn is_own_script(url: &str, page: &str) -> bool {
    SCRIPTS.iter().any(|script| {
        let own = Url::new_with_base(script, page).map(|own| own.href());
        let asked = Url::new_with_base(url, page).map(|asked| {
            asked.set_search("");
            asked.href()
        });
        matches!((own, asked), (Ok(own), Ok(asked)) if own == asked)
    })
}

/// Whether markup only shows something: no element that runs or fetches, no handler of an event, no address that is a
/// script. Text of the user has no `<` of its own there: it is escaped.
fn is_inert(html: &str) -> bool {
    html.split('<').skip(1).all(|rest| {
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let name = rest.split(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).next();
        let name = name.unwrap_or("").to_ascii_lowercase();
        !ACTIVE.contains(&name.as_str()) && has_inert_attributes(&rest[name.len()..])
    })
}

/// Whether a tag, from behind its name on, has no attribute that runs anything.
fn has_inert_attributes(mut rest: &str) -> bool {
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '>' | '/' | '='));
        let (name, behind) = rest.split_at(end.unwrap_or(rest.len()));
        if name.is_empty() {
            return true;
        }
        let behind = behind.trim_start();
        let mut value = "";
        rest = behind;
        if let Some(given) = behind.strip_prefix('=') {
            let given = given.trim_start();
            let quote = given.chars().next().filter(|c| matches!(c, '"' | '\''));
            let (inside, until): (&str, &[char]) = match &quote {
                Some(quote) => (&given[1..], std::slice::from_ref(quote)),
                None => (given, &[' ', '\n', '\t', '>']),
            };
            let end = inside.find(until).unwrap_or(inside.len());
            value = &inside[..end];
            rest =
                inside[end..].trim_start_matches(quote.into_iter().collect::<Vec<_>>().as_slice());
        }
        let name = name.to_ascii_lowercase();
        let value = value.trim_start().to_ascii_lowercase();
        if name.starts_with("on") || name == "srcdoc" || value.starts_with("javascript:") {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn markup_that_runs_something_is_refused() {
        for html in [
            "<script>1</script>",
            "<p>a</p><SCRIPT src=x>",
            "<svg><g onload=\"go()\"></g></svg>",
            "<img src=x\nOnError = go()>",
            "<img src=\"x\"onerror=go()>",
            "<a title='a' href=' JavaScript:go()'>a</a>",
            "<iframe srcdoc=\"\">",
            "<svg><foreignObject></foreignObject></svg>",
        ] {
            assert!(!is_inert(html), "{html}");
        }
    }

    #[wasm_bindgen_test]
    fn markup_that_shows_something_is_let_through() {
        for html in [
            "",
            "turn on=1",
            "<svg viewBox=\"0 0 1 1\"><text x=\"1\">on &lt;script&gt; onload=go()</text></svg>",
            "<b class='a' title=\"turn on=1 > off\">a</b>",
            "<br/><input disabled value=javascript>",
            // a value without quotes ends at a space
            "<b title=a/onclick=go()>",
        ] {
            assert!(is_inert(html), "{html}");
        }
    }

    #[wasm_bindgen_test]
    fn only_the_pages_own_scripts_are_started() {
        let page = "https://example.org/hearth/#/data";
        for url in [
            "./worker_loader.js",
            "worker_loader.js?1",
            "https://example.org/hearth/service-worker.js",
        ] {
            assert!(is_own_script(url, page), "{url}");
        }
        for url in [
            "https://example.com/hearth/worker_loader.js",
            "a/worker_loader.js",
            "/worker_loader.js",
            "data:,1",
            "app.js",
            "",
        ] {
            assert!(!is_own_script(url, page), "{url}");
        }
    }
}
