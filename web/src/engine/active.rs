//! The classifier in use.

use hearth_classifier::{
    estimator::TextClassifier, metrics::Evaluation, origin::Origin, prompt::PromptSpec,
    recipe::Recipe, report::Report,
};
use web_sys::Blob;

use super::{
    problem::{Problem, first},
    runs::KeptRun,
};
use crate::{
    protocol::{ClassifierSummary, Evaluated, InUse},
    wire::{BINARY, blob},
};

/// The classifier in use.
pub fn in_use<'a, 'm>(
    active: &'a mut Option<ActiveClassifier<'m>>,
) -> Result<&'a mut ActiveClassifier<'m>, Problem> {
    let none = || first("No classifier is in use.", "Train one, or open a .hearth file.");
    active.as_mut().ok_or_else(none)
}

/// A classifier and where it comes from.
pub struct ActiveClassifier<'m> {
    /// Tells the classifiers apart that were in use.
    pub id: u64,
    pub classifier: TextClassifier<'m>,
    pub name: String,
    pub base: String,
    pub recipe: Recipe,
    pub spec: PromptSpec,
    pub evaluation: Option<Evaluation>,
    pub note: Option<String>,
    /// Where it was trained here.
    pub report: Option<Report>,
    pub origin: Origin,
    /// The test rows of its own training.
    pub own: Option<Evaluated>,
    /// The rows that it was measured on since, where these are others.
    pub measured: Option<Evaluated>,
    /// Its run, where it is one of this browser's.
    pub run: Option<KeptRun>,
}

impl ActiveClassifier<'_> {
    /// For the page.
    pub fn summary(&self) -> ClassifierSummary {
        let choice = self.classifier.choice();
        ClassifierSummary {
            id: self.id,
            run: self.run.as_ref().map(|run| run.record.key.clone()),
            name: self.name.clone(),
            classes: self.classifier.classes().to_vec(),
            positive: self.classifier.positive(),
            prompt: self.spec.clone(),
            threshold: choice.threshold,
            temperature: choice.temperature,
            base: self.base.clone(),
            evaluation: self.evaluation.clone(),
            note: self.note.clone(),
            reading: self.origin.reading.clone(),
            threshold_from: self.origin.threshold,
            has_report: self.report.is_some(),
        }
    }

    /// For the page, with the results that belong to it.
    pub fn with_results(&self) -> InUse {
        InUse {
            classifier: self.summary(),
            // measured on other rows than the run's, the run's figures do not belong here
            run: self
                .run
                .as_ref()
                .filter(|_| self.measured.is_none())
                .map(|run| run.record.clone()),
            test: self.measured.as_ref().or(self.own.as_ref()).cloned(),
        }
    }

    /// As one file.
    pub fn to_blob(&self, name: &str) -> Result<Blob, Problem> {
        let evaluation = self.evaluation.clone();
        let mut bundle = self.classifier.bundle(name, &self.base, &self.recipe, evaluation)?;
        bundle.classifier.origin = self.origin.clone();
        Ok(blob(&bundle.to_bytes()?, BINARY)?)
    }
}
