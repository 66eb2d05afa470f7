//! The loss as a picture. Lines are stretched to the width there is, words stand beside them in their own size.

use std::time::Duration;

use hearth_classifier::history::{Epoch, LossLines, Step};
use leptos::prelude::*;

use crate::page::{format::count, plot::Axes, state::App};

/// The curve is drawn at most this often.
const DRAW: Duration = Duration::from_secs(1);
/// More points than this are not seen.
const POINTS: usize = 400;
/// Hundredths of width and height.
const PERCENT: Axes = Axes {
    left: 0.0,
    top: 0.0,
    width: 100.0,
    height: 100.0,
    x: (0.0, 1.0),
    y: (0.0, 1.0),
    digits: 2,
};

/// The lines, in hundredths of width and height, from the top left.
#[derive(Debug, Clone, PartialEq, Default)]
struct Picture {
    raw: String,
    smooth: String,
    validation: String,
    top: f64,
    last: usize,
    /// Smoothed, at the end.
    loss: f64,
}

/// The least of 1, 2 and 5 with any number of zeros that is not less.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let ten = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].map(|n| n * ten).into_iter().find(|n| *n >= value).unwrap_or(10.0 * ten)
}

impl Picture {
    fn of(steps: &[Step], epochs: &[Epoch]) -> Self {
        let LossLines { raw, smooth, validation } = LossLines::of(steps, epochs);
        let (Some(end), Some(&(_, loss))) = (raw.last(), smooth.last()) else {
            return Self::default();
        };
        // an epoch may be told before its last step is
        let last = validation.iter().map(|p| p.0).fold(end.0, f64::max).max(2.0);
        let top = round_up(raw.iter().chain(&validation).map(|p| p.1).fold(0.0, f64::max));
        let axes = Axes { x: (1.0, last), y: (0.0, top), ..PERCENT };
        let line = |points: &[(f64, f64)]| {
            let every = points.len().div_ceil(POINTS).max(1);
            let end = points.len().saturating_sub(1);
            let seen = points.iter().enumerate().filter(|(i, _)| i % every == 0 || *i == end);
            axes.line(seen.map(|(_, point)| point))
        };
        Self {
            raw: line(&raw),
            smooth: line(&smooth),
            // lines without length have round ends: dots
            validation: validation
                .iter()
                .map(|point| format!("M{}h0", axes.point(*point)))
                .collect(),
            top,
            last: last as usize,
            loss,
        }
    }
}

/// The loss, drawn now and then.
#[component]
pub fn Curve() -> impl IntoView {
    let app = App::here();
    let picture = RwSignal::new(Picture::default());
    let draw = move || {
        picture.set(app.training.with_untracked(|now| Picture::of(&now.steps, &now.epochs)));
    };
    draw();
    let drawn = StoredValue::new((0, 0));
    let tick = move || {
        let seen = app.training.with_untracked(|now| (now.steps.len(), now.epochs.len()));
        if seen != drawn.get_value() {
            drawn.set_value(seen);
            draw();
        }
    };
    if let Ok(timer) = set_interval_with_handle(tick, DRAW) {
        on_cleanup(move || timer.clear());
    }
    let label = move || {
        picture.with(|p| match p.last {
            0 => "Loss by step: no step yet".to_owned(),
            last => format!("Loss by step: {:.3} after {last} steps, smoothed", p.loss),
        })
    };
    let line = move |of: fn(&Picture) -> &String| move || picture.with(|p| of(p).clone());
    let height = move |share: f64| {
        move || {
            picture.with(|p| if p.last == 0 { String::new() } else { (p.top * share).to_string() })
        }
    };
    let step = move |share: f64| {
        move || {
            picture.with(|p| {
                let at = (1.0 + share * p.last.saturating_sub(1) as f64).round() as u64;
                if p.last == 0 { String::new() } else { count(at) }
            })
        }
    };
    view! {
        <section aria-labelledby="curve-title">
            <h2 id="curve-title">"Loss"</h2>
            <p class="hint">
                "How far the predicted probabilities are from the labels; 0 is certain and right. If the validation loss rises while the training loss falls, the model is overfitting."
            </p>
            <ul class="key" aria-hidden="true">
                <li data-line="raw">"training, each step"</li>
                <li data-line="smooth">"training, smoothed"</li>
                <li data-line="validation">"validation"</li>
            </ul>
            <div class="loss-curve" role="img" aria-label=label data-test="loss-curve">
                <div class="loss-y number">
                    <span>{height(1.0)}</span>
                    <span>{height(0.5)}</span>
                    <span>{height(0.0)}</span>
                </div>
                <svg viewBox="0 0 100 100" preserveAspectRatio="none">
                    <path class="grid" d="M0 0H100M0 50H100M0 100H100" />
                    <path class="raw" d=line(|p| &p.raw) />
                    <path class="smooth" d=line(|p| &p.smooth) />
                    <path class="validation" d=line(|p| &p.validation) />
                </svg>
                <div class="loss-x number">
                    <span>{step(0.0)}</span>
                    <span>"step"</span>
                    <span>{step(1.0)}</span>
                </div>
            </div>
        </section>
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn step(step: usize, loss: f64) -> Step {
        Step { step, epoch: 1, loss, accuracy: 0.5, rate: 0.1, gradient_norm: 1.0, taken: true }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn lines_fill_the_picture() {
        assert_eq!(Picture::of(&[], &[]), Picture::default());
        let steps = [step(1, 0.8), step(2, f64::NAN), step(3, 0.4), step(5, 0.0)];
        let picture = Picture::of(&steps, &[]);
        assert_eq!((picture.top, picture.last), (1.0, 5));
        assert_eq!(picture.raw, "M0.00 20.00L50.00 60.00L100.00 100.00");
        let epoch = Epoch {
            epoch: 1,
            step: 6,
            train_loss: 0.4,
            validation_loss: Some(1.5),
            validation_auc: None,
            validation_f1: None,
        };
        let picture = Picture::of(&steps, &[epoch]);
        assert_eq!((picture.top, picture.last), (2.0, 6));
        assert_eq!(picture.validation, "M100.00 25.00h0");
        let many: Vec<Step> = (1..=10_000).map(|n| step(n, 1.0)).collect();
        let drawn = Picture::of(&many, &[]).raw.matches('L').count();
        assert!((POINTS - 1..=POINTS + 1).contains(&drawn), "{drawn}");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_scale_ends_at_a_round_number() {
        assert_eq!([0.7, 1.0, 1.1, 4.9, 8.0, 0.02].map(round_up), [1.0, 1.0, 2.0, 5.0, 10.0, 0.02]);
        assert_eq!(round_up(0.0), 1.0);
    }
}
