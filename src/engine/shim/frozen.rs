//! Frozen matrices with low-rank updates.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;

use tch::{Kind, TchError, Tensor};

use super::ffi::{
    MaskRun, RawFourBit, RawLowRank, checked, computed, kind_number, loragrid_dequantize,
    loragrid_frozen_drop, loragrid_frozen_new, loragrid_frozen_part, loragrid_frozen_picked,
    loragrid_frozen_share, loragrid_frozen_weight, loragrid_group, pointer_or_null,
};

/// The components of a 4-bit matrix `[rows, columns]`.
pub(crate) struct FourBitParts<'a> {
    /// `[elements / 2]` bytes, the even element in the high nibble.
    pub(crate) packed: &'a Tensor,
    /// The magnitudes of blocks of 64.
    pub(crate) magnitudes: MagnitudeParts<'a>,
    /// `[256, 2]`, single precision: the two values per byte.
    pub(crate) table: &'a Tensor,
    pub(crate) rows: i64,
    pub(crate) columns: i64,
    /// Dtype that values are rounded to first; none for a matrix quantized here.
    pub(crate) stored: Option<Kind>,
}

/// The block magnitudes, in single precision or quantized to 8 bits.
pub(crate) enum MagnitudeParts<'a> {
    /// `[elements / 64]`
    Plain(&'a Tensor),
    /// Codes `[elements / 64]`, their values `[256]`, their magnitudes `[elements / 64 / 256]`, and the offset.
    Nested { codes: &'a Tensor, values: &'a Tensor, absmax: &'a Tensor, offset: f64 },
}

impl FourBitParts<'_> {
    fn raw(&self) -> RawFourBit {
        let (absmax, codes, values, nested, offset) = match self.magnitudes {
            MagnitudeParts::Plain(absmax) => (Some(absmax), None, None, None, 0.0),
            MagnitudeParts::Nested { codes, values, absmax, offset } => {
                (None, Some(codes), Some(values), Some(absmax), offset)
            }
        };
        RawFourBit {
            packed: self.packed.as_ptr(),
            absmax: pointer_or_null(absmax),
            codes: pointer_or_null(codes),
            values: pointer_or_null(values),
            nested: pointer_or_null(nested),
            table: self.table.as_ptr(),
            offset,
            rows: self.rows,
            columns: self.columns,
            stored: self.stored.map_or(-1, kind_number),
        }
    }
}

/// The matrix in this dtype: one product in single precision per element, rounded once.
pub(crate) fn dequantize(parts: &FourBitParts<'_>, kind: Kind) -> Tensor {
    let raw = parts.raw();
    // SAFETY: the tensors outlive the call, and the function keeps none of the pointers.
    computed(|message, size| unsafe { loragrid_dequantize(&raw, kind_number(kind), message, size) })
}

/// Frozen matrices `[out, in]` that read the same input, stacked vertically.
pub(crate) struct Frozen(NonNull<c_void>);

// SAFETY: it is used by one thread at a time, as `&Frozen` is not shared, and what it holds are tensors, whose references are counted
// atomically; nothing of it belongs to the thread that made it.
unsafe impl Send for Frozen {}

/// One adapter's update to some rows and columns of a layer's output.
pub(crate) struct LowRank<'a> {
    /// `[r, in]`
    pub(crate) a: &'a Tensor,
    /// `[columns, r]`
    pub(crate) b: &'a Tensor,
    /// Scale of the product.
    pub(crate) scale: f64,
    /// Rows of the input.
    pub(crate) rows: Range<i64>,
    /// First column of the output.
    pub(crate) first_column: i64,
    /// Dropout of its input.
    pub(crate) mask: Option<Mask>,
}

/// A dropout mask, generated where it is used.
pub(crate) struct Mask {
    /// Probability that an element is dropped.
    pub(crate) p: f64,
    /// Consecutive rows.
    pub(crate) runs: Vec<MaskRun>,
}

/// Columns of a product whose part of a packed matrix lies together.
pub(crate) const PANEL: i64 = 64;

impl Frozen {
    /// Wraps a dense matrix, or 4-bit matrices, and a bias `[out]`. Error: their shapes do not match.
    pub(crate) fn new(
        dense: Option<&Tensor>,
        parts: &[FourBitParts<'_>],
        bias: Option<&Tensor>,
    ) -> Result<Self, TchError> {
        Self::made(dense, parts, bias, false).map(|(frozen, _)| frozen)
    }

    /// A dense matrix in the order in which this CPU's micro-kernels read it, in new memory; none if it has none for the
    /// dtype. A row of its products does not depend on the number of rows. The order for gradients is made in each backward
    /// pass: it would take the memory of the matrix a second time.
    pub(crate) fn packed(dense: &Tensor, bias: Option<&Tensor>) -> Result<Option<Self>, TchError> {
        let (frozen, is_packed) = Self::made(Some(dense), &[], bias, true)?;
        Ok(is_packed.then_some(frozen))
    }

    fn made(
        dense: Option<&Tensor>,
        parts: &[FourBitParts<'_>],
        bias: Option<&Tensor>,
        mut packed: bool,
    ) -> Result<(Self, bool), TchError> {
        let raw: Vec<RawFourBit> = parts.iter().map(FourBitParts::raw).collect();
        let (dense, bias) = (pointer_or_null(dense), pointer_or_null(bias));
        // SAFETY: the tensors outlive the call; libtorch's reference counts keep what is retained.
        let made = checked(|message, size| unsafe {
            loragrid_frozen_new(dense, raw.as_ptr(), raw.len() as i64, bias, &mut packed, message, size)
        })?;
        Ok((Self::owned(made)?, packed))
    }

    fn owned(made: *mut c_void) -> Result<Self, TchError> {
        Ok(Self(NonNull::new(made).ok_or_else(|| TchError::Torch("nothing was made".to_owned()))?))
    }

    /// Rows of a packed matrix, of which the first is a multiple of [`PANEL`], in the same memory. Error: it is not packed so.
    pub(crate) fn part(&self, rows: Range<i64>, bias: Option<&Tensor>) -> Result<Self, TchError> {
        let (count, bias) = (rows.end - rows.start, pointer_or_null(bias));
        // SAFETY: as above.
        let made = checked(|message, size| unsafe {
            loragrid_frozen_part(self.0.as_ptr(), rows.start, count, bias, message, size)
        })?;
        Self::owned(made)
    }

    /// Another owner of the same matrices.
    pub(crate) fn share(&self) -> Self {
        // SAFETY: the object lives as long as `self`; the result is a new owner, never null.
        Self(unsafe { NonNull::new_unchecked(loragrid_frozen_share(self.0.as_ptr())) })
    }

    /// The matrices `[out, in]` in this dtype.
    pub(crate) fn weight(&self, kind: Kind) -> Tensor {
        // SAFETY: the object lives as long as `self`.
        computed(|message, size| unsafe {
            loragrid_frozen_weight(self.0.as_ptr(), kind_number(kind), message, size)
        })
    }

    /// These rows `[count]` of a packed matrix, `[count, in]`.
    pub(crate) fn picked(&self, places: &Tensor) -> Tensor {
        // SAFETY: the object lives as long as `self`, the tensor as long as the call.
        computed(|message, size| unsafe {
            loragrid_frozen_picked(self.0.as_ptr(), places.as_ptr(), message, size)
        })
    }

    pub(super) fn as_ptr(&self) -> *const c_void {
        self.0.as_ptr()
    }

    /// x·Wᵀ + b `[tokens, out]` for x `[tokens, in]`, plus scale · dropout(x)·Aᵀ·Bᵀ for each adapter in its own dtype,
    /// each sum rounded to x's. The gradient is one node: x is kept once, and quantized matrices are dequantized again.
    pub(crate) fn forward(&self, x: &Tensor, parts: &[LowRank<'_>]) -> Tensor {
        let raw: Vec<RawLowRank> = parts.iter().map(LowRank::raw).collect();
        // SAFETY: the object lives as long as `self`; tensors and runs outlive the call, which keeps reference counts
        // of the tensors and its own copy of the runs' data.
        computed(|message, size| unsafe {
            loragrid_group(self.0.as_ptr(), x.as_ptr(), raw.as_ptr(), raw.len() as i64, message, size)
        })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: made by `loragrid_frozen_new` and dropped once; nodes that still need the matrices hold references.
        unsafe { loragrid_frozen_drop(self.0.as_ptr()) }
    }
}

impl LowRank<'_> {
    pub(super) fn raw(&self) -> RawLowRank {
        let p = self.mask.as_ref().map_or(0.0, |mask| mask.p);
        let runs: &[MaskRun] = self.mask.as_ref().map_or(&[], |mask| &mask.runs);
        RawLowRank {
            a: self.a.as_ptr(),
            b: self.b.as_ptr(),
            scale: self.scale,
            first_row: self.rows.start,
            rows: self.rows.end - self.rows.start,
            first_column: self.first_column,
            // An element is dropped if its top 32 bits are below p.
            threshold: (p * (1u64 << 32) as f64) as u64,
            kept: (1.0 / (1.0 - p)) as f32,
            runs: runs.as_ptr(),
            run_count: runs.len() as i64,
        }
    }
}
