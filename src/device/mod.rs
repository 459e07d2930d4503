//! What this machine computes with, and the slots that follow from it.

use crate::job::DType;
use crate::scheduler::SlotId;

/// A place where one engine runs: on the CPU, with a fixed share of its cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: SlotId,
    /// Threads of one operation.
    pub threads: usize,
    /// Most tokens of one pass: matrix products gain nothing beyond it, and a pass stays short.
    pub token_budget: usize,
}

/// Most tokens of one pass on a CPU.
const CPU_TOKEN_BUDGET: usize = 1024;

/// The CPU as one slot with every core that this process may use.
pub fn cpu_slots() -> Vec<Slot> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    vec![Slot { id: SlotId(0), threads, token_budget: CPU_TOKEN_BUDGET }]
}

/// What `train.dtype = "auto"` means here: bf16 where the processor multiplies it in hardware, else single precision.
pub fn auto_dtype() -> DType {
    let has = |flag: &str| {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default().to_owned();
        flags.split_whitespace().any(|word| word == flag)
    };
    if has("avx512_bf16") || has("amx_bf16") { DType::Bf16 } else { DType::Fp32 }
}
