//! `cargo xtask serve`: builds the page and serves it with the server of `hearth serve`.

use crate::{model, page, root, tools};
use anyhow::Result;
use hearth_serve::{Listen, Offer, Page, Plan, Served, is_loopback};
use std::path::{Path, PathBuf};
use std::thread;

/// The fixture model, and its name for people.
const FIXTURE: (&str, &str) = ("web/fixtures/tiny-gemma3.gguf", "Tiny Gemma 3, for tests");
const REAL_NAME: &str = "Gemma 3 270M (Q4_K_M)";

#[derive(clap::Args)]
pub struct Options {
    /// The port to listen on; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The address to listen on: by default nobody else's machine can reach the page
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: String,
    /// Serve the page as it was built last (`trunk build`), without building it again
    #[arg(long)]
    built: bool,
    /// Offer the tiny model of the tests too
    #[arg(long)]
    fixture: bool,
    /// Do not fetch and offer the real Gemma 3 270M (253 MB)
    #[arg(long)]
    no_model: bool,
    /// Let the loader fetch weights from here too; may be repeated
    #[arg(long = "weight-host", value_name = "ORIGIN")]
    weight_hosts: Vec<String>,
    /// Write a line for every request into this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub fn serve(options: &Options) -> Result<()> {
    let page = if options.built { page::dist() } else { page::build(&tools::for_page()?)? };
    let mut models = Vec::new();
    if !options.no_model {
        match real_model() {
            Ok(model) => models.push(model),
            // the page also opens models from the disk
            Err(error) => println!("serving without the real model: {error:#}"),
        }
    }
    if options.fixture {
        models.push(fixture_model()?);
    }
    let plan = Plan {
        models,
        weight_hosts: options.weight_hosts.clone(),
        log: options.log.clone(),
        ..Plan::default()
    };
    let served = start(&page, plan, &options.host, options.port)?;
    if !is_loopback(&options.host) {
        println!("browsers on other machines offer WebGPU over https only: see docs/serve.md");
    }
    println!("Hearth is at {} (Ctrl-C ends it)", address(&served));
    loop {
        thread::park();
    }
}

/// Serves a built page in the background.
pub fn start(page: &Path, plan: Plan, host: &str, port: u16) -> Result<Served> {
    let page = Page::Folder(page.to_owned());
    Ok(hearth_serve::start(&page, plan, Listen::http(host, port))?)
}

/// Where a browser finds it.
pub fn address(served: &Served) -> String {
    format!("http://{}/", served.address())
}

/// The real model, fetched first if it is not on this machine.
pub fn real_model() -> Result<Offer> {
    let sha256 = hearth_testing::REAL_MODEL_SHA256.to_owned();
    Ok(Offer::file(REAL_NAME, &model::fetch()?, Some(sha256)))
}

/// The tiny model of the tests.
pub fn fixture_model() -> Result<Offer> {
    let file = root().join(FIXTURE.0);
    let sha256 = model::sha256(&file)?;
    Ok(Offer::file(FIXTURE.1, &file, Some(sha256)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_finds_the_models_of_the_tests_by_these_keys() {
        let fixture = fixture_model().unwrap();
        assert_eq!(fixture.key, "tiny-gemma3");
        assert_eq!(fixture.files[0].sha256.as_ref().unwrap().len(), 64);
        assert_eq!(hearth_serve::key_of(hearth_testing::REAL_MODEL), "gemma-3-270m-q4-k-m");
    }

    #[test]
    fn the_list_of_samples_counts_their_rows() {
        let folder = root().join("web/samples");
        let list = std::fs::read(folder.join("index.json")).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        for sample in list.as_array().unwrap() {
            let path = folder.join(sample["file"].as_str().unwrap());
            let lines = std::fs::read_to_string(path).unwrap().lines().count() as u64;
            assert_eq!(sample["rows"].as_u64().unwrap() + 1, lines);
        }
    }
}
