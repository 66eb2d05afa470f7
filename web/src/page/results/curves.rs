//! ROC and precision-recall curves with the threshold on them, scores by class, calibration.

use hearth_classifier::plots;
use leptos::prelude::*;

use super::Page;
use crate::page::{format::figure, plot::Axes, widgets::Plot};

/// The unit square in its picture.
const SQUARE: Axes = Axes {
    left: 44.0,
    top: 10.0,
    width: 300.0,
    height: 300.0,
    x: (0.0, 1.0),
    y: (0.0, 1.0),
    digits: 1,
};

#[component]
pub fn Curves(page: Page) -> impl IntoView {
    let curves = page.scores.with_value(|scores| scores.curves());
    let shown = page.shown.get_value();
    let test = shown.test.evaluation.clone();
    let histogram = plots::score_histogram(&test).unwrap_or_default();
    let calibration = plots::calibration(Some(&shown.test.calibration_before), &test.calibration)
        .unwrap_or_default();
    let moving = curves.map(|(roc, pr)| {
        let roc: Vec<(f64, f64)> =
            roc.iter().map(|p| (p.false_positive_rate, p.true_positive_rate)).collect();
        let pr: Vec<(f64, f64)> = pr.iter().map(|p| (p.recall, p.precision)).collect();
        let at_roc =
            Signal::derive(move || page.at.with(|at| Some((at.false_alarms?, at.recall?))));
        let at_pr = Signal::derive(move || page.at.with(|at| Some((at.recall?, at.precision?))));
        view! {
            <Curve
                test="roc"
                title="ROC curve"
                across="False positive rate"
                up="True positive rate (recall)"
                points=roc
                diagonal=true
                at=at_roc
                area=figure(test.roc_auc.value)
            />
            <Curve
                test="pr"
                title="Precision-recall curve"
                across="Recall"
                up="Precision"
                points=pr
                diagonal=false
                at=at_pr
                area=figure(test.average_precision.value)
            />
        }
    });
    let several = (!page.binary()).then(|| {
        let [roc, pr] =
            [plots::roc(&test), plots::precision_recall(&test)].map(Result::unwrap_or_default);
        view! {
            <div class="curve" data-test="roc">
                <h3>"ROC curves"</h3>
                <Plot svg=roc label="ROC curve of each class against the rest" />
            </div>
            <div class="curve" data-test="pr">
                <h3>"Precision-recall curves"</h3>
                <Plot svg=pr label="Precision-recall curve of each class against the rest" />
            </div>
        }
    });
    view! {
        <section aria-labelledby="curves-name">
            <h2 id="curves-name">"Curves"</h2>
            <div class="plots">
                {moving} {several} <div class="curve" data-test="histogram">
                    <h3>"Distribution of scores"</h3>
                    <Plot svg=histogram label="Histogram of predicted probabilities by actual class" />
                </div>
                <div class="curve" data-test="calibration">
                    <h3>"Calibration"</h3>
                    <Plot svg=calibration label="Observed frequency by predicted probability" />
                </div>
            </div>
        </section>
    }
}

/// A curve in the unit square, with a dot where the threshold is.
#[component]
fn Curve(
    test: &'static str,
    title: &'static str,
    across: &'static str,
    up: &'static str,
    points: Vec<(f64, f64)>,
    diagonal: bool,
    #[prop(into)] at: Signal<Option<(f64, f64)>>,
    area: String,
) -> impl IntoView {
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|value| {
        let ((x, y), (left, bottom)) = (SQUARE.place((value, value)), SQUARE.place((0.0, 0.0)));
        let right = SQUARE.place((1.0, 0.0)).0;
        view! {
            <line class="grid" x1=left x2=right y1=y y2=y />
            <text class="tick" x=left - 6.0 y=y + 4.0 text-anchor="end">
                {format!("{value}")}
            </text>
            <text class="tick" x=x y=bottom + 16.0 text-anchor="middle">
                {format!("{value}")}
            </text>
        }
    });
    let chance = diagonal.then(|| {
        view! { <path class="chance" d=SQUARE.line(&[(0.0, 0.0), (1.0, 1.0)]) /> }
    });
    let (middle, bottom) = SQUARE.place((0.5, 0.0));
    let (left, height) = SQUARE.place((0.0, 0.5));
    let dot = move || at.get().map(|point| SQUARE.place(point));
    let label = move || {
        let now = at.get().map_or_else(String::new, |(x, y)| {
            format!(" At the threshold: {across} {x:.2}, {up} {y:.2}.")
        });
        format!("{title}, area under it {area}.{now}")
    };
    let turned = format!("rotate(-90 {:.0} {height:.0})", left - 34.0);
    view! {
        <figure class="curve" data-test=test>
            <figcaption>{title}</figcaption>
            <svg viewBox="0 0 360 360" role="img" aria-label=label>
                {ticks.collect_view()} {chance} <path class="series" d=SQUARE.line(&points) />
                <circle
                    class="dot-now"
                    r="6"
                    cx=move || dot().map(|(x, _)| x)
                    cy=move || dot().map(|(_, y)| y)
                    visibility=move || if dot().is_some() { "visible" } else { "hidden" }
                />
                <text class="axis" x=middle y=bottom + 36.0 text-anchor="middle">
                    {across}
                </text>
                <text class="axis" x=left - 34.0 y=height text-anchor="middle" transform=turned>
                    {up}
                </text>
            </svg>
        </figure>
    }
}
