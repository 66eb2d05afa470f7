//! `hearth adapters`

use anyhow::Result;
use serde::Serialize;

use crate::{Outcome, options::Options, output};

#[derive(Serialize)]
struct Adapter {
    number: usize,
    name: String,
    kind: String,
    backend: String,
    driver: String,
}

pub async fn run(options: &Options) -> Result<Outcome> {
    let found = hearth_gpu::list_adapters().await;
    if options.json {
        let all: Vec<_> = found
            .into_iter()
            .enumerate()
            .map(|(number, a)| Adapter {
                number,
                name: a.name,
                kind: a.kind,
                backend: a.backend,
                driver: a.driver,
            })
            .collect();
        output::json(&serde_json::json!({ "adapters": all }))?;
    } else if found.is_empty() {
        // Opening one says what to install.
        options.gpu().await?;
    } else {
        for (number, adapter) in found.iter().enumerate() {
            output::line(&format!("{number}  {adapter}"))?;
        }
    }
    Ok(Outcome::Done)
}
