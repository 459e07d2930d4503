//! Safe wrappers of the C++ shim: libtorch functions missing from tch, and custom kernels.

mod block;
mod ffi;
mod frozen;
mod paged;

use tch::Tensor;
use torch_sys::C_tensor;

pub(crate) use block::{BlockShape, block, has_block};
pub(crate) use ffi::{AdamWStep, MaskRun};
use ffi::{
    RawAttention, RawRun, computed, loragrid_adamw, loragrid_attention, loragrid_cross_entropy,
    loragrid_deterministic, loragrid_gated_silu, loragrid_peak_held, loragrid_rms_norm,
    loragrid_vector_jacobian, pointer_or_null,
};
pub(crate) use frozen::{FourBitParts, Frozen, LowRank, MagnitudeParts, Mask, PANEL, dequantize};
pub(crate) use paged::{PagedForm, PagedPass, PagedRow, paged_attention};

/// Where an RMS norm rounds, and its factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum RmsForm {
    /// x̂ is rounded, then multiplied by the weight.
    Rounded = 0,
    /// The product is rounded.
    RoundedLast = 1,
    /// As above, with 1 added to the weight.
    PlusOne = 2,
}

/// RMS norm with a frozen weight, for x `[rows, width]` on a CPU.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, form: RmsForm) -> Tensor {
    // SAFETY: the tensors outlive the call; backward holds references to what it needs.
    computed(|message, size| unsafe {
        loragrid_rms_norm(x.as_ptr(), weight.as_ptr(), eps, form as i32, message, size)
    })
}

/// silu(gate) · up `[rows, width]` of `[rows, 2 · width]`, gate first, on a CPU.
pub(crate) fn gated_silu(gate_up: &Tensor) -> Tensor {
    // SAFETY: as above.
    computed(|message, size| unsafe { loragrid_gated_silu(gate_up.as_ptr(), message, size) })
}

/// Shape of an attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionForm {
    pub(crate) heads: i64,
    pub(crate) kv_heads: i64,
    pub(crate) head_dim: i64,
    /// Score scale.
    pub(crate) scale: f64,
}

/// Causal attention within each sequence, `[tokens, heads × head_dim]`, of
/// `[tokens, (heads + 2 · kv_heads) × head_dim]`: queries, keys, values. `turn` holds cosines and sines
/// `[tokens, turned]`; `runs` the count and length of adjacent sequences of equal length.
pub(crate) fn attention(
    qkv: &Tensor,
    turn: Option<(&Tensor, &Tensor)>,
    runs: impl Iterator<Item = (i64, i64)>,
    form: AttentionForm,
) -> Tensor {
    let runs: Vec<RawRun> = runs.map(|(count, length)| RawRun { count, length }).collect();
    let AttentionForm { heads, kv_heads, head_dim, scale } = form;
    let raw = RawAttention { heads, kv_heads, head_dim, scale };
    let (cos, sin) = (pointer_or_null(turn.map(|turn| turn.0)), pointer_or_null(turn.map(|turn| turn.1)));
    // SAFETY: as above; the runs are copied.
    computed(|message, size| unsafe {
        loragrid_attention(qkv.as_ptr(), cos, sin, runs.as_ptr(), runs.len() as i64, &raw, message, size)
    })
}

/// Weighted cross-entropies `[rows]` in double of logits `[rows, vocab]` on a CPU, for targets `[rows]` (64-bit) and
/// weights `[rows]` (double). The logits are overwritten with the gradient of the sum.
pub(crate) fn cross_entropy(logits: &mut Tensor, targets: &Tensor, weights: &Tensor) -> Tensor {
    // SAFETY: as above; the logits are written, and mutably borrowed.
    computed(|message, size| unsafe {
        loragrid_cross_entropy(logits.as_ptr(), targets.as_ptr(), weights.as_ptr(), message, size)
    })
}

/// One AdamW step on a CPU: updates `parameters` and both moments `[elements]`, all of one dtype, by a gradient in
/// their wide dtype; learning-rate `factors` in that dtype too.
pub(crate) fn adamw(
    by: AdamWStep,
    parameters: &mut Tensor,
    gradient: &Tensor,
    [first, second]: [&mut Tensor; 2],
    factors: Option<&Tensor>,
) {
    let (first, second, factors) = (first.as_ptr(), second.as_ptr(), pointer_or_null(factors));
    // SAFETY: as above; what is written is mutably borrowed.
    drop(computed(|message, size| unsafe {
        loragrid_adamw(&by, parameters.as_ptr(), gradient.as_ptr(), first, second, factors, message, size)
    }));
}

/// Gradients of Σ output × cotangent with respect to `wanted`; zeros where the output does not depend on it.
pub(crate) fn vector_jacobian(output: &Tensor, cotangent: &Tensor, wanted: &[&Tensor]) -> Vec<Tensor> {
    let pointers: Vec<*const C_tensor> = wanted.iter().map(|tensor| tensor.as_ptr()).collect();
    let mut found: Vec<*mut C_tensor> = vec![std::ptr::null_mut(); wanted.len()];
    // SAFETY: as above; the function fills `found` with as many new tensors as there are pointers, or fails.
    drop(computed(|message, size| unsafe {
        let (wanted, count) = (pointers.as_ptr(), pointers.len() as i64);
        let (output, cotangent) = (output.as_ptr(), cotangent.as_ptr());
        loragrid_vector_jacobian(output, cotangent, wanted, found.as_mut_ptr(), count, message, size)
    }));
    let gradient = |(pointer, wanted): (*mut C_tensor, &&Tensor)| {
        // SAFETY: new tensors that nothing else owns.
        let gradient = unsafe { Tensor::from_ptr(pointer) };
        if gradient.defined() { gradient } else { wanted.zeros_like() }
    };
    found.into_iter().zip(wanted).map(gradient).collect()
}

/// Peak bytes allocated by libtorch on the accelerator; 0 without one.
pub(crate) fn peak_held() -> u64 {
    // SAFETY: it reads counters of libtorch's own allocator.
    unsafe { loragrid_peak_held() }.unsigned_abs()
}

/// Requires deterministic kernels from libtorch, with an error where it has none.
pub(crate) fn set_deterministic(strict: bool) {
    // SAFETY: it sets a flag of libtorch's own context.
    unsafe { loragrid_deterministic(strict) }
}
