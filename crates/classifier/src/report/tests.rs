use super::*;
use crate::columns::class_counts;
use crate::history::{Epoch, Step};
use crate::metrics::{Figure, Scored, evaluate};
use crate::prompt::{ClassWord, FewShot};

const HOSTILE: &str = "</script><script>alert(1)</script></style><style>*{display:none}</style></svg><img src=x onerror=alert(1)>\"' onload='x' &amp; </title></pre></details>";

/// A report in which every text is `text`.
fn report(text: &str) -> Report {
    let classes = vec![text.to_string(), format!("{text} two")];
    let truth: Vec<usize> = (0..40).map(|i| i % 2).collect();
    let probabilities: Vec<f64> =
        (0..40).flat_map(|i| [1.0 - f64::from(i) / 40.0, f64::from(i) / 40.0]).collect();
    let scored = Scored {
        classes: 2,
        truth: &truth,
        probabilities: &probabilities,
        positive: Some(1),
        threshold: 0.5,
    };
    let mut test = evaluate(&scored, &classes).unwrap();
    let mut bootstrap = crate::bootstrap::Bootstrap::new(scored, 50, 1).unwrap();
    while bootstrap.step() {}
    test.intervals = bootstrap.intervals();
    test.calibration_error = Figure::missing(text);
    let texts: Vec<(usize, &str)> = (1..=40).map(|row| (row, text)).collect();
    let step = |step| Step {
        step,
        epoch: 1,
        loss: 0.7,
        accuracy: 0.5,
        rate: 1e-4,
        gradient_norm: 1.0,
        taken: true,
    };
    let epoch = Epoch {
        epoch: 1,
        step: 20,
        train_loss: 0.7,
        validation_loss: Some(0.6),
        validation_auc: None,
        validation_f1: None,
    };
    Report {
        title: text.into(),
        created: text.into(),
        command: text.into(),
        model: text.into(),
        adapter: text.into(),
        data: DataSummary {
            file: text.into(),
            read_as: text.into(),
            train: class_counts(&classes, [0, 1, 1]),
            validation: class_counts(&classes, [1]),
            test: class_counts(&classes, truth.iter().copied()),
            split: text.into(),
            dropped: BadRows { empty_text: vec![1], empty_label: vec![] },
            duplicates: 2,
            cut: 1,
            tokens: TokenHistogram::new(&[30, 40, 90]),
            warnings: vec![text.into()],
        },
        recipe: Recipe::default(),
        prompt: PromptSpec {
            question: text.into(),
            words: vec![ClassWord { class: text.into(), word: text.into() }],
            examples: vec![FewShot { text: text.into(), class: text.into() }],
            ..Default::default()
        },
        filled_prompt: text.into(),
        history: History {
            steps: (1..=20).map(step).collect(),
            epochs: vec![epoch],
            best_epoch: Some(1),
        },
        mistakes: worst_mistakes(&scored, &classes, texts, 5),
        validation: Some(test.clone()),
        zero_shot: Some(test.clone()),
        calibration_before: Some(test.calibration.clone()),
        temperature: Some(3.0),
        threshold_from: Some(ThresholdFrom::Test(3)),
        sweep: vec![SweepPoint { rows: 50, epochs: 1, seed: 0, f1: Some(0.7), auc: Some(0.8) }],
        speed: Speed { host_bytes: Some(1 << 30), ..Default::default() },
        test: Some(test),
    }
}

/// The tags of a page, names only, in order.
fn tags(html: &str) -> Vec<&str> {
    html.match_indices('<')
        .map(|(at, _)| {
            let rest = &html[at + 1..];
            &rest[..rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '/' && c != '!')
                .unwrap_or(rest.len())]
        })
        .collect()
}

#[test]
fn the_rows_that_chose_the_threshold_are_said() {
    let html = report("x").to_html().unwrap();
    assert!(html.contains("chosen on the 3 test rows of these figures"));
    assert!(!html.contains("Threshold and temperature are never chosen on test rows"));
}

#[test]
fn hostile_texts_add_no_tag() {
    // the same report with harmless texts has exactly the same tags
    let (hostile, harmless) = (report(HOSTILE).to_html().unwrap(), report("x").to_html().unwrap());
    assert_eq!(tags(&hostile), tags(&harmless));
    assert!(hostile.matches("&lt;script&gt;").count() > 20, "every field is shown, escaped");
    for banned in ["<script", "<img", "<link", "<iframe", "<form"] {
        assert!(!hostile.contains(banned), "{banned}");
    }
    assert_eq!(hostile.matches("<style").count(), 1);
}

#[test]
fn the_page_loads_nothing() {
    let html = report("x").to_html().unwrap();
    assert!(
        html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'")
    );
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    for banned in ["http:", "https:", "url(", "@import", "src=", "href="] {
        assert!(!outside.contains(banned), "{banned}");
    }
    assert!(html.contains("prefers-color-scheme:dark") && html.starts_with("<!DOCTYPE html>"));
}

#[test]
fn it_shows_what_was_measured() {
    let report = report("x");
    let html = report.to_html().unwrap();
    let test = report.test.as_ref().unwrap();
    for value in [&test.f1, &test.roc_auc, &test.log_loss] {
        assert!(html.contains(&format!("{:.3}", value.value.unwrap())));
    }
    let f1 = test.interval("f1").unwrap();
    assert!(html.contains(&format!("{:.3} to {:.3}", f1.low, f1.high)));
    // as likely as not by chance
    assert!(html.contains(test.caution().unwrap()));
    let mut sure = report.clone();
    let intervals = sure.test.as_mut().unwrap().intervals.iter_mut();
    intervals.filter(|i| i.figure == "roc_auc").for_each(|auc| auc.low = 0.51);
    assert!(!sure.to_html().unwrap().contains("better than guessing"));
    // a missing figure says why
    assert!(html.contains("<abbr title=\"x\">–</abbr>"));
    assert_eq!(html.matches("<svg").count(), 9);
    assert!(
        html.contains("learning rate")
            && html.contains("temperature 3.00")
            && html.contains("1.07 GB")
    );
}

#[test]
fn json_comes_back() {
    let report = report(HOSTILE);
    assert_eq!(serde_json::from_str::<Report>(&report.to_json().unwrap()).unwrap(), report);
}

#[test]
fn an_empty_report_is_a_page_too() {
    let html = Report::default().to_html().unwrap();
    assert!(html.contains("<h1>Hearth report</h1>"));
}

#[test]
fn mistakes_come_in_order_of_confidence() {
    let probabilities = [0.4, 0.6, 0.1, 0.9, 0.7, 0.3, 0.2, 0.8];
    let scored = Scored {
        classes: 2,
        truth: &[0, 0, 1, 1],
        probabilities: &probabilities,
        positive: Some(1),
        threshold: 0.5,
    };
    let names = ["no".to_string(), "yes".to_string()];
    let rows = [(3, "a"), (5, "b"), (7, "c"), (9, "d")];
    let found = worst_mistakes(&scored, &names, rows, 2);
    assert_eq!(
        found.iter().map(|m| (m.row, m.probability)).collect::<Vec<_>>(),
        [(5, 0.9), (7, 0.7)]
    );
    assert_eq!((found[1].truth.as_str(), found[1].predicted.as_str()), ("yes", "no"));
}
