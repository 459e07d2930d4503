//! Frozen matrices, in the compute dtype or in 4 bits.

use std::ops::Range;

use floor::job::{Dequantize, Quantize};
use floor::pretrained::{Stored, StoredDType, StoredFourBit};
use floor::quant::{BLOCK, Code, FourBit, NestedAbsmax};
use tch::{Device, Kind, Tensor};

use crate::failure::EngineError;
use crate::shim::{self, FourBitParts, Frozen, MagnitudeParts};
use crate::tensor::{from_stored, to_f32, wide};

/// Storage of frozen matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storage {
    /// 4-bit format of the blocks' matrices.
    pub(crate) quantize: Quantize,
    /// Whether the head is quantized too.
    pub(crate) quantize_head: bool,
    /// When 4-bit matrices are dequantized.
    pub(crate) dequantize: Dequantize,
}

impl Storage {
    /// Everything in the compute dtype.
    #[cfg(test)]
    pub(crate) const DENSE: Self =
        Self { quantize: Quantize::None, quantize_head: false, dequantize: Dequantize::EachPass };
}

/// A frozen matrix `[out, in]`.
pub(crate) enum Matrix {
    Dense(Tensor),
    /// In the order in which micro-kernels read it.
    Packed {
        frozen: Frozen,
        size: [i64; 2],
        /// Compute dtype.
        kind: Kind,
    },
    FourBit(FourBitMatrix),
}

/// A 4-bit matrix.
pub(crate) struct FourBitMatrix {
    packed: Tensor,
    absmax: Magnitudes,
    /// `[256, 2]`: the two values per byte.
    table: Tensor,
    rows: i64,
    columns: i64,
    /// Dtype after dequantization.
    kind: Kind,
    /// Dtype that bitsandbytes rounded its values to, if it stored the matrix.
    stored: Option<Kind>,
}

/// The block magnitudes.
enum Magnitudes {
    /// `[blocks]`
    Plain(Tensor),
    /// Codes `[blocks]`, their values `[256]`, magnitudes `[blocks / 256]`, mean.
    Nested { codes: Tensor, values: Tensor, absmax: Tensor, offset: f64 },
}

/// A linear layer with frozen weights.
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    /// `[out]`
    pub(crate) bias: Option<Tensor>,
    frozen: Frozen,
}

impl Linear {
    /// A layer from a matrix and a bias. Error: libtorch's.
    pub(super) fn new(weight: Matrix, bias: Option<Tensor>) -> Result<Self, EngineError> {
        let parts: Vec<FourBitParts<'_>> = weight.as_four_bit().into_iter().collect();
        let frozen = Frozen::new(weight.as_dense(), &parts, bias.as_ref())?;
        drop(parts);
        Ok(Self { weight, bias, frozen })
    }

    /// A layer of a packed matrix, which `frozen` has with its bias.
    fn of_packed(frozen: Frozen, bias: Option<Tensor>, size: [i64; 2], kind: Kind) -> Self {
        Self { weight: Matrix::Packed { frozen: frozen.share(), size, kind }, bias, frozen }
    }

    /// Packs a dense matrix, if this CPU has micro-kernels for its dtype; see [`Frozen::packed`]. Error: libtorch's.
    pub(super) fn packed(self) -> Result<Self, EngineError> {
        let Some(dense) = self.weight.as_dense() else { return Ok(self) };
        let (size, kind) = ([self.out(), self.input()], dense.kind());
        match Frozen::packed(dense, self.bias.as_ref())? {
            Some(frozen) => Ok(Self::of_packed(frozen, self.bias, size, kind)),
            None => Ok(self),
        }
    }

    /// Takes the rows from `first` on of a packed matrix, which are its own. Error: libtorch's.
    pub(super) fn pack_as_part(&mut self, all: &Frozen, first: i64, kind: Kind) -> Result<(), EngineError> {
        let size = [self.out(), self.input()];
        let bias = self.bias.take();
        let part = all.part(first..first + size[0], bias.as_ref())?;
        *self = Self::of_packed(part, bias, size, kind);
        Ok(())
    }

    /// The packed matrix, if it is one.
    pub(super) fn as_packed(&self) -> Option<&Frozen> {
        matches!(self.weight, Matrix::Packed { .. }).then_some(&self.frozen)
    }

    /// Columns of its input.
    pub(super) fn input(&self) -> i64 {
        match &self.weight {
            Matrix::Dense(weight) => weight.size()[1],
            Matrix::Packed { size, .. } => size[1],
            Matrix::FourBit(matrix) => matrix.columns,
        }
    }

    /// Number of output columns.
    pub(super) fn out(&self) -> i64 {
        match &self.weight {
            Matrix::Dense(weight) => weight.size()[0],
            Matrix::Packed { size, .. } => size[0],
            Matrix::FourBit(matrix) => matrix.rows,
        }
    }

    pub(super) fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    /// x·Wᵀ + b for x `[tokens, in]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        self.frozen.forward(x, &[])
    }

    /// x·Wᵀ.
    pub(crate) fn weight_only(&self, x: &Tensor) -> Tensor {
        self.without_bias(&self.forward(x))
    }

    /// An output of this layer minus its bias.
    pub(crate) fn without_bias(&self, output: &Tensor) -> Tensor {
        match &self.bias {
            Some(bias) => output - bias,
            None => output.shallow_clone(),
        }
    }
}

impl Matrix {
    /// A stored matrix in the compute dtype, or quantized from there as in transformers.
    pub(crate) fn load(
        stored: Stored,
        quantize: Quantize,
        dequantize: Dequantize,
        kind: Kind,
        device: Device,
    ) -> Result<Self, EngineError> {
        let matrix = match stored {
            Stored::FourBit(stored) => FourBitMatrix::stored(stored, kind, device),
            Stored::Dense(data) => {
                let dense = from_stored(&data, kind, device);
                drop(data);
                match form(quantize) {
                    None => return Ok(Self::Dense(dense)),
                    Some((code, double)) => FourBitMatrix::quantize(&dense, code, double)?,
                }
            }
        };
        Ok(match dequantize {
            Dequantize::EachPass => Self::FourBit(matrix),
            Dequantize::Keep => Self::Dense(matrix.dense(kind)),
        })
    }

    /// A layer's rows of a dense matrix shared by several layers, quantized as a whole.
    pub(super) fn load_rows(
        whole: &Tensor,
        quantize: Quantize,
        dequantize: Dequantize,
        rows: &[Range<u64>],
    ) -> Result<Self, EngineError> {
        let dense_rows = |matrix: &Tensor| {
            let parts = rows
                .iter()
                .map(|range| matrix.narrow(0, range.start as i64, (range.end - range.start) as i64));
            Tensor::cat(&parts.collect::<Vec<_>>(), 0)
        };
        Ok(match FourBitMatrix::quantize_rows(whole, quantize, rows)? {
            Some(matrix) if dequantize == Dequantize::EachPass => Self::FourBit(matrix),
            Some(matrix) => Self::Dense(matrix.dense(matrix.kind)),
            // 4-bit values, unquantized memory use.
            None => Self::Dense(dense_rows(&dequantized(whole, quantize)?)),
        })
    }

    pub(super) fn as_dense(&self) -> Option<&Tensor> {
        match self {
            Self::Dense(weight) => Some(weight),
            Self::Packed { .. } | Self::FourBit(_) => None,
        }
    }

    pub(super) fn as_four_bit(&self) -> Option<FourBitParts<'_>> {
        match self {
            Self::Dense(_) | Self::Packed { .. } => None,
            Self::FourBit(matrix) => Some(matrix.parts()),
        }
    }

    /// The matrix in the compute dtype.
    pub(crate) fn dense(&self) -> Tensor {
        match self {
            Self::Dense(weight) => weight.shallow_clone(),
            Self::Packed { frozen, kind, .. } => frozen.weight(*kind),
            Self::FourBit(matrix) => matrix.dense(matrix.kind),
        }
    }
}

/// The code of a setting, and whether magnitudes are quantized too.
fn form(quantize: Quantize) -> Option<(Code, bool)> {
    match quantize {
        Quantize::None => None,
        Quantize::Nf4 => Some((Code::Nf4, false)),
        Quantize::Nf4Double => Some((Code::Nf4, true)),
        Quantize::Fp4 => Some((Code::Fp4, false)),
        Quantize::Fp4Double => Some((Code::Fp4, true)),
    }
}

impl FourBitMatrix {
    /// Quantizes a dense matrix. The magnitudes' mean is libtorch's, so it matches bitsandbytes bit for bit.
    pub(crate) fn quantize(dense: &Tensor, code: Code, double: bool) -> Result<Self, EngineError> {
        let data = floor::quant::quantize(&to_f32(dense)?, code);
        let nested = double.then(|| {
            let mean = Tensor::from_slice(&data.absmax).mean(Kind::Float).double_value(&[]) as f32;
            NestedAbsmax::quantize(&data.absmax, mean)
        });
        let (rows, columns) = (dense.size()[0], dense.size()[1]);
        Ok(Self::new(&data, nested.as_ref(), code, [rows, columns], dense.kind(), dense.device()))
    }

    /// Some rows of a matrix quantized as a whole; mean and magnitude blocks are those of the whole matrix. None: rows
    /// do not end at a block boundary.
    pub(crate) fn quantize_rows(
        dense: &Tensor,
        quantize: Quantize,
        rows: &[Range<u64>],
    ) -> Result<Option<Self>, EngineError> {
        let Some((code, double)) = form(quantize) else { return Ok(None) };
        let columns = dense.size()[1] as usize;
        if !columns.is_multiple_of(BLOCK) {
            return Ok(None);
        }
        let data = floor::quant::quantize(&to_f32(dense)?, code);
        let absmax = if double {
            let mean = Tensor::from_slice(&data.absmax).mean(Kind::Float).double_value(&[]) as f32;
            NestedAbsmax::quantize(&data.absmax, mean).dequantize()
        } else {
            data.absmax
        };
        let pick =
            |width: usize, range: &Range<u64>| range.start as usize * width..range.end as usize * width;
        let packed = rows.iter().flat_map(|range| &data.packed[pick(columns / 2, range)]).copied().collect();
        let absmax = rows.iter().flat_map(|range| &absmax[pick(columns / BLOCK, range)]).copied().collect();
        let count: u64 = rows.iter().map(|range| range.end - range.start).sum();
        let part = FourBit { packed, absmax };
        let size = [count as i64, columns as i64];
        Ok(Some(Self::new(&part, None, code, size, dense.kind(), dense.device())))
    }

    fn stored(stored: StoredFourBit, kind: Kind, device: Device) -> Self {
        let size = [stored.shape[0] as i64, stored.shape[1] as i64];
        let matrix = Self::new(&stored.data, stored.nested.as_ref(), stored.code, size, kind, device);
        let rounded = match stored.dtype {
            StoredDType::F32 => Kind::Float,
            StoredDType::F16 => Kind::Half,
            StoredDType::Bf16 => Kind::BFloat16,
        };
        Self { stored: Some(rounded), ..matrix }
    }

    fn new(
        data: &FourBit,
        nested: Option<&NestedAbsmax>,
        code: Code,
        [rows, columns]: [i64; 2],
        kind: Kind,
        device: Device,
    ) -> Self {
        let values = code.values();
        let pairs: Vec<f32> = (0..256).flat_map(|byte| [values[byte >> 4], values[byte & 0x0F]]).collect();
        let absmax = match nested {
            None => Magnitudes::Plain(Tensor::from_slice(&data.absmax).to_device(device)),
            Some(nested) => Magnitudes::Nested {
                codes: Tensor::from_slice(&nested.codes).to_device(device),
                values: Tensor::from_slice(&nested.code).to_device(device),
                absmax: Tensor::from_slice(&nested.absmax).to_device(device),
                offset: nested.offset.into(),
            },
        };
        Self {
            packed: Tensor::from_slice(&data.packed).to_device(device),
            absmax,
            table: Tensor::from_slice(&pairs).to_device(device),
            rows,
            columns,
            kind,
            stored: None,
        }
    }

    fn parts(&self) -> FourBitParts<'_> {
        let magnitudes = match &self.absmax {
            Magnitudes::Plain(absmax) => MagnitudeParts::Plain(absmax),
            Magnitudes::Nested { codes, values, absmax, offset } => {
                MagnitudeParts::Nested { codes, values, absmax, offset: *offset }
            }
        };
        let (rows, columns) = (self.rows, self.columns);
        let stored = self.stored;
        FourBitParts { packed: &self.packed, magnitudes, table: &self.table, rows, columns, stored }
    }

    /// The matrix in this dtype.
    pub(crate) fn dense(&self, kind: Kind) -> Tensor {
        shim::dequantize(&self.parts(), kind)
    }

    /// Its codes, for comparison with other implementations.
    #[cfg(test)]
    pub(crate) fn packed(&self) -> &Tensor {
        &self.packed
    }
}

/// A dense matrix quantized to 4 bits and back, in its own dtype.
pub(crate) fn dequantized(dense: &Tensor, quantize: Quantize) -> Result<Tensor, EngineError> {
    match form(quantize) {
        None => Ok(dense.shallow_clone()),
        Some((code, double)) => Ok(FourBitMatrix::quantize(dense, code, double)?.dense(dense.kind())),
    }
}

/// A vector of a stored layer.
pub(crate) fn vector(stored: Stored, kind: Kind, device: Device) -> Result<Tensor, EngineError> {
    match stored {
        Stored::Dense(data) => Ok(from_stored(&data, kind, device)),
        Stored::FourBit(_) => Err(EngineError::Adapter {
            path: "the checkpoint".to_owned(),
            reason: "a norm or bias is in 4 bits".to_owned(),
        }),
    }
}

/// Row norms `[out]` of W in single precision, or double if everything is double.
pub(crate) fn row_norms(weight: &Tensor) -> Tensor {
    weight
        .to_kind(wide(weight.kind()))
        .square()
        .sum_dim_intlist([1i64].as_slice(), false, None::<Kind>)
        .sqrt()
}
