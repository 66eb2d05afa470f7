//! What every kernel test needs: both device profiles, numbers from a seed, one measure of error.

use hearth_gpu::{Gpu, GpuOptions, Profile};

/// Turns async test bodies into tests that run natively and in the browser's worker.
macro_rules! gpu_test {
    ($($(#[$attr:meta])* async fn $name:ident() $body:block)*) => {
        $(
            $(#[$attr])*
            #[cfg(not(target_arch = "wasm32"))]
            #[test]
            fn $name() {
                pollster::block_on(async $body)
            }

            $(#[$attr])*
            #[cfg(target_arch = "wasm32")]
            #[wasm_bindgen_test::wasm_bindgen_test]
            async fn $name() $body
        )*
    };
}
pub(crate) use gpu_test;

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// Runs `body` on the default adapter, once with WebGPU's default limits and once with its own.
pub(crate) async fn for_each_profile(body: impl AsyncFn(Gpu)) {
    for profile in [Profile::Default, Profile::Full] {
        let gpu = Gpu::open(&GpuOptions::with_profile(profile)).await.unwrap();
        body(gpu).await;
    }
}

/// Reproducible numbers (splitmix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u32) -> Self {
        Self(u64::from(seed))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        (self.uniform() * f64::from(n)) as u32
    }

    /// `len` numbers of about the given standard deviation.
    pub(crate) fn normal(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len)
            .map(|_| {
                let sum: f64 = (0..12).map(|_| self.uniform()).sum();
                (sum - 6.0) as f32 * scale
            })
            .collect()
    }
}

/// To f64.
pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// ‖got − want‖₂ / ‖want‖₂.
pub(crate) fn relative(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths differ");
    let square = |sum: f64, v: f64| sum + v * v;
    let error = got.iter().zip(want).map(|(g, w)| f64::from(*g) - w).fold(0.0, square);
    let norm = want.iter().copied().fold(0.0, square);
    (error / norm.max(1e-300)).sqrt()
}

/// Fails, with the worst element, where the relative error is over the limit or not a number.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f64], limit: f64) {
    let error = relative(got, want);
    if error <= limit {
        return;
    }
    let worst = (0..got.len())
        .max_by(|&a, &b| {
            let off = |i: usize| (f64::from(got[i]) - want[i]).abs();
            off(a).total_cmp(&off(b))
        })
        .unwrap_or(0);
    panic!("relative error {error:.3e} over {limit:.0e}; worst at {worst}: {} instead of {}", got[worst], want[worst]);
}

/// Central difference of a scalar function along every coordinate. With f64 and h = 1e-5 the error
/// is about h² times the third derivative plus 1e-16/h: 1e-9 for functions of order one, so tests
/// hold analytic gradients to 1e-6 relative.
pub(crate) fn finite_difference(at: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let h = 1e-5;
    let mut point = at.to_vec();
    (0..at.len())
        .map(|i| {
            point[i] = at[i] + h;
            let up = f(&point);
            point[i] = at[i] - h;
            let down = f(&point);
            point[i] = at[i];
            (up - down) / (2.0 * h)
        })
        .collect()
}
