//! The IQ4 types end to end: the weights of such a model are read as the plain decoding of its
//! blocks, and its output matches that of the same model in f32.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::rc::Rc;

use half::f16;
use hearth_formats::{checkpoint::Checkpoint, layout::WeightLayout, source::MemorySource};
use hearth_gpu::{Gpu, GpuOptions, Profile};
use hearth_rng::Rng;
use hearth_testing::gguf::GgufFile;

use crate::quantized::log_probabilities;

const HIDDEN: u64 = 256;
const VOCABULARY: u64 = 64;
/// The 16 values of both types (ggml's `kvalues_iq4nl`).
const VALUES: [i32; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// How ggml stores a type: its number, the weights and bytes of a block, and the plain decoding of
/// a block.
struct Kind {
    number: u32,
    weights: usize,
    bytes: usize,
    decode: fn(&[u8]) -> Vec<f32>,
}

const NL: Kind =
    Kind { number: 20, weights: 32, bytes: 18, decode: |block| group(&block[2..], half(block)) };
const XS: Kind = Kind { number: 23, weights: 256, bytes: 136, decode: xs };

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// 32 weights from 16 bytes: the low halves of all bytes, then the high ones
/// (`dequantize_row_iq4_nl`).
fn group(codes: &[u8], scale: f32) -> Vec<f32> {
    let value = |code: u8| scale * VALUES[usize::from(code)] as f32;
    let low = codes[..16].iter().map(|byte| value(byte & 15));
    low.chain(codes[..16].iter().map(|byte| value(byte >> 4))).collect()
}

/// Eight groups, each with a 6-bit scale (`dequantize_row_iq4_xs`).
fn xs(block: &[u8]) -> Vec<f32> {
    let high = u16::from_le_bytes([block[2], block[3]]);
    let one = |i: usize| {
        let low = (block[4 + i / 2] >> (4 * (i % 2))) & 15;
        let scale = i32::from(low) | i32::from(high >> (2 * i) & 3) << 4;
        group(&block[8 + 16 * i..], half(block) * (scale - 32) as f32)
    };
    (0..8).flat_map(one).collect()
}

/// Random blocks with small scales.
fn blocks(kind: &Kind, weights: u64, rng: &mut Rng) -> Vec<u8> {
    let mut all = vec![];
    for _ in 0..weights as usize / kind.weights {
        // a group of IQ4_XS has its own factor of up to 32
        let unit = if kind.weights > 32 { 1e-4 / 16.0 } else { 1e-4 };
        let scale = unit * (2 + rng.below(8)) as f32;
        all.extend(f16::from_f32(scale).to_le_bytes());
        all.extend((2..kind.bytes).map(|_| rng.below(256) as u8));
    }
    all
}

/// Two models with one layer: one in the type, and one in f32 with its decoded blocks; and the
/// decoded weights of one matrix.
fn models(kind: &Kind) -> ([GgufFile; 2], Vec<f32>) {
    let mut rng = Rng::new(4);
    let tokens: Vec<String> = (0..VOCABULARY).map(|i| format!("t{i}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let plain = GgufFile::default()
        .text("general.architecture", "gemma3")
        .number("gemma3.embedding_length", HIDDEN as u32)
        .number("gemma3.block_count", 1)
        .number("gemma3.feed_forward_length", 512)
        .number("gemma3.context_length", 128)
        .number("gemma3.attention.head_count", 2)
        .number("gemma3.attention.head_count_kv", 1)
        .number("gemma3.attention.key_length", 128)
        .number("gemma3.attention.sliding_window", 16)
        .float("gemma3.attention.layer_norm_rms_epsilon", 1e-6)
        .number("tokenizer.ggml.bos_token_id", 2)
        .number("tokenizer.ggml.eos_token_id", 1)
        .texts("tokenizer.ggml.tokens", &tokens);
    let mut both = [plain.clone(), plain];
    for (name, width) in [
        ("output_norm", HIDDEN),
        ("blk.0.attn_norm", HIDDEN),
        ("blk.0.attn_q_norm", 128),
        ("blk.0.attn_k_norm", 128),
        ("blk.0.post_attention_norm", HIDDEN),
        ("blk.0.ffn_norm", HIDDEN),
        ("blk.0.post_ffw_norm", HIDDEN),
    ] {
        let gain: Vec<f32> = (0..width).map(|_| 0.5 + rng.below(100) as f32 / 100.0).collect();
        both = both.map(|file| file.floats(&format!("{name}.weight"), &[width], &gain));
    }
    let mut gate = vec![];
    for (name, rows, columns) in [
        ("token_embd", VOCABULARY, HIDDEN),
        ("blk.0.attn_q", 256, HIDDEN),
        ("blk.0.attn_k", 128, HIDDEN),
        ("blk.0.attn_v", 128, HIDDEN),
        ("blk.0.attn_output", HIDDEN, 256),
        ("blk.0.ffn_gate", 512, HIDDEN),
        ("blk.0.ffn_up", 512, HIDDEN),
        ("blk.0.ffn_down", HIDDEN, 512),
    ] {
        let bytes = blocks(kind, rows * columns, &mut rng);
        let values: Vec<f32> = bytes.chunks_exact(kind.bytes).flat_map(kind.decode).collect();
        let (name, shape) = (format!("{name}.weight"), [rows, columns]);
        let [quantized, floats] = both;
        both = [
            quantized.tensor(&name, &shape, kind.number, bytes),
            floats.floats(&name, &shape, &values),
        ];
        if name.contains("gate") {
            gate = values;
        }
    }
    (both, gate)
}

#[pollster::test]
async fn iq4_models_answer_as_their_plain_decoding() {
    let gpu = Gpu::open(&GpuOptions::with_profile(Profile::Full)).await.unwrap();
    for (kind, name) in [(NL, "IQ4_NL"), (XS, "IQ4_XS")] {
        let (files, gate) = models(&kind);
        let mut answers = vec![];
        for file in files {
            let source = Rc::new(MemorySource::new("m.gguf", file.bytes()));
            let checkpoint = Checkpoint::open(vec![source]).await.unwrap();
            let matrix = "model.layers.0.mlp.gate_proj.weight";
            let read = checkpoint.read_rows(matrix, WeightLayout::F32, 0..512).await.unwrap();
            assert_eq!(read.decode(), gate, "{name}");
            answers.push(log_probabilities(&gpu, &checkpoint).await);
        }
        let [quantized, floats] = &answers[..] else { panic!("two models") };
        assert!(floats.iter().flatten().all(|p| p.is_finite()), "{name}");
        let spread = floats[0].iter().fold(f64::MAX, |a, b| a.min(*b));
        assert!(spread < -4.5, "{name}: every token is as likely as any other");
        let pairs = quantized.iter().flatten().zip(floats.iter().flatten());
        let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(most < 1e-4, "{name}: log p differ by {most}");
    }
}
