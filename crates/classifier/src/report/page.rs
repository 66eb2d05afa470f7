//! The report as HTML.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{DataSummary, Mistake, Report};
use crate::columns::ClassCount;
use crate::metrics::{Evaluation, Figure, confusions};
use crate::plots::{self, PlotError, SweepFigure};

/// Nothing may load or run; styles stand in this file.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

pub(super) fn page(report: &Report) -> Result<String, PlotError> {
    let title = if report.title.trim().is_empty() { "Hearth report" } else { &report.title };
    let test = report.test.as_ref();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) (PreEscaped(plots::STYLE)) }
            }
            body {
                header {
                    p.kicker { "Hearth · classifier report" }
                    h1 { (title) }
                    p.sub { (report.model) @if !report.adapter.is_empty() { " on " (report.adapter) } " · " (report.created) }
                }
                main {
                    @if let Some(test) = test { (headline(test)) }
                    @for warning in &report.data.warnings { p.warning role="note" { (warning) } }
                    @if let Some(test) = test { (quality(test, report)?) }
                    @if !report.mistakes.is_empty() { (mistakes(&report.mistakes)) }
                    @if !report.history.steps.is_empty() { (training(report)?) }
                    @if !report.sweep.is_empty() { (sweep(report)?) }
                    (data(&report.data)?)
                    (recipe(report))
                    (repeat(report))
                }
                footer { "Made by Hearth. This file loads nothing and runs no scripts." }
            }
        }
    };
    Ok(page.into_string())
}

fn svg(plot: Result<String, PlotError>) -> Result<Markup, PlotError> {
    plot.map(PreEscaped)
}

fn figure(plot: Result<String, PlotError>, caption: &str) -> Result<Markup, PlotError> {
    Ok(html! { figure { (svg(plot)?) figcaption { (caption) } } })
}

fn number(figure: &Figure) -> Markup {
    match figure.value {
        Some(value) => html! { (format!("{value:.3}")) },
        None => html! { abbr title=(figure.reason.as_deref().unwrap_or("undefined")) { "–" } },
    }
}

fn interval(evaluation: &Evaluation, name: &str) -> Option<String> {
    evaluation.interval(name).map(|i| format!("{:.3} to {:.3}", i.low, i.high))
}

/// The three headline figures.
fn headline(test: &Evaluation) -> Markup {
    let f1 = match test.positive.and_then(|p| test.classes.get(p)) {
        Some(class) => format!("F1 of {class}"),
        None => "F1, mean of the classes".into(),
    };
    let cards = [
        (f1.as_str(), &test.f1, "f1"),
        ("ROC-AUC", &test.roc_auc, "roc_auc"),
        ("Accuracy", &test.accuracy, "accuracy"),
    ];
    html! {
        section.cards aria-label="Main figures" {
            @for (name, value, key) in cards {
                div.card {
                    p.name { (name) }
                    p.value { (number(value)) }
                    p.interval { @if let Some(range) = interval(test, key) { "95% confidence interval: " (range) } @else { (test.rows) " test rows" } }
                }
            }
        }
    }
}

fn quality(test: &Evaluation, report: &Report) -> Result<Markup, PlotError> {
    let main = [
        ("Accuracy", &test.accuracy, "accuracy"),
        ("Balanced accuracy", &test.balanced_accuracy, "balanced_accuracy"),
        ("F1", &test.f1, "f1"),
        ("ROC-AUC", &test.roc_auc, "roc_auc"),
        ("Average precision", &test.average_precision, "average_precision"),
        ("Log loss", &test.log_loss, "log_loss"),
        ("Brier score", &test.brier, "brier"),
        ("Calibration error", &test.calibration_error, "calibration_error"),
    ];
    let others = [("untrained", &report.zero_shot), ("validation rows", &report.validation)];
    let others: Vec<(&str, &Evaluation)> =
        others.iter().filter_map(|(n, e)| Some((*n, e.as_ref()?))).collect();
    let pick = |e: &Evaluation, key: &str| match key {
        "accuracy" => e.accuracy.clone(),
        "balanced_accuracy" => e.balanced_accuracy.clone(),
        "f1" => e.f1.clone(),
        "roc_auc" => e.roc_auc.clone(),
        "average_precision" => e.average_precision.clone(),
        "log_loss" => e.log_loss.clone(),
        "brier" => e.brier.clone(),
        _ => e.calibration_error.clone(),
    };
    let threshold = (test.classes.len() == 2).then_some(test.threshold);
    Ok(html! {
        section {
            h2 { "Results" }
            p { "Measured on " (test.rows) " test rows"
                @if let Some(threshold) = threshold { ", threshold " (format!("{threshold:.3}")) }
                @if let Some(t) = report.temperature { ", temperature " (format!("{t:.2}")) }
                "."
                @if report.temperature.is_some() { " The temperature was chosen on validation rows." }
                @if let (Some(_), Some(from)) = (threshold, report.threshold_from) {
                    " The threshold was " (from.words()) "."
                } }
            @if let Some(caution) = test.caution() { p { strong { (caution) } } }
            div.table { table {
                thead { tr { th scope="col" { "Figure" } th.n scope="col" { "Test" } th.n scope="col" { "95% confidence interval" }
                    @for (name, _) in &others { th.n scope="col" { (name) } } } }
                tbody { @for (name, value, key) in main { tr {
                    th scope="row" { (name) } td.n { (number(value)) } td.n { (interval(test, key).unwrap_or_default()) }
                    @for (_, other) in &others { td.n { (number(&pick(other, key))) } } } } }
            } }
            div.table { table {
                thead { tr { th scope="col" { "Class" } @for name in ["Rows", "Precision", "Recall", "F1", "ROC-AUC"] { th.n scope="col" { (name) } } } }
                tbody {
                    @for class in &test.per_class { tr {
                        th scope="row" { (class.class) } td.n { (class.support) } td.n { (number(&class.precision)) }
                        td.n { (number(&class.recall)) } td.n { (number(&class.f1)) } td.n { (number(&class.roc_auc)) } } }
                    @for (name, mean) in [("mean", &test.macro_average), ("weighted mean", &test.weighted)] { tr.mean {
                        th scope="row" { (name) } td {} td.n { (number(&mean.precision)) } td.n { (number(&mean.recall)) } td.n { (number(&mean.f1)) } td {} } }
                }
            } }
            div.grid {
                (figure(plots::confusion(test), "Confusion matrix: rows are the actual class, columns the predicted class.")?)
                (figure(plots::roc(test), "ROC curve; the dashed line is chance.")?)
                (figure(plots::precision_recall(test), "Precision-recall curve.")?)
                (figure(plots::calibration(report.calibration_before.as_deref(), &test.calibration), "Calibration: on the dashed line, predicted probabilities equal observed frequencies.")?)
            }
            @if test.confusion.len() > plots::CONFUSION_CLASSES { (confused(test)) }
            (figure(plots::score_histogram(test), "Scores by actual class: the less they overlap, the better.")?)
        }
    })
}

/// Confusions listed in a report.
const CONFUSIONS: usize = 20;

/// The most frequent confusions, where the matrix has no numbers.
fn confused(test: &Evaluation) -> Markup {
    let found = confusions(&test.confusion);
    let name = |class: usize| test.classes.get(class).map_or("?", String::as_str);
    html! {
        h3 { "Most frequent confusions" }
        p { "The first " (found.len().min(CONFUSIONS)) " of " (found.len()) " pairs." }
        div.table { table {
            thead { tr { th scope="col" { "Actual" } th scope="col" { "Predicted" } th.n scope="col" { "Rows" } th.n scope="col" { "Share of the actual class" } } }
            tbody { @for found in found.iter().take(CONFUSIONS) { tr {
                td { (name(found.actual)) } td { (name(found.predicted)) }
                td.n { (found.rows) } td.n { (format!("{:.0}%", found.share * 100.0)) } } } }
        } }
    }
}

fn mistakes(mistakes: &[Mistake]) -> Markup {
    html! {
        section {
            h2 { "Most confident mistakes" }
            p { "Check these rows for wrong labels. Open one to see its text." }
            @for m in mistakes {
                details {
                    summary { "Row " (m.row) ": actual " b { (m.truth) } ", predicted " b { (m.predicted) } " " span.p { (format!("{:.1}%", m.probability * 100.0)) } }
                    p.text { (m.text) }
                }
            }
        }
    }
}

fn training(report: &Report) -> Result<Markup, PlotError> {
    let history = &report.history;
    let optional = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.3}"));
    Ok(html! {
        section {
            h2 { "Training" }
            (figure(plots::loss_curve(history), "Loss by step.")?)
            @if !history.epochs.is_empty() { div.table { table {
                thead { tr { @for name in ["Epoch", "Training loss", "Validation loss", "Validation ROC-AUC", "Validation F1"] { th.n scope="col" { (name) } } } }
                tbody { @for e in &history.epochs { tr class=[(history.best_epoch == Some(e.epoch)).then_some("best")] {
                    td.n { (e.epoch) @if history.best_epoch == Some(e.epoch) { " (kept)" } }
                    td.n { (format!("{:.3}", e.train_loss)) } td.n { (optional(e.validation_loss)) }
                    td.n { (optional(e.validation_auc)) } td.n { (optional(e.validation_f1)) } } } }
            } } }
        }
    })
}

fn sweep(report: &Report) -> Result<Markup, PlotError> {
    Ok(html! {
        section {
            h2 { "Rows and epochs" }
            (figure(plots::sweep(&report.sweep, SweepFigure::F1), "F1 by training rows, mean over seeds.")?)
            (figure(plots::sweep(&report.sweep, SweepFigure::Auc), "ROC-AUC by training rows, mean over seeds.")?)
        }
    })
}

fn data(data: &DataSummary) -> Result<Markup, PlotError> {
    let rows = |counts: &[ClassCount]| counts.iter().map(|c| c.rows).sum::<usize>();
    let parts = [("train", &data.train), ("validation", &data.validation), ("test", &data.test)];
    let lost = data.dropped.empty_text.len() + data.dropped.empty_label.len();
    Ok(html! {
        section {
            h2 { "Data" }
            p { b { (data.file) } @if !data.read_as.is_empty() { " · " (data.read_as) } @if !data.split.is_empty() { " · " (data.split) } }
            div.table { table {
                thead { tr { th scope="col" { "Class" } @for (name, _) in parts { th.n scope="col" { (name) } } } }
                tbody {
                    @for (i, count) in data.train.iter().enumerate() { tr {
                        th scope="row" { (count.class) }
                        @for (_, part) in parts { td.n { (part.get(i).map_or(0, |c| c.rows)) } } } }
                    tr.mean { th scope="row" { "all" } @for (_, part) in parts { td.n { (rows(part)) } } }
                }
            } }
            ul {
                @if lost > 0 { li { (data.dropped.empty_text.len()) " rows without text and " (data.dropped.empty_label.len()) " without label were left out." } }
                @if data.duplicates > 0 { li { (data.duplicates) " test rows have the same text as a training row, so the figures are too optimistic." } }
                @if data.cut > 0 { li { (data.cut) " texts were truncated to the prompt's limit." } }
            }
            @if let Some(tokens) = &data.tokens {
                (figure(plots::token_lengths(tokens), &format!("Prompt lengths: mean {:.0} tokens, 95th percentile {}, longest {}.", tokens.mean, tokens.p95, tokens.longest))?)
            }
        }
    })
}

fn recipe(report: &Report) -> Markup {
    let values = serde_json::to_value(&report.recipe).unwrap_or_default();
    let shown = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => {
            items.iter().filter_map(|i| i.as_str()).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    html! {
        section {
            h2 { "Prompt and recipe" }
            @if !report.filled_prompt.is_empty() { pre { (report.filled_prompt) } }
            div.table { table {
                thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "What it does" } } }
                tbody { @for field in crate::recipe::Recipe::fields() { tr {
                    th scope="row" { code { (field.name) } } td { (shown(&values[field.name])) } td.what { (field.sentence) } } } }
            } }
        }
    }
}

fn repeat(report: &Report) -> Markup {
    let speed = &report.speed;
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    html! {
        section {
            h2 { "Time, memory and how to reproduce it" }
            dl {
                dt { "Training" } dd { (format!("{:.0} s, {:.0} tokens per second", speed.train_seconds, speed.train_tokens_per_second)) }
                dt { "Scoring" } dd { (format!("{:.1} rows per second", speed.score_rows_per_second)) }
                dt { "GPU memory" } dd { (gigabytes(speed.gpu_bytes)) }
                @if let Some(bytes) = speed.host_bytes { dt { "CPU memory" } dd { (gigabytes(bytes)) } }
            }
            @if !report.command.is_empty() { pre { (report.command) } }
        }
    }
}
