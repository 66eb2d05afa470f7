//! Against scikit-learn, on the cases of `tools/fixtures/sklearn_cases.py`.

use serde_json::Value;

use super::*;
use crate::calibration::fit_temperature;
use crate::curves::Goal;

/// Sums in another order differ by a few units in the last place of numbers up to 36 (log loss).
const LIMIT: f64 = 1e-12;

fn cases() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../tests/fixtures/sklearn_cases.json")).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn check(what: &str, found: Option<f64>, expected: &Value) {
    match (found, expected.as_f64()) {
        (Some(found), Some(expected)) => {
            assert!((found - expected).abs() <= LIMIT, "{what}: {found} instead of {expected}");
        }
        (found, expected) => assert_eq!(found, expected, "{what}"),
    }
}

/// A figure is either a number or has a reason.
fn check_figure(what: &str, found: &Figure, expected: &Value) {
    assert_eq!(found.value.is_none(), found.reason.is_some(), "{what}");
    check(what, found.value, expected);
}

fn with_case(case: &Value, test: impl FnOnce(&Scored<'_>, &str)) {
    let truth: Vec<usize> = numbers(&case["truth"]).iter().map(|&t| t as usize).collect();
    let probabilities = numbers(&case["probabilities"]);
    let scored = Scored {
        classes: case["classes"].as_u64().unwrap() as usize,
        truth: &truth,
        probabilities: &probabilities,
        positive: case["positive"].as_u64().map(|p| p as usize),
        threshold: case["threshold"].as_f64().unwrap(),
    };
    test(&scored, case["name"].as_str().unwrap());
}

#[test]
fn figures_equal_scikit_learn() {
    for case in &cases() {
        with_case(case, |scored, name| {
            let found = evaluate(scored, &[]).unwrap();
            let expected = &case["expected"];
            assert_eq!(
                serde_json::to_value(&found.confusion).unwrap(),
                expected["confusion"],
                "{name}"
            );
            let figures = [
                ("accuracy", &found.accuracy),
                ("balanced_accuracy", &found.balanced_accuracy),
                ("log_loss", &found.log_loss),
                ("brier", &found.brier),
                ("ece", &found.calibration_error),
                ("main_roc_auc", &found.roc_auc),
            ];
            for (what, figure) in figures {
                check_figure(&format!("{name}: {what}"), figure, &expected[what]);
            }
            for (c, class) in found.per_class.iter().enumerate() {
                let figures = [
                    ("precision", &class.precision),
                    ("recall", &class.recall),
                    ("f1", &class.f1),
                    ("roc_auc", &class.roc_auc),
                    ("average_precision", &class.average_precision),
                ];
                for (what, figure) in figures {
                    check_figure(
                        &format!("{name}: {what} of class {c}"),
                        figure,
                        &expected[what][c],
                    );
                }
            }
            for (what, mean) in [("macro", &found.macro_average), ("weighted", &found.weighted)] {
                for (i, figure) in [&mean.precision, &mean.recall, &mean.f1].into_iter().enumerate()
                {
                    check_figure(&format!("{name}: {what} {i}"), figure, &expected[what][i]);
                }
            }
        });
    }
}

#[test]
fn curves_equal_scikit_learn() {
    for case in &cases() {
        with_case(case, |scored, name| {
            for class in 0..scored.classes {
                let ranking = scored.ranking(class);
                let (roc, pr) = (&case["expected"]["roc"][class], &case["expected"]["pr"][class]);
                let found = ranking.roc_curve();
                assert_eq!(found.is_empty(), roc.is_null(), "{name}");
                for (i, point) in found.iter().enumerate() {
                    assert_eq!(found.len(), roc[0].as_array().unwrap().len(), "{name}");
                    check(name, Some(point.false_positive_rate), &roc[0][i]);
                    check(name, Some(point.true_positive_rate), &roc[1][i]);
                    check(name, point.threshold, &roc[2][i]);
                }
                let found = ranking.pr_curve();
                assert_eq!(found.is_empty(), pr.is_null(), "{name}");
                // scikit-learn's curve runs the other way, from recall 1 to 0
                for (i, point) in found.iter().rev().enumerate() {
                    assert_eq!(found.len(), pr[0].as_array().unwrap().len(), "{name}");
                    check(name, Some(point.precision), &pr[0][i]);
                    check(name, Some(point.recall), &pr[1][i]);
                    check(name, point.threshold, &pr[2].get(i).cloned().unwrap_or(Value::Null));
                }
            }
        });
    }
}

#[test]
fn the_best_threshold_reaches_the_best_f1() {
    for case in &cases() {
        with_case(case, |scored, name| {
            let Some(positive) = scored.positive else { return };
            let best = scored.ranking(positive).threshold(Goal::BestF1);
            check(name, best.map(|t| t.f1), &case["expected"]["best_f1"]);
            // and the threshold does give it
            if let Some(best) = best {
                let found = evaluate(&Scored { threshold: best.value, ..*scored }, &[]).unwrap();
                assert!((found.f1.value.unwrap() - best.f1).abs() <= LIMIT, "{name}");
            }
        });
    }
}

#[test]
fn the_temperature_reaches_scipys_loss() {
    for case in &cases() {
        with_case(case, |scored, name| {
            let logits = numbers(&case["expected"]["logits"]);
            let found = fit_temperature(&logits, scored.classes, scored.truth).unwrap();
            let expected = case["expected"]["temperature_loss"].as_f64().unwrap();
            // scipy's search ends within 1e-8 of the best loss, ours may be better
            assert!(
                found.loss_after <= expected + 1e-10,
                "{name}: {} {expected}",
                found.loss_after
            );
            assert!(
                found.loss_after >= expected - 1e-7 || found.at_limit,
                "{name}: {} {expected}",
                found.loss_after
            );
        });
    }
}

#[test]
fn bad_input_is_refused() {
    let scored = |truth: &'static [usize], probabilities: &'static [f64]| {
        let scored = Scored { classes: 2, truth, probabilities, positive: Some(1), threshold: 0.5 };
        evaluate(&scored, &[]).unwrap_err()
    };
    assert_eq!(scored(&[], &[]), MetricsError::NoRows);
    assert_eq!(scored(&[0], &[0.5]), MetricsError::Shape { probabilities: 1, rows: 1, classes: 2 });
    assert_eq!(scored(&[2], &[0.5, 0.5]), MetricsError::Label { row: 0, label: 2, classes: 2 });
    assert!(matches!(scored(&[0], &[f64::NAN, 0.5]), MetricsError::Probability { row: 0, .. }));
    assert!(matches!(scored(&[0, 1], &[0.5, 0.5, 0.6, 0.5]), MetricsError::Sum { row: 1, .. }));
}

#[test]
fn scores_are_counted_by_class() {
    let truth = [1, 0, 1];
    let probabilities = [0.0, 1.0, 0.97, 0.03, 0.5, 0.5];
    let scored = Scored {
        classes: 2,
        truth: &truth,
        probabilities: &probabilities,
        positive: Some(1),
        threshold: 0.5,
    };
    let found = evaluate(&scored, &["no".into(), "yes".into()]).unwrap().score_histogram;
    assert_eq!((found[1][19], found[1][10], found[0][0]), (1, 1, 1));
}

#[test]
fn thinned_curves_keep_their_ends() {
    let truth: Vec<usize> = (0..1000).map(|i| i % 2).collect();
    let probabilities: Vec<f64> =
        (0..1000).flat_map(|i| [1.0 - f64::from(i) / 1000.0, f64::from(i) / 1000.0]).collect();
    let scored = Scored {
        classes: 2,
        truth: &truth,
        probabilities: &probabilities,
        positive: Some(1),
        threshold: 0.5,
    };
    let mut found = evaluate(&scored, &[]).unwrap();
    let whole = found.per_class[1].roc.clone();
    found.thin_curves(100);
    let thin = &found.per_class[1].roc;
    assert!(thin.len() <= 101 && whole.len() == 1001);
    assert_eq!((thin.first(), thin.last()), (whole.first(), whole.last()));
}

#[test]
fn confusions_come_most_frequent_first() {
    let found = confusions(&[vec![5, 2, 0], vec![2, 0, 0], vec![1, 0, 9]]);
    let pairs: Vec<_> = found.iter().map(|c| (c.actual, c.predicted, c.rows)).collect();
    assert_eq!(pairs, [(1, 0, 2), (0, 1, 2), (2, 0, 1)], "of equals, the larger share");
    assert!((found[2].share - 0.1).abs() < 1e-12);
    assert!(confusions(&[vec![3, 0], vec![0, 4]]).is_empty());
}
