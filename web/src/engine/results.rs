//! The results of the classifier in use: kept with its run, and measured anew where its threshold moves.

use hearth_classifier::{
    measure,
    metrics::{Evaluation, Scored},
    origin::ThresholdFrom,
    report::{Report, worst_mistakes},
};
use serde::{Deserialize, Serialize};
use web_sys::Blob;

use super::{
    active::ActiveClassifier,
    problem::Problem,
    request::Request,
    runs::{CLASSIFIER, KeptRun},
    session::{EngineState, Session},
    train::MISTAKES,
};
use crate::{
    protocol::{Evaluated, InUse},
    storage::{StorageError, run_store::RunStore},
};

const RESULTS: &str = "results";

/// A finished run's results without any text of the table: those are not kept.
#[derive(Serialize, Deserialize)]
pub struct KeptResults {
    pub test: Evaluated,
    pub report: Report,
}

impl KeptResults {
    /// Of a run; the texts are left out.
    fn of(test: &Evaluated, report: &Report) -> Self {
        let (mut test, mut report) = (test.clone(), report.clone());
        test.rows.iter_mut().for_each(|row| row.text.clear());
        report.mistakes.iter_mut().for_each(|mistake| mistake.text.clear());
        // these quote cells
        report.data.warnings.clear();
        Self { test, report }
    }

    /// Those of a run; none where an earlier version kept it.
    pub async fn read(store: &RunStore, key: &str) -> Result<Option<Self>, StorageError> {
        store.get_safe(key, RESULTS, |bytes| serde_json::from_slice(bytes).ok()).await
    }
}

/// Keeps the results of a finished run.
pub async fn keep(
    state: &EngineState,
    run: &KeptRun,
    test: &Evaluated,
    report: &Report,
) -> Result<(), Problem> {
    let kept = KeptResults::of(test, report);
    let json = serde_json::to_vec(&kept).map_err(|e| Problem::new(e.to_string(), ""))?;
    Ok(run.store(state).put_safe(&run.record.key, RESULTS, &json).await?)
}

/// Figures of scored rows at a threshold.
async fn figures_at(
    request: &Request,
    test: &Evaluated,
    threshold: f64,
) -> Result<Evaluation, Problem> {
    let (names, positive) = (&test.evaluation.classes, test.evaluation.positive);
    let probabilities: Vec<f64> = test.rows.iter().flat_map(|r| r.probabilities.clone()).collect();
    let truth: Vec<usize> = test.rows.iter().map(|row| row.truth).collect();
    let scored = Scored {
        classes: names.len(),
        truth: &truth,
        probabilities: &probabilities,
        positive,
        threshold,
    };
    Ok(measure::with_intervals(scored, names, &mut async || request.poll().await.is_ok()).await?)
}

impl ActiveClassifier<'_> {
    /// For the page.
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

    /// Moves the threshold; everything that is told of this classifier is told at the new one.
    async fn move_threshold(&mut self, request: &Request, threshold: f64) -> Result<(), Problem> {
        let own = match &self.own {
            Some(test) => Some(figures_at(request, test, threshold).await?),
            None => None,
        };
        let measured = match &self.measured {
            Some(test) => Some(figures_at(request, test, threshold).await?),
            None => None,
        };
        let rows = self.measured.as_ref().or(self.own.as_ref()).map_or(0, |test| test.rows.len());
        self.classifier.set_threshold(threshold);
        self.origin.threshold = Some(if self.measured.is_some() && self.own.is_some() {
            ThresholdFrom::Other(rows)
        } else {
            ThresholdFrom::Test(rows)
        });
        self.evaluation = own.clone().or_else(|| measured.clone());
        if let (Some(test), Some(evaluation)) = (&mut self.own, own) {
            test.evaluation = evaluation;
        }
        if let (Some(test), Some(evaluation)) = (&mut self.measured, measured) {
            test.evaluation = evaluation;
        }
        if let (Some(report), Some(test)) = (&mut self.report, &self.own) {
            report.test = Some(test.evaluation.clone());
            // measured at the threshold before
            report.validation = None;
            report.threshold_from = self.origin.threshold;
            report.mistakes = mistakes(test);
        }
        if let (Some(run), Some(test)) = (&mut self.run, &self.own) {
            run.record.test = Some(test.evaluation.clone());
        }
        Ok(())
    }
}

fn mistakes(test: &Evaluated) -> Vec<hearth_classifier::report::Mistake> {
    let probabilities: Vec<f64> = test.rows.iter().flat_map(|r| r.probabilities.clone()).collect();
    let truth: Vec<usize> = test.rows.iter().map(|row| row.truth).collect();
    let evaluation = &test.evaluation;
    let scored = Scored {
        classes: evaluation.classes.len(),
        truth: &truth,
        probabilities: &probabilities,
        positive: evaluation.positive,
        threshold: evaluation.threshold,
    };
    let rows = test.rows.iter().map(|row| (row.row, row.text.as_str()));
    worst_mistakes(&scored, &evaluation.classes, rows, MISTAKES)
}

impl Session<'_> {
    /// From which probability on the positive class is predicted. A run of this browser is kept with it.
    pub async fn set_threshold(
        &mut self,
        request: &Request,
        threshold: f64,
        classifier: u64,
    ) -> Result<InUse, Problem> {
        if !(0.0..=1.0).contains(&threshold) {
            return Err(Problem::new(
                format!("The threshold {threshold} is not within 0 to 1."),
                "",
            ));
        }
        let using = self.in_use()?;
        if using.id != classifier {
            return Err(Problem::new(
                format!(
                    "This threshold was chosen for another classifier; {:?} is in use now.",
                    using.name
                ),
                "Choose that classifier under Results, then set the threshold again.",
            ));
        }
        if using.measured.is_none() && using.own.is_none() {
            return Err(Problem::new(
                "There are no results to set a threshold for.",
                "Evaluate the classifier on a labeled table first.",
            ));
        }
        using.move_threshold(request, threshold).await?;
        if let Err(problem) = self.keep_threshold().await {
            let Problem::Failed(failure) = problem else { return Err(problem) };
            request.warn(format!(
                "The threshold is in use but could not be stored: {}. Export the classifier to keep it.",
                failure.what.trim_end_matches('.')
            ));
        }
        Ok(self.in_use()?.with_results())
    }

    async fn keep_threshold(&mut self) -> Result<(), Problem> {
        let using = self.in_use()?;
        let (Some(run), Some(test), Some(report)) = (&using.run, &using.own, &using.report) else {
            // a run of an earlier version has no results, but a classifier
            let Some(run) = using.run.clone() else { return Ok(()) };
            let bundle = using.to_blob(&run.record.name)?;
            return keep_classifier(self.state, &run, &bundle).await;
        };
        let (run, test, report) = (run.clone(), test.clone(), report.clone());
        let bundle = using.to_blob(&run.record.name)?;
        keep_classifier(self.state, &run, &bundle).await?;
        keep(self.state, &run, &test, &report).await?;
        run.save(self.state).await
    }
}

async fn keep_classifier(state: &EngineState, run: &KeptRun, bundle: &Blob) -> Result<(), Problem> {
    Ok(run.store(state).put(&run.record.key, CLASSIFIER, bundle).await?)
}
