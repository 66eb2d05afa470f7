//! The drawing surface: plotters' SVG backend with a text measure of our own.
//!
//! In a browser plotters measures text with the page's DOM, which a worker does not have, and natively
//! it guesses by another rule. One rule everywhere makes every plot the same everywhere.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters_backend::{BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind};

use super::PlotError;

/// Colours as they are written into the file; [`super::STYLE`] replaces them in dark mode.
pub(super) mod colour {
    use plotters::style::RGBColor;

    pub const INK: RGBColor = RGBColor(0x3B, 0x2A, 0x20);
    pub const MUTED: RGBColor = RGBColor(0x7D, 0x68, 0x58);
    pub const GRID: RGBColor = RGBColor(0xE7, 0xDB, 0xCE);
    pub const EMBER: RGBColor = RGBColor(0xBF, 0x45, 0x1B);
    pub const PINE: RGBColor = RGBColor(0x2C, 0x6E, 0x63);
    pub const GOLD: RGBColor = RGBColor(0xB9, 0x7A, 0x12);
    pub const PLUM: RGBColor = RGBColor(0x7C, 0x3F, 0x6B);
    pub const SLATE: RGBColor = RGBColor(0x4A, 0x5F, 0x82);
    /// Distinguishable by lightness too, for colour-blind readers.
    pub const SERIES: [RGBColor; 5] = [EMBER, PINE, GOLD, PLUM, SLATE];
}

/// The font of every plot; the page's own sans-serif.
pub(super) const FONT: &str = "ui-sans-serif, system-ui, sans-serif";
/// Size of axis labels, in plotters' units (1.24 of them a pixel).
pub(super) const SMALL: f64 = 16.0;

/// plotters' SVG backend, except for measuring text.
pub(super) struct Svg<'a>(SVGBackend<'a>);

/// A drawing area on it.
pub(super) type Area<'a> = DrawingArea<Svg<'a>, Shift>;
type Outcome = Result<(), DrawingErrorKind<std::io::Error>>;

/// Draws a picture of `size` pixels. `label` says to a screen reader what there is to see.
pub(super) fn picture(
    size: (u32, u32),
    label: &str,
    draw: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let area = Svg(SVGBackend::with_string(&mut text, size)).into_drawing_area();
        draw(&area)?;
        area.present().map_err(PlotError::of)?;
    }
    // the width comes from the page; the height follows
    let start = text.find("viewBox").ok_or(PlotError("no picture".into()))?;
    Ok(format!(
        "<svg class=\"plot\" role=\"img\" aria-label=\"{}\" {}",
        escape(label),
        &text[start..]
    ))
}

/// Escapes text for XML and HTML, in elements and in attributes; control characters are left out.
pub(super) fn escape(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

/// At most `limit` characters, none of them control characters.
pub(super) fn short(text: &str, limit: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let start: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() { start + "…" } else { start }
}

impl DrawingBackend for Svg<'_> {
    type ErrorType = std::io::Error;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Outcome {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Outcome {
        self.0.present()
    }

    fn draw_pixel(
        &mut self,
        point: BackendCoord,
        color: plotters_backend::BackendColor,
    ) -> Outcome {
        self.0.draw_pixel(point, color)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Outcome {
        self.0.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        a: BackendCoord,
        b: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Outcome {
        self.0.draw_rect(a, b, style, fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        self.0.draw_path(path, style)
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Outcome {
        self.0.draw_circle(center, radius, style, fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        self.0.fill_polygon(path, style)
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        at: BackendCoord,
    ) -> Outcome {
        self.0.draw_text(text, style, at)
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        // a sans-serif's mean advance is a little over half its size
        let width = text.chars().count() as f64 * style.size() / 1.24 * 0.55;
        Ok((width.ceil() as u32, (style.size() / 1.24).ceil() as u32))
    }
}
