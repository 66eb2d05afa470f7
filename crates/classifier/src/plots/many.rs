//! Pictures of more classes than colours can tell apart: their mean, and a heat map.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::svg::{FONT, SMALL, colour, picture, short};
use super::{Line, PlotError, line};
use crate::metrics::{ClassFigures, Evaluation, mean};

/// Steps of the grid on which curves are averaged.
const STEPS: u32 = 100;
/// Side of a heat map's cells taken together, in pixels.
const SIDE: i32 = 560;
/// With smaller cells than this, the names of the rows would overlap.
const NAMED: i32 = 14;

/// One thin line per class, and their mean.
pub(super) fn lines(
    classes: &[ClassFigures],
    points: impl Fn(&ClassFigures) -> Vec<(f64, f64)>,
    value: impl Fn(&[(f64, f64)], f64) -> f64,
) -> Vec<Line> {
    let curves: Vec<_> = classes.iter().map(points).filter(|points| !points.is_empty()).collect();
    let grid = (0..=STEPS).map(|i| f64::from(i) / f64::from(STEPS));
    let average: Vec<(f64, f64)> =
        grid.filter_map(|x| Some((x, mean(curves.iter().map(|c| value(c, x)))?))).collect();
    // every class's line has the same look: one of them is named
    let named = |i: usize| if i == 0 { "each class" } else { "" };
    let mut lines: Vec<Line> = curves
        .into_iter()
        .enumerate()
        .map(|(i, points)| line(named(i), points, colour::MUTED, false, true))
        .collect();
    let name = format!("mean of {} classes", lines.len());
    lines.push(line(&name, average, colour::EMBER, false, false));
    lines
}

/// Height of a ROC curve at `x`, straight between its points.
pub(super) fn height_of_roc(points: &[(f64, f64)], x: f64) -> f64 {
    let after = points.partition_point(|point| point.0 <= x);
    let (Some(&(x0, y0)), next) =
        (after.checked_sub(1).and_then(|i| points.get(i)), points.get(after))
    else {
        return 0.0;
    };
    next.map_or(y0, |&(x1, y1)| y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

/// The best precision at a recall of at least `x`.
pub(super) fn height_of_precision(points: &[(f64, f64)], x: f64) -> f64 {
    let reached = points.iter().filter(|point| point.0 >= x - 1e-12);
    reached.map(|point| point.1).fold(0.0, f64::max)
}

/// The confusion matrix without numbers: a darker cell has a larger share of its row. Empty cells are not drawn.
pub(super) fn heat_map(evaluation: &Evaluation) -> Result<String, PlotError> {
    let n = evaluation.confusion.len().max(1) as i32;
    let side = (SIDE / n).clamp(4, 24);
    let (left, top) = (if side < NAMED { 28 } else { 150 }, 30);
    let size = ((left + side * n + 12) as u32, (top + side * n + 12) as u32);
    picture(size, "Confusion matrix as a heat map", |area| {
        let text = |color: &RGBColor, h| {
            (FONT, SMALL).into_font().color(color).pos(Pos::new(h, VPos::Center))
        };
        let put = |words: String, at, style| {
            area.draw(&Text::new(words, at, style)).map_err(PlotError::of)
        };
        let middle = left + side * n / 2;
        put("predicted".into(), (middle, 14), text(&colour::MUTED, HPos::Center))?;
        put("actual".into(), (4, 14), text(&colour::MUTED, HPos::Left))?;
        let frame = [(left - 1, top - 1), (left + side * n, top + side * n)];
        area.draw(&Rectangle::new(frame, colour::MUTED.stroke_width(1))).map_err(PlotError::of)?;
        for (i, row) in (0..).zip(&evaluation.confusion) {
            let y = top + side * i;
            if side >= NAMED {
                let name = evaluation.classes.get(i as usize).map_or("?", |class| class);
                put(short(name, 16), (left - 8, y + side / 2), text(&colour::INK, HPos::Right))?;
            }
            let all: usize = row.iter().sum();
            for (j, &count) in (0..).zip(row).filter(|(_, count)| **count > 0) {
                let share = count as f64 / all as f64;
                let color = if i == j { colour::PINE } else { colour::EMBER };
                let (x, gap) = (left + side * j, i32::from(side > 8));
                let corners = [(x, y), (x + side - 1 - gap, y + side - 1 - gap)];
                let cell = Rectangle::new(corners, color.mix(0.15 + 0.85 * share).filled());
                area.draw(&cell).map_err(PlotError::of)?;
            }
        }
        Ok(())
    })
}
