//! Encoders of other programs' formats: plain roundings, for made-up weights only. Hearth itself
//! writes none of them.

use half::{bf16, f16};

/// The two bytes of the nearest bf16.
pub fn bf16(value: f32) -> [u8; 2] {
    bf16::from_f32(value).to_le_bytes()
}

fn half(value: f32) -> (f32, [u8; 2]) {
    let half = f16::from_f32(value);
    (half.to_f32(), half.to_le_bytes())
}

/// x / step, rounded and limited; 0 where the step is 0.
fn code(x: f32, step: f32, low: f32, high: f32) -> i32 {
    if step == 0.0 { 0 } else { (x / step).round().clamp(low, high) as i32 }
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |a, v| a.max(v.abs()))
}

/// 32 weights: f16 scale, 32 signed bytes.
pub fn q8_0(x: &[f32], out: &mut Vec<u8>) {
    let (d, bytes) = half(largest(x) / 127.0);
    out.extend(bytes);
    out.extend(x.iter().map(|v| code(*v, d, -127.0, 127.0) as u8));
}

/// 256 weights: f16 d and dmin, 8 pairs of 6-bit scales and minima in 12 bytes, 4-bit codes.
pub fn q4_k(x: &[f32], out: &mut Vec<u8>) {
    let groups = x.chunks_exact(32).map(|x| {
        let low = x.iter().fold(0.0, |a: f32, v| a.min(*v));
        let high = x.iter().fold(f32::MIN, |a: f32, v| a.max(*v));
        ((high - low) / 15.0, -low)
    });
    let groups: Vec<(f32, f32)> = groups.collect();
    let most = |of: fn(&(f32, f32)) -> f32| groups.iter().map(of).fold(0.0, f32::max);
    let (d, d_bytes) = half(most(|g| g.0) / 63.0);
    let (dmin, dmin_bytes) = half(most(|g| g.1) / 63.0);
    let scales: Vec<(u8, u8)> = groups
        .iter()
        .map(|g| (code(g.0, d, 0.0, 63.0) as u8, code(g.1, dmin, 0.0, 63.0) as u8))
        .collect();
    out.extend(d_bytes);
    out.extend(dmin_bytes);
    // Groups 0 to 3 in the low 6 bits; 4 to 7 in 4 bits behind, their high pairs in front.
    let mut packed = [0; 12];
    for (i, &(s, m)) in scales.iter().enumerate() {
        if i < 4 {
            packed[i] |= s;
            packed[i + 4] |= m;
        } else {
            packed[i + 4] = s & 15 | (m & 15) << 4;
            packed[i - 4] |= s >> 4 << 6;
            packed[i] |= m >> 4 << 6;
        }
    }
    out.extend(packed);
    let codes: Vec<u8> = x
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let (s, m) = scales[i / 32];
            code(v + dmin * f32::from(m), d * f32::from(s), 0.0, 15.0) as u8
        })
        .collect();
    for pair in codes.chunks_exact(64) {
        out.extend((0..32).map(|i| pair[i] | pair[i + 32] << 4));
    }
}

/// 256 weights: 4 low bits, 2 high bits, 16 signed scales, f16 d.
pub fn q6_k(x: &[f32], out: &mut Vec<u8>) {
    let steps: Vec<f32> = x.chunks_exact(16).map(|x| largest(x) / 31.0).collect();
    let (d, d_bytes) = half(largest(&steps) / 127.0);
    let scales: Vec<i32> = steps.iter().map(|s| code(*s, d, 0.0, 127.0)).collect();
    let codes: Vec<u8> = x
        .iter()
        .enumerate()
        .map(|(i, v)| (code(*v, d * scales[i / 16] as f32, -32.0, 31.0) + 32) as u8)
        .collect();
    let (mut low, mut high) = ([0; 128], [0; 64]);
    for (i, code) in codes.iter().enumerate() {
        let (half, quarter, l) = (i / 128, i % 128 / 32, i % 32);
        low[64 * half + 32 * (quarter % 2) + l] |= (code & 15) << (4 * (quarter / 2));
        high[32 * half + l] |= (code >> 4) << (2 * quarter);
    }
    out.extend(low);
    out.extend(high);
    out.extend(scales.iter().map(|s| *s as u8));
    out.extend(d_bytes);
}

/// A group of MLX's affine 4 bits: codes, scale and bias in bf16.
pub fn mlx_4(x: &[f32]) -> [Vec<u8>; 3] {
    let low = x.iter().fold(f32::MAX, |a, v| a.min(*v));
    let high = x.iter().fold(f32::MIN, |a, v| a.max(*v));
    let (scale, bias) = (bf16::from_f32((high - low) / 15.0), bf16::from_f32(low));
    let code = |v: &f32| code(v - bias.to_f32(), scale.to_f32(), 0.0, 15.0) as u8;
    let codes: Vec<u8> = x.iter().map(code).collect();
    let bytes = codes.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4).collect();
    [bytes, scale.to_le_bytes().to_vec(), bias.to_le_bytes().to_vec()]
}

#[cfg(test)]
mod tests {
    use hearth_formats::{
        gguf::{
            blocks::{layout_of, pack_row},
            header::TensorType,
        },
        layout::PackedRows,
    };

    use super::*;

    /// A format's block, its encoder and the error that it may make.
    type Case = (TensorType, fn(&[f32], &mut Vec<u8>), f32);

    /// What Hearth's reader makes of the blocks, against the weights.
    #[test]
    fn blocks_hold_the_weights_with_the_error_of_their_bits() {
        let mut rng = hearth_rng::Rng::new(3);
        let x: Vec<f32> = (0..256)
            .map(|_| (0..4).map(|_| rng.uniform() as f32 - 0.5).sum::<f32>() * 0.03)
            .collect();
        let cases: [Case; 3] = [
            (TensorType::Q8_0, |x, out| x.chunks_exact(32).for_each(|x| q8_0(x, out)), 0.006),
            (TensorType::Q6_K, q6_k, 0.025),
            (TensorType::Q4_K, q4_k, 0.09),
        ];
        for (kind, encode, most) in cases {
            let mut bytes = vec![];
            encode(&x, &mut bytes);
            let mut packed = PackedRows::new(layout_of(kind).unwrap(), 256).unwrap();
            pack_row(kind, &bytes, &mut packed).unwrap();
            let got = packed.decode();
            let off: f32 = got.iter().zip(&x).map(|(a, b)| (a - b).powi(2)).sum();
            let relative = (off / x.iter().map(|v| v * v).sum::<f32>()).sqrt();
            assert!(relative < most && relative > most / 5.0, "{kind}: {relative}");
        }
    }
}
