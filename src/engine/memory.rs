//! Memory of this process, from the kernel.

use loragrid::job::Bytes;

/// Largest resident memory so far; 0 where the kernel does not say.
pub(crate) fn peak_resident() -> Bytes {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    Bytes(kilobytes.unwrap_or_default() * 1024)
}
