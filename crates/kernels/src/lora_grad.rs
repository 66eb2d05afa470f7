//! `dG[M,N] += s · P[T,M]ᵀ · Q[T,N]`: gradients of LoRA's factors, dB = s·dYᵀ·Z and dA = dZᵀ·X.
//!
//! Source: the chain rule on `y = x Wᵀ + s (x Aᵀ) Bᵀ`; dZ = s·dY·B carries the scale already.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Commands, Slice, Split};

use crate::{shader::kernel, variants::direct_workgroup};

kernel!("lora_grad", [], [Params, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Params {
    tokens: u32,
    m4: u32,
    n4: u32,
    scale: f32,
    p_stride4: u32,
    first_group_x: u32,
    first_group_y: u32,
}

/// Operands of [`record`]. M and N are multiples of 4.
pub struct LoraGrad<'a> {
    /// P, `(T, p_stride)`, of which the first M columns count.
    pub p: &'a Slice,
    /// Q, `(T, N)`.
    pub q: &'a Slice,
    /// dG, `(M, N)`.
    pub d_g: &'a Slice,
    /// T.
    pub tokens: u32,
    /// M.
    pub m: u32,
    /// N.
    pub n: u32,
    /// Numbers from one token of P to the next.
    pub p_stride: u32,
    /// s.
    pub scale: f32,
}

/// Records `dG +=`.
pub fn record(commands: &mut Commands, op: &LoraGrad) {
    let (m4, n4) = (op.m / 4, op.n / 4);
    let (wn, wm) = direct_workgroup(n4);
    let params = Params {
        tokens: op.tokens,
        m4,
        n4,
        scale: op.scale,
        p_stride4: op.p_stride / 4,
        first_group_x: 0,
        first_group_y: 0,
    };
    commands
        .dispatch(
            &KERNEL,
            &[("WN", wn), ("WM", wm)],
            &params,
            &[op.p.clone(), op.q.clone(), op.d_g.clone()],
            [n4.div_ceil(wn), m4.div_ceil(wm), 1],
            2 * u64::from(op.tokens) * u64::from(op.m) * u64::from(op.n),
        )
        .split(Split::Plane { field: offset_of!(Params, first_group_x) });
}

/// `s · Pᵀ·Q` on the CPU in f64; `p` is `(T, M)`, `q` `(T, N)`, the result `(M, N)`.
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
mod tests {
    use super::*;
    use crate::{
        matmul,
        testing::{Numbers, assert_close, finite_difference, for_each_profile, gpu_test, wide},
    };

    gpu_test! {
        async fn lora_grad_of_awkward_shapes() {
            for (t, m, n) in [(1, 4, 8), (7, 8, 640), (33, 2048, 4), (274, 12, 36)] {
                for_each_profile(async |gpu| {
                    let mut numbers = Numbers::new(t + m);
                    let [p, q, before] = [t * m, t * n, m * n].map(|len| numbers.normal(len as usize, 1.0));
                    let [p_, q_, g_] = [&p, &q, &before].map(|v| gpu.buffer_from("test", v).unwrap().all());
                    let op = LoraGrad { p: &p_, q: &q_, d_g: &g_, tokens: t, m, n, p_stride: m, scale: 2.0 };
                    let mut commands = Commands::new();
                    record(&mut commands, &op);
                    gpu.run(&commands).await.unwrap();
                    let mut want = reference(&wide(&p), &wide(&q), m as usize, n as usize, 2.0);
                    want.iter_mut().zip(&before).for_each(|(w, b)| *w += f64::from(*b));
                    assert_close(&gpu.read(g_).await.unwrap(), &want, 1e-5);
                })
                .await;
            }
        }
    }

    // y = s (x Aᵀ) Bᵀ is linear in A and in B: exact but for rounding.
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
