//! Models of the true shapes with made-up weights, for measuring: a file that exists only while it
//! is read.

use std::rc::Rc;

use anyhow::{Result, bail};
use clap::ValueEnum;
use hearth_formats::{
    checkpoint::Checkpoint,
    hearth::{NewTensor, Origin, plan},
    layout::{PackedRows, ScaleForm, WeightLayout},
    source::{ByteSource, ReadFuture, check_range},
};
use hearth_gemma::{Config, Projection};
use hearth_rng::Rng;
use serde_json::{Value, json};

/// Shapes that can be synthesized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Gemma 2B
    #[value(name = "gemma-2b")]
    Gemma2B,
    /// Gemma 3 270M
    #[value(name = "gemma-3-270m")]
    Gemma3_270M,
    /// A toy Gemma 1, for tests
    #[value(hide = true)]
    Tiny,
}

impl Shape {
    /// Its `config.json`.
    pub fn config(self) -> Value {
        match self {
            Self::Tiny => json!({
                "model_type": "gemma", "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64,
                "max_position_embeddings": 8192, "bos_token_id": 2, "eos_token_id": 1,
            }),
            Self::Gemma2B => json!({
                "model_type": "gemma", "vocab_size": 256_000, "hidden_size": 2048, "intermediate_size": 16_384,
                "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
                "max_position_embeddings": 8192, "bos_token_id": 2, "eos_token_id": 1,
            }),
            Self::Gemma3_270M => json!({
                "model_type": "gemma3_text", "vocab_size": 262_144, "hidden_size": 640, "intermediate_size": 2048,
                "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
                "max_position_embeddings": 32_768, "sliding_window": 512, "query_pre_attn_scalar": 256,
                "bos_token_id": 2, "eos_token_id": 1,
            }),
        }
    }

    /// The model in a layout, without a byte on the disk.
    pub async fn checkpoint(self, layout: WeightLayout) -> Result<Checkpoint> {
        let text = self.config().to_string();
        let config = Config::from_json(&text)?;
        let origin = Origin { source: "synthetic".to_owned(), config: text, ..Origin::default() };
        let file = plan("synthetic.safetensors", &origin, &tensors(&config, layout))?;
        let patterns = Patterns::new(layout);
        let parts = file.tensors.iter().map(|t| {
            let pattern = match &t.name {
                name if name.ends_with(".quants") => &patterns.quants,
                name if name.ends_with(".scales") => &patterns.scales,
                _ => &patterns.gain,
            };
            Part { start: t.offset, end: t.offset + t.bytes, pattern: pattern.clone() }
        });
        let header =
            Part { start: 0, end: file.bytes.len() as u64, pattern: file.bytes.clone().into() };
        let source = MadeUp { parts: std::iter::once(header).chain(parts).collect() };
        Ok(Checkpoint::open(vec![Rc::new(source)]).await?)
    }
}

fn tensors(config: &Config, layout: WeightLayout) -> Vec<NewTensor> {
    let matrix = |name: String, rows: usize, columns: usize| NewTensor::Matrix {
        name,
        rows: rows as u64,
        columns: columns as u64,
        layout,
    };
    let vector = |name: String, len: usize| NewTensor::Vector { name, len: len as u64 };
    let c = config.hidden;
    let mut all = vec![matrix("model.embed_tokens.weight".to_owned(), config.vocab, c)];
    for layer in 0..config.layers.len() {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for projection in Projection::ALL {
            let (inputs, outputs) = projection.shape(config);
            all.push(matrix(name(projection.module()), outputs, inputs));
        }
        all.push(vector(name("input_layernorm"), c));
        all.push(vector(name("post_attention_layernorm"), c));
        if config.has_post_norms() {
            all.push(vector(name("pre_feedforward_layernorm"), c));
            all.push(vector(name("post_feedforward_layernorm"), c));
        }
        if config.has_qk_norm() {
            all.push(vector(name("self_attn.q_norm"), config.head_dim));
            all.push(vector(name("self_attn.k_norm"), config.head_dim));
        }
    }
    all.push(vector("model.norm.weight".to_owned(), c));
    all
}

/// What layouts synthetic weights can have.
pub fn layout(name: &str) -> Result<WeightLayout> {
    Ok(match name {
        "f32" => WeightLayout::F32,
        "f16" => WeightLayout::F16,
        "q8" => WeightLayout::Q8,
        "q4" => WeightLayout::Q4,
        other => {
            let layout: WeightLayout = other.parse()?;
            let made = matches!(
                layout,
                WeightLayout::F32
                    | WeightLayout::F16
                    | WeightLayout::Quant { scale: ScaleForm::F16, .. }
            );
            if !made {
                bail!("synthetic weights have layouts with f16 scales only, not {layout}");
            }
            layout
        }
    })
}

/// Deviation of the weights, about that of trained ones.
const DEVIATION: f32 = 0.02;
/// Bytes after which weights repeat.
const PERIOD: usize = 64 << 10;

/// Words that repeat through a tensor.
struct Patterns {
    quants: Rc<[u8]>,
    scales: Rc<[u8]>,
    gain: Rc<[u8]>,
}

impl Patterns {
    fn new(layout: WeightLayout) -> Self {
        let mut rng = Rng::new(1);
        // Uniform between ±√3 deviations.
        let mut value = || ((2.0 * rng.uniform() - 1.0) * 3f64.sqrt()) as f32 * DEVIATION;
        let half = |value: f32| u32::from(half::f16::from_f32(value).to_bits());
        let words: Vec<u32> = match layout {
            WeightLayout::F32 => (0..PERIOD / 4).map(|_| value().to_bits()).collect(),
            WeightLayout::F16 => {
                (0..PERIOD / 4).map(|_| half(value()) | half(value()) << 16).collect()
            }
            WeightLayout::Quant { .. } => (0..PERIOD / 4).map(|_| rng.next_u64() as u32).collect(),
        };
        let scale = match layout {
            // 0..=15 have deviation 4.61 and mean 7.5; −128..=127 have 73.9 and −0.5.
            WeightLayout::Quant { bits: 4, minimum: true, .. } => {
                half(DEVIATION / 4.61) | half(-7.5 * DEVIATION / 4.61) << 16
            }
            WeightLayout::Quant { bits: 8, minimum: true, .. } => half(DEVIATION / 73.9),
            WeightLayout::Quant { bits, .. } => {
                half(DEVIATION / if bits == 8 { 73.9 } else { 4.61 }) * 0x1_0001
            }
            _ => 0,
        };
        let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Self { quants: bytes(&words), scales: bytes(&[scale]), gain: bytes(&[1f32.to_bits()]) }
    }
}

/// Rows of synthetic weights.
pub fn rows(layout: WeightLayout, rows: usize, columns: usize) -> Result<PackedRows> {
    let patterns = Patterns::new(layout);
    let words = |pattern: &[u8], count: usize| {
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        pattern.chunks_exact(4).map(word).cycle().take(count).collect()
    };
    let mut packed = PackedRows::new(layout, columns)?;
    packed.rows = rows;
    packed.quants = words(&patterns.quants, rows * layout.quant_words(columns));
    packed.scales = words(&patterns.scales, rows * layout.scale_words(columns));
    Ok(packed)
}

/// A range of the file, filled by a pattern that begins again and again.
struct Part {
    start: u64,
    end: u64,
    pattern: Rc<[u8]>,
}

/// The file.
struct MadeUp {
    parts: Vec<Part>,
}

impl ByteSource for MadeUp {
    fn len(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.end)
    }

    fn name(&self) -> &str {
        "synthetic.safetensors"
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> ReadFuture<'a> {
        Box::pin(async move {
            check_range(self, offset, buf.len() as u64)?;
            let mut done = 0;
            while done < buf.len() {
                let at = offset + done as u64;
                let part = &self.parts[self.parts.partition_point(|part| part.end <= at)];
                let from = ((at - part.start) % part.pattern.len() as u64) as usize;
                let room = (part.end - at).min((buf.len() - done) as u64) as usize;
                let piece = &part.pattern[from..][..room.min(part.pattern.len() - from)];
                buf[done..done + piece.len()].copy_from_slice(piece);
                done += piece.len();
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_models_have_the_true_shapes_and_trained_deviations() {
        for (shape, layout, gigabytes) in [
            (Shape::Gemma2B, WeightLayout::Q4, 1.567),
            (Shape::Gemma3_270M, WeightLayout::Q8, 0.285),
            (Shape::Gemma3_270M, WeightLayout::F16, 0.536),
        ] {
            let checkpoint = pollster::block_on(shape.checkpoint(layout)).unwrap();
            hearth_gemma::config_of(&checkpoint).unwrap();
            let bytes: u64 = checkpoint.tensors().map(|t| t.stored_bytes()).sum();
            assert!((bytes as f64 / 1e9 - gigabytes).abs() < 0.001, "{shape:?} {bytes}");
            let name = "model.layers.17.mlp.down_proj.weight";
            let got =
                pollster::block_on(checkpoint.read_rows(name, layout, 5..9)).unwrap().decode();
            let mean = got.iter().sum::<f32>() / got.len() as f32;
            let square = got.iter().map(|v| v * v).sum::<f32>() / got.len() as f32;
            assert!(
                mean.abs() < 0.001 && (square.sqrt() - DEVIATION).abs() < 0.002,
                "{mean} {square}"
            );
            let gain = pollster::block_on(checkpoint.read_norm_gain("model.norm.weight")).unwrap();
            assert!(gain.iter().all(|g| *g == 1.0));
        }
    }

    #[test]
    fn only_layouts_that_can_be_made_up_are_taken() {
        assert_eq!(layout("q4").unwrap(), WeightLayout::Q4);
        assert_eq!(layout("q8-g32-f16").unwrap(), WeightLayout::Q8);
        assert!(layout("q4-g32-two-min").unwrap_err().to_string().contains("f16 scales"));
        assert!(layout("q5").is_err());
    }
}
