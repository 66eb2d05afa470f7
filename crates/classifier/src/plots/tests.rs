use super::*;
use crate::history::{Epoch, Step};
use crate::metrics::{Scored, evaluate};

const HOSTILE: &str = "</svg><script>alert(1)</script><style>*{}</style>\"' onload=x & \u{1b}\0";

fn evaluation(names: [&str; 2]) -> Evaluation {
    let truth: Vec<usize> = (0..60).map(|i| usize::from(i % 3 == 0)).collect();
    let probabilities: Vec<f64> = (0..60)
        .flat_map(|i| {
            let p = 0.3 + 0.3 * f64::from(u8::from(i % 3 == 0)) + 0.005 * f64::from(i);
            [1.0 - p, p]
        })
        .collect();
    let scored = Scored {
        classes: 2,
        truth: &truth,
        probabilities: &probabilities,
        positive: Some(1),
        threshold: 0.5,
    };
    evaluate(&scored, &names.map(String::from)).unwrap()
}

fn history() -> History {
    let step = |step: usize| Step {
        step,
        epoch: 1,
        loss: 1.0 / step as f64,
        accuracy: 0.5,
        rate: 1e-4,
        gradient_norm: 1.0,
        taken: true,
    };
    let epoch = Epoch {
        epoch: 1,
        step: 2000,
        train_loss: 0.4,
        validation_loss: Some(0.5),
        validation_auc: Some(0.8),
        validation_f1: None,
    };
    History { steps: (1..=2000).map(step).collect(), epochs: vec![epoch], best_epoch: Some(1) }
}

fn sweep_points() -> Vec<SweepPoint> {
    let point =
        |(rows, epochs, seed, f1)| SweepPoint { rows, epochs, seed, f1: Some(f1), auc: None };
    [(50, 1, 0, 0.6), (50, 1, 1, 0.7), (200, 1, 0, 0.75), (50, 4, 0, 0.7), (200, 4, 0, 0.83)]
        .map(point)
        .to_vec()
}

/// Well-formed enough: one picture, tags balanced, nothing that runs or loads.
fn check(plot: Result<String, PlotError>) -> String {
    let plot = plot.unwrap();
    assert!(
        plot.starts_with("<svg class=\"plot\" role=\"img\" aria-label=\"")
            && plot.trim_end().ends_with("</svg>")
    );
    assert_eq!((plot.matches("<svg").count(), plot.matches("</svg>").count()), (1, 1));
    assert_eq!(plot.matches("<text").count(), plot.matches("</text>").count());
    for banned in ["<script", "<style", "<foreignObject", "<image", " href", "url(", " style="] {
        assert!(!plot.contains(banned), "{banned}");
    }
    // no attribute begins inside a label
    assert!(!plot.contains("\"' onload") && !plot.contains('\u{1b}') && !plot.contains('\0'));
    assert!(!plot.contains("NaN") && !plot.contains("inf"));
    plot
}

#[test]
fn every_plot_is_a_harmless_picture() {
    let hostile = evaluation([HOSTILE, "b"]);
    let hostile_positive = evaluation(["a", HOSTILE]);
    for evaluation in [&hostile, &hostile_positive] {
        check(roc(evaluation));
        check(precision_recall(evaluation));
        check(score_histogram(evaluation));
        check(confusion(evaluation));
        check(calibration(Some(&evaluation.calibration), &evaluation.calibration));
    }
    assert!(check(confusion(&hostile)).contains("&lt;/svg&gt;"));
    assert!(check(loss_curve(&history())).contains("validation"));
    assert!(check(sweep(&sweep_points(), SweepFigure::F1)).contains("4 epochs"));
    check(sweep(&sweep_points(), SweepFigure::Auc));
    check(token_lengths(&TokenHistogram::new(&[40, 50, 90, 400]).unwrap()));
}

#[test]
fn empty_data_still_draws() {
    let one_sided = {
        let scored = Scored {
            classes: 2,
            truth: &[1],
            probabilities: &[0.5, 0.5],
            positive: Some(1),
            threshold: 0.5,
        };
        evaluate(&scored, &[]).unwrap()
    };
    check(roc(&one_sided));
    check(precision_recall(&one_sided));
    check(confusion(&one_sided));
    check(loss_curve(&History::default()));
    check(sweep(&[], SweepFigure::F1));
    check(calibration(None, &[]));
    check(token_lengths(&TokenHistogram::new(&[0]).unwrap()));
}

#[test]
fn long_curves_are_thinned() {
    assert!(check(loss_curve(&history())).len() < 20_000);
    let kept =
        line("", (0..100_001).map(|i| (f64::from(i), 0.0)).collect(), colour::INK, false, false)
            .points;
    assert!(kept.len() <= POINTS + 1);
    assert_eq!((kept[0].0, kept[kept.len() - 1].0), (0.0, 100_000.0));
}

#[test]
fn many_classes_fit() {
    let classes = 40;
    let truth: Vec<usize> = (0..200).map(|i| i % classes).collect();
    let probabilities = vec![1.0 / classes as f64; 200 * classes];
    let scored = Scored {
        classes,
        truth: &truth,
        probabilities: &probabilities,
        positive: None,
        threshold: 0.5,
    };
    let evaluation = evaluate(&scored, &[]).unwrap();
    let heat = check(confusion(&evaluation));
    // one cell per class that occurs, and a frame: everything is predicted as the first class
    assert_eq!(heat.matches("<rect").count(), classes + 1, "{heat}");
    for plot in [check(roc(&evaluation)), check(precision_recall(&evaluation))] {
        assert!(plot.contains("mean of 40 classes"));
        assert_eq!(plot.matches("stroke-width=\"3\"").count(), 1, "the mean alone is thick");
        assert_eq!(plot.matches("each class").count(), 1);
    }
    assert!(!check(score_histogram(&evaluation)).contains("<circle"), "no legend of one series");
}

#[test]
fn a_mean_curve_is_the_mean_of_heights() {
    let step = [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (1.0, 1.0)];
    let heights = [0.0, 0.25, 0.5, 0.75, 1.0].map(|x| many::height_of_roc(&step, x));
    assert_eq!(heights, [0.5, 0.5, 0.5, 0.75, 1.0]);
    let pr = [(0.0, 1.0), (0.5, 0.5), (0.5, 0.4), (1.0, 0.6)];
    let heights = [0.0, 0.1, 0.5, 0.9].map(|x| many::height_of_precision(&pr, x));
    assert_eq!(heights, [1.0, 0.6, 0.6, 0.6]);
}

#[test]
fn the_dark_style_knows_every_colour() {
    let plot = [
        check(roc(&evaluation(["a", "b"]))),
        check(loss_curve(&history())),
        check(sweep(&sweep_points(), SweepFigure::F1)),
        check(confusion(&evaluation(["a", "b"]))),
        check(score_histogram(&evaluation(["a", "b"]))),
    ]
    .concat();
    for attribute in ["fill=\"#", "stroke=\"#"] {
        for (at, _) in plot.match_indices(attribute) {
            let colour = &plot[at..at + attribute.len() + 6].replace('"', "'");
            assert!(STYLE.contains(colour.as_str()), "{colour}");
        }
    }
}
