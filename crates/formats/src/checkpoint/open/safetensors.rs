//! A model in safetensors: floats, MLX's or Hearth's own quantization.

use std::collections::BTreeMap;

use super::foreign;
use super::shards::{Place, all_tensors, by_index};
use super::tensors::{mlx_tensor, packed_tensor, plain_tensor};
use super::{Source, add};
use crate::checkpoint::{Checkpoint, CheckpointError, Format};
use crate::hearth;
use crate::mlx::Quantization;
use crate::names::{self, is_adapter_tensor};
use crate::recognize::WrongFile;
use crate::safetensors::{Dtype, Header, Index, TensorInfo};

/// Tensors of safetensors files by uniform name, with the source they are in.
pub(super) type Found = BTreeMap<String, (usize, TensorInfo)>;

/// What a safetensors file is if it holds no model.
pub(super) fn wrong(header: &Header) -> Option<WrongFile> {
    let wrong = |what: &str, advice: &str| Some(WrongFile::new(header.file(), what, advice));
    if header.metadata().contains_key("hearth-classifier") {
        return wrong(
            "a classifier made by Hearth",
            "give it as a classifier (--classifier, or \"Use\" on the page), and the model that it was trained on here",
        );
    }
    let names = || header.tensors().iter().map(|tensor| tensor.name.as_str());
    if header.tensors().is_empty() {
        return wrong("a safetensors file without tensors", "fetch it again");
    }
    if names().any(|name| name.starts_with("lora_unet_") || name.starts_with("lora_te")) {
        return wrong("a LoRA adapter of an image generator", "give a Gemma model");
    }
    let adapter = names().find(|name| is_adapter_tensor(name));
    // An adapter may contain a head that was trained with it, but no layer of the base.
    let base = |name: &str| {
        let end = |end: &str| name.ends_with(&format!("_proj.{end}"));
        end("weight") || end("base_layer.weight")
    };
    match adapter {
        Some(name) if names().any(base) => {
            return wrong(
                &format!(
                    "a model with a LoRA adapter that is not merged into it (tensor '{name}')"
                ),
                "merge it first: model.merge_and_unload(), then save_pretrained()",
            );
        }
        Some(_) => {
            return wrong(
                "a LoRA adapter",
                "give its base model; Hearth uses adapters that are in a classifier (--classifier); or merge it into \
                 the base: merge_and_unload(), then save_pretrained()",
            );
        }
        None => {}
    }
    if names().all(|name| name.contains("prompt_embeddings") || name.contains("ia3_")) {
        return wrong("an adapter of PEFT that is no LoRA", "give its base model");
    }
    let vision = |name: &str| names::is_not_text(name);
    if names().all(vision) {
        return wrong(
            "the vision or audio part of a model",
            "give its text model, or all of its files",
        );
    }
    let sizes = |ends: &str| names().any(|name| name.ends_with(ends));
    if sizes(".self_attn.qkv_proj.weight") || sizes("embedder.weight") {
        return wrong(
            "a checkpoint of gemma_pytorch, whose matrices are put together otherwise",
            "take the model in Hugging Face's form, or as a GGUF in Q4_K_M or Q8_0",
        );
    }
    None
}

impl Checkpoint {
    pub(super) fn from_safetensors(
        files: Vec<(Source, Header)>,
        index: Option<(String, Index)>,
        config: Option<String>,
    ) -> Result<Self, CheckpointError> {
        let (sources, headers): (Vec<Source>, Vec<Header>) = files.into_iter().unzip();
        let mut notes = vec![];
        let places = match &index {
            Some((file, index)) => by_index(file, index, &headers, &mut notes)?,
            None => all_tensors(&headers, &mut notes)?,
        };
        let mut found = uniform(places, &headers, &mut notes)?;
        let mut model = Self {
            headers: headers.iter().map(Header::data_start).enumerate().collect(),
            sources,
            format: Format::Safetensors,
            tensors: BTreeMap::new(),
            gguf: None,
            config,
            norms_are_gains: false,
            notes,
        };
        for header in &headers {
            let Some(layouts) = hearth::layouts(header.file(), header.metadata())? else {
                continue;
            };
            model.format = Format::Hearth;
            model.norms_are_gains = true;
            let kept = header.metadata().get("config").filter(|config| !config.is_empty());
            model.config = model.config.or_else(|| kept.cloned());
            for (name, (layout, columns)) in layouts {
                let tensor = packed_tensor(header.file(), &mut found, name, layout, columns)?;
                add(&mut model.tensors, tensor, header.file(), header.file())?;
            }
        }
        model.add_mlx(&mut found)?;
        foreign::refuse(&model, &found)?;
        for (name, (source, info)) in found {
            let file = model.sources[source].name().to_owned();
            add(&mut model.tensors, plain_tensor(name, source, info), &file, &file)?;
        }
        Ok(model)
    }

    /// Moves the weights with scales and biases out of `found`.
    fn add_mlx(&mut self, found: &mut Found) -> Result<(), CheckpointError> {
        let quantized: Vec<String> = found
            .iter()
            .filter(|(_, (_, info))| info.dtype == Dtype::U32)
            .filter_map(|(name, _)| name.strip_suffix(".weight"))
            .filter(|module| found.contains_key(&format!("{module}.scales")))
            .map(str::to_owned)
            .collect();
        if quantized.is_empty() {
            return Ok(());
        }
        self.format = Format::Mlx;
        let file = self.name().to_owned();
        let Some(config) = &self.config else {
            return Err(CheckpointError::Files {
                file,
                message: "these weights are quantized by MLX; give the config.json of the same \
                          folder too, it says how"
                    .to_owned(),
            });
        };
        let config: serde_json::Value = serde_json::from_str(config).map_err(|error| {
            CheckpointError::Json { file: "config.json".to_owned(), message: error.to_string() }
        })?;
        let sizes = Quantization::from_config(&config)
            .map_err(|source| CheckpointError::Mlx { file: "config.json".to_owned(), source })?
            .ok_or_else(|| CheckpointError::Files {
                file: file.clone(),
                message: "these weights look quantized by MLX, but config.json has no 'quantization' that says how; \
                          give the config.json of the same folder, or take the model as a GGUF in Q4_K_M or Q8_0"
                    .to_owned(),
            })?;
        for module in quantized {
            let mut tensor = mlx_tensor(&file, found, &module, &sizes)?;
            tensor.name = format!("{module}.weight");
            add(&mut self.tensors, tensor, &file, &file)?;
        }
        Ok(())
    }
}

/// The tensors under their uniform names. If none of the known wrappings leads to an embedding but one tensor
/// has that name, its prefix is a wrapping too.
fn uniform(
    places: Vec<Place>,
    headers: &[Header],
    notes: &mut Vec<String>,
) -> Result<Found, CheckpointError> {
    const EMBEDDING: &str = "embed_tokens.weight";
    let plain = |info: &TensorInfo| names::from_safetensors(&info.name);
    let wrapping = if places.iter().any(|(_, info)| plain(info).starts_with("model.embed_tokens."))
    {
        None
    } else {
        let ends = |info: &TensorInfo| info.name.strip_suffix(EMBEDDING).map(str::to_owned);
        let mut found = places.iter().filter_map(|(_, info)| ends(info));
        let first = found.next();
        first.filter(|front| found.next().is_none() && front.ends_with('.'))
    };
    if let Some(front) = &wrapping {
        notes.push(format!("the names of the tensors begin with '{front}', which is ignored"));
    }
    let mut all = Found::new();
    for (source, info) in places {
        let name = match wrapping.as_deref().and_then(|front| info.name.strip_prefix(front)) {
            Some(rest) => names::from_safetensors(rest),
            None => plain(&info),
        };
        let own = info.name.clone();
        if let Some((other, before)) = all.insert(name, (source, info)) {
            return Err(CheckpointError::Duplicate {
                file: headers[source].file().to_owned(),
                other: format!("{} as '{}'", headers[other].file(), before.name),
                tensor: own,
            });
        }
    }
    Ok(all)
}
