//! Tables to try the page with, from its own server.

use std::sync::Arc;

use gloo_net::http::Request;
use leptos::{prelude::*, task::spawn_local};
use web_sys::File;

use super::{open_table_as, tell};
use crate::page::state::{App, NoticeKind, Sample};

/// Fetches the samples while the page starts, so that none has to be asked for later.
pub fn fetch_samples(app: App) {
    spawn_local(async move {
        // a static host may have none, and nobody misses them
        let Ok(response) = Request::get("./samples/index.json").send().await else { return };
        let Ok(mut samples) = response.json::<Vec<Sample>>().await else { return };
        for sample in &mut samples {
            if let Ok(response) = Request::get(&format!("./samples/{}", sample.file)).send().await
                && response.ok()
                && let Ok(bytes) = response.binary().await
            {
                sample.bytes = Arc::from(bytes);
            }
        }
        samples.retain(|sample| !sample.bytes.is_empty());
        app.samples.set(samples);
    });
}

/// Opens a sample, with a question and words that fit it.
pub fn open_sample(app: App, sample: Sample) {
    let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(&*sample.bytes));
    match File::new_with_u8_array_sequence(&parts, &sample.file) {
        Ok(file) => open_table_as(app, file, Some(sample)),
        Err(_) => {
            let what = format!("The example {} cannot be opened.", sample.file);
            tell(app, NoticeKind::Error, &what, "Reload the page, or use a file of your own.");
        }
    }
}
