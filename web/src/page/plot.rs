//! From numbers to the paths of a picture that the page draws itself.

/// The inner rectangle of a picture, in its own units, and the numbers at its edges.
#[derive(Debug, Clone, Copy)]
pub struct Axes {
    /// Of the rectangle.
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    /// The numbers on the left and on the right.
    pub x: (f64, f64),
    /// The numbers at the bottom and at the top.
    pub y: (f64, f64),
    /// Digits after the point of what is written into a path.
    pub digits: usize,
}

impl Axes {
    /// Where a point lies.
    pub fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (from, to): (f64, f64)| (value - from) / (to - from);
        let bottom = self.top + self.height;
        (self.left + share(x, self.x) * self.width, bottom - share(y, self.y) * self.height)
    }

    /// A point in words of a path.
    pub fn point(&self, point: (f64, f64)) -> String {
        let ((x, y), digits) = (self.place(point), self.digits);
        format!("{x:.digits$} {y:.digits$}")
    }

    /// A line through points.
    pub fn line<'a>(&self, points: impl IntoIterator<Item = &'a (f64, f64)>) -> String {
        let points: Vec<String> = points.into_iter().map(|point| self.point(*point)).collect();
        if points.is_empty() { String::new() } else { format!("M{}", points.join("L")) }
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn edges_are_where_the_axes_say() {
        let axes = Axes {
            left: 10.0,
            top: 20.0,
            width: 100.0,
            height: 50.0,
            x: (1.0, 3.0),
            y: (0.0, 2.0),
            digits: 1,
        };
        assert_eq!(
            axes.line(&[(1.0, 0.0), (2.0, 1.0), (3.0, 2.0)]),
            "M10.0 70.0L60.0 45.0L110.0 20.0"
        );
        assert_eq!(axes.line(&[]), "");
    }
}
