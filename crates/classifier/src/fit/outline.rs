//! A run on paper: the rows with their targets, the batch and the learning rate of every step, and the adapter that
//! training starts from. Another program that follows it trains the same task.

use hearth_formats::peft::{Adapter, Base};
use hearth_gemma::{Config, LoraLayout, adapter_file::to_adapter, targets::Example};

use super::{Task, order, setup};
use crate::{error::ClassifierError, recipe::Recipe};

/// What [`fit`](super::fit()) would do, step by step.
#[derive(Debug, Clone)]
pub struct Outline {
    /// The training rows in the task's order: tokens and targets. Under the `choice` loss a target's token is the index
    /// of its class.
    pub examples: Vec<Example>,
    /// The rows of every step, as indices into the training rows.
    pub batches: Vec<Vec<usize>>,
    /// The learning rate of every step.
    pub rates: Vec<f64>,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Whether the epoch with the best validation result is kept, and not the last one.
    pub keeps_best: bool,
    /// The adapter before the first step: A random, from the recipe's seed, B zero.
    pub start: Adapter,
}

/// The outline of a run. `base` is the model that the adapter is written for.
///
/// # Errors
/// An invalid recipe or invalid rows, an adapter that does not fit the model.
pub fn outline(
    config: &Config,
    base: &Base,
    task: &Task<'_>,
    recipe: &Recipe,
) -> Result<Outline, ClassifierError> {
    recipe.check()?;
    setup::check(task)?;
    let examples = setup::examples(task, recipe);
    let lengths: Vec<usize> = examples.iter().map(|example| example.tokens.len()).collect();
    let batches: Vec<Vec<usize>> = (0..recipe.epochs)
        .flat_map(|epoch| {
            order::batches(&lengths, recipe.batch, recipe.length_grouped, recipe.seed, epoch)
        })
        .collect();
    let steps = batches.len();
    let layout = LoraLayout::new(&setup::config(task, recipe).lora, config)?;
    Ok(Outline {
        rates: (0..steps).map(|step| recipe.rate_at(step, steps)).collect(),
        steps_per_epoch: setup::steps_an_epoch(task, recipe),
        keeps_best: recipe.chooses_epoch(task.validation.len()),
        start: to_adapter(&layout, &layout.initial(), base),
        examples,
        batches,
    })
}
