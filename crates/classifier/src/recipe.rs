//! The training recipe: what is learned, how fast, how long. Every field says in one sentence what it does.

use hearth_gemma::schedule::Decay;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the loss is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Softmax over the class tokens only: exactly what scoring uses.
    #[default]
    Choice,
    /// Cross-entropy over the vocabulary at the label position and, unless switched off, the end token after it.
    Label,
    /// Cross-entropy at every token, as in the codelab.
    Sequence,
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// In a straight line to zero.
    #[default]
    Linear,
    /// Along half a cosine to zero.
    Cosine,
    /// Not at all.
    Constant,
}

/// A matrix that LoRA can adapt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the seven projections go by their names")]
pub enum Target {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Target {
    /// All seven, in the model's order.
    pub const ALL: [Self; 7] =
        [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];
}

/// A training recipe. Unknown fields in a file are errors; missing ones have the default's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What the loss is about.
    pub loss: Loss,
    /// With `label`: also learn the end token after the label.
    pub end_token: bool,
    /// Adapted matrices.
    pub targets: Vec<Target>,
    /// Rank of the adapter.
    pub rank: usize,
    /// LoRA's alpha; the adapter's scale is alpha / rank.
    pub alpha: f64,
    /// Scale by alpha / √rank instead (rsLoRA).
    pub rank_stabilized: bool,
    /// Dropout on the adapter's input.
    pub dropout: f64,
    /// Learning rate of B over that of A (LoRA+).
    pub b_rate_ratio: f64,
    /// Highest learning rate.
    pub rate: f64,
    /// How the rate falls.
    pub schedule: Schedule,
    /// Share of the steps in which the rate rises.
    pub warmup: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 switches it off.
    pub clip_norm: f64,
    /// Rows an optimizer step.
    pub batch: usize,
    /// Passes over the training rows.
    pub epochs: usize,
    /// Put rows of like length into one batch.
    pub length_grouped: bool,
    /// Weigh classes by the inverse of their frequency.
    pub class_weights: bool,
    /// Share of the training rows kept for choosing epoch, threshold and temperature.
    pub validation_share: f64,
    /// Keep the epoch that does best on the validation rows, where there are [`crate::fit::CHOOSING_ROWS`] of them.
    pub best_epoch: bool,
    /// Stop after so many epochs without a better one on the validation rows; 0 never stops early.
    pub patience: usize,
    /// Average the adapter over this last share of the steps; 0 switches it off.
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
            targets: Target::ALL.to_vec(),
            rank: 8,
            alpha: 16.0,
            rank_stabilized: false,
            dropout: 0.0,
            b_rate_ratio: 1.0,
            rate: 5e-4,
            schedule: Schedule::Linear,
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

/// A field that makes no sense.
#[derive(Debug, Error, Clone, PartialEq)]
#[error("recipe: {field} is {found}; expected {expected}")]
pub struct RecipeError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub found: String,
    /// What would do.
    pub expected: &'static str,
}

/// A field as the page shows it.
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
            targets: vec![Target::Q, Target::V],
            rank: 4,
            alpha: 4.0,
            schedule: Schedule::Constant,
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
    pub fn schedule_of(&self, steps: usize) -> hearth_gemma::schedule::Schedule {
        hearth_gemma::schedule::Schedule {
            rate: self.rate,
            warmup: (self.warmup * steps as f64).ceil() as u32,
            steps: steps as u32,
            decay: match self.schedule {
                Schedule::Constant => Decay::Constant,
                Schedule::Linear => Decay::Linear,
                Schedule::Cosine => Decay::Cosine,
            },
        }
    }

    /// The learning rate of a step (from 0) of `steps`.
    pub fn rate_at(&self, step: usize, steps: usize) -> f64 {
        self.schedule_of(steps).at(step as u32)
    }

    /// Whether so many validation rows choose the epoch that is kept; otherwise the last one is. A few rows choose by
    /// chance, and on ETHOS they chose the first epoch of four; early stopping was asked for, so it keeps what it found.
    pub fn chooses_epoch(&self, validation_rows: usize) -> bool {
        let enough = validation_rows >= crate::fit::CHOOSING_ROWS;
        self.best_epoch && (enough || self.patience > 0)
    }

    /// The factor on the adapter's output.
    pub fn scaling(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }

    /// Refuses values that cannot work. A recipe may come from a stranger's file.
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
        number("rank", self.rank as f64, (1..=256).contains(&self.rank), "1 to 256")?;
        number(
            "alpha",
            self.alpha,
            self.alpha > 0.0 && self.alpha <= 1e4,
            "above 0, at most 10000",
        )?;
        number("dropout", self.dropout, share(self.dropout), "0 or more, below 1")?;
        number(
            "b_rate_ratio",
            self.b_rate_ratio,
            (0.01..=1000.0).contains(&self.b_rate_ratio),
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
        "What is learned: the choice among the classes, the label token, or every token of the prompt.",
    ),
    doc("end_token", "With the label loss, the model also learns to stop after the label."),
    doc("targets", "Which of the model's matrices get an adapter; all seven learn fastest."),
    doc("rank", "How much an adapter can express; more needs more memory and more rows."),
    doc("alpha", "How strongly the adapter speaks: its output is scaled by alpha over rank."),
    doc(
        "rank_stabilized",
        "Scales by alpha over the square root of the rank, which keeps high ranks stable.",
    ),
    doc(
        "dropout",
        "Share of the adapter's inputs switched off at random while training, against learning by heart.",
    ),
    doc(
        "b_rate_ratio",
        "How much faster an adapter's second matrix learns than its first (LoRA+).",
    ),
    doc(
        "rate",
        "The highest learning rate: too low learns nothing, too high forgets the language.",
    ),
    doc("schedule", "How the learning rate falls after the warm-up: linear, cosine, or constant."),
    doc("warmup", "Share of the steps in which the learning rate rises from zero."),
    doc("weight_decay", "Pulls the adapter towards zero at every step; 0 switches it off."),
    doc("clip_norm", "Longest step that one batch may cause; 0 switches the limit off."),
    doc("batch", "Rows an optimizer step looks at together."),
    doc("epochs", "How many times the training rows are gone through."),
    doc(
        "length_grouped",
        "Puts rows of like length into one batch; nothing is padded here, so this saves no time.",
    ),
    doc("class_weights", "Gives rare classes the same say as frequent ones."),
    doc(
        "validation_share",
        "Share of the training rows kept aside to choose epoch, threshold and temperature.",
    ),
    doc(
        "best_epoch",
        "Keeps the epoch that does best on the validation rows instead of the last, where there are 100 of them.",
    ),
    doc(
        "patience",
        "Stops after so many epochs that did no better on the validation rows; 0 never stops early.",
    ),
    doc(
        "average",
        "Averages the adapter over this last share of the steps, which smooths its way; 0 switches it off.",
    ),
    doc("seed", "The same seed on the same machine gives the same classifier."),
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
        assert_eq!(Recipe::preset("codelab").unwrap().targets, [Target::Q, Target::V]);
        assert!(serde_json::from_str::<Recipe>("{\"epoch\": 3}").is_err());
        assert_eq!(Recipe::default().scaling(), 2.0);
        assert_eq!(Recipe { rank_stabilized: true, rank: 4, ..Default::default() }.scaling(), 8.0);
    }

    #[test]
    fn rates_rise_and_fall() {
        let recipe = Recipe { rate: 1.0, ..Default::default() };
        let rates: Vec<f64> = (0..20).map(|s| recipe.rate_at(s, 20)).collect();
        // as transformers.get_scheduler: the first step of a warm-up has rate 0
        assert_eq!((rates[0], rates[1], rates[2]), (0.0, 0.5, 1.0));
        assert!(rates[2..].windows(2).all(|w| w[0] > w[1]) && rates[19] > 0.0);
        let cosine = Recipe { schedule: Schedule::Cosine, warmup: 0.0, ..recipe.clone() };
        assert!((cosine.rate_at(10, 20) - 0.5).abs() < 1e-12);
        let constant = Recipe { schedule: Schedule::Constant, warmup: 0.0, ..recipe };
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
        assert!(message(|r| r.targets = vec![Target::Q, Target::Q]).contains("each once"));
        assert!(message(|r| r.epochs = 0).contains("epochs"));
        assert!(message(|r| r.validation_share = 1.0).contains("validation_share"));
        assert!(message(|r| r.batch = usize::MAX).contains("batch"));
    }
}
