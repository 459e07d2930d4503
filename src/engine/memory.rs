//! Memory of this process, from the kernel.

use std::panic::AssertUnwindSafe;

use loragrid::job::Bytes;

use crate::failure::EngineError;

/// Largest resident memory so far; 0 where the kernel does not say.
pub(crate) fn peak_resident() -> Bytes {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    Bytes(kilobytes.unwrap_or_default() * 1024)
}

/// Gives memory that is free inside the heap back to the system. What loading frees lies between what it keeps: without
/// this a model that is quantised on its way in would leave holes of its full size.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's own function, which only moves pages that nothing uses.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Has the heap keep what is freed. libtorch frees and takes hundreds of megabytes in each pass; given back to the system, as
/// glibc does with large pieces, every page of them is cleared by the kernel again and again.
pub(crate) fn keep_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's own switches, set before any other thread is there.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_MAX, 0);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, i32::MAX);
        nix::libc::mallopt(nix::libc::M_TOP_PAD, 64 << 20);
    }
}

/// What libtorch's allocators say when there is no memory.
const NO_MEMORY: [&str; 3] = ["not enough memory", "out of memory", "can't allocate memory"];

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
                let reason = line.rsplit_once("Allocator: ").map_or(line, |(_, own)| own).to_owned();
                EngineError::OutOfMemory { budget, reason }
            }
            None => std::panic::resume_unwind(panic),
        }
    })
}
