//! Memory of this process, from the kernel.

use loragrid::job::Bytes;

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
