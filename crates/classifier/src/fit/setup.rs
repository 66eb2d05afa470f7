//! From a recipe to what the engine needs: configuration, examples, and micro-batches that fit the memory.

use hearth_gemma::{
    LoraConfig, Model, plan,
    plan::{MemoryPlan, TrainingNeed},
    shared_prefix,
    targets::{Example, Loss, prediction_count},
    train::{Adam, Logits, StepPlan, TrainConfig},
    workspace::Activations,
};

use super::{Task, order};
use crate::{error::ClassifierError, recipe::Recipe};

/// Optimizer steps per epoch.
pub(super) fn steps_an_epoch(task: &Task<'_>, recipe: &Recipe) -> usize {
    task.train.len().div_ceil(recipe.batch)
}

/// Refuses rows that cannot be learned from.
pub(super) fn check(task: &Task<'_>) -> Result<(), ClassifierError> {
    let classes = task.class_tokens.len();
    let fault = |why: String| Err(ClassifierError::Rows(why));
    if task.train.is_empty() {
        return fault("there are no training rows".to_owned());
    }
    for (what, rows) in [("training", task.train), ("validation", task.validation)] {
        let found = rows.iter().position(|r| r.class >= classes || r.ids.is_empty());
        if let Some(row) = found {
            return fault(format!(
                "{what} row {}: class {} of {classes} with {} tokens",
                row + 1,
                rows[row].class,
                rows[row].ids.len()
            ));
        }
    }
    Ok(())
}

/// The engine's configuration.
pub(super) fn config(task: &Task<'_>, recipe: &Recipe) -> TrainConfig {
    TrainConfig {
        lora: LoraConfig {
            rank: recipe.rank as u32,
            alpha: recipe.alpha as f32,
            rslora: recipe.rank_stabilized,
            dropout: recipe.dropout as f32,
            targets: recipe.targets.clone(),
            seed: recipe.seed,
        },
        loss: recipe.loss,
        classes: task.class_tokens.to_vec(),
        schedule: recipe.schedule_of(steps_an_epoch(task, recipe) * recipe.epochs),
        adam: Adam {
            weight_decay: recipe.weight_decay as f32,
            max_norm: recipe.clip_norm as f32,
            lora_plus_ratio: recipe.lora_plus_ratio as f32,
            ..Adam::default()
        },
    }
}

/// The rows with their targets, in the task's order.
pub(super) fn examples(task: &Task<'_>, recipe: &Recipe) -> Vec<Example> {
    let classes = task.class_tokens.len();
    let mut counts = vec![0usize; classes];
    task.train.iter().for_each(|row| counts[row.class] += 1);
    // mean 1 over the rows, so that the learning rate keeps its meaning
    let occurring = counts.iter().filter(|&&n| n > 0).count();
    let weight = |class: usize| {
        if recipe.class_weights {
            task.train.len() as f32 / (occurring * counts[class]) as f32
        } else {
            1.0
        }
    };
    let ends = recipe.loss == Loss::Sequence || recipe.end_token;
    let end = task.end_token.filter(|_| ends);
    let example = |(id, row): (usize, &super::Row)| {
        let label = task.class_tokens[row.class];
        let class = row.class as u32;
        Example::new(recipe.loss, &row.ids, class, label, end, weight(row.class), id as u32)
    };
    task.train.iter().enumerate().map(example).collect()
}

/// Whether the recipe's loss runs over the vocabulary.
pub(super) fn needs_tables(recipe: &Recipe) -> bool {
    recipe.loss != Loss::Choice
}

/// How batches are split to fit `memory`: not at all if possible. The batches of all epochs are known in advance.
pub(super) fn plan(
    model: &Model,
    config: &TrainConfig,
    recipe: &Recipe,
    examples: &[Example],
    memory: u64,
) -> Result<(StepPlan, MemoryPlan), ClassifierError> {
    let lengths: Vec<usize> = examples.iter().map(|e| e.tokens.len()).collect();
    let (mut batch_tokens, mut targets) = (0, 0);
    for epoch in 0..recipe.epochs {
        let batches =
            order::batches(&lengths, recipe.batch, recipe.length_grouped, recipe.seed, epoch);
        for batch in batches {
            let rows: Vec<Example> = batch.iter().map(|&i| examples[i].clone()).collect();
            let prefix = shared_prefix(rows.iter().map(|e| e.tokens.as_slice()));
            let own: usize = rows.iter().map(|e| e.tokens.len() - prefix).sum();
            batch_tokens = batch_tokens.max(prefix + own);
            targets = targets.max(prediction_count(&rows, prefix));
        }
    }
    let need = TrainingNeed {
        lora: &config.lora,
        longest_row: lengths.iter().copied().max().unwrap_or(1),
        batch_tokens,
        targets,
        logits: Logits::of(config, model.config.vocab),
        averaging: recipe.average > 0.0,
        input_row_bytes: plan::input_row_bytes(model),
    };
    // a loss over the vocabulary needs the tables, which may not be loaded yet
    let tables = if needs_tables(recipe) { model.missing_table_bytes() } else { 0 };
    // what is on the device already: the weights, and whatever else the caller keeps there
    let weights = model.gpu.account().in_use() + tables;
    let plan = plan::plan_training(&model.config, weights, &need, memory, model.gpu.max_binding())?;
    let step_plan = StepPlan {
        tokens: plan.tokens,
        targets: plan::most_targets(targets, plan.tokens),
        activations: plan.activations.unwrap_or(Activations::Recompute),
        share_prefix: true,
    };
    Ok((step_plan, plan))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Row;

    fn rows(classes: &[usize]) -> Vec<Row> {
        classes.iter().map(|&class| Row { ids: vec![2, 5, 6], class }).collect()
    }

    fn task(train: &[Row]) -> Task<'_> {
        Task {
            train,
            validation: &[],
            class_tokens: &[7, 9],
            positive: Some(1),
            end_token: Some(1),
            prompt: "",
        }
    }

    #[test]
    fn class_weights_give_rare_classes_the_same_say() {
        let rows = rows(&[0, 0, 0, 1]);
        let weights = |class_weights| {
            let recipe = Recipe { class_weights, ..Recipe::default() };
            let examples = examples(&task(&rows), &recipe);
            examples.iter().map(|e| e.targets[0].weight).collect::<Vec<_>>()
        };
        assert_eq!(weights(false), [1.0; 4]);
        let of_class = 4.0 / 6.0;
        assert_eq!(weights(true), [of_class, of_class, of_class, 2.0]);
    }

    #[test]
    fn the_end_token_is_learned_where_the_recipe_says_so() {
        let rows = rows(&[1]);
        let last = |loss, end_token| {
            let recipe = Recipe { loss, end_token, ..Recipe::default() };
            examples(&task(&rows), &recipe)[0].targets.last().unwrap().token
        };
        assert_eq!(last(Loss::Choice, true), 1); // the number of the class
        assert_eq!((last(Loss::Label, true), last(Loss::Label, false)), (1, 9));
        assert_eq!(last(Loss::Sequence, false), 1);
    }

    #[test]
    fn senseless_rows_are_refused() {
        assert!(check(&task(&[])).unwrap_err().to_string().contains("no training rows"));
        let bad = rows(&[0, 2]);
        assert_eq!(
            check(&task(&bad)).unwrap_err().to_string(),
            "training row 2: class 2 of 2 with 3 tokens"
        );
    }

    #[test]
    fn a_recipe_becomes_a_configuration() {
        let rows = rows(&[0; 17]);
        let recipe = Recipe { lora_plus_ratio: 4.0, epochs: 2, ..Recipe::default() };
        let config = config(&task(&rows), &recipe);
        assert_eq!((config.schedule.steps, config.schedule.warmup), (6, 1));
        assert_eq!((config.adam.lora_plus_ratio, config.adam.max_norm), (4.0, 1.0));
        assert_eq!((config.lora.rank, config.lora.targets.len()), (8, 7));
    }
}
