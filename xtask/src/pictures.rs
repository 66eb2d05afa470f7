//! `cargo xtask pictures`: the pictures of docs/pictures, made again from the real page on a real run.

use crate::{page, root, run, serve, tools};
use anyhow::Result;
use hearth_serve::Plan;
use std::process::Command;

#[derive(clap::Args)]
pub struct Options {
    /// Of the page as it was built last (`trunk build --release`), without building it again
    #[arg(long)]
    built: bool,
}

/// Serves the page with the tiny model of the tests and walks through it in headless Chromium.
pub fn pictures(options: &Options) -> Result<()> {
    tools::for_browser_tests()?;
    let path = tools::for_page()?;
    let page = if options.built { page::dist() } else { page::build(&path)? };
    let plan = Plan { models: vec![serve::fixture_model()?], ..Plan::default() };
    let served = serve::start(&page, plan, "127.0.0.1", 0)?;
    let mut node = Command::new("node");
    node.arg("pictures.mjs").arg(root().join("docs/pictures")).current_dir(root().join("web/e2e"));
    node.env("HEARTH_URL", serve::address(&served))
        .env("CHROMIUM", tools::browser().unwrap_or_default());
    run(&mut node)
}
