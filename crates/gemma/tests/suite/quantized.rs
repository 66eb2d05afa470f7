//! The effect of quantization on a model's output: the mean Kullback-Leibler divergence of the tiny
//! models' next-token distributions from those of their f32 originals, layout by layout
//! (`cargo test -p hearth-gemma --test suite quantized -- --nocapture` prints them).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints figures")]

use std::rc::Rc;

use hearth_formats::{
    checkpoint::Checkpoint,
    convert::{Conversion, MemorySink},
    hearth::Origin,
    layout::{ScaleForm, WeightLayout},
    source::{ByteSource, MemorySource},
};
use hearth_gemma::{
    Model, Packed, Pass, Precision, Row,
    workspace::{Sizes, Workspace},
};
use hearth_gpu::{Commands, Gpu, GpuOptions, Profile};
use hearth_rng::Rng;
use wasm_bindgen_test::wasm_bindgen_test;

macro_rules! twin {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../golden/", $name, "/model/config.json")),
            include_bytes!(concat!("../golden/", $name, "/model/model.safetensors")).as_slice(),
        )
    };
}

const TEXTS: u64 = 4;
const TOKENS: usize = 32;

/// Log probabilities after every token of some random texts.
pub async fn log_probabilities(gpu: &Gpu, checkpoint: &Checkpoint) -> Vec<Vec<f64>> {
    let model = Model::load(gpu, checkpoint, Precision::Exact, |_| true).await.unwrap();
    let vocab = model.config.vocab;
    let sizes = Sizes { tokens: TOKENS, chosen: TOKENS, lora: None, training: None };
    let mut ws = Workspace::new(gpu, &model.config, sizes).unwrap();
    let y = gpu.buffer("logits", 4 * (TOKENS * vocab) as u64).unwrap().all();
    let mut all = vec![];
    for seed in 0..TEXTS {
        let mut rng = Rng::new(seed);
        let ids: Vec<u32> = (0..TOKENS).map(|_| rng.below(vocab) as u32).collect();
        let packed = Packed::new(&[Row { tokens: &ids, id: 0 }], 0).unwrap();
        model.set_batch(&mut ws, packed, None).await.unwrap();
        let mut c = Commands::new();
        model.forward(&mut c, &ws, Pass::default(), None).unwrap();
        let head = model.weights.output_head().unwrap();
        model.logits(&mut c, &ws, head, 0..vocab as u32, &y, vocab as u32);
        gpu.run(&c).await.unwrap();
        for logits in gpu.read::<f32>(&y).await.unwrap().chunks_exact(vocab) {
            let most = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
            let sum: f64 = logits.iter().map(|l| f64::from(l - most).exp()).sum();
            all.push(logits.iter().map(|l| f64::from(l - most) - sum.ln()).collect());
        }
    }
    all
}

/// Mean over the positions of Σ p · ln(p / q).
fn mean_kl(p: &[Vec<f64>], q: &[Vec<f64>]) -> f64 {
    let kl = |(p, q): (&Vec<f64>, &Vec<f64>)| -> f64 {
        p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    p.iter().zip(q).map(kl).sum::<f64>() / p.len() as f64
}

async fn open(name: &str, config: &'static str, bytes: Vec<u8>) -> Checkpoint {
    let weights: Rc<dyn ByteSource> = Rc::new(MemorySource::new(name, bytes));
    let config = Rc::new(MemorySource::new("config.json", config.as_bytes()));
    Checkpoint::open(vec![weights, config]).await.unwrap()
}

#[wasm_bindgen_test(unsupported = pollster::test)]
async fn fewer_bits_and_larger_groups_move_the_distribution_further() {
    let quant = |bits, group| WeightLayout::Quant {
        bits,
        group,
        scale: ScaleForm::F16,
        minimum: bits == 4,
    };
    let layouts = [
        (WeightLayout::F16, 1e-6),
        (quant(8, 16), 1e-3),
        (WeightLayout::Q8, 1e-3),
        (quant(8, 64), 1e-3),
        (quant(4, 16), 0.2),
        (WeightLayout::Q4, 0.2),
        (quant(4, 64), 0.3),
    ];
    let gpu = Gpu::open(&GpuOptions::with_profile(Profile::Full)).await.unwrap();
    for (name, config, weights) in
        [twin!("tiny_gemma1"), twin!("tiny_gemma2"), twin!("tiny_gemma3")]
    {
        let source = open("model.safetensors", config, weights.to_vec()).await;
        let original = log_probabilities(&gpu, &source).await;
        assert_eq!(mean_kl(&original, &original), 0.0);
        let mut found = vec![];
        for (layout, most) in layouts {
            let origin = Origin { config: config.to_owned(), ..Origin::default() };
            let conversion = Conversion::plan(&source, layout, &[], &origin, name).unwrap();
            let mut sink = MemorySink::default();
            let errors = conversion.run(&mut sink, |_| true).await.unwrap();
            let held = errors.iter().filter(|e| e.layout == layout).count();
            let quantized = open("quantized.safetensors", config, sink.0).await;
            let kl = mean_kl(&original, &log_probabilities(&gpu, &quantized).await);
            let relative = errors.iter().map(|e| e.relative).fold(0.0, f64::max);
            println!(
                "{name} {layout:<15} {held} of {} matrices, error at most {:6.3} %, mean KL {kl:.3e}",
                errors.len(),
                100.0 * relative
            );
            assert!((0.0..most).contains(&kl), "{name} {layout}: {kl}");
            found.push(kl);
        }
        let [f16, _, q8, _, _, q4, _] = found[..] else { panic!("seven layouts") };
        assert!(f16 < q8 && 10.0 * q8 < q4, "{name}: {f16} {q8} {q4}");
    }
}
