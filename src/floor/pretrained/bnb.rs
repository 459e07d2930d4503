//! Matrices stored in 4 bits by bitsandbytes: `NAME.weight` as bytes, beside it `NAME.weight.absmax`, `.quant_map` and,
//! with double quantization, `.nested_absmax` and `.nested_quant_map`; `.quant_state.…` is a JSON string with shape,
//! block size and offset.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;

use super::error::CheckpointError;
use super::safetensors_file::SafetensorsFile;
use super::tensor::Elements;
use crate::quant::{BLOCK, Code, FourBit, NESTED_BLOCK, NestedAbsmax};

/// A 4-bit matrix, with its magnitudes dequantized if they were quantized too.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFourBit {
    /// Shape, slowest dimension first.
    pub shape: Vec<u64>,
    /// nf4 or fp4.
    pub code: Code,
    /// Codes and magnitudes.
    pub data: FourBit,
    /// The magnitudes as stored, if they are codes.
    pub nested: Option<NestedAbsmax>,
    /// Dtype that values are rounded to.
    pub dtype: StoredDType,
}

/// The dtype of a matrix before quantization: bitsandbytes rounds its values to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StoredDType {
    F32,
    F16,
    Bf16,
}

#[derive(Deserialize)]
struct QuantState {
    quant_type: String,
    blocksize: usize,
    shape: Vec<u64>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
    dtype: String,
    #[serde(default)]
    nested_dtype: Option<String>,
}

impl QuantState {
    fn dtype(&self) -> Option<StoredDType> {
        // bitsandbytes always writes nested magnitudes in single precision.
        let nested = self.nested_dtype.as_deref().is_none_or(|dtype| dtype == "float32");
        match self.dtype.as_str() {
            "float32" if nested => Some(StoredDType::F32),
            "float16" if nested => Some(StoredDType::F16),
            "bfloat16" if nested => Some(StoredDType::Bf16),
            _ => None,
        }
    }
}

/// Suffixes of the tensors beside a weight.
const COMPANIONS: [&str; 4] = [".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"];

/// The weight that a companion tensor belongs to.
pub(super) fn weight_of(tensor: &str) -> Option<&str> {
    let state = || tensor.split_once(".quant_state.bitsandbytes__").map(|(weight, _)| weight);
    COMPANIONS.iter().find_map(|ending| tensor.strip_suffix(ending)).or_else(state)
}

/// Checks from the header that a weight has all its companion tensors. Errors: one is missing, an unsupported format.
pub(super) fn check(file: &SafetensorsFile, weight: &str) -> Result<(), CheckpointError> {
    let (state, _) = state(file, weight)?;
    let wanted = if state.nested_offset.is_some() { &COMPANIONS[..] } else { &COMPANIONS[..2] };
    let missing = wanted.iter().map(|ending| format!("{weight}{ending}")).find(|name| !file.contains(name));
    match missing {
        Some(name) => Err(CheckpointError::NoTensor { path: file.path().to_owned(), name }),
        None => Ok(()),
    }
}

const KINDS: [(&str, Code); 2] = [("nf4", Code::Nf4), ("fp4", Code::Fp4)];

fn state_name(weight: &str, kind: &str) -> String {
    format!("{weight}.quant_state.bitsandbytes__{kind}")
}

/// Whether a weight is stored in this format. Any one companion tensor counts, so an incomplete set is not read as plain numbers.
pub(super) fn is_four_bit(file: &SafetensorsFile, weight: &str) -> bool {
    KINDS.iter().any(|(kind, _)| file.contains(&state_name(weight, kind)))
        || COMPANIONS.iter().any(|ending| file.contains(&format!("{weight}{ending}")))
}

fn state(file: &SafetensorsFile, weight: &str) -> Result<(QuantState, Code), CheckpointError> {
    let malformed = |reason: String| CheckpointError::Malformed { path: file.path().to_owned(), reason };
    let found = KINDS.iter().find(|(kind, _)| file.contains(&state_name(weight, kind)));
    let (kind, code) = found.ok_or_else(|| CheckpointError::NoTensor {
        path: file.path().to_owned(),
        name: state_name(weight, "nf4"),
    })?;
    let (_, text) = file.read_bytes(&state_name(weight, kind))?;
    let state: QuantState = serde_json::from_slice(text)
        .map_err(|e| malformed(format!("'{weight}': quantization state: {e}")))?;
    let blocks = (state.blocksize, state.nested_blocksize.unwrap_or(NESTED_BLOCK));
    if blocks != (BLOCK, NESTED_BLOCK) || state.quant_type != *kind {
        let name = format!("{} in blocks of {} and {}", state.quant_type, blocks.0, blocks.1);
        return Err(CheckpointError::Unsupported { path: file.path().to_owned(), what: "4-bit form", name });
    }
    if state.dtype().is_none() {
        let name = state.dtype;
        return Err(CheckpointError::Unsupported { path: file.path().to_owned(), what: "4-bit dtype", name });
    }
    Ok((state, *code))
}

/// Shape and format of a weight.
pub(super) fn describe(file: &SafetensorsFile, weight: &str) -> Result<(Vec<u64>, String), CheckpointError> {
    let (state, _) = state(file, weight)?;
    let double = if state.nested_offset.is_some() { "-dq" } else { "" };
    Ok((state.shape, format!("bnb.{}{double}", state.quant_type)))
}

/// Reads a weight of the given shape. Errors: tensors that are missing or do not match.
pub(super) fn read(
    file: &SafetensorsFile,
    weight: &str,
    shape: &[u64],
) -> Result<StoredFourBit, CheckpointError> {
    let malformed = |what: &str| CheckpointError::Malformed {
        path: file.path().to_owned(),
        reason: format!("'{weight}': {what}"),
    };
    let (state, code) = state(file, weight)?;
    let elements = shape.iter().product::<u64>() as usize;
    // The bytes are codes in any dtype: FSDP requires the dtype of the other tensors.
    let packed = file.raw(weight)?;
    check(file, weight)?;
    let dtype = state.dtype().unwrap_or(StoredDType::F32);
    if state.shape != shape || packed.len() != elements.div_ceil(2) {
        return Err(malformed("its codes do not fit its shape"));
    }
    let floats = |name: String| match file.read(&name)?.elements {
        Elements::F32(values) => Ok(values),
        _ => Err(malformed("its magnitudes are not in single precision")),
    };
    let map = floats(format!("{weight}.quant_map"))?;
    if map != code.values() {
        return Err(malformed("its code is not the published one"));
    }
    let blocks = elements.div_ceil(BLOCK);
    let (absmax, nested) = match state.nested_offset {
        None => (floats(format!("{weight}.absmax"))?, None),
        Some(offset) => {
            let (_, codes) = file.read_bytes(&format!("{weight}.absmax"))?;
            let nested = NestedAbsmax {
                codes: codes.to_vec(),
                absmax: floats(format!("{weight}.nested_absmax"))?,
                offset,
                code: floats(format!("{weight}.nested_quant_map"))?,
            };
            if nested.code.len() != 256 || nested.absmax.len() != blocks.div_ceil(NESTED_BLOCK) {
                return Err(malformed("its nested magnitudes do not fit"));
            }
            (nested.dequantize(), Some(nested))
        }
    };
    if absmax.len() != blocks {
        return Err(malformed("it has another number of blocks than of magnitudes"));
    }
    let data = FourBit { packed: packed.to_vec(), absmax };
    Ok(StoredFourBit { shape: shape.to_vec(), code, data, nested, dtype })
}

impl StoredFourBit {
    /// Some of the rows. Error: rows that do not end at a block boundary.
    pub(super) fn rows(self, rows: &[Range<u64>], path: &Path) -> Result<Self, CheckpointError> {
        let width = self.shape[1];
        // From here on, quantized magnitudes are replaced by their values.
        if !(width as usize).is_multiple_of(BLOCK) {
            let name = format!("shared by layers, with rows of {width}");
            return Err(CheckpointError::Unsupported { path: path.to_owned(), what: "4-bit matrix", name });
        }
        let bytes = |n: u64| (n * width) as usize / 2;
        let blocks = |n: u64| (n * width) as usize / BLOCK;
        let mut data = FourBit { packed: Vec::new(), absmax: Vec::new() };
        for range in rows {
            data.packed.extend_from_slice(&self.data.packed[bytes(range.start)..bytes(range.end)]);
            data.absmax.extend_from_slice(&self.data.absmax[blocks(range.start)..blocks(range.end)]);
        }
        let count = rows.iter().map(|range| range.end - range.start).sum();
        Ok(Self { shape: vec![count, width], data, nested: None, code: self.code, dtype: self.dtype })
    }
}
