//! `y = gelu(gate) · up`, elementwise, with the tanh form of GELU: the formulas. On the device, it is the end of the
//! [`matmul`](crate::matmul) that computes gate and up, and its gradient the end of the
//! [`matmul_backward`](crate::matmul_backward) that computes the gradient of y.
//!
//! Source: Shazeer 2020, "GLU Variants Improve Transformer"; Hendrycks and Gimpel 2016 for GELU.
//! Gemma uses `approximate="tanh"` (google/gemma_pytorch, `model.py`). The gradient is the derivative of that form.

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))` in f64.
pub fn gelu(x: f64) -> f64 {
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    0.5 * x * (1.0 + u.tanh())
}

/// On the CPU in f64; both arguments are `(T, F)`.
pub fn reference(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(&g, u)| gelu(g) * u).collect()
}

/// Its gradient on the CPU in f64: of gate and up, `(T, F)` each. The derivative is taken
/// from the tanh form itself.
pub fn reference_backward(d_y: &[f64], gate: &[f64], up: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let k = (2.0 / std::f64::consts::PI).sqrt();
    let d_gelu = |x: f64| {
        let t = (k * (x + 0.044715 * x.powi(3))).tanh();
        0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * k * (1.0 + 3.0 * 0.044715 * x * x)
    };
    let d_gate = d_y.iter().zip(gate).zip(up).map(|((d, g), u)| d * u * d_gelu(*g)).collect();
    let d_up = d_y.iter().zip(gate).map(|(d, g)| d * gelu(*g)).collect();
    (d_gate, d_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, finite_difference, wide};

    // Third derivatives of GELU stay below 3, so the difference is accurate to 3 h² = 3e-10.
    #[test]
    fn reference_agrees_with_finite_differences() {
        let mut numbers = Numbers::new(2);
        let [d_y, gate, up] = [16, 16, 16].map(|n| wide(&numbers.normal(n, 1.5)));
        let loss = |g: &[f64], u: &[f64]| {
            reference(g, u).iter().zip(&d_y).map(|(y, d)| y * d).sum::<f64>()
        };
        let (d_gate, d_up) = reference_backward(&d_y, &gate, &up);
        let pairs = [
            (d_gate, finite_difference(&gate, |g| loss(g, &up))),
            (d_up, finite_difference(&up, |u| loss(&gate, u))),
        ];
        for (a, b) in pairs.iter().flat_map(|(a, b)| a.iter().zip(b)) {
            assert!((a - b).abs() < 1e-7, "{a} {b}");
        }
    }
}
