//! Memory use of this process, from the kernel.

use std::io::Write;
use std::panic::AssertUnwindSafe;

use floor::job::Bytes;

use crate::failure::EngineError;
use crate::shim::peak_held;

/// Peak memory so far: on the accelerator if there is one, else of the process; 0 if unknown.
pub(crate) fn peak_memory() -> Bytes {
    match peak_held() {
        0 => peak_resident(),
        held => Bytes(held),
    }
}

/// Resets the peak of resident memory, so an earlier base model does not count toward the next one. No effect on an
/// accelerator or if the kernel does not allow it.
pub(crate) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Peak resident memory so far.
fn peak_resident() -> Bytes {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    Bytes(kilobytes.unwrap_or_default() * 1024)
}

/// Memory that processes may still use, in bytes; none where the kernel does not tell.
pub(crate) fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}

/// Returns free heap memory to the system. Memory freed while loading is interleaved with memory in use: without this,
/// a model quantized on load leaves holes of its full size.
pub(crate) fn give_back() {
    // SAFETY: the allocator's own function, which only releases unused pages.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Keeps freed memory in the heap for a while. libtorch frees and allocates hundreds of megabytes per pass; if they
/// went back to the system at once, the kernel would zero every page again.
pub(crate) fn keep_freed() {
    // SAFETY: sets a number that the allocator reads later.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT_MILLISECONDS) }
}

/// mimalloc's `mi_option_purge_delay`, missing from its crate.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Longer than a pass.
const KEPT_MILLISECONDS: std::ffi::c_long = 10_000;

/// Messages of libtorch's allocators on out of memory.
const NO_MEMORY: [&str; 6] = [
    "not enough memory",
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
];

/// Prints the message of an out-of-memory panic and nothing else: a backtrace, as `RUST_BACKTRACE=1` asks for, needs memory itself, and
/// where that fails while the standard library holds its lock for printing, the process waits for that lock forever.
pub(crate) fn report_plainly() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(is_out_of_memory) {
            // The log may be on a full disk.
            let _ = writeln!(std::io::stderr(), "{panic}");
        } else {
            usual(panic);
        }
    }));
}

/// Whether a message is one of libtorch's on out of memory.
fn is_out_of_memory(text: &str) -> bool {
    NO_MEMORY.iter().any(|words| text.contains(words))
}

/// Computes within a token budget. libtorch's out-of-memory panic becomes an error; any other panic propagates. The
/// computation must leave no partial state.
pub(crate) fn within_memory<T>(budget: usize, compute: impl FnOnce() -> T) -> Result<T, EngineError> {
    std::panic::catch_unwind(AssertUnwindSafe(compute)).map_err(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        match text.filter(|text| is_out_of_memory(text)) {
            Some(text) => {
                // The rest is libtorch's stack trace on one line with escaped line ends.
                let line = text.split(['\n', '\\']).next().unwrap_or_default();
                let reason = line.rsplit_once("Allocator: ").map_or(line, |(_, reason)| reason).to_owned();
                EngineError::OutOfMemory { budget, reason }
            }
            None => std::panic::resume_unwind(panic),
        }
    })
}
