//! The training recipe: what the adapter learns, how fast and for how long. One sentence describes each field.

pub use hearth_gemma::{Projection, schedule::Decay, targets::Loss};
use hearth_gemma::{lora::MAX_RANK, schedule::Schedule};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// With fewer validation rows, the threshold stays at 0.5 and the last epoch is kept: the best result on few rows
/// is mostly chance. The temperature, a single smooth parameter, is fitted on fewer rows too.
pub const CHOOSING_ROWS: usize = 100;

/// A training recipe. An unknown field in a file is an error; a missing field takes the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Which tokens the loss covers.
    pub loss: Loss,
    /// With `label`: also learn the end token after the label.
    pub end_token: bool,
    /// Adapted matrices.
    pub targets: Vec<Projection>,
    /// Rank of the adapter.
    pub rank: usize,
    /// LoRA's alpha; the adapter's scale is alpha / rank.
    pub alpha: f64,
    /// Scale by alpha / √rank instead (rsLoRA).
    pub rank_stabilized: bool,
    /// Dropout on the adapter's input.
    pub dropout: f64,
    /// LoRA+ ratio: the learning rate of B over that of A (Hayou et al. 2024).
    #[serde(alias = "b_rate_ratio")]
    pub lora_plus_ratio: f64,
    /// Highest learning rate.
    pub rate: f64,
    /// How the learning rate falls after the warm-up.
    pub schedule: Decay,
    /// Warm-up: the share of the steps in which the learning rate rises from zero.
    pub warmup: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Gradients are clipped to this global norm; 0 disables clipping.
    pub clip_norm: f64,
    /// Rows per optimizer step.
    pub batch: usize,
    /// Passes over the training rows.
    pub epochs: usize,
    /// Group rows of similar length into one batch.
    pub length_grouped: bool,
    /// Weight the classes by the inverse of their frequency.
    pub class_weights: bool,
    /// Share of the training rows held out as validation rows, on which epoch, threshold and temperature are selected.
    pub validation_share: f64,
    /// Keep the epoch with the best validation result, if there are at least [`CHOOSING_ROWS`] of them.
    pub best_epoch: bool,
    /// Early stopping: the number of epochs without a better validation result after which training stops; 0 disables
    /// it.
    pub patience: usize,
    /// Average the adapter over this last share of the steps; 0 disables averaging.
    pub average: f64,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Recipe {
    /// Measured on ETHOS with Gemma 3 270M: the question and the class words matter more than any field here.
    fn default() -> Self {
        Self {
            loss: Loss::Choice,
            end_token: true,
            targets: Projection::ALL.to_vec(),
            rank: 8,
            alpha: 16.0,
            rank_stabilized: false,
            dropout: 0.0,
            lora_plus_ratio: 1.0,
            rate: 5e-4,
            schedule: Decay::Linear,
            warmup: 0.1,
            weight_decay: 0.0,
            clip_norm: 1.0,
            batch: 8,
            epochs: 4,
            // rows are packed without padding: grouping saves nothing here and makes the largest batch larger
            length_grouped: false,
            class_weights: false,
            validation_share: 0.2,
            best_epoch: true,
            patience: 0,
            average: 0.0,
            seed: 0,
        }
    }
}

/// A field with a value that cannot work.
#[derive(Debug, Error, Clone, PartialEq)]
#[error("recipe: {field} is {found}; expected {expected}")]
pub struct RecipeError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub found: String,
    /// What is accepted.
    pub expected: &'static str,
}

/// A field's description, as the page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDoc {
    /// Its name in files and on the command line.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub sentence: &'static str,
}

impl Recipe {
    /// The codelab's: LoRA of rank 4 on query and value without extra scaling, every token learned, batches
    /// of 4, Adam at a constant rate without clipping, no validation rows. Gemma 3 270M stays near chance
    /// with it; it is meant for comparisons.
    pub fn codelab() -> Self {
        Self {
            loss: Loss::Sequence,
            targets: vec![Projection::Q, Projection::V],
            rank: 4,
            alpha: 4.0,
            schedule: Decay::Constant,
            warmup: 0.0,
            clip_norm: 0.0,
            batch: 4,
            validation_share: 0.0,
            best_epoch: false,
            ..Self::default()
        }
    }

    /// A recipe by its name on the command line.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::default()),
            "codelab" => Some(Self::codelab()),
            _ => None,
        }
    }

    /// The fields in their order, each with a sentence.
    pub fn fields() -> &'static [FieldDoc] {
        &FIELDS
    }

    /// The learning rate of a run of `steps` steps.
    pub fn schedule_of(&self, steps: usize) -> Schedule {
        Schedule::of_run(self.rate, self.warmup, self.schedule, steps)
    }

    /// The learning rate of a step (from 0) of `steps`.
    pub fn rate_at(&self, step: usize, steps: usize) -> f64 {
        self.schedule_of(steps).at(step as u32)
    }

    /// Whether so many validation rows select the epoch that is kept; otherwise the last one is. With few rows the
    /// selection is mostly chance: on ETHOS it was the first epoch of four. Early stopping is requested explicitly,
    /// so it always selects.
    pub fn chooses_epoch(&self, validation_rows: usize) -> bool {
        let enough = validation_rows >= CHOOSING_ROWS;
        self.best_epoch && (enough || self.patience > 0)
    }

    /// Refuses values that cannot work. A recipe may come from an untrusted file.
    pub fn check(&self) -> Result<(), RecipeError> {
        let number = |field, value: f64, ok: bool, expected| {
            if ok && value.is_finite() {
                Ok(())
            } else {
                Err(RecipeError { field, found: value.to_string(), expected })
            }
        };
        let share = |value: f64| (0.0..1.0).contains(&value);
        let repeated =
            (1..self.targets.len()).any(|i| self.targets[..i].contains(&self.targets[i]));
        if self.targets.is_empty() || repeated {
            let found = format!("{:?}", self.targets);
            return Err(RecipeError {
                field: "targets",
                found,
                expected: "one or more of q, k, v, o, gate, up, down, each once",
            });
        }
        number("rank", self.rank as f64, (1..=MAX_RANK as usize).contains(&self.rank), "1 to 256")?;
        number(
            "alpha",
            self.alpha,
            self.alpha > 0.0 && self.alpha <= 1e4,
            "above 0, at most 10000",
        )?;
        number("dropout", self.dropout, share(self.dropout), "0 or more, below 1")?;
        number(
            "lora_plus_ratio",
            self.lora_plus_ratio,
            (0.01..=1000.0).contains(&self.lora_plus_ratio),
            "0.01 to 1000",
        )?;
        number("rate", self.rate, self.rate > 0.0 && self.rate <= 1.0, "above 0, at most 1")?;
        number("warmup", self.warmup, share(self.warmup), "0 or more, below 1")?;
        number(
            "weight_decay",
            self.weight_decay,
            (0.0..=1.0).contains(&self.weight_decay),
            "0 to 1",
        )?;
        number("clip_norm", self.clip_norm, (0.0..=1e6).contains(&self.clip_norm), "0 or more")?;
        number("batch", self.batch as f64, (1..=4096).contains(&self.batch), "1 to 4096")?;
        number("epochs", self.epochs as f64, (1..=1000).contains(&self.epochs), "1 to 1000")?;
        number(
            "validation_share",
            self.validation_share,
            share(self.validation_share),
            "0 or more, below 1",
        )?;
        number("average", self.average, share(self.average), "0 or more, below 1")
    }
}

const FIELDS: [FieldDoc; 22] = [
    doc(
        "loss",
        "The loss: over the class tokens only, over the vocabulary at the label, or over every token of the prompt.",
    ),
    doc("end_token", "With the label loss, the model also learns to stop after the label."),
    doc("targets", "Which of the model's matrices get an adapter; all seven learn fastest."),
    doc("rank", "How much an adapter can express; more needs more memory and more rows."),
    doc("alpha", "Strength of the adapter: its output is scaled by alpha / rank."),
    doc(
        "rank_stabilized",
        "rsLoRA: scales by alpha / √rank instead, which keeps training stable at high ranks.",
    ),
    doc(
        "dropout",
        "Share of the adapter's inputs that are set to zero at random during training, which reduces overfitting.",
    ),
    doc(
        "lora_plus_ratio",
        "LoRA+ ratio: how many times faster the adapter's matrix B learns than its matrix A.",
    ),
    doc(
        "rate",
        "The highest learning rate; with a rate too low nothing is learned, with one too high training diverges.",
    ),
    doc("schedule", "How the learning rate falls after the warm-up: linear, cosine, or constant."),
    doc("warmup", "Share of the steps in which the learning rate rises from zero."),
    doc(
        "weight_decay",
        "AdamW's weight decay, which pulls the adapter towards zero at every step; 0 disables it.",
    ),
    doc(
        "clip_norm",
        "Gradients with a larger global norm are scaled down to this norm; 0 disables clipping.",
    ),
    doc("batch", "Rows per optimizer step."),
    doc("epochs", "Passes over the training rows."),
    doc(
        "length_grouped",
        "Groups rows of similar length into one batch; rows are not padded, so this saves no time.",
    ),
    doc(
        "class_weights",
        "Weights the classes by the inverse of their frequency, so that rare classes count as much as frequent ones.",
    ),
    doc(
        "validation_share",
        "Share of the training rows held out for validation: epoch, threshold and temperature are selected on them.",
    ),
    doc(
        "best_epoch",
        "Keeps the epoch with the best validation result instead of the last one, if there are 100 validation rows or more.",
    ),
    doc(
        "patience",
        "Early stopping: stops after this many epochs without a better validation result; 0 disables it.",
    ),
    doc(
        "average",
        "Averages the adapter over this last share of the steps, which reduces noise; 0 disables averaging.",
    ),
    doc(
        "seed",
        "Seed of the random numbers: the same seed on the same machine gives the same classifier.",
    ),
];

const fn doc(name: &'static str, sentence: &'static str) -> FieldDoc {
    FieldDoc { name, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_sentence() {
        let json = serde_json::to_value(Recipe::default()).unwrap();
        let mut fields: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut documented: Vec<&str> = Recipe::fields().iter().map(|f| f.name).collect();
        fields.sort_unstable();
        documented.sort_unstable();
        assert_eq!(fields, documented);
        assert!(
            Recipe::fields()
                .iter()
                .all(|f| f.sentence.ends_with('.') && f.sentence.matches(". ").count() == 0)
        );
    }

    #[test]
    fn presets_are_sound_and_survive_json() {
        for recipe in [Recipe::default(), Recipe::codelab()] {
            recipe.check().unwrap();
            let json = serde_json::to_string(&recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        }
        assert_eq!(
            serde_json::from_str::<Recipe>("{}").unwrap(),
            Recipe::preset("default").unwrap()
        );
        assert_eq!(Recipe::preset("codelab").unwrap().targets, [Projection::Q, Projection::V]);
        assert!(serde_json::from_str::<Recipe>("{\"epoch\": 3}").is_err());
    }

    /// A recipe as builds before the names of today wrote it into bundles, snapshots and metrics.json.
    #[test]
    fn an_older_recipe_is_read() {
        let text = r#"{"loss":"sequence","end_token":true,"targets":["q","k","v","o","gate","up","down"],"rank":4,
            "alpha":4.0,"rank_stabilized":true,"dropout":0.1,"b_rate_ratio":16.0,"rate":0.0003,"schedule":"cosine",
            "warmup":0.05,"weight_decay":0.01,"clip_norm":0.5,"batch":4,"epochs":3,"length_grouped":true,
            "class_weights":true,"validation_share":0.1,"best_epoch":false,"patience":2,"average":0.25,"seed":7}"#;
        let recipe: Recipe = serde_json::from_str(text).unwrap();
        assert_eq!((recipe.lora_plus_ratio, recipe.schedule), (16.0, Decay::Cosine));
        assert_eq!((recipe.loss, &recipe.targets[..]), (Loss::Sequence, &Projection::ALL[..]));
        // what is written differs in that one name only
        let today = serde_json::to_string(&recipe).unwrap();
        assert_eq!(
            today,
            text.replace("b_rate_ratio", "lora_plus_ratio").split_whitespace().collect::<String>()
        );
    }

    #[test]
    fn rates_rise_and_fall() {
        let recipe = Recipe { rate: 1.0, ..Default::default() };
        let rates: Vec<f64> = (0..20).map(|s| recipe.rate_at(s, 20)).collect();
        // as transformers.get_scheduler: the first step of a warm-up has rate 0
        assert_eq!((rates[0], rates[1], rates[2]), (0.0, 0.5, 1.0));
        assert!(rates[2..].windows(2).all(|w| w[0] > w[1]) && rates[19] > 0.0);
        let cosine = Recipe { schedule: Decay::Cosine, warmup: 0.0, ..recipe.clone() };
        assert!((cosine.rate_at(10, 20) - 0.5).abs() < 1e-12);
        let constant = Recipe { schedule: Decay::Constant, warmup: 0.0, ..recipe };
        assert_eq!(
            (constant.rate_at(0, 20), constant.rate_at(19, 20), constant.rate_at(0, 0)),
            (1.0, 1.0, 1.0)
        );
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        let message = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            recipe.check().unwrap_err().to_string()
        };
        assert_eq!(message(|r| r.rank = 0), "recipe: rank is 0; expected 1 to 256");
        assert_eq!(
            message(|r| r.rate = f64::NAN),
            "recipe: rate is NaN; expected above 0, at most 1"
        );
        assert!(message(|r| r.targets = vec![Projection::Q, Projection::Q]).contains("each once"));
        assert!(message(|r| r.epochs = 0).contains("epochs"));
        assert!(message(|r| r.validation_share = 1.0).contains("validation_share"));
        assert!(message(|r| r.batch = usize::MAX).contains("batch"));
    }
}
