//! The C functions of `shim.cpp` and their plain-memory types.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{Kind, TchError, Tensor};
use torch_sys::C_tensor;

/// Maximum length of an error message in bytes.
const MESSAGE: usize = 1024;

#[repr(C)]
pub(super) struct RawFourBit {
    pub(super) packed: *const C_tensor,
    pub(super) absmax: *const C_tensor,
    pub(super) codes: *const C_tensor,
    pub(super) values: *const C_tensor,
    pub(super) nested: *const C_tensor,
    pub(super) table: *const C_tensor,
    pub(super) offset: f64,
    pub(super) rows: i64,
    pub(super) columns: i64,
    pub(super) stored: c_int,
}

/// Elements of a dropout mask: `count` consecutive rows of a layer's input, with random numbers from stream `key`
/// starting at element `position` × width.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaskRun {
    pub(crate) key: u64,
    pub(crate) position: u64,
    pub(crate) count: i64,
}

#[repr(C)]
pub(super) struct RawLowRank {
    pub(super) a: *const C_tensor,
    pub(super) b: *const C_tensor,
    pub(super) scale: f64,
    pub(super) first_row: i64,
    pub(super) rows: i64,
    pub(super) first_column: i64,
    pub(super) threshold: u64,
    pub(super) kept: f32,
    pub(super) runs: *const MaskRun,
    pub(super) run_count: i64,
}

/// Neighboring sequences of equal length.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRun {
    pub(super) count: i64,
    pub(super) length: i64,
}

#[repr(C)]
pub(super) struct RawAttention {
    pub(super) heads: i64,
    pub(super) kv_heads: i64,
    pub(super) head_dim: i64,
    pub(super) scale: f64,
}

#[repr(C)]
pub(super) struct RawBlock {
    pub(super) before_attention: *const C_tensor,
    pub(super) before_mlp: *const C_tensor,
    pub(super) eps: f64,
    pub(super) norm: c_int,
    pub(super) attention: RawAttention,
}

#[repr(C)]
pub(super) struct RawBlockParts {
    pub(super) parts: *const RawLowRank,
    pub(super) counts: [i64; 4],
}

/// The parameters of one AdamW step; the corrections are 1 − β₁ᵗ and √(1 − β₂ᵗ).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWStep {
    pub(crate) rate: f64,
    pub(crate) weight_decay: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    pub(crate) correction1: f64,
    pub(crate) correction2: f64,
}

unsafe extern "C" {
    pub(super) fn loragrid_dequantize(
        matrix: *const RawFourBit,
        kind: c_int,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_frozen_new(
        dense: *const C_tensor,
        parts: *const RawFourBit,
        count: i64,
        bias: *const C_tensor,
        packed: *mut bool,
        message: *mut c_char,
        size: usize,
    ) -> *mut c_void;

    pub(super) fn loragrid_frozen_share(frozen: *const c_void) -> *mut c_void;

    pub(super) fn loragrid_frozen_part(
        frozen: *const c_void,
        first: i64,
        count: i64,
        bias: *const C_tensor,
        message: *mut c_char,
        size: usize,
    ) -> *mut c_void;

    pub(super) fn loragrid_frozen_weight(
        frozen: *const c_void,
        kind: c_int,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_frozen_picked(
        frozen: *const c_void,
        places: *const C_tensor,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_frozen_drop(frozen: *mut c_void);

    pub(super) fn loragrid_group(
        frozen: *const c_void,
        x: *const C_tensor,
        parts: *const RawLowRank,
        count: i64,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_has_block(frozen: *const *const c_void, kind: c_int) -> bool;

    pub(super) fn loragrid_block(
        frozen: *const *const c_void,
        form: *const RawBlock,
        parts: *const RawBlockParts,
        inputs: *const *const C_tensor,
        runs: *const RawRun,
        run_count: i64,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_rms_norm(
        x: *const C_tensor,
        weight: *const C_tensor,
        eps: f64,
        form: c_int,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_gated_silu(
        gate_up: *const C_tensor,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_attention(
        qkv: *const C_tensor,
        cos: *const C_tensor,
        sin: *const C_tensor,
        runs: *const RawRun,
        run_count: i64,
        form: *const RawAttention,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_cross_entropy(
        logits: *const C_tensor,
        targets: *const C_tensor,
        weights: *const C_tensor,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_adamw(
        by: *const AdamWStep,
        parameters: *const C_tensor,
        gradient: *const C_tensor,
        first: *const C_tensor,
        second: *const C_tensor,
        factors: *const C_tensor,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_vector_jacobian(
        output: *const C_tensor,
        cotangent: *const C_tensor,
        wanted: *const *const C_tensor,
        gradients: *mut *mut C_tensor,
        count: i64,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;

    pub(super) fn loragrid_peak_held() -> i64;

    pub(super) fn loragrid_deterministic(strict: bool);
}

/// The pointer of a tensor, or null.
pub(super) fn pointer_or_null(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(std::ptr::null(), |tensor| tensor.as_ptr())
}

/// c10::ScalarType's own numbers.
pub(super) fn kind_number(kind: Kind) -> c_int {
    match kind {
        Kind::Half => 5,
        Kind::Double => 7,
        Kind::BFloat16 => 15,
        _ => 6,
    }
}

/// Calls a function that returns null and an error message on failure.
pub(super) fn checked<T>(call: impl FnOnce(*mut c_char, usize) -> *mut T) -> Result<*mut T, TchError> {
    let mut message = [0 as c_char; MESSAGE];
    let pointer = call(message.as_mut_ptr(), MESSAGE);
    if pointer.is_null() {
        // SAFETY: the function null-terminates the message inside the buffer.
        let text = unsafe { CStr::from_ptr(message.as_ptr()) };
        return Err(TchError::Torch(text.to_string_lossy().into_owned()));
    }
    Ok(pointer)
}

/// Like [`checked`] for a function that returns a tensor. Its inputs were checked when read, so libtorch can only run
/// out of memory here, as in any of tch's products; the panic is caught where passes run.
pub(super) fn computed(call: impl FnOnce(*mut c_char, usize) -> *mut C_tensor) -> Tensor {
    match checked(call) {
        // SAFETY: a new tensor that nothing else owns.
        Ok(pointer) => unsafe { Tensor::from_ptr(pointer) },
        Err(error) => panic!("{error}"),
    }
}
