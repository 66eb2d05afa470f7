//! `cargo xtask pictures`: the pictures of docs/pictures, made again from the real page on a real run.

use crate::{root, run, serve, tools};
use anyhow::Result;
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
    let page = if options.built { serve::dist() } else { serve::build(&path)? };
    let plan = serve::Plan { models: vec![serve::Offer::fixture()?], ..serve::Plan::default() };
    let address = serve::start(&page, plan, "127.0.0.1", 0)?;
    let mut node = Command::new("node");
    node.arg("pictures.mjs").arg(root().join("docs/pictures")).current_dir(root().join("web/e2e"));
    node.env("HEARTH_URL", address).env("CHROMIUM", tools::browser().unwrap_or_default());
    run(&mut node)
}
