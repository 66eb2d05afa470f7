//! Every setting of a recipe by its name, as text that can be typed.

use hearth_classifier::recipe::{Loss, Projection, Recipe};
use serde_json::Value;

/// How a setting is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of a few, with their values.
    Choice(&'static [(&'static str, &'static str)]),
    /// On or off.
    Switch,
    /// Matrices of the model.
    Matrices,
    /// A whole number.
    Whole,
    /// Any number.
    Number,
}

/// A setting as people know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name in a recipe.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// How it is put in.
    pub kind: Kind,
}

const fn setting(name: &'static str, title: &'static str, kind: Kind) -> Setting {
    Setting { name, title, kind }
}

const LOSSES: &[(&str, &str)] = &[
    ("choice", "class tokens only"),
    ("label", "label token, over the vocabulary"),
    ("sequence", "every token of the prompt"),
];
const SCHEDULES: &[(&str, &str)] =
    &[("linear", "linear"), ("cosine", "cosine"), ("constant", "constant")];

/// All of them, in groups.
pub const GROUPS: [(&str, &[Setting]); 3] = [
    (
        "Adapter and loss",
        &[
            setting("loss", "Loss", Kind::Choice(LOSSES)),
            setting("end_token", "Train the end token", Kind::Switch),
            setting("targets", "Target modules", Kind::Matrices),
            setting("rank", "Rank", Kind::Whole),
            setting("alpha", "Alpha", Kind::Number),
            setting("rank_stabilized", "Rank-stabilized scaling (rsLoRA)", Kind::Switch),
            setting("dropout", "Dropout", Kind::Number),
        ],
    ),
    (
        "Optimizer",
        &[
            setting("rate", "Learning rate", Kind::Number),
            setting("schedule", "Learning-rate schedule", Kind::Choice(SCHEDULES)),
            setting("warmup", "Warm-up", Kind::Number),
            setting("lora_plus_ratio", "LoRA+ ratio", Kind::Number),
            setting("weight_decay", "Weight decay", Kind::Number),
            setting("clip_norm", "Gradient clipping", Kind::Number),
        ],
    ),
    (
        "Batches and epochs",
        &[
            setting("batch", "Batch size", Kind::Whole),
            setting("epochs", "Epochs", Kind::Whole),
            setting("length_grouped", "Group rows by length", Kind::Switch),
            setting("class_weights", "Class weights", Kind::Switch),
            setting("validation_share", "Validation share", Kind::Number),
            setting("best_epoch", "Keep the best epoch", Kind::Switch),
            setting("patience", "Patience", Kind::Whole),
            setting("average", "Weight averaging", Kind::Number),
            setting("seed", "Seed", Kind::Whole),
        ],
    ),
];

/// What the setting does, in a sentence.
pub fn sentence(name: &str) -> &'static str {
    Recipe::fields().iter().find(|field| field.name == name).map_or("", |field| field.sentence)
}

/// The value of a setting.
pub fn value(recipe: &Recipe, name: &str) -> Value {
    // a recipe is plain numbers, words and lists
    serde_json::to_value(recipe).map(|mut all| all[name].take()).unwrap_or_default()
}

/// The value as it is typed.
pub fn text(recipe: &Recipe, name: &str) -> String {
    match value(recipe, name) {
        Value::String(text) => text,
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, |number| number.to_string())
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// What was typed into a field of this kind.
///
/// # Errors
/// What would do instead.
pub fn parse(kind: Kind, typed: &str) -> Result<Value, String> {
    let typed = typed.trim();
    match kind {
        Kind::Whole => typed
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| "Enter a whole number, such as 8.".to_owned()),
        Kind::Number => typed
            .replace(',', ".")
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(Value::from)
            .ok_or_else(|| "Enter a number, such as 0.1 or 5e-4.".to_owned()),
        Kind::Choice(_) | Kind::Switch | Kind::Matrices => Ok(Value::from(typed)),
    }
}

/// The recipe with another value.
///
/// # Errors
/// What would do instead.
pub fn with(recipe: &Recipe, name: &str, value: Value) -> Result<Recipe, String> {
    let changed = serde_json::to_value(recipe).and_then(|mut all| {
        all[name] = value;
        serde_json::from_value::<Recipe>(all)
    });
    let changed = changed.map_err(|error| format!("This value is not valid here: {error}."))?;
    changed.check().map_err(|e| format!("{} is not valid; expected {}.", e.found, e.expected))?;
    Ok(changed)
}

/// The name of the recipe, but for how long it trains.
pub fn preset(recipe: &Recipe) -> &'static str {
    for name in ["default", "codelab"] {
        let named = Recipe::preset(name).map(|p| Recipe { epochs: recipe.epochs, ..p });
        if named.as_ref() == Some(recipe) {
            return name;
        }
    }
    "own"
}

/// Whether a setting says anything beside the others.
pub fn counts(recipe: &Recipe, name: &str) -> bool {
    match name {
        "end_token" => recipe.loss == Loss::Label,
        "patience" | "best_epoch" => recipe.validation_share > 0.0,
        _ => true,
    }
}

/// The matrices by their names in a recipe, and for people.
pub const MATRICES: [(Projection, &str); 7] = [
    (Projection::Q, "query"),
    (Projection::K, "key"),
    (Projection::V, "value"),
    (Projection::O, "attention output"),
    (Projection::Gate, "gate"),
    (Projection::Up, "up"),
    (Projection::Down, "down"),
];

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn every_setting_is_shown_once() {
        let mut shown: Vec<&str> = GROUPS.iter().flat_map(|g| g.1).map(|s| s.name).collect();
        let mut all: Vec<&str> = Recipe::fields().iter().map(|field| field.name).collect();
        shown.sort_unstable();
        all.sort_unstable();
        assert_eq!(shown, all);
        assert!(MATRICES.map(|(projection, _)| projection) == Projection::ALL);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn every_setting_takes_its_own_value_back() {
        for recipe in [Recipe::default(), Recipe::codelab()] {
            for setting in GROUPS.iter().flat_map(|group| group.1) {
                let typed = match setting.kind {
                    Kind::Whole | Kind::Number => {
                        parse(setting.kind, &text(&recipe, setting.name)).unwrap()
                    }
                    _ => value(&recipe, setting.name),
                };
                assert_eq!(with(&recipe, setting.name, typed), Ok(recipe.clone()));
            }
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_makes_no_sense_is_told() {
        let recipe = Recipe::default();
        assert!(parse(Kind::Whole, "1.5").unwrap_err().contains("whole number"));
        assert!(parse(Kind::Number, "many").is_err());
        assert_eq!(parse(Kind::Number, "5e-4"), Ok(Value::from(5e-4)));
        assert_eq!(parse(Kind::Number, "0,1"), Ok(Value::from(0.1)));
        let error = with(&recipe, "rank", Value::from(0)).unwrap_err();
        assert_eq!(error, "0 is not valid; expected 1 to 256.");
        assert!(with(&recipe, "targets", Value::Array(Vec::new())).is_err());
        assert_eq!(preset(&Recipe { epochs: 9, ..Recipe::codelab() }), "codelab");
        assert_eq!(preset(&Recipe { rank: 9, ..recipe }), "own");
    }
}
