//! The flags of `hearth train` and `hearth sweep` that make recipe and prompt.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{
    Args, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use hearth_classifier::{
    prompt::PromptSpec,
    recipe::{Loss, Recipe},
};
use hearth_formats::tokenizer::Tokenizer;

use crate::output;

/// The prompt.
#[derive(Args)]
pub struct PromptArgs {
    /// The question about the text; it should say what the classes mean
    #[arg(long, value_name = "QUESTION")]
    question: Option<String>,
    /// The word that represents a class, Label=Word; may be given once per class
    #[arg(long, value_name = "LABEL=WORD")]
    word: Vec<String>,
    /// Between question, text and answer [default: <separator>, as in the codelab]
    #[arg(long)]
    separator: Option<String>,
    /// Longest prompt in tokens; longer texts are truncated, the prompt's ending never is [default: 256, or more where the
    /// list of classes needs it]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Wrap the prompt in the chat template of instruct models
    #[arg(long)]
    chat: bool,
}

/// The recipe.
#[derive(Args)]
pub struct RecipeArgs {
    /// Where the recipe and the prompt start from
    #[arg(long, value_enum, default_value = "default")]
    preset: Preset,
    /// A recipe in JSON, as metrics.json and the page keep it
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    recipe: Option<PathBuf>,
    /// Passes over the training rows
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Seed of everything random but the split into training and test rows (--split-seed)
    #[arg(long)]
    pub seed: Option<u64>,
    /// Which tokens the loss covers
    #[arg(long, value_parser = loss_parser())]
    loss: Option<Loss>,
    /// Rank of the adapter
    #[arg(long)]
    rank: Option<usize>,
    /// LoRA's alpha
    #[arg(long)]
    alpha: Option<f64>,
    /// Highest learning rate
    #[arg(long)]
    lr: Option<f64>,
    /// Rows per optimizer step
    #[arg(long)]
    batch: Option<usize>,
    /// Share of the training rows held out for validation: epoch, temperature and threshold are selected on them
    #[arg(long, value_name = "SHARE")]
    validation: Option<f64>,
    /// Stop after this many epochs without a better validation result
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Average the adapter over this last share of the steps
    #[arg(long, value_name = "SHARE")]
    average: Option<f64>,
    /// LoRA+ ratio: how many times faster the adapter's matrix B learns than its matrix A
    #[arg(long, value_name = "RATIO")]
    lora_plus: Option<f64>,
    /// Weight the classes by the inverse of their frequency
    #[arg(long)]
    class_weights: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// Measured on ETHOS with Gemma 3 270M
    Default,
    /// The codelab's recipe and prompt
    Codelab,
}

/// The losses by their names in a recipe.
fn loss_parser() -> impl TypedValueParser<Value = Loss> {
    let names = [
        ("choice", "The choice among the classes"),
        ("label", "The label token, and the end token after it"),
        ("sequence", "Every token"),
    ];
    PossibleValuesParser::new(names.map(|(name, help)| PossibleValue::new(name).help(help)))
        .try_map(|name| serde_json::from_value::<Loss>(name.into()))
}

/// Recipe and prompt.
pub fn settings(recipe: &RecipeArgs, prompt: &PromptArgs) -> Result<(Recipe, PromptSpec)> {
    Ok((recipe.recipe()?, prompt.spec(recipe.is_codelab())?))
}

impl RecipeArgs {
    /// Whether recipe and prompt are the codelab's.
    pub fn is_codelab(&self) -> bool {
        self.preset == Preset::Codelab
    }

    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = match (&self.recipe, self.preset) {
            (Some(path), _) => {
                let at = || format!("{}: reading the recipe", path.display());
                let text = std::fs::read_to_string(path).with_context(at)?;
                serde_json::from_str(&text).with_context(at)?
            }
            (None, Preset::Default) => Recipe::default(),
            (None, Preset::Codelab) => Recipe::codelab(),
        };
        fn set<T: Copy>(field: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *field = given;
            }
        }
        set(&mut recipe.epochs, self.epochs);
        set(&mut recipe.seed, self.seed);
        set(&mut recipe.rank, self.rank);
        set(&mut recipe.alpha, self.alpha);
        set(&mut recipe.rate, self.lr);
        set(&mut recipe.batch, self.batch);
        set(&mut recipe.validation_share, self.validation);
        set(&mut recipe.patience, self.patience);
        set(&mut recipe.average, self.average);
        set(&mut recipe.lora_plus_ratio, self.lora_plus);
        recipe.class_weights |= self.class_weights;
        set(&mut recipe.loss, self.loss);
        recipe.check()?;
        Ok(recipe)
    }
}

impl PromptArgs {
    fn spec(&self, codelab: bool) -> Result<PromptSpec> {
        let mut spec = if codelab { PromptSpec::codelab() } else { PromptSpec::default() };
        if let Some(question) = &self.question {
            spec.question = question.clone();
        }
        if let Some(separator) = &self.separator {
            spec.separator = separator.clone();
        }
        if let Some(tokens) = self.max_tokens {
            spec.max_tokens = tokens;
        }
        spec.chat |= self.chat;
        if let Some(pair) = self.word.iter().find(|pair| !pair.contains('=')) {
            bail!("--word {pair:?}: expected Label=Word");
        }
        Ok(spec)
    }

    /// The prompt for these classes: with the words that stand for them and, where no limit was given, with
    /// one that fits.
    pub fn fit(
        &self,
        mut spec: PromptSpec,
        classes: &[String],
        tokenizer: &Tokenizer,
        positions: usize,
        codelab: bool,
    ) -> Result<PromptSpec> {
        for word in self.word.iter().filter_map(|pair| PromptSpec::class_word(pair, classes)) {
            let class = &word.class;
            if spec.words.iter().any(|w| w.class == *class) {
                bail!("--word: the class {class:?} has two words");
            }
            spec.words.push(word);
        }
        spec.notes().iter().for_each(|note| output::note(&format!("warning: {note}")));
        let mut spec = spec.without_own_bos();
        if self.max_tokens.is_none() && !codelab {
            let limit = spec.limit_for(classes, tokenizer, Some(tokenizer.bos()), positions)?;
            if limit > spec.max_tokens {
                output::note(&format!(
                    "max tokens {limit}: the list of {} classes needs more than {} (--max-tokens)",
                    classes.len(),
                    spec.max_tokens
                ));
            }
            spec.max_tokens = limit;
        }
        Ok(spec)
    }
}
