//! Trains small adapters for a few steps and writes them in PEFT's format, with the logits that
//! Hearth computes with them: `tools/peft_check.py` then compares these with PEFT's.
//!
//! ```text
//! cargo run -p hearth-gemma --example peft_check -- MODEL OUT
//! ```
//!
//! MODEL is a GGUF file, or a folder with `config.json` and `model.safetensors`. OUT gets one
//! folder per adapter.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    native::main()
}

/// There are no folders in a browser.
#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::{
        error::Error,
        fs,
        io::Write,
        path::{Path, PathBuf},
        rc::Rc,
    };

    use hearth_formats::{
        checkpoint::Checkpoint,
        peft,
        source::{ByteSource, FileSource},
    };
    use hearth_gemma::{
        Lora, LoraConfig, Model, ModelError, Packed, Pass, Precision, Projection, Row,
        adapter_file::to_adapter,
        schedule::{Decay, Schedule},
        targets::{Example, Loss},
        train::{Adam, StepPlan, TrainConfig, Trainer},
        workspace::{Activations, Sizes, Workspace},
    };
    use hearth_gpu::{Commands, Gpu, GpuOptions, Profile};
    use hearth_rng::Rng;
    use safetensors::{Dtype, tensor::TensorView};

    const STEPS: u32 = 8;
    /// Longer than the tiny models' window of 8.
    const TOKENS: usize = 16;

    pub fn main() -> Result<(), Box<dyn Error>> {
        let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
        let [model, out] = &args[..] else { return Err("usage: peft_check MODEL OUT".into()) };
        pollster::block_on(run(model, out))
    }

    async fn run(path: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
        let model = load(path).await?;
        // The default adapter, and one whose rank is padded on the device, scaled by √r.
        let odd = LoraConfig {
            rank: 3,
            alpha: 5.0,
            rslora: true,
            targets: vec![Projection::Q, Projection::V, Projection::Down],
            ..LoraConfig::all_seven()
        };
        for (name, config) in
            [("all_seven_r8", LoraConfig::all_seven()), ("qv_down_r3_rslora", odd)]
        {
            let folder = out.join(name);
            fs::create_dir_all(&folder)?;
            let batch = rows(model.config.vocab);
            let mut trainer =
                Trainer::new(&model, train_config(config), plan(&batch), None).await?;
            let mut losses = vec![];
            for _ in 0..STEPS {
                trainer.step(&batch).await?;
                losses.extend(trainer.last_report().await?.map(|report| report.loss));
            }
            let flat = trainer.params().await?;
            let adapter = to_adapter(&trainer.lora().layout, &flat, &peft::Base::text());
            fs::write(folder.join(peft::CONFIG_FILE), adapter.config_json())?;
            fs::write(folder.join(peft::WEIGHTS_FILE), adapter.to_safetensors()?)?;
            let ids = &batch[0].tokens;
            let logits = logits(&model, trainer.lora(), ids).await?;
            fs::write(folder.join("logits.safetensors"), file(ids, &logits)?)?;
            writeln!(std::io::stdout(), "{}: {name}: losses {losses:.3?}", model.gpu.adapter())?;
        }
        Ok(())
    }

    async fn load(path: &Path) -> Result<Model, Box<dyn Error>> {
        let paths = if path.is_dir() {
            vec![path.join("config.json"), path.join("model.safetensors")]
        } else {
            vec![path.to_owned()]
        };
        let mut sources: Vec<Rc<dyn ByteSource>> = vec![];
        for path in paths {
            sources.push(Rc::new(FileSource::open(path)?));
        }
        let gpu = Gpu::open(&GpuOptions::with_profile(Profile::Full)).await?;
        let checkpoint = Checkpoint::open(sources).await?;
        Ok(Model::load(&gpu, &checkpoint, Precision::Exact, |_| true).await?)
    }

    fn rows(vocab: usize) -> Vec<Example> {
        let mut rng = Rng::new(1);
        let mut token = || 3 + rng.below(vocab - 3) as u32;
        let row = |id| {
            let mut prompt = vec![2];
            prompt.extend((0..TOKENS - 1).map(|_| token()));
            let label = token();
            Example::new(Loss::Sequence, &prompt, 0, label, None, 1.0, id)
        };
        (0..2).map(row).collect()
    }

    fn train_config(lora: LoraConfig) -> TrainConfig {
        TrainConfig {
            lora,
            loss: Loss::Sequence,
            classes: vec![],
            schedule: Schedule { rate: 1e-2, warmup: 0, steps: STEPS, decay: Decay::Constant },
            adam: Adam::default(),
        }
    }

    fn plan(batch: &[Example]) -> StepPlan {
        StepPlan {
            tokens: batch.iter().map(|row| row.tokens.len()).sum(),
            targets: batch.iter().map(|row| row.targets.len()).sum(),
            activations: Activations::Keep,
            share_prefix: true,
        }
    }

    /// Logits of every position, `(T, V)`.
    async fn logits(model: &Model, lora: &Lora, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        let (gpu, vocab) = (&model.gpu, model.config.vocab);
        let sizes = Sizes {
            tokens: ids.len(),
            chosen: ids.len(),
            lora: Some(lora.layout.config.clone()),
            training: None,
        };
        let mut ws = Workspace::new(gpu, &model.config, sizes)?;
        let packed = Packed::new(&[Row { tokens: ids, id: 0 }], 0)?;
        model.set_batch(&mut ws, packed, None).await?;
        let y = gpu.buffer("logits", 4 * (ids.len() * vocab) as u64)?.all();
        let mut commands = Commands::new();
        model.forward(&mut commands, &ws, Pass { lora: Some(lora), dropout: None }, None)?;
        let head = model.weights.output_head()?;
        model.logits(&mut commands, &ws, head, 0..vocab as u32, &y, vocab as u32);
        gpu.run(&commands).await?;
        Ok(gpu.read(y).await?)
    }

    /// `input_ids` int32 `[T]` and `logits` f32 `[T, V]`.
    fn file(ids: &[u32], logits: &[f32]) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let shape = vec![ids.len(), logits.len() / ids.len()];
        safetensors::serialize(
            [
                (
                    "input_ids",
                    TensorView::new(Dtype::I32, vec![ids.len()], bytemuck::cast_slice(ids))?,
                ),
                ("logits", TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(logits))?),
            ],
            None,
        )
    }
}
