//! One tensor of a safetensors file, or the several that a quantized matrix is stored in.

use super::safetensors::Found;
use crate::checkpoint::{CheckpointError, Part, Storage, Tensor};
use crate::hearth;
use crate::layout::WeightLayout;
use crate::mlx::Quantization;
use crate::safetensors::{Dtype, TensorInfo};

/// A part of `[rows, …]` in one source.
fn part(source: usize, info: &TensorInfo) -> Part {
    let columns = info.shape.last().copied().unwrap_or(1);
    Part { source, offset: info.offset, row_bytes: columns.saturating_mul(info.dtype.bits()) / 8 }
}

pub(super) fn plain_tensor(name: String, source: usize, info: TensorInfo) -> Tensor {
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
pub(super) fn packed_tensor(
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

/// One of MLX's matrices; the caller sets its name.
pub(super) fn mlx_tensor(
    file: &str,
    found: &mut Found,
    module: &str,
    sizes: &Quantization,
) -> Result<Tensor, CheckpointError> {
    let weight = format!("{module}.weight");
    let shape = found.get(&weight).map_or(vec![], |(_, info)| info.shape.clone());
    let affine = sizes.of(module);
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
