//! The classifier in the shape that scikit-learn made familiar: `fit`, `predict`, `predict_proba`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use hearth_classifier::estimator::TextClassifier;
//! use hearth_classifier::{fit::FitOptions, prompt::PromptSpec, recipe::Recipe};
//! use hearth_formats::{checkpoint::Checkpoint, source::FileSource, tokenizer::Tokenizer};
//! use hearth_gemma::{Model, Precision};
//!
//! let gpu = hearth_gpu::Gpu::open(&Default::default()).await?;
//! let file = std::rc::Rc::new(FileSource::open("gemma-3-270m-q4_k_m.gguf")?);
//! let checkpoint = Checkpoint::open(vec![file]).await?;
//! let tokenizer = Tokenizer::from_gguf(checkpoint.gguf().ok_or("not a GGUF file")?)?;
//! let model = Model::load(&gpu, &checkpoint, Precision::Exact, |_| true).await?;
//!
//! let classes = ["polite", "rude"].map(String::from);
//! let question = "Is the following text polite or rude".to_owned();
//! let spec = PromptSpec { question, ..PromptSpec::default() };
//! let mut classifier = TextClassifier::new(&model, &tokenizer, &classes, Some(1), &spec)?;
//!
//! let rows = [("Thank you so much.", 0), ("Get lost!", 1) /* and many more */];
//! let (recipe, options) = (Recipe::default(), FitOptions::default());
//! let fitted = classifier.fit(&rows, None, &recipe, &options, None, &mut |_| true).await?;
//! println!("{:?} after {:.0} s", fitted.history.best_epoch, fitted.effort.seconds);
//!
//! println!("{:?}", classifier.predict(&["Would you mind?"]).await?);
//! println!("{:?}", classifier.predict_proba(&["Would you mind?"]).await?);
//! let bundle = classifier.bundle("manners", "gemma-3-270m", &recipe, None)?;
//! std::fs::write("manners.hearth", bundle.to_bytes()?)?;
//! # Ok(())
//! # }
//! ```

use hearth_formats::{
    peft::{Adapter, Base},
    tokenizer::{Special, Tokenizer},
};
use hearth_gemma::{Lora, LoraLayout, Model, ModelError, adapter_file};

use crate::{
    bundle::{BaseModel, Bundle, Classifier},
    calibration::softmax,
    error::ClassifierError,
    fit::{self, Choice, FitOptions, Fitted, OnProgress, Row, SnapshotStore, Task},
    metrics::{Evaluation, predict},
    origin::Origin,
    prompt::{Encode, PromptSpec, Prompter},
    recipe::Recipe,
    scoring::Scoring,
    split::hold_out,
};

impl Encode for Tokenizer {
    fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        let special = if parse_special { Special::Parse } else { Special::AsText };
        Self::encode(self, text, special)
    }
}

/// A text with the index of its class.
pub type Labelled<'a> = (&'a str, usize);

/// A text classifier on a model. Before [`fit`](Self::fit) it answers zero-shot, from the same prompt.
pub struct TextClassifier<'m> {
    model: &'m Model,
    tokenizer: &'m Tokenizer,
    prompter: Prompter<'m>,
    spec: PromptSpec,
    classes: Vec<String>,
    positive: Option<usize>,
    adapter: Option<(Lora, Vec<f32>)>,
    choice: Choice,
    scoring: Scoring,
}

impl<'m> TextClassifier<'m> {
    /// An untrained classifier. `positive` is the class that F1, AUC and the threshold of two classes are about.
    ///
    /// # Errors
    /// A prompt that cannot be made, or a tokenizer of another model.
    pub fn new(
        model: &'m Model,
        tokenizer: &'m Tokenizer,
        classes: &[String],
        positive: Option<usize>,
        spec: &PromptSpec,
    ) -> Result<Self, ClassifierError> {
        spec.check_limit(model.config.max_positions)?;
        let prompter = Prompter::new(spec, classes, tokenizer, Some(tokenizer.bos()))?;
        let vocab = model.config.vocab;
        if tokenizer.vocab_size() > vocab {
            return Err(ModelError::Options(format!(
                "the tokenizer has {} tokens but the model has {vocab}: they do not belong together",
                tokenizer.vocab_size()
            ))
            .into());
        }
        Ok(Self {
            scoring: Scoring::new(prompter.class_tokens(), &prompter.usual_prefix()),
            model,
            tokenizer,
            prompter,
            spec: spec.clone(),
            classes: classes.to_vec(),
            positive,
            adapter: None,
            choice: Choice::default(),
        })
    }

    /// Opens a classifier file's content on the model that it was trained on. The note, if any, says how this
    /// model differs from that one.
    ///
    /// # Errors
    /// Another model or tokenizer, or damaged adapter files.
    pub async fn from_bundle(
        model: &'m Model,
        tokenizer: &'m Tokenizer,
        bundle: &Bundle,
    ) -> Result<(Self, Option<String>), ClassifierError> {
        let kept = &bundle.classifier;
        let here = base_of(model, &kept.base.name);
        let other = |what, expected: &dyn ToString, found: &dyn ToString| {
            let (expected, found) = (expected.to_string(), found.to_string());
            if expected == found {
                return Ok(());
            }
            Err(ClassifierError::OtherModel { what, expected, found })
        };
        other("the architecture", &kept.base.architecture, &here.architecture)?;
        other("the number of layers", &kept.base.layers, &here.layers)?;
        other("the width", &kept.base.hidden, &here.hidden)?;
        other("the vocabulary", &kept.base.vocabulary, &here.vocabulary)?;
        let mut own = Self::new(model, tokenizer, &kept.classes, kept.positive, &kept.prompt)?;
        let tokens = |ids: &[u32]| format!("{ids:?}");
        other(
            "the classes' tokens",
            &tokens(&kept.class_tokens),
            &tokens(own.prompter.class_tokens()),
        )?;
        own.set_adapter(&bundle.read_adapter().await?)?;
        own.choice =
            Choice { temperature: kept.temperature, threshold: kept.threshold, fitted: None };
        let same = kept.base.sha256.is_none() || kept.base.sha256 == here.sha256;
        let note = (!same).then(|| {
            format!(
                "the classifier was trained on another file of this architecture ({}): its figures do not hold here",
                kept.base.name
            )
        });
        Ok((own, note))
    }

    /// Trains on rows. Without `validation`, the recipe's share of the rows is held out for validation.
    ///
    /// # Errors
    /// As [`fit::fit`]; too few rows to hold some out.
    pub async fn fit(
        &mut self,
        rows: &[Labelled<'_>],
        validation: Option<&[Labelled<'_>]>,
        recipe: &Recipe,
        options: &FitOptions,
        store: Option<&mut dyn SnapshotStore>,
        progress: OnProgress<'_>,
    ) -> Result<Fitted, ClassifierError> {
        recipe.check()?;
        let (train, validation) = match validation {
            Some(validation) => (rows.to_vec(), validation.to_vec()),
            None if recipe.validation_share == 0.0 => (rows.to_vec(), Vec::new()),
            None => {
                let all: Vec<usize> = (0..rows.len()).collect();
                let labels: Vec<usize> = rows.iter().map(|row| row.1).collect();
                let (kept, taken) = hold_out(&all, &labels, recipe.validation_share, recipe.seed)?;
                let of = |part: Vec<usize>| part.into_iter().map(|i| rows[i]).collect();
                (of(kept), of(taken))
            }
        };
        let (train, validation) = (self.rows(&train), self.rows(&validation));
        self.fit_rows(&train, &validation, recipe, options, store, progress).await
    }

    /// As [`Self::fit`], on prompts that [`Self::row`] made, and with the validation rows that are given, if any.
    ///
    /// # Errors
    /// As [`fit::fit`].
    pub async fn fit_rows(
        &mut self,
        train: &[Row],
        validation: &[Row],
        recipe: &Recipe,
        options: &FitOptions,
        store: Option<&mut dyn SnapshotStore>,
        progress: OnProgress<'_>,
    ) -> Result<Fitted, ClassifierError> {
        let prompt = self.prompt_json();
        let task = Task {
            train,
            validation,
            class_tokens: self.prompter.class_tokens(),
            positive: self.positive,
            end_token: Some(self.tokenizer.eos()),
            prompt: &prompt,
        };
        let fitted = fit::fit(self.model, &task, recipe, options, store, progress).await?;
        self.set_fitted(&fitted.layout, &fitted.params, fitted.choice)?;
        Ok(fitted)
    }

    /// The prompts of labelled texts.
    pub fn rows(&self, rows: &[Labelled<'_>]) -> Vec<Row> {
        rows.iter().map(|&row| self.row(row)).collect()
    }

    /// The prompt of a labelled text.
    pub fn row(&self, (text, class): Labelled<'_>) -> Row {
        Row { ids: self.prompter.row(text).ids, class }
    }

    /// ln p of every class for every text, `[N, C]`, neither calibrated nor thresholded. `progress` gets the
    /// number of texts scored, and returns `false` to stop.
    ///
    /// # Errors
    /// Stopped by `progress`, or a device error.
    pub async fn log_probabilities(
        &mut self,
        texts: &[&str],
        progress: impl FnMut(usize) -> bool,
    ) -> Result<Vec<f64>, ClassifierError> {
        let rows: Vec<Row> = texts.iter().map(|text| self.row((text, 0))).collect();
        self.score_rows(&rows, progress).await
    }

    /// As [`Self::log_probabilities`], on prompts that [`Self::row`] made; their classes are not looked at.
    ///
    /// # Errors
    /// As [`Self::log_probabilities`].
    pub async fn score_rows(
        &mut self,
        rows: &[Row],
        progress: impl FnMut(usize) -> bool,
    ) -> Result<Vec<f64>, ClassifierError> {
        let rows: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let lora = self.adapter.as_ref().map(|(lora, _)| lora);
        self.scoring.log_probabilities(self.model, lora, &rows, progress).await
    }

    /// Calibrated probabilities `[N][C]`, the classes in the order given at the start.
    ///
    /// # Errors
    /// As [`Self::log_probabilities`].
    pub async fn predict_proba(
        &mut self,
        texts: &[&str],
    ) -> Result<Vec<Vec<f64>>, ClassifierError> {
        let logs = self.log_probabilities(texts, |_| true).await?;
        let classes = self.classes.len();
        let probabilities = softmax(&logs, classes, self.choice.temperature);
        Ok(probabilities.chunks_exact(classes).map(<[f64]>::to_vec).collect())
    }

    /// The class of each text: by the threshold with two classes, otherwise the most probable one.
    ///
    /// # Errors
    /// As [`Self::log_probabilities`].
    pub async fn predict(&mut self, texts: &[&str]) -> Result<Vec<String>, ClassifierError> {
        let rows = self.predict_proba(texts).await?;
        let class = |row: &Vec<f64>| predict(row, self.positive, self.choice.threshold);
        Ok(rows.iter().map(|row| self.classes[class(row)].clone()).collect())
    }

    /// Uses adapter weights that were trained earlier.
    ///
    /// # Errors
    /// Device memory.
    pub fn set_fitted(
        &mut self,
        layout: &LoraLayout,
        params: &[f32],
        choice: Choice,
    ) -> Result<(), ClassifierError> {
        let lora = Lora::new(&self.model.gpu, layout.clone(), params)?;
        self.adapter = Some((lora, params.to_vec()));
        self.choice = choice;
        // the cached prefix belongs to the previous weights
        self.scoring = Scoring::new(self.prompter.class_tokens(), &self.prompter.usual_prefix());
        Ok(())
    }

    /// Whether scoring caches the keys and values of the prompts' shared prefix (the default), or computes every
    /// prompt in full, for comparison.
    pub fn keep_prefix(&mut self, keep: bool) {
        let prefix = if keep { self.prompter.usual_prefix() } else { Vec::new() };
        self.scoring = Scoring::new(self.prompter.class_tokens(), &prefix);
    }

    /// Uses a PEFT adapter.
    ///
    /// # Errors
    /// An adapter of another model's shape; device memory.
    pub fn set_adapter(&mut self, peft: &Adapter) -> Result<(), ClassifierError> {
        let (layout, params) = adapter_file::from_adapter(peft, &self.model.config)?;
        self.set_fitted(&layout, &params, self.choice)
    }

    /// The trained adapter as PEFT keeps it, under the names of the model that was loaded; none before training.
    /// `base_model` is where PEFT finds that model: a name on the hub, or empty.
    pub fn to_peft(&self, base_model: &str) -> Option<Adapter> {
        let (lora, params) = self.adapter.as_ref()?;
        let base = Base { name: base_model.to_owned(), ..self.model.adapter_base.clone() };
        Some(adapter_file::to_adapter(&lora.layout, params, &base))
    }

    /// Everything in one file: adapter, labels, prompt, threshold, temperature, figures. `base_model` is for people:
    /// PEFT would take a file's name for one on the hub, so the adapter in the file names no model.
    ///
    /// # Errors
    /// Before training; an adapter that cannot be written.
    pub fn bundle(
        &self,
        name: &str,
        base_model: &str,
        recipe: &Recipe,
        evaluation: Option<Evaluation>,
    ) -> Result<Bundle, ClassifierError> {
        let peft = self.to_peft("").ok_or_else(|| {
            ClassifierError::Rows("the classifier is not trained yet: train it first".to_owned())
        })?;
        Ok(Bundle {
            classifier: Classifier {
                name: name.to_owned(),
                classes: self.classes.clone(),
                positive: self.positive,
                class_tokens: self.prompter.class_tokens().to_vec(),
                prompt: self.spec.clone(),
                threshold: self.choice.threshold,
                temperature: self.choice.temperature,
                base: base_of(self.model, base_model),
                recipe: recipe.clone(),
                evaluation,
                origin: Origin::default(),
            },
            adapter: peft.to_safetensors()?,
            adapter_config: peft.config_json(),
        })
    }

    /// Sets the probability at and above which the positive class of two is predicted.
    pub fn set_threshold(&mut self, threshold: f64) {
        self.choice.threshold = threshold;
    }

    /// What training on these rows would take, within `memory` bytes of the device.
    ///
    /// # Errors
    /// As [`fit::plan`].
    pub fn plan(
        &self,
        train: &[Row],
        recipe: &Recipe,
        memory: u64,
    ) -> Result<fit::TrainingPlan, ClassifierError> {
        let prompt = self.prompt_json();
        let task = Task {
            train,
            validation: &[],
            class_tokens: self.prompter.class_tokens(),
            positive: self.positive,
            end_token: Some(self.tokenizer.eos()),
            prompt: &prompt,
        };
        fit::plan(self.model, &task, recipe, memory)
    }

    /// Texts and numbers only, so serialization cannot fail.
    fn prompt_json(&self) -> String {
        serde_json::to_string(&self.spec).unwrap_or_default()
    }

    /// The classes, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The positive class.
    pub fn positive(&self) -> Option<usize> {
        self.positive
    }

    /// Temperature and threshold in use.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// What makes the prompts.
    pub fn prompter(&self) -> &Prompter<'m> {
        &self.prompter
    }
}

/// Which model this is, for a classifier's file.
pub fn base_of(model: &Model, name: &str) -> BaseModel {
    let config = &model.config;
    let is_hash = model.identity.len() == 64;
    BaseModel {
        name: name.to_owned(),
        architecture: format!("{:?}", config.family).to_lowercase(),
        sha256: is_hash.then(|| model.identity.clone()),
        layers: config.layers.len(),
        hidden: config.hidden,
        vocabulary: config.vocab,
    }
}
