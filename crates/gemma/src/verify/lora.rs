//! `lora_*.safetensors`: loss, every gradient, three steps of Adam. `trajectory_*`: twenty.

use serde::Deserialize;

use super::{Limit, Row, Tensors};
use crate::{
    LoraConfig, LoraLayout, Model, ModelError, Projection,
    schedule::{Decay, Schedule},
    targets::{Example, Loss, Target},
    train::{Adam, StepPlan, TrainConfig, Trainer},
    workspace::Activations,
};

/// Loss and gradients, then three Adam steps on the same batch, with the given recomputation.
///
/// # Errors
/// A file that does not have this format, or a device error.
pub async fn lora(
    model: &Model,
    bytes: &[u8],
    activations: Activations,
) -> Result<Vec<Row>, ModelError> {
    let golden = Tensors::new(bytes)?;
    let batch = batch_of(&golden)?;
    let config = config_of(&golden)?;
    let layout = LoraLayout::new(&config.lora, &model.config)?;
    let start = flat(&golden, &layout, "")?;
    let mut trainer = Trainer::new(model, config, plan(&batch, activations), Some(&start)).await?;
    let (loss, gradients) = trainer.gradients(&batch).await?;
    let large = model.config.vocab > 4096;
    let mut rows = vec![Row::compare("loss", &[loss], &golden.f32("loss")?, Limit::Relative(1e-4))];
    let budget = Limit::Relative(if large { 1e-3 } else { 1e-4 });
    compare(&golden, &layout, &gradients, ".grad", budget, &mut rows)?;

    // adam_losses: before steps 1, 2 and 3, and after 3.
    let mut losses = Vec::new();
    for _ in 0..3 {
        trainer.step(&batch).await?;
        losses.extend(trainer.last_report().await?.map(|r| r.loss));
    }
    losses.push(trainer.gradients(&batch).await?.0);
    rows.push(Row::compare(
        "adam_losses",
        &losses,
        &golden.f32("adam_losses")?,
        Limit::Relative(1e-3),
    ));
    // Adam divides by the size of gradients, including those that are almost zero.
    let after = trainer.params().await?;
    compare(&golden, &layout, &after, ".after_adam3", Limit::Relative(1e-2), &mut rows)?;
    Ok(rows)
}

/// A trajectory's JSON: rows in the order in which they were trained.
#[derive(Deserialize)]
struct Trajectory {
    rows: Vec<TrajectoryRow>,
    /// Rows per step.
    batch: usize,
    lr: f64,
    alpha: f32,
}

#[derive(Deserialize)]
struct TrajectoryRow {
    ids: Vec<u32>,
    label_id: u32,
}

/// A run of twenty Adam steps: losses, gradient norms, the final adapter.
///
/// # Errors
/// Files that do not have this format, or a device error.
pub async fn trajectory(model: &Model, bytes: &[u8], json: &[u8]) -> Result<Vec<Row>, ModelError> {
    let golden = Tensors::new(bytes)?;
    let told: Trajectory = serde_json::from_slice(json)
        .map_err(|e| ModelError::Options(format!("trajectory: {e}")))?;
    // The loss covers the label and the end token after it.
    let end = model.config.eos.first().copied();
    let examples: Vec<_> = (0..)
        .zip(&told.rows)
        .map(|(id, row)| Example::new(Loss::Label, &row.ids, 0, row.label_id, end, 1.0, id))
        .collect();

    let name = first_factor(&golden, ".lora_A.init")?;
    let rank = golden.shape(&name).map_or(4, |s| s[0]) as u32;
    let lora = LoraConfig {
        rank,
        alpha: told.alpha,
        targets: targets_in(&golden, ".init"),
        ..LoraConfig::all_seven()
    };
    let config = train_config(lora, told.lr);
    let layout = LoraLayout::new(&config.lora, &model.config)?;
    let start = flat(&golden, &layout, ".init")?;
    let batches: Vec<_> = examples.chunks(told.batch.max(1)).collect();
    let plans = batches.iter().map(|batch| plan(batch, Activations::Keep));
    let largest = plans
        .max_by_key(|plan| plan.tokens)
        .ok_or(ModelError::Empty("the trajectory has no rows"))?;
    let mut trainer = Trainer::new(model, config, largest, Some(&start)).await?;
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for batch in batches {
        trainer.step(batch).await?;
        if let Some(report) = trainer.last_report().await? {
            losses.push(report.loss);
            norms.push(report.grad_norm);
        }
    }
    let mut rows = vec![
        Row::compare("losses", &losses, &golden.f32("losses")?, Limit::Relative(1e-3)),
        Row::compare("grad_norms", &norms, &golden.f32("grad_norms")?, Limit::Relative(1e-2)),
    ];
    let after = trainer.params().await?;
    compare(&golden, &layout, &after, ".final", Limit::Relative(1e-2), &mut rows)?;
    Ok(rows)
}

fn first_factor(golden: &Tensors, suffix: &str) -> Result<String, ModelError> {
    let name = golden.names().into_iter().find(|n| n.ends_with(suffix));
    name.ok_or_else(|| ModelError::Options(format!("golden file: no tensor ends with {suffix}")))
}

fn targets_in(golden: &Tensors, suffix: &str) -> Vec<Projection> {
    let names = golden.names();
    let present = |p: &Projection| {
        names.iter().any(|n| n.contains(&format!(".{}.lora_A", p.module())) && n.ends_with(suffix))
    };
    Projection::ALL.into_iter().filter(present).collect()
}

fn config_of(golden: &Tensors) -> Result<TrainConfig, ModelError> {
    let number = |key: &str| {
        let text = golden.metadata(key).and_then(|v| v.parse::<f64>().ok());
        text.ok_or_else(|| ModelError::Options(format!("golden file: metadata {key} is missing")))
    };
    let lora = LoraConfig {
        rank: number("r")? as u32,
        alpha: number("alpha")? as f32,
        targets: targets_in(golden, "lora_A"),
        ..LoraConfig::all_seven()
    };
    Ok(train_config(lora, number("adam_lr")?))
}

/// Plain Adam at a constant rate, without clipping.
fn train_config(lora: LoraConfig, rate: f64) -> TrainConfig {
    TrainConfig {
        lora,
        loss: Loss::Label,
        classes: vec![],
        schedule: Schedule { rate, warmup: 0, steps: 1000, decay: Decay::Constant },
        adam: Adam { max_norm: 0.0, ..Adam::default() },
    }
}

/// One micro-batch for the whole batch.
fn plan(batch: &[Example], activations: Activations) -> StepPlan {
    StepPlan {
        tokens: batch.iter().map(|e| e.tokens.len()).sum(),
        targets: batch.iter().map(|e| e.targets.len()).sum(),
        activations,
        share_prefix: true,
    }
}

/// Rows without their padding, and a target for every label that is not -100.
fn batch_of(golden: &Tensors) -> Result<Vec<Example>, ModelError> {
    let (ids, mask, labels) =
        (golden.i32("input_ids")?, golden.i32("attention_mask")?, golden.i32("labels")?);
    let width = golden.shape("input_ids").and_then(|s| s.last().copied()).unwrap_or(1);
    let rows =
        ids.chunks_exact(width).zip(mask.chunks_exact(width)).zip(labels.chunks_exact(width));
    Ok(rows
        .zip(0..)
        .map(|(((ids, mask), labels), id)| {
            let kept = ids.iter().zip(mask).filter(|(_, m)| **m != 0);
            let targets = (1..width).filter(|&t| labels[t] >= 0).map(|t| Target {
                position: t - 1,
                token: labels[t] as u32,
                weight: 1.0,
            });
            Example {
                tokens: kept.map(|(id, _)| *id as u32).collect(),
                targets: targets.collect(),
                id,
            }
        })
        .collect())
}

/// The adapter's flat parameters, from the tensors with this suffix.
fn flat(golden: &Tensors, layout: &LoraLayout, suffix: &str) -> Result<Vec<f32>, ModelError> {
    let mut all = vec![0.0; layout.len];
    for (layer, projection, slot) in layout.slots() {
        let name =
            |factor| format!("model.layers.{layer}.{}.{factor}{suffix}", projection.module());
        layout.set_factors(
            &mut all,
            slot,
            &golden.f32(&name("lora_A"))?,
            &golden.f32(&name("lora_B"))?,
        );
    }
    Ok(all)
}

fn compare(
    golden: &Tensors,
    layout: &LoraLayout,
    got: &[f32],
    suffix: &str,
    limit: Limit,
    rows: &mut Vec<Row>,
) -> Result<(), ModelError> {
    for (layer, projection, slot) in layout.slots() {
        let (a, b) = layout.factors(got, slot);
        for (factor, values) in [("lora_A", a), ("lora_B", b)] {
            let name = format!("model.layers.{layer}.{}.{factor}{suffix}", projection.module());
            rows.push(Row::compare(&name, &values, &golden.f32(&name)?, limit));
        }
    }
    Ok(())
}
