//! The figures, with how sure they are, beside those of the untrained model.

use hearth_classifier::metrics::{Evaluation, Figure};
use leptos::prelude::*;

use super::Page;
use crate::page::{
    format::{duration, figure, of, percent},
    widgets::Stat,
};

/// Name, key in the intervals, test name, value.
type Row = (&'static str, &'static str, &'static str, fn(&Evaluation) -> &Figure);

const ROWS: [Row; 7] = [
    ("F1", "f1", "stat-f1", |e| &e.f1),
    ("ROC-AUC", "roc_auc", "stat-auc", |e| &e.roc_auc),
    ("Accuracy", "accuracy", "stat-accuracy", |e| &e.accuracy),
    ("Balanced accuracy", "balanced_accuracy", "stat-balanced", |e| &e.balanced_accuracy),
    ("Average precision", "average_precision", "stat-ap", |e| &e.average_precision),
    ("Log loss", "log_loss", "stat-log-loss", |e| &e.log_loss),
    ("Calibration error", "calibration_error", "stat-ece", |e| &e.calibration_error),
];

fn interval(evaluation: &Evaluation, key: &str) -> String {
    let found = evaluation.intervals.iter().find(|interval| interval.figure == key);
    found.map_or_else(String::new, |i| format!("{:.3} to {:.3}", i.low, i.high))
}

#[component]
pub fn Headline(page: Page) -> impl IntoView {
    let shown = page.shown.get_value();
    let test = &shown.test.evaluation;
    let stats = ROWS.map(|(name, key, id, value)| {
        let found = value(test);
        let note = found.reason.clone().unwrap_or_else(|| interval(test, key));
        view! { <Stat name=name value=figure(found.value) note=note test=id /> }
    });
    let about = shown.run.as_ref().map(|run| {
        let [train, validation, measured] = run.rows;
        format!(
            "{} on {}: {}, {}, {}; trained in {}.",
            run.model,
            run.data,
            of(train, "training row", "training rows"),
            of(validation, "validation row", "validation rows"),
            of(measured, "test row", "test rows"),
            duration(run.seconds)
        )
    });
    let zero = shown.run.as_ref().and_then(|run| run.zero_shot_test.clone());
    let constant = constant_answer(test);
    let caution = test.caution();
    view! {
        <section aria-label="Figures">
            {about.map(|about| view! { <p class="quiet">{about}</p> })}
            <dl class="stats">{stats.collect_view()}</dl>
            <p class="hint">
                "Small print: the 95% confidence interval. Measured on "
                {of(test.rows, "row", "rows")} ". " {constant}
            </p>
            {caution.map(|caution| view! { <p data-test="caution"><strong>{caution}</strong></p> })}
            {zero.map(|zero| view! { <Compared zero=zero trained=test.clone() /> })}
        </section>
    }
}

/// What always giving the same answer would reach: the least that a classifier has to beat.
fn constant_answer(test: &Evaluation) -> String {
    let rows: Vec<usize> = test.confusion.iter().map(|row| row.iter().sum()).collect();
    let most = rows.iter().enumerate().max_by_key(|(_, rows)| **rows);
    most.filter(|_| test.rows > 0).map_or_else(String::new, |(class, rows)| {
        format!(
            "Always predicting “{}” has an accuracy of {}.",
            test.classes[class],
            percent(*rows as f64 / test.rows as f64)
        )
    })
}

/// The untrained model beside the trained one.
#[component]
fn Compared(zero: Evaluation, trained: Evaluation) -> impl IntoView {
    let row = move |(name, _, _, value): Row| {
        let (before, after) = (value(&zero).value, value(&trained).value);
        view! {
            <tr>
                <th scope="row">{name}</th>
                <td class="number">{figure(before)}</td>
                <td class="number">{figure(after)}</td>
            </tr>
        }
    };
    view! {
        <h2>"Before and after training"</h2>
        <div class="table" data-test="zero-shot" tabindex="0" role="region" aria-label="Before and after training">
            <table>
                <thead>
                    <tr>
                        <td />
                        <th scope="col" class="number">
                            "Untrained"
                        </th>
                        <th scope="col" class="number">
                            "Trained"
                        </th>
                    </tr>
                </thead>
                <tbody>{ROWS.into_iter().take(6).map(row).collect_view()}</tbody>
            </table>
        </div>
    }
}

/// Each class against the rest.
#[component]
pub fn PerClass(page: Page) -> impl IntoView {
    let shown = page.shown.get_value();
    let test = &shown.test.evaluation;
    let rows = test
        .per_class
        .iter()
        .map(|class| {
            let cells = [&class.precision, &class.recall, &class.f1, &class.roc_auc];
            view! {
                <tr>
                    <th scope="row">{class.class.clone()}</th>
                    <td class="number">{class.support}</td>
                    {cells.map(|cell| view! { <td class="number">{figure(cell.value)}</td> }).collect_view()}
                </tr>
            }
        })
        .collect_view();
    let head = ["Rows", "Precision", "Recall", "F1", "ROC-AUC"];
    view! {
        <section aria-labelledby="classes-name">
            <h2 id="classes-name">"Results by class"</h2>
            <div class="table" tabindex="0" role="region" aria-label="Figures of each class">
                <table>
                    <thead>
                        <tr>
                            <th scope="col">"Class"</th>
                            {head.map(|name| view! { <th scope="col" class="number">{name}</th> }).collect_view()}
                        </tr>
                    </thead>
                    <tbody>{rows}</tbody>
                </table>
            </div>
            <p class="hint">
                {(test.classes.len() == 2).then(|| format!("At the threshold {:.3}.", test.threshold))}
                " Precision: the share of the rows predicted as a class that belong to it. Recall: the share of the rows of a class that are predicted as it."
            </p>
        </section>
    }
}
