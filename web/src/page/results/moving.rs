//! What a threshold does to rows that are scored already: figures that move with a slider, no GPU asked.

use hearth_classifier::{
    curves::{Goal, PrPoint, Ranking, RocPoint},
    metrics::{accuracy, confusion, precision_recall_f1, predict},
};

use crate::protocol::Evaluated;

/// Scored rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub classes: Vec<String>,
    pub positive: Option<usize>,
    truth: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
}

/// Figures at a threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct At {
    /// Rows `[truth][predicted]`.
    pub confusion: Vec<Vec<usize>>,
    /// The prediction of every row.
    pub predicted: Vec<usize>,
    pub accuracy: f64,
    /// Of the positive class; none without one, or without a row to tell.
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
    /// Share of the other rows that are called positive.
    pub false_alarms: Option<f64>,
}

impl Scores {
    pub fn of(test: &Evaluated) -> Self {
        Self {
            classes: test.evaluation.classes.clone(),
            positive: test.evaluation.positive,
            truth: test.rows.iter().map(|row| row.truth).collect(),
            probabilities: test.rows.iter().map(|row| row.probabilities.clone()).collect(),
        }
    }

    /// Figures at a threshold, which counts only where there is a positive class.
    pub fn at(&self, threshold: f64) -> At {
        let predicted: Vec<usize> =
            self.probabilities.iter().map(|row| predict(row, self.positive, threshold)).collect();
        let counts = confusion(&self.truth, &predicted, self.classes.len(), None);
        let [precision, recall, f1] =
            self.positive.map_or([None; 3], |class| precision_recall_f1(&counts, class));
        let false_alarms = self.positive.and_then(|class| {
            let others = || (0..self.classes.len()).filter(move |&c| c != class);
            let rows: usize = others().map(|c| counts[c].iter().sum::<usize>()).sum();
            let wrong: usize = others().map(|c| counts[c][class]).sum();
            (rows > 0).then(|| wrong as f64 / rows as f64)
        });
        let accuracy = accuracy(&counts);
        At { confusion: counts, predicted, accuracy, precision, recall, f1, false_alarms }
    }

    fn ranking(&self) -> Option<Ranking> {
        let class = self.positive?;
        let scores: Vec<f64> = self.probabilities.iter().map(|row| row[class]).collect();
        Some(Ranking::new(&scores, self.truth.iter().map(|&t| t == class).collect()))
    }

    /// The threshold that reaches a goal on these rows.
    pub fn threshold(&self, goal: Goal) -> Option<f64> {
        Some(self.ranking()?.threshold(goal)?.value)
    }

    /// The curves of the positive class.
    pub fn curves(&self) -> Option<(Vec<RocPoint>, Vec<PrPoint>)> {
        let ranking = self.ranking()?;
        Some((ranking.roc_curve(), ranking.pr_curve()))
    }

    /// Rows with this truth that are predicted so, the surest first.
    pub fn rows_of(&self, truth: usize, said: usize, predicted: &[usize]) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.truth.len())
            .filter(|&row| self.truth[row] == truth && predicted.get(row) == Some(&said))
            .collect();
        let sure = |row: usize| self.probabilities[row][said];
        rows.sort_by(|&a, &b| sure(b).total_cmp(&sure(a)));
        rows
    }

    /// Rows that are predicted wrongly, the surest first.
    pub fn mistakes(&self, predicted: &[usize]) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.truth.len())
            .filter(|&row| predicted.get(row).is_some_and(|&said| said != self.truth[row]))
            .collect();
        let sure = |row: usize| self.probabilities[row][predicted[row]];
        rows.sort_by(|&a, &b| sure(b).total_cmp(&sure(a)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn scores() -> Scores {
        let positive = [0.9, 0.6, 0.4, 0.7, 0.2, 0.1];
        Scores {
            classes: vec!["no".into(), "yes".into()],
            positive: Some(1),
            truth: vec![1, 1, 1, 0, 0, 0],
            probabilities: positive.iter().map(|p| vec![1.0 - p, *p]).collect(),
        }
    }

    #[wasm_bindgen_test]
    fn figures_move_with_the_threshold() {
        let half = scores().at(0.5);
        assert_eq!(half.confusion, [[2, 1], [1, 2]]);
        assert!((half.f1.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        let low = scores().at(0.3);
        assert_eq!(low.confusion, [[2, 1], [0, 3]]);
        assert_eq!((low.recall, low.false_alarms), (Some(1.0), Some(1.0 / 3.0)));
        let never = scores().at(1.1);
        assert_eq!(never.confusion, [[3, 0], [3, 0]]);
        assert_eq!(never.precision, None);
    }

    #[wasm_bindgen_test]
    fn goals_find_their_thresholds() {
        let best = scores().threshold(Goal::BestF1).unwrap();
        let [f1, half] = [scores().at(best).f1.unwrap(), scores().at(0.5).f1.unwrap()];
        assert!(f1 > half, "{f1} {half}");
        let sure = scores().threshold(Goal::Precision(1.0)).unwrap();
        assert_eq!(scores().at(sure).precision, Some(1.0));
    }

    #[wasm_bindgen_test]
    fn mistakes_come_surest_first() {
        let at = scores().at(0.5);
        assert_eq!(scores().mistakes(&at.predicted), [3, 2]);
        assert_eq!(scores().rows_of(1, 1, &at.predicted), [0, 1]);
        assert_eq!(scores().rows_of(0, 1, &at.predicted), [3]);
    }

    #[wasm_bindgen_test]
    fn several_classes_have_no_threshold() {
        let scores = Scores {
            classes: vec!["a".into(), "b".into(), "c".into()],
            positive: None,
            truth: vec![0, 1, 2],
            probabilities: vec![vec![0.5, 0.3, 0.2], vec![0.1, 0.2, 0.7], vec![0.0, 0.1, 0.9]],
        };
        let at = scores.at(0.99);
        assert_eq!(at.confusion, [[1, 0, 0], [0, 0, 1], [0, 0, 1]]);
        assert_eq!((at.f1, scores.threshold(Goal::BestF1)), (None, None));
        assert!(scores.curves().is_none());
    }
}
