//! Memory of this process, from the kernel.

use std::panic::AssertUnwindSafe;

use floor::job::Bytes;

use crate::failure::EngineError;
use crate::shim::peak_held;

/// The most memory that was held so far: on the accelerator where there is one, else by the process; 0 where nobody says.
pub(crate) fn peak_memory() -> Bytes {
    match peak_held() {
        0 => peak_resident(),
        held => Bytes(held),
    }
}

/// Counts the peak of resident memory anew: what an earlier base model took is not the next one's. On an accelerator, and where the
/// kernel does not allow it, the count goes on.
pub(crate) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Largest resident memory so far.
fn peak_resident() -> Bytes {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    Bytes(kilobytes.unwrap_or_default() * 1024)
}

/// Gives memory that is free inside the heap back to the system. What loading frees lies between what it keeps: without
/// this a model that is quantized on its way in would leave holes of its full size.
pub(crate) fn give_back() {
    // SAFETY: the allocator's own function, which only moves pages that nothing uses.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Has the heap keep what is freed for a while. libtorch frees and takes hundreds of megabytes in each pass; given back to
/// the system at once, every page of them is cleared by the kernel again and again.
pub(crate) fn keep_freed() {
    // SAFETY: sets a number that the allocator reads later.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT_MILLISECONDS) }
}

/// mimalloc's `mi_option_purge_delay`, which its crate does not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Longer than a pass.
const KEPT_MILLISECONDS: std::ffi::c_long = 10_000;

/// What libtorch's allocators say when there is no memory.
const NO_MEMORY: [&str; 6] = [
    "not enough memory",
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
];

/// Computes within a budget of tokens; libtorch's want of memory becomes an error, and any other panic goes on. What is
/// computed must leave no half of itself behind.
pub(crate) fn within_memory<T>(budget: usize, compute: impl FnOnce() -> T) -> Result<T, EngineError> {
    std::panic::catch_unwind(AssertUnwindSafe(compute)).map_err(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        match text.filter(|text| NO_MEMORY.iter().any(|words| text.contains(words))) {
            Some(text) => {
                // The rest is libtorch's stack, spelled in one line with the ends of its lines escaped.
                let line = text.split(['\n', '\\']).next().unwrap_or_default();
                let reason = line.rsplit_once("Allocator: ").map_or(line, |(_, reason)| reason).to_owned();
                EngineError::OutOfMemory { budget, reason }
            }
            None => std::panic::resume_unwind(panic),
        }
    })
}
