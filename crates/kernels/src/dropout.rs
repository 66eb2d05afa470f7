//! Dropout by a counter-based hash: the mask depends only on the run's seed, the step, the site in the
//! model, the token's counter and the column. So recomputation and backward reproduce it without
//! storing it, and packing and micro-batches do not change it.
//!
//! Source: Srivastava et al. 2014, inverted form; the hash is MurmurHash3's finalizer (Appleby).

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice};

use crate::{grid::grid, shader::kernel};

kernel!("dropout", [], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    tokens: u32,
    columns: u32,
    seed: u32,
    threshold: u32,
    scale: f32,
}

/// Operands of [`record`].
pub struct Dropout<'a> {
    /// Input, `(T, C)`.
    pub x: &'a Slice,
    /// A number that identifies the token in the run, u32 `(T)`.
    pub counters: &'a Slice,
    /// Output, `(T, C)`.
    pub y: &'a Slice,
    /// T.
    pub tokens: u32,
    /// C.
    pub columns: u32,
    /// From [`seed`].
    pub seed: u32,
    /// Probability of dropping, in 0..1.
    pub probability: f32,
    /// `y +=` instead of `y =`.
    pub add: bool,
}

/// Combines a run's seed, a step and a site in the model.
pub fn seed(run: u32, step: u32, site: u32) -> u32 {
    mix(mix(mix(run) ^ step) ^ site)
}

fn mix(value: u32) -> u32 {
    let h = (value ^ (value >> 16)).wrapping_mul(0x85eb_ca6b);
    let h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// Records `y =`, or `y +=` with `add`.
pub fn record(commands: &mut Commands, op: &Dropout) {
    let count = op.tokens * op.columns;
    let params = Params {
        tokens: op.tokens,
        columns: op.columns,
        seed: op.seed,
        threshold: threshold(op.probability),
        scale: 1.0 / (1.0 - op.probability),
    };
    commands.dispatch(
        &KERNEL,
        &[("WG", 64), ("ADD", op.add.into())],
        &params,
        &[op.x, op.counters, op.y].map(Slice::clone),
        grid(count.div_ceil(64)),
        12 * u64::from(count),
    );
}

fn threshold(probability: f32) -> u32 {
    (f64::from(probability) * 4_294_967_296.0) as u32
}

/// The same on the CPU in f64; `x` is `(T, C)`, `counters` `(T)`.
pub fn reference(x: &[f64], counters: &[u32], seed: u32, probability: f32) -> Vec<f64> {
    let columns = x.len() / counters.len();
    let mut y = Vec::with_capacity(x.len());
    for (row, key) in x.chunks_exact(columns).zip(counters) {
        y.extend((0u32..).zip(row).map(|(column, value)| {
            let hash = mix(mix(key ^ seed).wrapping_add(column.wrapping_mul(0x9e37_79b9)));
            if hash < threshold(probability) { 0.0 } else { value / (1.0 - f64::from(probability)) }
        }));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, for_each_profile, gpu_test, wide};

    gpu_test! {
        async fn dropout_equals_its_reference_and_replays() {
            for_each_profile(async |gpu| {
                let mut numbers = Numbers::new(9);
                for (tokens, columns, probability) in [(1, 4, 0.5), (7, 640, 0.1), (3, 20, 0.0), (9, 36, 0.9)] {
                    let x = numbers.normal((tokens * columns) as usize, 1.0);
                    let counters: Vec<u32> = (0..tokens).map(|_| numbers.bits() as u32).collect();
                    let before = numbers.normal(x.len(), 1.0);
                    let [x_, y_, again] = [&x, &before, &before].map(|v| gpu.buffer_from("x", v).unwrap().all());
                    let counters_ = gpu.buffer_from("counters", &counters).unwrap().all();
                    let mut commands = Commands::new();
                    for (y, add) in [(&y_, true), (&again, false)] {
                        record(&mut commands, &Dropout {
                            x: &x_, counters: &counters_, y, tokens, columns, seed: seed(1, 2, 3), probability, add,
                        });
                    }
                    gpu.run(&commands).await.unwrap();
                    let mut want = reference(&wide(&x), &counters, seed(1, 2, 3), probability);
                    assert_close(&gpu.read(again).await.unwrap(), &want, 1e-6);
                    want.iter_mut().zip(&before).for_each(|(w, b)| *w += f64::from(*b));
                    assert_close(&gpu.read(y_).await.unwrap(), &want, 1e-6);
                }
            })
            .await;
        }
    }

    // 64,000 draws at p = 0.1 have a standard deviation of 76: a bound of six of them fails once in a
    // billion.
    #[test]
    fn as_many_are_dropped_as_asked_and_sites_differ() {
        let counters: Vec<u32> = (0..100).map(|i: u32| i.wrapping_mul(0x9e37_79b1)).collect();
        let ones = vec![1.0; 64_000];
        let kept = |seed| reference(&ones, &counters, seed, 0.1);
        let dropped = |y: &[f64]| y.iter().filter(|v| **v == 0.0).count() as f64;
        let (a, b) = (kept(seed(1, 0, 0)), kept(seed(1, 0, 1)));
        assert!((dropped(&a) - 6400.0).abs() < 456.0, "{}", dropped(&a));
        let both = a.iter().zip(&b).filter(|(a, b)| **a == 0.0 && **b == 0.0).count() as f64;
        assert!((both - 640.0).abs() < 152.0, "{both}");
    }
}
