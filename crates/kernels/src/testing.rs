//! Shared by the kernel tests: both device profiles, seeded random numbers, one error measure.

use hearth_formats::layout::{CODES, PackedRows, ScaleForm, WeightLayout};
use hearth_gpu::{Gpu, GpuOptions, Profile};
use hearth_rng::Rng;

use crate::matrix::{Matrix, Slab};

#[cfg(not(target_arch = "wasm32"))]
#[path = "../tests/limits/mod.rs"]
#[allow(dead_code, reason = "tests/shaders.rs uses all of it")]
mod limits;

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

/// Runs `body` on the default adapter, once with WebGPU's default limits and once with its own. In the browser with
/// the default limits only: a kernel sees only the limits of a device, so the second round would dispatch the
/// same programs on the same numbers. What depends on limits is tested natively on both.
pub(crate) async fn for_each_profile(body: impl AsyncFn(Gpu)) {
    let profiles = [Profile::Default, Profile::Full];
    let tried = if cfg!(target_arch = "wasm32") { 1 } else { profiles.len() };
    for profile in profiles.into_iter().take(tried) {
        let gpu = Gpu::open(&GpuOptions::with_profile(profile)).await.unwrap();
        body(gpu.clone()).await;
        #[cfg(not(target_arch = "wasm32"))]
        check_launches(&gpu);
    }
}

/// Checks what was launched against WebGPU's default limits, with the constants of the launches.
#[cfg(not(target_arch = "wasm32"))]
fn check_launches(gpu: &Gpu) {
    let over = |(kernel, constants): (&'static hearth_gpu::Kernel, Vec<hearth_gpu::Constant>)| {
        let found = limits::over_limits(kernel, &limits::parse(kernel).unwrap(), &constants);
        found.into_iter().map(move |what| format!("{} {constants:?}: {what}", kernel.label))
    };
    let found: Vec<String> = gpu.pipelines().into_iter().flat_map(over).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Reproducible random numbers.
pub(crate) struct Numbers(Rng);

impl Numbers {
    pub(crate) fn new(seed: u32) -> Self {
        Self(Rng::new(u64::from(seed)))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.uniform()
    }

    /// Uniform in 0..n.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        self.0.below(n as usize) as u32
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

    /// `len` numbers of deviation 1 with a prime period, which makes large shapes cheap.
    pub(crate) fn repeating(&mut self, len: usize) -> Vec<f32> {
        self.normal(len.min(4099), 1.0).into_iter().cycle().take(len).collect()
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

/// Fails, with the worst element, if the relative error is over the limit or NaN.
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
    panic!(
        "relative error {error:.3e} over {limit:.0e}; worst at {worst}: {} instead of {}",
        got[worst], want[worst]
    );
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

/// Layouts of every code, scale form and minimum; all fit 256 columns.
pub(crate) fn layouts() -> Vec<WeightLayout> {
    let mut all = vec![WeightLayout::F32, WeightLayout::F16];
    for code in CODES.iter().filter(|code| code.scaled) {
        for (group, scale, minimum) in [
            (32, ScaleForm::F16, false),
            (16, ScaleForm::F16, true),
            (128, ScaleForm::F32, false),
            (64, ScaleForm::F32, true),
            (16, ScaleForm::TwoLevel, false),
            (32, ScaleForm::TwoLevel, false),
            (128, ScaleForm::TwoLevel, false),
            (32, ScaleForm::TwoLevel, true),
        ] {
            all.push(WeightLayout::Quant { bits: code.bits, group, scale, minimum });
        }
    }
    all
}

/// Random words in a layout, as a matrix on the device and as the numbers they represent. Every code and every scale
/// byte occurs; f16 scales include subnormals.
pub(crate) fn quantized(
    gpu: &Gpu,
    numbers: &mut Numbers,
    rows: u32,
    columns: u32,
    layout: WeightLayout,
) -> (Matrix, Vec<f64>) {
    let (n, k) = (rows as usize, columns as usize);
    let mut packed = PackedRows::new(layout, k).unwrap();
    packed.rows = n;
    packed.quants = match layout {
        WeightLayout::F32 => numbers.normal(n * k, 1.0).iter().map(|v| v.to_bits()).collect(),
        WeightLayout::F16 => halves(numbers, n * k / 2, 1.0),
        WeightLayout::Quant { .. } => {
            (0..n * layout.quant_words(k)).map(|_| numbers.bits() as u32).collect()
        }
    };
    let words = n * layout.scale_words(k);
    packed.scales = match layout {
        WeightLayout::Quant { scale: ScaleForm::F32, .. } => {
            numbers.normal(words, 0.01).iter().map(|v| v.to_bits()).collect()
        }
        WeightLayout::Quant { scale: ScaleForm::F16, .. } => halves(numbers, words, 1e-4),
        WeightLayout::Quant { scale: ScaleForm::TwoLevel, .. } => {
            let mut all = halves(numbers, words, 1e-4);
            let block = layout.scale_words(256);
            for (i, word) in all.iter_mut().enumerate() {
                if i % block != 0 {
                    *word = numbers.bits() as u32;
                }
            }
            all
        }
        _ => vec![],
    };
    let matrix = Matrix::new(gpu, "test", rows, columns, layout).unwrap();
    matrix.write_rows(gpu, 0, &packed);
    let weights = wide(&packed.decode());
    (matrix, weights)
}

/// Words of two f16 each.
fn halves(numbers: &mut Numbers, words: usize, scale: f32) -> Vec<u32> {
    let values = numbers.normal(2 * words, scale);
    let half = |v: f32| u32::from(half::f16::from_f32(v).to_bits());
    values.chunks_exact(2).map(|v| half(v[0]) | half(v[1]) << 16).collect()
}

/// An f32 matrix cut into slabs of `step` rows, as a device with small bindings would have it.
pub(crate) fn split_f32(gpu: &Gpu, weights: &[f32], columns: u32, step: u32) -> Matrix {
    let rows = weights.len() as u32 / columns;
    let slabs = weights
        .chunks((step * columns) as usize)
        .zip((0..).step_by(step as usize))
        .map(|(part, first_row)| Slab {
            first_row,
            rows: part.len() as u32 / columns,
            layout: WeightLayout::F32,
            quants: gpu.buffer_from("test", part).unwrap().all(),
            scales: gpu.buffer("test", 4).unwrap().all(),
        })
        .collect();
    Matrix { rows, columns, slabs }
}

/// Parts of a result behind `first`, `(count - 1, len)`, and the sum of all.
pub(crate) fn in_parts(numbers: &mut Numbers, first: &[f32], count: u32) -> (Vec<f32>, Vec<f64>) {
    let others = numbers.normal((count as usize - 1) * first.len(), 1.0);
    let mut sum = wide(first);
    for part in others.chunks_exact(first.len()) {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(*part));
    }
    // A buffer has at least one element.
    (if others.is_empty() { vec![0.0] } else { others }, sum)
}
