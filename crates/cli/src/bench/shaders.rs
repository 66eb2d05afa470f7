//! Every kernel that is ever chosen, with its constants: `hearth bench --list-shaders`.
//!
//! Nothing here knows a kernel: training steps and short passes of models in outline are recorded as they would run,
//! with every tile, and what they launch is written down. `tools/gpu_stats.py` gives the list to compilers of GPUs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use hearth_formats::layout::{ScaleForm, WeightLayout};
use hearth_gemma::{
    Embedding, LoadOptions, Model, Packed, Pass, Precision, Row,
    workspace::{Sizes, Workspace},
};
use hearth_gpu::{Commands, Gpu};
use hearth_kernels::{
    list,
    variants::{TILES, Variants},
};
use serde::Serialize;

use super::step;
use crate::synthetic::Shape;

/// Rows of a batch of short texts, as in `docs/bench.md`.
const ROWS: [usize; 8] = [45, 36, 97, 55, 68, 38, 128, 38];
/// Tokens of passes without training: those of generation and of short texts.
const SHORT: [usize; 4] = [1, 2, 4, 60];

/// A kernel with its constants.
#[derive(Serialize)]
struct Shader {
    /// The kernel's label, and its constants.
    name: String,
    entry: &'static str,
    constants: BTreeMap<&'static str, u32>,
    wgsl: String,
}

/// Layouts that files have, by the model whose widths they fit.
fn layouts() -> Vec<(Shape, WeightLayout)> {
    let two_level = |bits, group, minimum| WeightLayout::Quant {
        bits,
        group,
        scale: ScaleForm::TwoLevel,
        minimum,
    };
    let mlx = WeightLayout::Quant { bits: 4, group: 64, scale: ScaleForm::F32, minimum: true };
    vec![
        (Shape::Gemma3_270M, WeightLayout::Q4),
        (Shape::Gemma3_270M, WeightLayout::F32),
        (Shape::Gemma3_270M, WeightLayout::F16),
        (Shape::Gemma3_270M, WeightLayout::Q8),
        (Shape::Gemma2B, WeightLayout::Q4),
        // Q4_K and Q6_K of GGUF, and MLX.
        (Shape::Gemma2B, two_level(4, 32, true)),
        (Shape::Gemma2B, two_level(8, 16, false)),
        (Shape::Gemma2B, mlx),
    ]
}

/// Writes the list as JSON.
pub async fn write(gpu: &Gpu, file: &Path) -> Result<()> {
    let mut shaders = BTreeMap::new();
    for (index, (shape, layout)) in layouts().into_iter().enumerate() {
        let checkpoint = shape.checkpoint(layout).await?;
        let how = LoadOptions { precision: Precision::Exact, embedding: Embedding::FromSource };
        let of = |software, forced| Variants { forced, ..Variants::of_kind(software) };
        let mut all = vec![of(false, None), of(true, None)];
        // Every tile with the most common layout, and with the one that needs no decoding.
        if index < 2 {
            all.extend(TILES.iter().map(|&tile| of(false, Some(tile))));
        }
        for variants in all {
            let rows = (&ROWS[..], 64.0);
            let (_, commands) = step::outline(gpu, &checkpoint, how, variants, rows).await?;
            add(&mut shaders, &commands);
        }
        let mut model = Model::load(&gpu.outline(), &checkpoint, how, |_| true).await?;
        for software in [false, true] {
            model.variants = of(software, None);
            for tokens in SHORT {
                add(&mut shaders, &short_pass(&model, tokens).await?);
            }
        }
    }
    // What only other models or settings launch, with its own defaults.
    let seen: BTreeSet<_> = shaders.values().map(|shader| shader.entry).collect();
    for kernel in list::all().into_iter().filter(|kernel| !seen.contains(kernel.name)) {
        let (name, entry) = (kernel.label.to_owned(), kernel.name);
        let shader =
            Shader { name: name.clone(), entry, constants: BTreeMap::new(), wgsl: kernel.wgsl() };
        shaders.insert(name, shader);
    }
    let list: Vec<Shader> = shaders.into_values().collect();
    let text = serde_json::to_string_pretty(&list)?;
    fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}

/// Records forward over so many tokens, all of them chosen.
async fn short_pass(model: &Model, tokens: usize) -> Result<Commands> {
    let sizes = Sizes { tokens, chosen: tokens, lora: None, training: None };
    let mut ws = Workspace::new(&model.gpu, &model.config, sizes)?;
    let ids: Vec<u32> = (2..).take(tokens).collect();
    let packed = Packed::new(&[Row { tokens: &ids, id: 0 }], 0)?;
    model.set_batch(&mut ws, packed, None).await?;
    let mut commands = Commands::new();
    model.forward(&mut commands, &ws, Pass::default(), None)?;
    Ok(commands)
}

/// Adds what commands launch.
fn add(shaders: &mut BTreeMap<String, Shader>, commands: &Commands) {
    for launch in commands.launches() {
        let constants: BTreeMap<_, _> = launch.constants.iter().copied().collect();
        let values: Vec<_> = launch.constants.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let name = format!("{}/{}", launch.kernel.label, values.join(","));
        shaders.entry(name.clone()).or_insert_with(|| Shader {
            name,
            entry: launch.kernel.name,
            constants,
            wgsl: launch.kernel.wgsl(),
        });
    }
}
