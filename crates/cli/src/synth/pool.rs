//! Made-up weights with the statistics of trained ones, at the speed of the disk.
//!
//! A pool of pieces of 256 weights is drawn and encoded once for each deviation; a matrix then
//! takes pieces from it in a random order of its own. The order depends on the seed and the
//! tensor's name only, so that all forms of a model hold the same weights but for rounding.
//!
//! Weights are normal with deviation 1/√K, K being the inputs (trained Gemma matrices are near
//! that), pieces differ in size as blocks of trained ones do, and norms lie around 1. Embeddings
//! have deviation 1/√C, so that they are around 1 after Gemma's scaling by √C.

use hearth_formats::{
    layout::{PackedRows, WeightLayout},
    quantize::encode_row,
};
use hearth_rng::Rng;

use super::blocks;

/// Weights of a piece.
pub const PIECE: usize = 256;
/// Pieces of a pool.
const PIECES: usize = 1024;
/// MLX's usual group.
pub const MLX_GROUP: usize = 64;

/// How weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    Bf16,
    Q8_0,
    Q4K,
    Q6K,
    Mlx4,
    HearthQ4,
}

impl Storage {
    /// Bytes of a piece, part by part.
    pub fn bytes(self) -> &'static [usize] {
        match self {
            Self::Bf16 => &[512],
            Self::Q8_0 => &[272],
            Self::Q4K => &[144],
            Self::Q6K => &[210],
            Self::Mlx4 => &[128, 8, 8],
            Self::HearthQ4 => &[128, 32],
        }
    }

    /// Writes a piece behind the parts.
    fn encode(self, x: &[f32], parts: &mut [Vec<u8>]) {
        match self {
            Self::Bf16 => parts[0].extend(x.iter().flat_map(|v| blocks::bf16(*v))),
            Self::Q8_0 => x.chunks_exact(32).for_each(|x| blocks::q8_0(x, &mut parts[0])),
            Self::Q4K => blocks::q4_k(x, &mut parts[0]),
            Self::Q6K => blocks::q6_k(x, &mut parts[0]),
            Self::Mlx4 => {
                for x in x.chunks_exact(MLX_GROUP) {
                    let [codes, scale, bias] = blocks::mlx_4(x);
                    for (part, bytes) in parts.iter_mut().zip([codes, scale, bias]) {
                        part.extend(bytes);
                    }
                }
            }
            Self::HearthQ4 => {
                // 256 finite numbers of ordinary size always fit.
                let Ok(mut packed) = PackedRows::new(WeightLayout::Q4, x.len()) else { return };
                if encode_row(x, &mut packed).is_ok() {
                    let bytes = |words: &[u32]| {
                        words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>()
                    };
                    parts[0].extend(bytes(&packed.quants));
                    parts[1].extend(bytes(&packed.scales));
                }
            }
        }
    }
}

/// How norms are written: as the gain 1 + w in f32 or as w in bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    GainF32,
    Bf16,
}

/// Encoded pieces.
pub struct Pool {
    parts: Vec<Vec<u8>>,
    sizes: &'static [usize],
}

impl Pool {
    /// Draws and encodes.
    pub fn new(storage: Storage, deviation: f32, seed: u64) -> Self {
        let sizes = storage.bytes();
        let mut parts: Vec<Vec<u8>> =
            sizes.iter().map(|size| Vec::with_capacity(size * PIECES)).collect();
        let mut rng = Rng::new(seed);
        let mut x = [0.0; PIECE];
        for _ in 0..PIECES {
            let size = deviation * (0.25 * normal(&mut rng)).exp();
            x.fill_with(|| size * normal(&mut rng));
            storage.encode(&x, &mut parts);
        }
        Self { parts, sizes }
    }

    /// Appends a part of the piece that the generator names.
    pub fn push(&self, part: usize, rng: &mut Rng, out: &mut Vec<u8>) {
        let (size, at) = (self.sizes[part], rng.below(PIECES));
        out.extend_from_slice(&self.parts[part][at * size..][..size]);
    }
}

/// A number of the standard normal distribution (Box and Muller).
fn normal(rng: &mut Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.uniform()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.uniform()).cos()) as f32
}

/// The generator of a tensor.
pub fn rng_of(name: &str, seed: u64) -> Rng {
    // FNV-1a
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Rng::new(hash ^ seed)
}

/// A norm, written; `w` is drawn around 0.2 and rounded to bf16 first, as the original was.
pub fn norm(form: Norms, len: u64, rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..len {
        let w = blocks::bf16(0.2 + 0.1 * normal(rng));
        match form {
            Norms::Bf16 => out.extend(w),
            Norms::GainF32 => {
                let w = f32::from_bits(u32::from(u16::from_le_bytes(w)) << 16);
                out.extend((1.0 + w).to_le_bytes());
            }
        }
    }
    out
}
