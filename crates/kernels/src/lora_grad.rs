//! `dA_i[R,K] += dZ_i[T,R]ᵀ · X[T,K]` and `dB_i[N_i,R] += s · dY_i[T,N_i]ᵀ · Z_i[T,R]`: gradients of LoRA's factors, for
//! the projections of one input together.
//!
//! Source: the chain rule on `y = x Wᵀ + s (x Aᵀ) Bᵀ`; dZ = s·dY·B already includes the scale.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice, Split};

use crate::{
    grid::grid,
    lora_dz::{Part, bound},
    shader::kernel,
    variants::Variants,
};

kernel!("lora_grad", [], [Params, Read, Read, Read, Read, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    tokens: u32,
    k4: u32,
    rank4: u32,
    z_stride4: u32,
    z_first4: u32,
    rows0: u32,
    rows1: u32,
    rows2: u32,
    a_cells: u32,
    b_cells: u32,
    a_first4: u32,
    b_first4: u32,
    scale: f32,
    first_group: u32,
}

/// Operands of [`record`].
pub struct LoraGrad<'a> {
    /// One to three projections.
    pub parts: &'a [Part<'a>],
    /// Z, `(T, z_stride)`: R columns per projection.
    pub z: &'a Slice,
    /// dZ, likewise.
    pub d_z: &'a Slice,
    /// Elements from one token of Z and of dZ to the next, a multiple of 4.
    pub z_stride: u32,
    /// The first column of Z and dZ that is used, a multiple of 4.
    pub z_first: u32,
    /// X, `(T, K)`.
    pub x: &'a Slice,
    /// K, a multiple of 4.
    pub inputs: u32,
    /// dA of all, stored one after another, `(parts · R, K)`.
    pub d_a: &'a Slice,
    /// dB of all, stored one after another, `(N_0 + N_1 + N_2, R)`.
    pub d_b: &'a Slice,
    /// T.
    pub tokens: u32,
    /// R, a multiple of 4.
    pub rank: u32,
    /// s.
    pub scale: f32,
}

/// Records `dA +=` and `dB +=`: one dispatch where both are in one buffer, dB after dA, otherwise two.
pub fn record(commands: &mut Commands, variants: &Variants, op: &LoraGrad) {
    let outputs: u32 = op.parts.iter().map(|part| part.outputs).sum();
    let rank4 = op.rank / 4;
    let cells = [op.parts.len() as u32 * rank4 * (op.inputs / 4), outputs / 4 * rank4];
    match op.d_a.until(op.d_b) {
        Some((g, b_first)) => launch(commands, variants, op, &g, cells, (b_first / 16) as u32),
        None => {
            launch(commands, variants, op, op.d_a, [cells[0], 0], 0);
            launch(commands, variants, op, op.d_b, [0, cells[1]], 0);
        }
    }
}

fn launch(
    commands: &mut Commands,
    variants: &Variants,
    op: &LoraGrad,
    g: &Slice,
    cells: [u32; 2],
    b_first4: u32,
) {
    let (workgroup, slices) = variants.lora_grad_workgroup();
    let ([d_y0, d_y1, d_y2], [rows0, rows1, rows2]) = bound(op.parts);
    let [a_cells, b_cells] = cells;
    let params = Params {
        tokens: op.tokens,
        k4: op.inputs / 4,
        rank4: op.rank / 4,
        z_stride4: op.z_stride / 4,
        z_first4: op.z_first / 4,
        rows0,
        rows1,
        rows2,
        a_cells,
        b_cells,
        a_first4: 0,
        b_first4,
        scale: op.scale,
        first_group: 0,
    };
    let groups: u32 = cells.iter().map(|n| n.div_ceil(workgroup / slices)).sum();
    commands
        .dispatch(
            &KERNEL,
            &[("WG", workgroup), ("SLICES", slices)],
            &params,
            &[d_y0, d_y1, d_y2, op.z, op.d_z, op.x, g].map(Slice::clone),
            grid(groups),
            32 * u64::from(op.tokens) * u64::from(a_cells + b_cells),
        )
        .split(Split::Line { field: offset_of!(Params, first_group), front: (0, 0) })
        .serial(op.tokens.div_ceil(slices) + 4 * slices);
}

/// `s · Pᵀ·Q` on the CPU in f64, one factor's gradient; `p` is `(T, M)`, `q` `(T, N)`, the result `(M, N)`.
pub fn reference(p: &[f64], q: &[f64], m: usize, n: usize, scale: f64) -> Vec<f64> {
    let mut g = vec![0.0; m * n];
    for (left, right) in p.chunks_exact(m).zip(q.chunks_exact(n)) {
        for (row, l) in g.chunks_exact_mut(n).zip(left) {
            for (value, r) in row.iter_mut().zip(right) {
                *value += scale * l * r;
            }
        }
    }
    g
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        matmul,
        testing::{Numbers, assert_close, finite_difference, for_each_profile, gpu_test, wide},
    };
    use hearth_gpu::Gpu;

    /// Sizes and buffers of an op.
    pub(crate) struct Case {
        /// T, K and R.
        shape: [u32; 3],
        outputs: Vec<u32>,
        d_y: Vec<Vec<f32>>,
        z: Vec<f32>,
        d_z: Vec<f32>,
        x: Vec<f32>,
        before: Vec<f32>,
        /// dY of every part, then Z, dZ and X.
        buffers: Vec<Slice>,
        d_a: Slice,
        d_b: Slice,
    }

    impl Case {
        /// dA and dB lie in one buffer, or in two.
        pub(crate) fn new(gpu: &Gpu, shape: [u32; 3], outputs: &[u32], together: bool) -> Self {
            let [tokens, inputs, rank] = shape;
            let mut numbers = Numbers::new(tokens + inputs);
            let parts = outputs.len() as u32;
            let mut normal = |len: u32| numbers.normal(len as usize, 1.0);
            let d_y: Vec<_> = outputs.iter().map(|n| normal(tokens * n)).collect();
            let columns = parts * rank + 4;
            let [z, d_z, x] =
                [tokens * columns, tokens * columns, tokens * inputs].map(&mut normal);
            let (a, b) = (parts * rank * inputs, outputs.iter().sum::<u32>() * rank);
            let before = normal(a + b);
            // dB begins at a multiple of 256 bytes.
            let gap = a.next_multiple_of(64);
            let buffer = |numbers: u32| gpu.buffer("test", 4 * u64::from(numbers)).unwrap().all();
            let (d_a, d_b) = match buffer(gap + b) {
                all if together => (
                    all.slice(0, 4 * u64::from(a)),
                    all.slice(4 * u64::from(gap), 4 * u64::from(b)),
                ),
                _ => (buffer(a), buffer(b)),
            };
            gpu.write(&d_a, 0, &before[..a as usize]);
            gpu.write(&d_b, 0, &before[a as usize..]);
            let all = d_y.iter().chain([&z, &d_z, &x]);
            let buffers = all.map(|v| gpu.buffer_from("test", v).unwrap().all()).collect();
            Self { shape, outputs: outputs.to_vec(), d_y, z, d_z, x, before, buffers, d_a, d_b }
        }

        pub(crate) fn record(&self, commands: &mut Commands, variants: &Variants) {
            let [tokens, inputs, rank] = self.shape;
            let (d_y, rest) = self.buffers.split_at(self.outputs.len());
            let parts: Vec<_> = d_y
                .iter()
                .zip(&self.outputs)
                .map(|(d_y, &outputs)| Part { d_y, outputs })
                .collect();
            let z_stride = self.outputs.len() as u32 * rank + 4;
            let (z, d_z, x, d_a, d_b) = (&rest[0], &rest[1], &rest[2], &self.d_a, &self.d_b);
            let op = LoraGrad {
                parts: &parts,
                z,
                d_z,
                z_stride,
                z_first: 4,
                x,
                inputs,
                d_a,
                d_b,
                tokens,
                rank,
                scale: 2.0,
            };
            record(commands, variants, &op);
        }

        /// All gradients as one slice, and their values before the op.
        pub(crate) fn in_one(&self) -> (Slice, Vec<f32>) {
            let (all, _) = self.d_a.until(&self.d_b).unwrap();
            assert_eq!(all.bytes(), 4 * self.before.len() as u64, "no gap between dA and dB");
            (all, self.before.clone())
        }

        async fn read(&self, gpu: &Gpu) -> Vec<f32> {
            [gpu.read(&self.d_a).await.unwrap(), gpu.read(&self.d_b).await.unwrap()].concat()
        }

        fn want(&self) -> Vec<f64> {
            let [_, inputs, rank] = self.shape.map(|n| n as usize);
            let mut want = wide(&self.before);
            let stride = self.outputs.len() * rank + 4;
            let (mut a, mut b) = (0, self.outputs.len() * rank * inputs);
            for (part, (d_y, &outputs)) in self.d_y.iter().zip(&self.outputs).enumerate() {
                let columns = |v: &[f32]| -> Vec<f64> {
                    v.chunks(stride).flat_map(|row| wide(&row[4 + part * rank..][..rank])).collect()
                };
                let d_a = reference(&columns(&self.d_z), &wide(&self.x), rank, inputs, 1.0);
                let d_b = reference(&wide(d_y), &columns(&self.z), outputs as usize, rank, 2.0);
                for (at, gradient) in [(&mut a, d_a), (&mut b, d_b)] {
                    want[*at..].iter_mut().zip(&gradient).for_each(|(w, g)| *w += g);
                    *at += gradient.len();
                }
            }
            want
        }
    }

    gpu_test! {
        async fn lora_grad_of_awkward_shapes() {
            for (shape, outputs) in [
                ([1, 8, 4], &[4][..]), ([7, 640, 8], &[1024, 256, 260]), ([33, 36, 12], &[12, 2048]),
                ([274, 36, 4], &[8]), ([8, 12, 4], &[4, 8, 20]),
            ] {
                for_each_profile(async |gpu| {
                    for (together, software) in [(true, false), (true, true), (false, false), (false, true)] {
                        let variants = Variants { software, ..Variants::of(&gpu) };
                        let case = Case::new(&gpu, shape, outputs, together);
                        let mut commands = Commands::new();
                        case.record(&mut commands, &variants);
                        assert_eq!(commands.dispatches(), if together { 1 } else { 2 });
                        gpu.run(&commands).await.unwrap();
                        assert_close(&case.read(&gpu).await, &case.want(), 1e-5);
                    }
                })
                .await;
            }
        }
    }

    // y = s (x Aᵀ) Bᵀ is linear in A and in B: exact except for rounding.
    #[test]
    fn reference_agrees_with_finite_differences_of_both_factors() {
        let mut numbers = Numbers::new(3);
        let (t, k, r, n, s) = (3, 5, 2, 4, 0.7);
        let [x, a, b, d_y] =
            [t * k, r * k, n * r, t * n].map(|len| wide(&numbers.normal(len, 1.0)));
        let loss = |a: &[f64], b: &[f64]| {
            let y = matmul::reference(&matmul::reference(&x, a, k), b, r);
            y.iter().zip(&d_y).map(|(y, d)| s * y * d).sum::<f64>()
        };
        let z = matmul::reference(&x, &a, k);
        let d_b = reference(&d_y, &z, n, r, s);
        let d_z: Vec<f64> =
            crate::matmul_backward::reference(&d_y, &b, n, r).iter().map(|v| s * v).collect();
        let d_a = reference(&d_z, &x, r, k, 1.0);
        for (got, want) in [
            (d_a, finite_difference(&a, |a| loss(a, &b))),
            (d_b, finite_difference(&b, |b| loss(&a, b))),
        ] {
            for (g, w) in got.iter().zip(want) {
                assert!((g - w).abs() < 1e-8, "{g} {w}");
            }
        }
    }
}
