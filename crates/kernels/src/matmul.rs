//! `Y[T,N] = X[T,K] · W[N,K]ᵀ + s · Z[T,R] · B[N,R]ᵀ`, the one matmul.
use bytemuck::{Pod, Zeroable};
use hearth_gpu::{Access, Buffer, Commands, Constant, Kernel, Slice};

use crate::shader::{HALF, wgsl};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Params {
    pub tokens: u32,
    pub k4: u32,
    pub row_start: u32,
    pub row_end: u32,
    pub y_stride: u32,
    pub y_offset: u32,
    pub rank4: u32,
    pub lora_scale: f32,
}
const BINDINGS: &[Access] = &[
    Access::Params, Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write,
];
const OPERANDS: &str = wgsl!("shared/matmul");
macro_rules! kernels {
    ($($id:ident: $name:literal $label:literal [$($piece:expr),*];)*) => {
        $(pub static $id: Kernel = Kernel { name: $name, label: $label, pieces: &[HALF, $($piece,)* OPERANDS], source: wgsl!($name), bindings: BINDINGS };)*
    };
}
kernels! {
    DIRECT_F32: "matmul_direct" "matmul_direct_f32" [wgsl!("weights/f32")];
    DIRECT_Q4: "matmul_direct" "matmul_direct_q4" [wgsl!("weights/scales"), wgsl!("weights/q4")];
    DIRECT_Q8: "matmul_direct" "matmul_direct_q8" [wgsl!("weights/scales"), wgsl!("weights/q8")];
    TILED_F32: "matmul_tiled" "matmul_tiled_f32" [wgsl!("weights/f32")];
    TILED_Q4: "matmul_tiled" "matmul_tiled_q4" [wgsl!("weights/scales"), wgsl!("weights/q4")];
}
pub fn rec(c: &mut Commands, k: &'static Kernel, cs: &[Constant], t: u32, n: u32, kk: u32, x:&Buffer,q:&Buffer,s:&Buffer,y:&Buffer, wg:[u32;3]) {
    let p = Params { tokens: t, k4: kk/4, row_start: 0, row_end: n, y_stride: n, y_offset: 0, rank4: 0, lora_scale: 0.0 };
    let d: Slice = x.all();
    c.dispatch(k, cs, &p, &[d.clone(), q.all(), s.all(), d.clone(), d, y.all()], wg, 2*u64::from(t)*u64::from(n)*u64::from(kk));
}
