//! Opening: which file is what, and where every tensor lies.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Checkpoint, CheckpointError, Format, Part, Storage, Tensor, names};
use crate::gguf::blocks::layout_of;
use crate::gguf::header::Header as GgufHeader;
use crate::hearth;
use crate::layout::WeightLayout;
use crate::mlx::Quantization;
use crate::safetensors::{Dtype, Header, Index, TensorInfo};
use crate::source::{ByteSource, read_vec};

/// Longest `config.json` and index; real ones have a few kilobytes and a megabyte.
const JSON_LIMIT: u64 = 16 << 20;

const NO_MODEL: &str = "this is no model that Hearth reads: neither GGUF nor safetensors; choose the .gguf file of a \
                        Gemma model, or its .safetensors files with config.json and tokenizer.json";

/// Whether a file is called safetensors, or begins like one: the length of a header that fits in it.
async fn is_safetensors(source: &dyn ByteSource) -> Result<bool, CheckpointError> {
    if source.name().ends_with(".safetensors") {
        return Ok(true);
    }
    let mut length = [0; 8];
    if source.len() < 8 {
        return Ok(false);
    }
    source.read_at(0, &mut length).await?;
    Ok(u64::from_le_bytes(length) <= source.len() - 8)
}

/// Tensors of safetensors files by uniform name, with the source they are in.
type Found = BTreeMap<String, (usize, TensorInfo)>;

impl Checkpoint {
    /// Opens a model from its files in any order: one GGUF, or one or several safetensors with
    /// `config.json` and, where sharded, `model.safetensors.index.json`. Files are told apart by
    /// their first bytes and by their names' endings; other JSON files (tokenizers) are left
    /// alone.
    ///
    /// # Errors
    /// [`CheckpointError`] names the file and tensor that is damaged, missing or there twice.
    pub async fn open(sources: Vec<Rc<dyn ByteSource>>) -> Result<Self, CheckpointError> {
        let mut config = None;
        let mut index = None;
        let mut models: Vec<Rc<dyn ByteSource>> = Vec::new();
        for source in sources {
            let name = file_name(source.name());
            if name == "config.json" {
                let json = read_json(&*source).await?;
                config = Some(String::from_utf8(json).map_err(|error| CheckpointError::Json {
                    file: source.name().to_owned(),
                    message: error.to_string(),
                })?);
            } else if name.ends_with(".index.json") {
                let json = read_json(&*source).await?;
                index = Some((source.name().to_owned(), Index::parse(source.name(), &json)?));
            } else if !name.ends_with(".json") {
                models.push(source);
            }
        }
        let Some(first) = models.first() else {
            return Err(CheckpointError::Empty);
        };
        for (i, source) in models.iter().enumerate() {
            let mut magic = [0; 4];
            if source.len() >= 4 {
                source.read_at(0, &mut magic).await?;
            }
            if magic != *b"GGUF" {
                if !is_safetensors(&**source).await? {
                    return Err(CheckpointError::Files {
                        file: source.name().to_owned(),
                        message: NO_MODEL.to_owned(),
                    });
                }
                continue;
            }
            if models.len() > 1 {
                return Err(CheckpointError::Files {
                    file: models[i].name().to_owned(),
                    message: "a GGUF model is one file, but several were given; \
                              join pieces with llama-gguf-split --merge"
                        .to_owned(),
                });
            }
            let header = GgufHeader::read(&**first).await?;
            return Self::from_gguf(models, header);
        }
        Self::from_safetensors(models, index, config).await
    }

    fn from_gguf(
        sources: Vec<Rc<dyn ByteSource>>,
        header: GgufHeader,
    ) -> Result<Self, CheckpointError> {
        if header.get::<u32>("split.count")?.is_some_and(|count| count > 1) {
            return Err(CheckpointError::Files {
                file: header.file().to_owned(),
                message: "this is one piece of a split GGUF; join all pieces with \
                          llama-gguf-split --merge"
                    .to_owned(),
            });
        }
        let architecture: &str = header.require("general.architecture")?;
        let mut tensors = BTreeMap::new();
        for info in header.tensors() {
            let columns = info.shape.last().copied().unwrap_or(1);
            let part = Part {
                source: 0,
                offset: info.offset,
                row_bytes: columns / info.kind.block_weights() * info.kind.block_bytes(),
            };
            let layout = layout_of(info.kind);
            let tensor = Tensor {
                name: names::from_gguf(&info.name, architecture),
                shape: info.shape.clone(),
                layout,
                storage: match layout {
                    Some(_) => Storage::Blocks(info.kind, part),
                    None => Storage::Other(info.kind.to_string(), part),
                },
            };
            add(&mut tensors, tensor, header.file(), header.file())?;
        }
        Ok(Self {
            headers: vec![(0, header.data_start().min(sources[0].len()))],
            sources,
            format: Format::Gguf,
            tensors,
            gguf: Some(header),
            config: None,
            norms_are_gains: true,
        })
    }

    async fn from_safetensors(
        sources: Vec<Rc<dyn ByteSource>>,
        index: Option<(String, Index)>,
        config: Option<String>,
    ) -> Result<Self, CheckpointError> {
        let mut headers = Vec::new();
        for source in &sources {
            headers.push(Header::read(&**source).await?);
        }
        let mut found = match &index {
            Some((file, index)) => by_index(file, index, &headers)?,
            None => all_tensors(&headers)?,
        };
        let mut model = Self {
            headers: headers.iter().map(Header::data_start).enumerate().collect(),
            sources,
            format: Format::Safetensors,
            tensors: BTreeMap::new(),
            gguf: None,
            config,
            norms_are_gains: false,
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
        for (name, (source, info)) in found {
            let file = model.sources[source].name().to_owned();
            add(&mut model.tensors, plain_tensor(name, source, info), &file, &file)?;
        }
        Ok(model)
    }

    /// Takes the weights with scales and biases out of `found`.
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
            .ok_or_else(|| CheckpointError::Json {
                file: "config.json".to_owned(),
                message: "'quantization' is missing, but the weights are quantized by MLX"
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

/// The last part of a path or address, without a query.
fn file_name(name: &str) -> &str {
    let path = name.split(['?', '#']).next().unwrap_or(name);
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

async fn read_json(source: &dyn ByteSource) -> Result<Vec<u8>, CheckpointError> {
    if source.len() > JSON_LIMIT {
        return Err(CheckpointError::JsonLength {
            file: source.name().to_owned(),
            bytes: source.len(),
            limit: JSON_LIMIT,
        });
    }
    Ok(read_vec(source, 0, source.len()).await?)
}

fn add(
    tensors: &mut BTreeMap<String, Tensor>,
    tensor: Tensor,
    file: &str,
    other: &str,
) -> Result<(), CheckpointError> {
    let name = tensor.name.clone();
    match tensors.insert(name.clone(), tensor) {
        None => Ok(()),
        Some(_) => Err(CheckpointError::Duplicate {
            file: file.to_owned(),
            other: other.to_owned(),
            tensor: name,
        }),
    }
}

fn insert_found(
    found: &mut Found,
    headers: &[Header],
    source: usize,
    info: &TensorInfo,
) -> Result<(), CheckpointError> {
    let name = names::from_safetensors(&info.name);
    match found.insert(name, (source, info.clone())) {
        None => Ok(()),
        Some((other, _)) => Err(CheckpointError::Duplicate {
            file: headers[source].file().to_owned(),
            other: headers[other].file().to_owned(),
            tensor: info.name.clone(),
        }),
    }
}

fn by_index(file: &str, index: &Index, headers: &[Header]) -> Result<Found, CheckpointError> {
    let mut found = Found::new();
    for (tensor, shard) in &index.weight_map {
        let Some(source) = headers.iter().position(|h| file_name(h.file()) == shard) else {
            return Err(CheckpointError::Files {
                file: file.to_owned(),
                message: format!("tensor '{tensor}' is in '{shard}', which was not given"),
            });
        };
        insert_found(&mut found, headers, source, headers[source].tensor(tensor)?)?;
    }
    Ok(found)
}

fn all_tensors(headers: &[Header]) -> Result<Found, CheckpointError> {
    let mut found = Found::new();
    for (source, header) in headers.iter().enumerate() {
        if let Some(shards) = shard_count(file_name(header.file()))
            && shards != headers.len()
        {
            return Err(CheckpointError::Files {
                file: header.file().to_owned(),
                message: format!(
                    "the name says that the model has {shards} safetensors files, {} were given; \
                     give all of them",
                    headers.len()
                ),
            });
        }
        for info in header.tensors() {
            insert_found(&mut found, headers, source, info)?;
        }
    }
    Ok(found)
}

/// N of `model-00001-of-N.safetensors`.
fn shard_count(name: &str) -> Option<usize> {
    let (_, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    count.parse().ok()
}

/// A part of `[rows, …]` in one source.
fn part(source: usize, info: &TensorInfo) -> Part {
    let columns = info.shape.last().copied().unwrap_or(1);
    Part { source, offset: info.offset, row_bytes: columns.saturating_mul(info.dtype.bytes()) }
}

fn plain_tensor(name: String, source: usize, info: TensorInfo) -> Tensor {
    let part = part(source, &info);
    let float = info.dtype.float();
    Tensor {
        name,
        layout: float.map(|kind| kind.layout()),
        storage: match float {
            Some(kind) => Storage::Floats(kind, part),
            None => Storage::Other(info.dtype.to_string(), part),
        },
        shape: info.shape,
    }
}

/// Takes a tensor out of `found` and checks its type and shape.
fn take(
    file: &str,
    found: &mut Found,
    name: String,
    dtypes: &[Dtype],
    shape: [u64; 2],
) -> Result<(Dtype, Part), CheckpointError> {
    let Some((source, info)) = found.remove(&name) else {
        return Err(CheckpointError::Missing { model: file.to_owned(), tensor: name });
    };
    if !dtypes.contains(&info.dtype) {
        return Err(CheckpointError::NotWeights {
            file: file.to_owned(),
            tensor: name,
            found: info.dtype.to_string(),
        });
    }
    if info.shape != shape {
        return Err(CheckpointError::Shape {
            file: file.to_owned(),
            tensor: name,
            expected: format!("{shape:?} was expected"),
            found: info.shape,
        });
    }
    Ok((info.dtype, part(source, &info)))
}

/// One of Hearth's own matrices.
fn packed_tensor(
    file: &str,
    found: &mut Found,
    name: String,
    layout: WeightLayout,
    columns: u64,
) -> Result<Tensor, CheckpointError> {
    let quants = format!("{name}.quants");
    let rows = found.get(&quants).and_then(|(_, info)| info.shape.first().copied()).unwrap_or(0);
    let (quant_words, scale_words) = hearth::words(layout, columns);
    let (_, quants) = take(file, found, quants, &[Dtype::U32], [rows, quant_words])?;
    let scales = match scale_words {
        0 => None,
        words => {
            let scales = format!("{name}.scales");
            Some(take(file, found, scales, &[Dtype::U32], [rows, words])?.1)
        }
    };
    Ok(Tensor {
        name,
        shape: vec![rows, columns],
        layout: Some(layout),
        storage: Storage::Packed { quants, scales },
    })
}

/// One of MLX's matrices; the caller gives it its name.
fn mlx_tensor(
    file: &str,
    found: &mut Found,
    module: &str,
    sizes: &Quantization,
) -> Result<Tensor, CheckpointError> {
    let weight = format!("{module}.weight");
    // Overrides use the names of the file.
    let (in_file, shape) = found
        .get(&weight)
        .map_or((String::new(), vec![]), |(_, info)| (info.name.clone(), info.shape.clone()));
    let affine = sizes.of(in_file.strip_suffix(".weight").unwrap_or(&in_file));
    let &[rows, words] = &shape[..] else {
        return Err(CheckpointError::Shape {
            file: file.to_owned(),
            tensor: weight,
            expected: "[rows, words] was expected".to_owned(),
            found: shape,
        });
    };
    let columns = words.saturating_mul(u64::from(32 / affine.bits));
    let groups = [rows, columns / u64::from(affine.group)];
    let floats = [Dtype::F32, Dtype::F16, Dtype::BF16];
    let (_, weight) = take(file, found, weight, &[Dtype::U32], [rows, words])?;
    let (dtype, scales) = take(file, found, format!("{module}.scales"), &floats, groups)?;
    let (_, biases) = take(file, found, format!("{module}.biases"), &[dtype], groups)?;
    let kind = dtype.float().unwrap_or(crate::row::FloatType::F32);
    let layout = affine.layout(kind);
    layout.check(columns).map_err(|source| CheckpointError::Layout {
        file: file.to_owned(),
        tensor: format!("{module}.weight"),
        source,
    })?;
    Ok(Tensor {
        name: String::new(),
        shape: vec![rows, columns],
        layout: Some(layout),
        storage: Storage::Mlx { affine, kind, weight, scales, biases },
    })
}
