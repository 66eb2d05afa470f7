//! The plots of the report and of the page: plain functions from figures to SVG text.
//!
//! Widths follow the page, colours follow [`STYLE`], every label is escaped, and nothing in a picture
//! runs or loads anything.

mod many;
mod svg;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

use crate::calibration::CalibrationBin;
use crate::columns::TokenHistogram;
use crate::history::{History, LossLines, SweepPoint};
use crate::metrics::{ClassFigures, Evaluation};
use svg::{Area, FONT, SMALL, colour, picture, short};

/// A failure to draw a plot.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("cannot draw the plot: {0}")]
pub struct PlotError(String);

impl PlotError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Style rules that plots need wherever they are embedded: full width, and other colours in dark mode.
pub const STYLE: &str = "svg.plot{width:100%;height:auto;display:block}\
@media(prefers-color-scheme:dark){\
svg.plot [fill='#3B2A20']{fill:#F4E9DD}svg.plot [stroke='#3B2A20']{stroke:#F4E9DD}\
svg.plot [fill='#7D6858']{fill:#BBA796}svg.plot [stroke='#7D6858']{stroke:#BBA796}\
svg.plot [stroke='#E7DBCE']{stroke:#4A3C32}svg.plot [fill='#E7DBCE']{fill:#4A3C32}\
svg.plot [fill='#BF451B']{fill:#FF8A5C}svg.plot [stroke='#BF451B']{stroke:#FF8A5C}\
svg.plot [fill='#2C6E63']{fill:#6CC4B2}svg.plot [stroke='#2C6E63']{stroke:#6CC4B2}\
svg.plot [fill='#B97A12']{fill:#F0BC5A}svg.plot [stroke='#B97A12']{stroke:#F0BC5A}\
svg.plot [fill='#7C3F6B']{fill:#D99AC8}svg.plot [stroke='#7C3F6B']{stroke:#D99AC8}\
svg.plot [fill='#4A5F82']{fill:#9DB4DC}svg.plot [stroke='#4A5F82']{stroke:#9DB4DC}}";

const SQUARE: (u32, u32) = (420, 420);
const WIDE: (u32, u32) = (720, 360);
/// More points than this are indistinguishable at these sizes.
const POINTS: usize = 400;

/// A line of a plot.
struct Line {
    label: String,
    points: Vec<(f64, f64)>,
    color: RGBColor,
    /// Mark every point.
    marked: bool,
    thin: bool,
}

/// What a plot with two number axes needs.
struct Axes {
    size: (u32, u32),
    x: (f64, f64),
    y: (f64, f64),
    x_title: &'static str,
    y_title: &'static str,
    diagonal: bool,
    /// Whole numbers on the x axis.
    whole_x: bool,
}

impl Axes {
    fn unit(x_title: &'static str, y_title: &'static str, diagonal: bool) -> Self {
        Self {
            size: SQUARE,
            x: (0.0, 1.0),
            y: (0.0, 1.0),
            x_title,
            y_title,
            diagonal,
            whole_x: false,
        }
    }
}

/// Training loss by step (smoothed, the raw losses behind it) and validation loss by epoch.
pub fn loss_curve(history: &History) -> Result<String, PlotError> {
    let LossLines { raw, smooth, validation } = LossLines::of(&history.steps, &history.epochs);
    let top = raw.iter().chain(&validation).map(|p| p.1).fold(0.0, f64::max);
    let last = raw.iter().chain(&validation).map(|p| p.0).fold(2.0, f64::max);
    let axes = Axes {
        size: WIDE,
        x: (1.0, last),
        y: (0.0, if top > 0.0 { top * 1.05 } else { 1.0 }),
        x_title: "step",
        y_title: "loss",
        diagonal: false,
        whole_x: true,
    };
    let lines = [
        line("each step", raw, colour::GOLD, false, true),
        line("training, smoothed", smooth, colour::EMBER, false, false),
        line("validation", validation, colour::PINE, true, false),
    ];
    line_plot("Loss by training step", &axes, &lines)
}

/// ROC curves: of the positive class, or of each class against the rest. Of more than five classes, the
/// mean stands out: the true positive rate at each false positive rate, as in macro-averaging.
pub fn roc(evaluation: &Evaluation) -> Result<String, PlotError> {
    let points = |figures: &ClassFigures| {
        figures.roc.iter().map(|p| (p.false_positive_rate, p.true_positive_rate)).collect()
    };
    let lines = class_lines(evaluation, points, many::height_of_roc);
    line_plot("ROC curve", &Axes::unit("false positive rate", "true positive rate", true), &lines)
}

/// Precision-recall curves, likewise: the mean is of the best precision at each recall or more.
pub fn precision_recall(evaluation: &Evaluation) -> Result<String, PlotError> {
    let points =
        |figures: &ClassFigures| figures.pr.iter().map(|p| (p.recall, p.precision)).collect();
    let lines = class_lines(evaluation, points, many::height_of_precision);
    line_plot("Precision-recall curve", &Axes::unit("recall", "precision", false), &lines)
}

/// Predicted against observed frequency, before and after temperature scaling.
pub fn calibration(
    before: Option<&[CalibrationBin]>,
    after: &[CalibrationBin],
) -> Result<String, PlotError> {
    let points = |bins: &[CalibrationBin]| -> Vec<(f64, f64)> {
        bins.iter().filter(|b| b.rows > 0).map(|b| (b.mean_score, b.share)).collect()
    };
    let mut lines = Vec::new();
    if let Some(before) = before {
        lines.push(line("as trained", points(before), colour::GOLD, true, true));
    }
    let label = if before.is_some() { "with the temperature" } else { "probabilities" };
    lines.push(line(label, points(after), colour::EMBER, true, false));
    line_plot(
        "Calibration",
        &Axes::unit("mean predicted probability", "observed share", true),
        &lines,
    )
}

/// F1 or ROC-AUC by training rows, a line for each number of epochs; the mean over seeds.
pub fn sweep(points: &[SweepPoint], figure: SweepFigure) -> Result<String, PlotError> {
    let value = |p: &SweepPoint| if figure == SweepFigure::F1 { p.f1 } else { p.auc };
    let mut epochs: Vec<usize> = points.iter().map(|p| p.epochs).collect();
    epochs.sort_unstable();
    epochs.dedup();
    let lines: Vec<Line> = epochs
        .iter()
        .enumerate()
        .map(|(i, &epochs)| {
            let of_epochs = || points.iter().filter(move |p| p.epochs == epochs);
            let mut sizes: Vec<usize> = of_epochs().map(|p| p.rows).collect();
            sizes.sort_unstable();
            sizes.dedup();
            let mean = |rows: usize| {
                crate::metrics::mean(of_epochs().filter(|p| p.rows == rows).filter_map(value))
            };
            let points =
                sizes.iter().filter_map(|&rows| Some((rows as f64, mean(rows)?))).collect();
            let label = format!("{epochs} epoch{}", if epochs == 1 { "" } else { "s" });
            line(&label, points, colour::SERIES[i % colour::SERIES.len()], true, false)
        })
        .collect();
    let values = || lines.iter().flat_map(|l| &l.points);
    let largest = values().map(|p| p.0).fold(1.0, f64::max);
    let low = values().map(|p| p.1).fold(0.5, f64::min);
    let y_title = if figure == SweepFigure::F1 { "F1" } else { "ROC-AUC" };
    let axes = Axes {
        size: WIDE,
        x: (0.0, largest * 1.03),
        y: (low, 1.0),
        x_title: "training rows",
        y_title,
        diagonal: false,
        whole_x: true,
    };
    line_plot(&format!("{y_title} by training rows and epochs"), &axes, &lines)
}

/// What a sweep plot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepFigure {
    /// F1.
    F1,
    /// ROC-AUC.
    Auc,
}

/// Scores of the rows of each true class; of more than five classes, of all rows.
pub fn score_histogram(evaluation: &Evaluation) -> Result<String, PlotError> {
    let bars = &evaluation.score_histogram;
    let all: Vec<usize> = (0..bars.first().map_or(0, Vec::len))
        .map(|bar| bars.iter().filter_map(|bars| bars.get(bar)).sum())
        .collect();
    let series: Vec<(String, &[usize])> = if has_many(evaluation) {
        vec![("rows".into(), all.as_slice())]
    } else {
        let named = evaluation.classes.iter().zip(bars);
        named.map(|(class, bars)| (short(class, 24), bars.as_slice())).collect()
    };
    let what = match evaluation.positive.and_then(|p| evaluation.classes.get(p)) {
        Some(class) => format!("Histogram of the probability of {}", short(class, 24)),
        None => "Histogram of the likeliest class's probability".into(),
    };
    bar_plot(SQUARE, &what, &series, 1.0, "probability", false)
}

/// Prompt lengths in tokens.
pub fn token_lengths(histogram: &TokenHistogram) -> Result<String, PlotError> {
    let end = (histogram.bars.len() * histogram.width) as f64;
    bar_plot(WIDE, "Prompt lengths", &[("rows".into(), &histogram.bars)], end, "tokens", true)
}

/// More classes than there are colours, and none of them the positive one.
fn has_many(evaluation: &Evaluation) -> bool {
    evaluation.positive.is_none() && evaluation.per_class.len() > colour::SERIES.len()
}

/// A line for the positive class, or for each class.
fn class_lines(
    evaluation: &Evaluation,
    points: impl Fn(&ClassFigures) -> Vec<(f64, f64)>,
    height: impl Fn(&[(f64, f64)], f64) -> f64,
) -> Vec<Line> {
    let classes = &evaluation.per_class;
    if has_many(evaluation) {
        return many::lines(classes, points, height);
    }
    let shown = evaluation.positive.map_or(&classes[..], |positive| &classes[positive..=positive]);
    let named = shown.iter().zip(colour::SERIES);
    named
        .map(|(class, color)| line(&short(&class.class, 24), points(class), color, false, false))
        .collect()
}

fn line(label: &str, points: Vec<(f64, f64)>, color: RGBColor, marked: bool, thin: bool) -> Line {
    // every n-th point, and the last
    let step = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept =
        points.iter().enumerate().filter(|(i, _)| i % step == 0 || *i == last).map(|(_, p)| *p);
    Line { label: label.into(), points: kept.collect(), color, marked, thin }
}

fn line_plot(what: &str, axes: &Axes, lines: &[Line]) -> Result<String, PlotError> {
    picture(axes.size, what, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(34)
            .margin_right(18)
            .margin_bottom(4)
            .x_label_area_size(44)
            .y_label_area_size(54)
            .build_cartesian_2d(axes.x.0..axes.x.1, axes.y.0..axes.y.1)
            .map_err(PlotError::of)?;
        let number = |v: &f64| if axes.whole_x { format!("{v:.0}") } else { format!("{v:.1}") };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(colour::GRID)
            .axis_style(colour::MUTED)
            .label_style((FONT, SMALL).into_font().color(&colour::MUTED))
            .axis_desc_style((FONT, SMALL).into_font().color(&colour::INK))
            .x_desc(axes.x_title)
            .y_desc(axes.y_title)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&number)
            .draw()
            .map_err(PlotError::of)?;
        if axes.diagonal {
            let style = colour::MUTED.stroke_width(1);
            let chance = DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 4, 5, style);
            chart.draw_series(chance).map_err(PlotError::of)?;
        }
        for line in lines {
            let style = if line.thin {
                line.color.mix(0.55).stroke_width(1)
            } else {
                line.color.stroke_width(3)
            };
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))
                .map_err(PlotError::of)?;
            if line.marked {
                let dot = |&p: &(f64, f64)| Circle::new(p, 4, line.color.filled());
                chart.draw_series(line.points.iter().map(dot)).map_err(PlotError::of)?;
            }
        }
        let names = lines
            .iter()
            .filter(|l| !l.points.is_empty() && !l.label.is_empty())
            .map(|l| (l.label.as_str(), l.color));
        legend(area, names)
    })
}

fn bar_plot(
    size: (u32, u32),
    what: &str,
    series: &[(String, &[usize])],
    end: f64,
    x_title: &str,
    whole: bool,
) -> Result<String, PlotError> {
    let top = series.iter().flat_map(|(_, bars)| bars.iter()).max().copied().unwrap_or(0).max(1);
    picture(size, what, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(34)
            .margin_right(18)
            .margin_bottom(4)
            .x_label_area_size(44)
            .y_label_area_size(54)
            .build_cartesian_2d(0.0..end, 0.0..top as f64 * 1.05)
            .map_err(PlotError::of)?;
        let number = |v: &f64| if whole { format!("{v:.0}") } else { format!("{v:.1}") };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(colour::GRID)
            .axis_style(colour::MUTED)
            .label_style((FONT, SMALL).into_font().color(&colour::MUTED))
            .axis_desc_style((FONT, SMALL).into_font().color(&colour::INK))
            .x_desc(x_title)
            .y_desc("rows")
            .y_labels(5)
            .x_label_formatter(&number)
            .y_label_formatter(&|v| format!("{v:.0}"))
            .draw()
            .map_err(PlotError::of)?;
        for (i, (_, bars)) in series.iter().enumerate() {
            let width = end / bars.len().max(1) as f64;
            // the classes' bars stand side by side
            let share = width * 0.92 / series.len() as f64;
            let bar = |(b, &rows): (usize, &usize)| {
                let left = b as f64 * width + width * 0.04 + i as f64 * share;
                let color = colour::SERIES[i % colour::SERIES.len()];
                Rectangle::new([(left, 0.0), (left + share, rows as f64)], color.filled())
            };
            let bars = bars.iter().enumerate().filter(|(_, rows)| **rows > 0).map(bar);
            chart.draw_series(bars).map_err(PlotError::of)?;
        }
        let names = series.iter().map(|(name, _)| name.as_str()).zip(colour::SERIES);
        legend(area, names.filter(|_| series.len() > 1))
    })
}

/// Names with their colours, along the top.
fn legend<'l>(
    area: &Area<'_>,
    names: impl Iterator<Item = (&'l str, RGBColor)>,
) -> Result<(), PlotError> {
    let style =
        (FONT, SMALL).into_font().color(&colour::INK).pos(Pos::new(HPos::Left, VPos::Center));
    let mut x = 58;
    for (name, color) in names {
        area.draw(&Circle::new((x, 16), 5, color.filled())).map_err(PlotError::of)?;
        area.draw(&Text::new(name.to_string(), (x + 11, 16), style.clone()))
            .map_err(PlotError::of)?;
        x += 32 + name.chars().count() as i32 * 8;
    }
    Ok(())
}

/// With more classes than this, numbers do not fit into the cells of a confusion matrix.
pub const CONFUSION_CLASSES: usize = 12;

/// The confusion matrix: rows are the truth, columns the prediction; darker is more of its row. Of more
/// than [`CONFUSION_CLASSES`], a heat map without numbers.
pub fn confusion(evaluation: &Evaluation) -> Result<String, PlotError> {
    if evaluation.confusion.len() > CONFUSION_CLASSES {
        return many::heat_map(evaluation);
    }
    let support = |class: usize| evaluation.confusion[class].iter().sum::<usize>();
    let n = evaluation.confusion.len().max(1) as i32;
    let (left, top, side) = (120, 64, (i32::min(120, 560 / n)).max(24));
    let size = ((left + side * n + 12) as u32, (top + side * n + 12) as u32);
    let text = |color: &RGBColor, h, v| (FONT, SMALL).into_font().color(color).pos(Pos::new(h, v));
    picture(size, "Confusion matrix", |area| {
        let put = |words: String, at, style| {
            area.draw(&Text::new(words, at, style)).map_err(PlotError::of)
        };
        let centre = left + side * n / 2;
        put("predicted".into(), (centre, 8), text(&colour::MUTED, HPos::Center, VPos::Top))?;
        put("true".into(), (8, top - 12), text(&colour::MUTED, HPos::Left, VPos::Center))?;
        for truth in 0..evaluation.confusion.len() {
            let y = top + side * truth as i32;
            let name = |class: usize, limit| {
                short(evaluation.classes.get(class).map_or("?", |c| c), limit)
            };
            let middle = (left - 10, y + side / 2);
            put(name(truth, 14), middle, text(&colour::INK, HPos::Right, VPos::Center))?;
            let above = (left + side * truth as i32 + side / 2, top - 12);
            let room = (side as usize / 8).max(3);
            put(name(truth, room), above, text(&colour::INK, HPos::Center, VPos::Center))?;
            for (predicted, &count) in evaluation.confusion[truth].iter().enumerate() {
                let x = left + side * predicted as i32;
                let share = count as f64 / support(truth).max(1) as f64;
                let color = if truth == predicted { colour::PINE } else { colour::EMBER };
                let cell = Rectangle::new(
                    [(x, y), (x + side - 3, y + side - 3)],
                    color.mix(0.06 + 0.44 * share).filled(),
                );
                area.draw(&cell).map_err(PlotError::of)?;
                let middle = (x + side / 2 - 1, y + side / 2 - 1);
                put(count.to_string(), middle, text(&colour::INK, HPos::Center, VPos::Center))?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
#[path = "plots/tests.rs"]
mod tests;
