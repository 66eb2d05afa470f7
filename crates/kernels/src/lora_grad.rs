//! `dA_i[R,K] += dZ_i[T,R]ᵀ · X[T,K]` and `dB_i[N_i,R] += s · dY_i[T,N_i]ᵀ · Z_i[T,R]`: gradients of LoRA's factors, for
//! the projections of one input together, and for those of two inputs if their tokens are the same.
//!
//! Source: the chain rule on `y = x Wᵀ + s (x Aᵀ) Bᵀ`; dZ = s·dY·B already includes the scale.

use std::{mem::offset_of, ops::Range};

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice, Split};

use crate::{grid::grid, lora_dz::columns, shader::kernel, variants::Variants};

kernel!("lora_grad", [], [Params, Read, Read, Read, Read, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    tokens: u32,
    rank4: u32,
    z_stride4: u32,
    scale: f32,
    first_group: u32,
    k4_0: u32,
    z_first4_0: u32,
    y_stride4_0: u32,
    first0_0: u32,
    first1_0: u32,
    first2_0: u32,
    rows0_0: u32,
    rows1_0: u32,
    rows2_0: u32,
    a_cells_0: u32,
    b_cells_0: u32,
    a_first4_0: u32,
    b_first4_0: u32,
    k4_1: u32,
    z_first4_1: u32,
    y_stride4_1: u32,
    first0_1: u32,
    first1_1: u32,
    first2_1: u32,
    rows0_1: u32,
    rows1_1: u32,
    rows2_1: u32,
    a_cells_1: u32,
    b_cells_1: u32,
    a_first4_1: u32,
    b_first4_1: u32,
}

/// The projections of one input.
#[derive(Clone, Copy)]
pub struct Group<'a> {
    /// Gradient of their outputs, `(T, y_stride)`.
    pub d_y: &'a Slice,
    /// Elements from one token of dY to the next, a multiple of 4.
    pub y_stride: u32,
    /// One to three projections: their columns of dY, multiples of 4.
    pub parts: &'a [Range<u32>],
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
}

impl Group<'_> {
    /// Cells of 4 × 4 elements of dA and of dB.
    fn cells(&self, rank4: u32) -> [u32; 2] {
        let outputs: u32 = self.parts.iter().map(|part| part.end - part.start).sum();
        [self.parts.len() as u32 * rank4 * (self.inputs / 4), outputs / 4 * rank4]
    }
}

/// Operands of [`record`].
pub struct LoraGrad<'a> {
    /// One or two.
    pub groups: &'a [Group<'a>],
    /// Z, `(T, z_stride)`: R columns per projection.
    pub z: &'a Slice,
    /// dZ, likewise.
    pub d_z: &'a Slice,
    /// Elements from one token of Z and of dZ to the next, a multiple of 4.
    pub z_stride: u32,
    /// T.
    pub tokens: u32,
    /// R, a multiple of 4.
    pub rank: u32,
    /// s.
    pub scale: f32,
}

/// Records `dA +=` and `dB +=`: one dispatch if all gradients are in one buffer, in this order, otherwise up to four.
pub fn record(commands: &mut Commands, variants: &Variants, op: &LoraGrad) {
    match op.groups {
        [] => {}
        [one] => {
            let cells = one.cells(op.rank / 4);
            match one.d_a.until(one.d_b) {
                Some((g, b)) => {
                    launch(commands, variants, op, &g, &[Half { group: one, cells, at: [0, b] }])
                }
                None => {
                    let of_a = Half { group: one, cells: [cells[0], 0], at: [0, 0] };
                    let of_b = Half { group: one, cells: [0, cells[1]], at: [0, 0] };
                    launch(commands, variants, op, one.d_a, &[of_a]);
                    launch(commands, variants, op, one.d_b, &[of_b]);
                }
            }
        }
        [first, rest @ ..] => match in_one(first, rest, op.rank / 4) {
            Some((g, halves)) => launch(commands, variants, op, &g, &halves),
            None => {
                op.groups
                    .chunks(1)
                    .for_each(|one| record(commands, variants, &LoraGrad { groups: one, ..*op }));
            }
        },
    }
}

/// A group with its numbers of cells, and the bytes at which dA and dB begin in the bound gradients.
struct Half<'a> {
    group: &'a Group<'a>,
    cells: [u32; 2],
    at: [u64; 2],
}

/// The range that holds all gradients, and the groups in it, if there are two groups and such a range.
fn in_one<'a>(
    first: &'a Group<'a>,
    rest: &'a [Group<'a>],
    rank4: u32,
) -> Option<(Slice, [Half<'a>; 2])> {
    let [second] = rest else { return None };
    let at = |slice: &Slice| first.d_a.until(slice).map(|(_, at)| at);
    let (all, last) = first.d_a.until(second.d_b)?;
    let own = Half { group: first, cells: first.cells(rank4), at: [0, at(first.d_b)?] };
    let next = Half { group: second, cells: second.cells(rank4), at: [at(second.d_a)?, last] };
    (own.at[1] < next.at[0] && next.at[0] < last).then_some((all, [own, next]))
}

fn launch(commands: &mut Commands, variants: &Variants, op: &LoraGrad, g: &Slice, halves: &[Half]) {
    let (workgroup, slices) = variants.lora_grad_workgroup();
    let mut params = Params {
        tokens: op.tokens,
        rank4: op.rank / 4,
        z_stride4: op.z_stride / 4,
        scale: op.scale,
        ..Params::zeroed()
    };
    if let Some(half) = halves.first() {
        params.set_first(half);
    }
    if let Some(half) = halves.get(1) {
        params.set_second(half);
    }
    let (Some(first), Some(last)) = (halves.first(), halves.last()) else { return };
    let cells = || halves.iter().flat_map(|half| half.cells);
    let groups: u32 = cells().map(|n| n.div_ceil(workgroup / slices)).sum();
    let (first, last) = (first.group, last.group);
    commands
        .dispatch(
            &KERNEL,
            &[("WG", workgroup), ("SLICES", slices)],
            &params,
            &[first.d_y, last.d_y, first.x, last.x, op.z, op.d_z, g].map(Slice::clone),
            grid(groups),
            32 * u64::from(op.tokens) * cells().map(u64::from).sum::<u64>(),
        )
        .split(Split::Line { field: offset_of!(Params, first_group), front: (0, 0) })
        .serial(op.tokens.div_ceil(slices) + 4 * slices);
}

impl Params {
    fn set_first(&mut self, half: &Half) {
        let group = half.group;
        self.k4_0 = group.inputs / 4;
        self.z_first4_0 = group.z_first / 4;
        self.y_stride4_0 = group.y_stride / 4;
        let (firsts, rows) = columns(group.parts);
        [self.first0_0, self.first1_0, self.first2_0] = firsts;
        [self.rows0_0, self.rows1_0, self.rows2_0] = rows;
        [self.a_cells_0, self.b_cells_0] = half.cells;
        [self.a_first4_0, self.b_first4_0] = half.at.map(|bytes| (bytes / 16) as u32);
    }

    fn set_second(&mut self, half: &Half) {
        let group = half.group;
        self.k4_1 = group.inputs / 4;
        self.z_first4_1 = group.z_first / 4;
        self.y_stride4_1 = group.y_stride / 4;
        let (firsts, rows) = columns(group.parts);
        [self.first0_1, self.first1_1, self.first2_1] = firsts;
        [self.rows0_1, self.rows1_1, self.rows2_1] = rows;
        [self.a_cells_1, self.b_cells_1] = half.cells;
        [self.a_first4_1, self.b_first4_1] = half.at.map(|bytes| (bytes / 16) as u32);
    }
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
        lora_dz::tests::side_by_side,
        matmul,
        testing::{Numbers, assert_close, finite_difference, for_each_profile, gpu_test, wide},
    };
    use hearth_gpu::Gpu;

    /// The projections of one input, with their gradients.
    struct Input {
        inputs: u32,
        outputs: Vec<u32>,
        d_y: Vec<Vec<f32>>,
        parts: Vec<Range<u32>>,
        y_stride: u32,
        z_first: u32,
        x: Vec<f32>,
        /// dY and X.
        buffers: [Slice; 2],
        d_a: Slice,
        d_b: Slice,
    }

    /// Sizes and buffers of an op.
    pub(crate) struct Case {
        tokens: u32,
        rank: u32,
        z_stride: u32,
        z: Vec<f32>,
        d_z: Vec<f32>,
        /// Z and dZ.
        buffers: [Slice; 2],
        groups: Vec<Input>,
        before: Vec<f32>,
    }

    impl Case {
        /// `shape` is T and R; of every input K and the N of its projections. The gradients lie in one buffer, or each
        /// in its own.
        pub(crate) fn new(
            gpu: &Gpu,
            shape: [u32; 2],
            inputs: &[(u32, &[u32])],
            together: bool,
        ) -> Self {
            let [tokens, rank] = shape;
            let mut numbers = Numbers::new(tokens + inputs[0].0);
            let mut normal = |len: u32| numbers.normal(len as usize, 1.0);
            let upload = |v: &[f32]| gpu.buffer_from("test", v).unwrap().all();
            let empty = |len: u32| gpu.buffer("test", 4 * u64::from(len)).unwrap().all();
            let mut z_stride = 4;
            // Factors begin at multiples of 256 bytes.
            let lengths: Vec<_> = inputs
                .iter()
                .flat_map(|(k, n)| [n.len() as u32 * rank * k, n.iter().sum::<u32>() * rank])
                .collect();
            let all = empty(lengths.iter().map(|n| n.next_multiple_of(64)).sum());
            let mut at = 0;
            let mut factors = lengths.iter().map(|&len| {
                let slice = all.slice(4 * u64::from(at), 4 * u64::from(len));
                at += len.next_multiple_of(64);
                if together { slice } else { empty(len) }
            });
            let mut groups = Vec::new();
            for &(k, outputs) in inputs {
                let d_y: Vec<_> = outputs.iter().map(|n| normal(tokens * n)).collect();
                let (stacked, parts, y_stride) = side_by_side(&d_y, outputs, tokens);
                let x = normal(tokens * k);
                let buffers = [upload(&stacked), upload(&x)];
                let (d_a, d_b) = (factors.next().unwrap(), factors.next().unwrap());
                let (outputs, z_first) = (outputs.to_vec(), z_stride);
                z_stride += rank * outputs.len() as u32;
                groups.push(Input {
                    inputs: k,
                    outputs,
                    d_y,
                    parts,
                    y_stride,
                    z_first,
                    x,
                    buffers,
                    d_a,
                    d_b,
                });
            }
            let [z, d_z] = [(); 2].map(|()| normal(tokens * z_stride));
            let buffers = [upload(&z), upload(&d_z)];
            let before = normal(lengths.iter().sum());
            let case = Self { tokens, rank, z_stride, z, d_z, buffers, groups, before };
            let mut rest = &case.before[..];
            for slice in case.gradients() {
                let (part, others) = rest.split_at(slice.bytes() as usize / 4);
                gpu.write(slice, 0, part);
                rest = others;
            }
            case
        }

        fn gradients(&self) -> impl Iterator<Item = &Slice> {
            self.groups.iter().flat_map(|group| [&group.d_a, &group.d_b])
        }

        pub(crate) fn record(&self, commands: &mut Commands, variants: &Variants) {
            let groups: Vec<_> = self
                .groups
                .iter()
                .map(|group| Group {
                    d_y: &group.buffers[0],
                    y_stride: group.y_stride,
                    parts: &group.parts,
                    z_first: group.z_first,
                    x: &group.buffers[1],
                    inputs: group.inputs,
                    d_a: &group.d_a,
                    d_b: &group.d_b,
                })
                .collect();
            let [z, d_z] = &self.buffers;
            let (z_stride, tokens, rank) = (self.z_stride, self.tokens, self.rank);
            record(
                commands,
                variants,
                &LoraGrad { groups: &groups, z, d_z, z_stride, tokens, rank, scale: 2.0 },
            );
        }

        /// All gradients as one slice, and their values before the op.
        pub(crate) fn in_one(&self) -> (Slice, Vec<f32>) {
            let last = &self.groups.last().unwrap().d_b;
            let (all, _) = self.groups[0].d_a.until(last).unwrap();
            assert_eq!(all.bytes(), 4 * self.before.len() as u64, "no gap between factors");
            (all, self.before.clone())
        }

        async fn read(&self, gpu: &Gpu) -> Vec<f32> {
            let mut read = Vec::new();
            for slice in self.gradients() {
                read.extend(gpu.read::<f32>(slice).await.unwrap());
            }
            read
        }

        fn want(&self) -> Vec<f64> {
            let mut want = wide(&self.before);
            let (rank, mut at) = (self.rank as usize, 0);
            let mut add = |gradient: Vec<f64>| {
                want[at..].iter_mut().zip(&gradient).for_each(|(w, g)| *w += g);
                at += gradient.len();
            };
            for group in &self.groups {
                let columns = |v: &[f32], part: usize| -> Vec<f64> {
                    let first = group.z_first as usize + part * rank;
                    v.chunks(self.z_stride as usize)
                        .flat_map(|row| wide(&row[first..][..rank]))
                        .collect()
                };
                for part in 0..group.outputs.len() {
                    let d_z = columns(&self.d_z, part);
                    add(reference(&d_z, &wide(&group.x), rank, group.inputs as usize, 1.0));
                }
                for (part, &outputs) in group.outputs.iter().enumerate() {
                    let (d_y, z) = (wide(&group.d_y[part]), columns(&self.z, part));
                    add(reference(&d_y, &z, outputs as usize, rank, 2.0));
                }
            }
            want
        }
    }

    gpu_test! {
        async fn lora_grad_of_awkward_shapes() {
            for (shape, inputs) in [
                ([1, 4], &[(8, &[4][..])][..]), ([7, 8], &[(640, &[1024, 256, 260])]), ([33, 12], &[(36, &[12, 2048])]),
                ([274, 4], &[(36, &[8])]), ([8, 4], &[(12, &[4, 8, 20])]),
                ([1, 4], &[(4, &[8]), (8, &[4])]), ([33, 8], &[(640, &[256, 64, 64]), (256, &[640])]),
                ([9, 12], &[(36, &[132, 68]), (2048, &[36])]),
            ] {
                for_each_profile(async |gpu| {
                    for (together, software) in [(true, false), (true, true), (false, false), (false, true)] {
                        let variants = Variants { software, ..Variants::of(&gpu) };
                        let case = Case::new(&gpu, shape, inputs, together);
                        let mut commands = Commands::new();
                        case.record(&mut commands, &variants);
                        assert_eq!(commands.dispatches(), if together { 1 } else { 2 * inputs.len() });
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
