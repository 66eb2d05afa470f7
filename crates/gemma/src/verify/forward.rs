//! `forward.safetensors`: embeddings, hidden states, logits, log probabilities.

use hearth_gpu::Commands;

use super::{Limit, Row, Tensors};
use crate::{
    Model, ModelError, Packed, Pass, batch,
    workspace::{Sizes, Workspace},
};

/// Runs every sequence of the file, each alone and unpadded.
///
/// # Errors
/// A file that does not have this format, or a device error.
pub async fn forward(model: &Model, bytes: &[u8]) -> Result<Vec<Row>, ModelError> {
    let golden = Tensors::new(bytes)?;
    let mut rows = Vec::new();
    for index in 0.. {
        let name = format!("seq{index}");
        if golden.shape(&format!("{name}.input_ids")).is_none() {
            break;
        }
        sequence(model, &golden, &name, &mut rows).await?;
    }
    if rows.is_empty() {
        return Err(ModelError::Empty("the golden file has no seq0.input_ids"));
    }
    Ok(rows)
}

async fn sequence(
    model: &Model,
    golden: &Tensors<'_>,
    name: &str,
    rows: &mut Vec<Row>,
) -> Result<(), ModelError> {
    let ids: Vec<u32> =
        golden.i32(&format!("{name}.input_ids"))?.iter().map(|&id| id as u32).collect();
    let gpu = &model.gpu;
    let (t, c, v) = (ids.len(), model.config.hidden, model.config.vocab);
    let packed = Packed::new(&[batch::Row { tokens: &ids, id: 0 }], 0)?;
    packed.check(v, model.max_positions())?;
    let sizes = Sizes { tokens: t, chosen: t, lora: None, training: None };
    let mut ws = Workspace::new(gpu, &model.config, sizes)?;
    model.set_batch(&mut ws, packed, None).await?;

    // Layer by layer, to inspect the residual stream in between.
    let mut commands = Commands::new();
    model.embed(&mut commands, &ws)?;
    model.first_norm(&mut commands, &ws, 0);
    gpu.run(&commands).await?;
    compare(golden, &format!("{name}.embed_scaled"), &gpu.read::<f32>(ws.x(0)).await?, c, rows)?;
    for layer in 0..model.config.layers.len() {
        let mut commands = Commands::new();
        model.forward_layer(&mut commands, &ws, layer, Pass::default(), None, true);
        gpu.run(&commands).await?;
        let x = gpu.read::<f32>(ws.x(layer + 1)).await?;
        compare(golden, &format!("{name}.hidden_after_layer{layer}"), &x, c, rows)?;
    }
    compare(
        golden,
        &format!("{name}.hidden_final_norm"),
        &gpu.read::<f32>(&ws.hidden).await?,
        c,
        rows,
    )?;

    let logits = all_logits(model, &ws).await?;
    compare(golden, &format!("{name}.logits"), &logits, v, rows)?;
    let key = format!("{name}.logits_last");
    if golden.shape(&key).is_some() {
        let want = golden.f32(&key)?;
        order(name, &logits[(t - 1) * v..], &want, rows);
    }
    let key = format!("{name}.next_token_logprobs");
    if golden.shape(&key).is_some() {
        let got: Vec<f32> =
            (1..t).map(|i| log_probability(&logits[(i - 1) * v..i * v], ids[i] as usize)).collect();
        rows.push(Row::compare(&key, &got, &golden.f32(&key)?, budget(model)));
    }
    Ok(())
}

/// The requirement for rounded weights: the probabilities after each sequence's last token are
/// within 0.01 of the reference's.
///
/// # Errors
/// A file that does not have this format or has no logits, or a device error.
pub async fn probabilities(model: &Model, bytes: &[u8]) -> Result<Vec<Row>, ModelError> {
    let golden = Tensors::new(bytes)?;
    let v = model.config.vocab;
    let mut rows = Vec::new();
    for index in 0.. {
        let name = format!("seq{index}");
        if golden.shape(&format!("{name}.input_ids")).is_none() {
            break;
        }
        let ids: Vec<u32> =
            golden.i32(&format!("{name}.input_ids"))?.iter().map(|&id| id as u32).collect();
        let keys = [format!("{name}.logits_last"), format!("{name}.logits")];
        let Some(key) = keys.iter().find(|key| golden.shape(key).is_some()) else { continue };
        let want = golden.f32(key)?;
        let last = ids.len() as u32 - 1;
        let packed = Packed::new(&[batch::Row { tokens: &ids, id: 0 }], 0)?;
        packed.check(v, model.max_positions())?;
        let sizes = Sizes { tokens: ids.len(), chosen: 1, lora: None, training: None };
        let mut ws = Workspace::new(&model.gpu, &model.config, sizes)?;
        model.set_batch(&mut ws, packed, Some(vec![last])).await?;
        let mut commands = Commands::new();
        model.forward(&mut commands, &ws, Pass::default(), None)?;
        model.gpu.run(&commands).await?;
        let got = shares(&all_logits(model, &ws).await?);
        let want = shares(&want[want.len().saturating_sub(v)..]);
        rows.push(Row::compare(
            format!("{name}.probabilities_last"),
            &got,
            &want,
            Limit::MaxAbs(0.01),
        ));
    }
    if rows.is_empty() {
        return Err(ModelError::Empty("the golden file has no logits to compare"));
    }
    Ok(rows)
}

fn shares(logits: &[f32]) -> Vec<f32> {
    (0..logits.len()).map(|token| log_probability(logits, token).exp()).collect()
}

/// Logits of all positions, `(T, V)`, computed in pieces that fit a binding.
async fn all_logits(model: &Model, ws: &Workspace) -> Result<Vec<f32>, ModelError> {
    let (gpu, v) = (&model.gpu, model.config.vocab);
    let t = ws.chosen_count() as usize;
    let most = (gpu.max_binding() / (4 * t as u64)) as usize / 64 * 64;
    let mut logits = vec![0.0; t * v];
    for start in (0..v).step_by(most) {
        let width = most.min(v - start);
        let y = gpu.buffer("logits", 4 * (t * width) as u64)?.all();
        let mut commands = Commands::new();
        let range = start as u32..(start + width) as u32;
        model.logits(&mut commands, ws, model.weights.output_head()?, range, &y, width as u32);
        gpu.run(&commands).await?;
        let part = gpu.read::<f32>(y).await?;
        for (token, values) in part.chunks_exact(width).enumerate() {
            logits[token * v + start..][..width].copy_from_slice(values);
        }
    }
    Ok(logits)
}

/// Compares with the tensor of that name, or with its `_last` form, if the file has them.
fn compare(
    golden: &Tensors,
    key: &str,
    got: &[f32],
    width: usize,
    rows: &mut Vec<Row>,
) -> Result<(), ModelError> {
    let last = format!("{key}_last");
    if let Some(shape) = golden.shape(key) {
        let count = shape.iter().product::<usize>();
        rows.push(Row::compare(
            key,
            &got[..count.min(got.len())],
            &golden.f32(key)?,
            Limit::Relative(1e-4),
        ));
    } else if golden.shape(&last).is_some() {
        let tokens =
            golden.shape(&key.replace(key.split_once('.').map_or("", |k| k.1), "input_ids"));
        let t = tokens.map_or(1, |s| s[0]);
        let got = &got[(t - 1) * width..t * width];
        let limit =
            if key.ends_with("logits") { Limit::MaxAbs(1e-3) } else { Limit::Relative(1e-4) };
        rows.push(Row::compare(&last, got, &golden.f32(&last)?, limit));
    }
    Ok(())
}

/// Checks that the twenty largest logits have the same order, except pairs closer than twice the
/// budget.
fn order(name: &str, got: &[f32], want: &[f32], rows: &mut Vec<Row>) {
    let mut by_want: Vec<usize> = (0..want.len()).collect();
    by_want.sort_by(|&a, &b| want[b].total_cmp(&want[a]));
    let top = &by_want[..by_want.len().min(20)];
    let swapped =
        |pair: &[usize]| want[pair[0]] - want[pair[1]] > 2e-3 && got[pair[0]] <= got[pair[1]];
    // No logit from outside the twenty may exceed the twentieth either.
    let floor = top.last().map_or(f32::MIN, |&i| want[i]) + 2e-3;
    let climbed = by_want[top.len()..].iter().any(|&i| got[i] > floor);
    rows.push(Row::check(format!("{name}.top20_order"), !top.windows(2).any(swapped) && !climbed));
}

/// Budget for log probabilities: the relative budget for tiny models, that of the logits for large
/// ones.
fn budget(model: &Model) -> Limit {
    if model.config.vocab > 4096 { Limit::MaxAbs(1e-3) } else { Limit::Relative(1e-4) }
}

fn log_probability(logits: &[f32], token: usize) -> f32 {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
    (f64::from(logits[token] - max) - sum.ln()) as f32
}
