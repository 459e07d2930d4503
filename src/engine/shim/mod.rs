//! The safe side of `shim.cpp`: what libtorch can do and tch has no door to.

use std::ffi::{CStr, c_char, c_int};

use tch::{Kind, TchError, Tensor};
use torch_sys::C_tensor;

/// Longest text of an error in bytes.
const MESSAGE: usize = 1024;

unsafe extern "C" {
    fn loragrid_dequantise(
        packed: *const C_tensor,
        absmax: *const C_tensor,
        table: *const C_tensor,
        rows: i64,
        columns: i64,
        kind: c_int,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    fn loragrid_frozen_four_bit(
        x: *const C_tensor,
        packed: *const C_tensor,
        absmax: *const C_tensor,
        table: *const C_tensor,
        rows: i64,
        columns: i64,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    fn loragrid_deterministic(strict: bool);
}

/// The parts of a matrix `[rows, columns]` in 4 bits.
pub(crate) struct FourBitParts<'a> {
    /// `[elements / 2]` bytes, the even element in the high nibble.
    pub(crate) packed: &'a Tensor,
    /// `[elements / 64]`, single precision.
    pub(crate) absmax: &'a Tensor,
    /// `[256, 2]`, single precision: the two values of every byte.
    pub(crate) table: &'a Tensor,
    pub(crate) rows: i64,
    pub(crate) columns: i64,
}

/// The matrix in this kind: one product in single precision for each element, rounded once. Error: libtorch's.
pub(crate) fn dequantise(parts: &FourBitParts<'_>, kind: Kind) -> Result<Tensor, TchError> {
    let FourBitParts { packed, absmax, table, rows, columns } = *parts;
    // SAFETY: the tensors live through the call and the function keeps no pointer to them.
    returned(|message| unsafe {
        let kind = kind_number(kind);
        let (packed, absmax, table) = (packed.as_ptr(), absmax.as_ptr(), table.as_ptr());
        loragrid_dequantise(packed, absmax, table, rows, columns, kind, message, MESSAGE)
    })
}

/// x·Wᵀ `[tokens, rows]` for x `[tokens, columns]`; W is dequantised in x's kind, dropped, and dequantised again for the
/// gradient of x. W has none. Error: libtorch's.
pub(crate) fn frozen_linear(x: &Tensor, parts: &FourBitParts<'_>) -> Result<Tensor, TchError> {
    let FourBitParts { packed, absmax, table, rows, columns } = *parts;
    // SAFETY: as above; what the backward pass needs, the function holds by its own counted references.
    returned(|message| unsafe {
        let (packed, absmax, table) = (packed.as_ptr(), absmax.as_ptr(), table.as_ptr());
        loragrid_frozen_four_bit(x.as_ptr(), packed, absmax, table, rows, columns, message, MESSAGE)
    })
}

/// Asks libtorch for kernels that compute the same at every run, and for an error where it has none.
pub(crate) fn set_deterministic(strict: bool) {
    // SAFETY: it sets a flag of libtorch's own context.
    unsafe { loragrid_deterministic(strict) }
}

fn kind_number(kind: Kind) -> c_int {
    // c10::ScalarType's own numbers.
    match kind {
        Kind::Half => 5,
        Kind::Double => 7,
        Kind::BFloat16 => 15,
        _ => 6,
    }
}

fn returned(call: impl FnOnce(*mut c_char) -> *mut C_tensor) -> Result<Tensor, TchError> {
    let mut message = [0 as c_char; MESSAGE];
    let pointer = call(message.as_mut_ptr());
    if pointer.is_null() {
        // SAFETY: the function ends the text with a zero inside the buffer.
        let text = unsafe { CStr::from_ptr(message.as_ptr()) };
        return Err(TchError::Torch(text.to_string_lossy().into_owned()));
    }
    // SAFETY: a new tensor that nothing else owns.
    Ok(unsafe { Tensor::from_ptr(pointer) })
}
