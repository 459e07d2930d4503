//! What this machine computes with, and the slots that follow from it.

use std::fmt;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use thiserror::Error;

use crate::job::DType;
use crate::scheduler::SlotId;

/// A place where one engine runs: on the CPU, with a fixed share of its cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: SlotId,
    /// What it is called.
    pub device: DeviceName,
    /// Threads of one operation.
    pub threads: usize,
    /// The cores that its engine may use; it is pinned to them where there are several slots.
    pub cores: Vec<usize>,
    /// Most tokens of one pass: matrix products gain nothing beyond it, and a pass stays short.
    pub token_budget: usize,
}

/// The name of a slot's device, as attempts keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The whole processor.
    Cpu,
    /// A share of it.
    CpuShare(usize),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::CpuShare(number) => write!(f, "cpu:{number}"),
        }
    }
}

/// Devices that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// More slots than cores.
    #[error("{wanted} slots are wanted, this process may use {cores} cores")]
    Cores {
        /// As asked for.
        wanted: usize,
        /// As the kernel says.
        cores: usize,
    },
    /// A device that this version does not compute on.
    #[error("this version computes on the processor only, not on {name}")]
    NotComputed {
        /// As asked for.
        name: String,
    },
    /// No device.
    #[error("'{text}' is no device")]
    Unknown {
        /// As written.
        text: String,
    },
}

/// Most tokens of one pass on a CPU.
const CPU_TOKEN_BUDGET: usize = 1024;

/// The slots that a text names: `auto` or `cpu` (all cores as one), `cpu:N` (N shares of them). Errors: see
/// [`DeviceError`].
pub fn slots(text: &str) -> Result<Vec<Slot>, DeviceError> {
    let unknown = || DeviceError::Unknown { text: text.to_owned() };
    match text.split_once(':') {
        None if matches!(text, "auto" | "cpu") => Ok(cpu_slots()),
        Some(("cpu", count)) => {
            cpu_shares(count.parse().ok().filter(|count| *count > 0).ok_or_else(unknown)?)
        }
        Some(("cuda", _)) => Err(DeviceError::NotComputed { name: text.to_owned() }),
        _ if text == "cuda" => Err(DeviceError::NotComputed { name: text.to_owned() }),
        _ => Err(unknown()),
    }
}

/// The CPU as one slot with every core that this process may use.
pub fn cpu_slots() -> Vec<Slot> {
    let cores = usable_cores();
    let (id, threads) = (SlotId(0), cores.len().max(1));
    vec![Slot { id, device: DeviceName::Cpu, threads, cores, token_budget: CPU_TOKEN_BUDGET }]
}

fn cpu_shares(wanted: usize) -> Result<Vec<Slot>, DeviceError> {
    let cores = usable_cores();
    if wanted > cores.len() {
        return Err(DeviceError::Cores { wanted, cores: cores.len() });
    }
    let share = |number: usize| {
        let own = cores[number * cores.len() / wanted..(number + 1) * cores.len() / wanted].to_vec();
        Slot {
            id: SlotId(number),
            device: DeviceName::CpuShare(number),
            threads: own.len(),
            cores: own,
            token_budget: CPU_TOKEN_BUDGET,
        }
    };
    Ok((0..wanted).map(share).collect())
}

/// The cores that this process may use.
fn usable_cores() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|_| CpuSet::new());
    let cores: Vec<usize> = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect();
    let limit = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.into_iter().take(limit).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_processor_have_every_core_once() {
        let all = cpu_slots().remove(0).cores;
        let shares = slots(&format!("cpu:{}", all.len())).unwrap();
        assert_eq!(shares.iter().flat_map(|slot| slot.cores.clone()).collect::<Vec<_>>(), all);
        assert!(shares.iter().enumerate().all(|(n, slot)| slot.device == DeviceName::CpuShare(n)));
        assert_eq!(slots("auto"), Ok(cpu_slots()));
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        assert!(matches!(slots("cpu:100000"), Err(DeviceError::Cores { wanted: 100_000, .. })));
        assert_eq!(slots("cuda:0,2"), Err(DeviceError::NotComputed { name: "cuda:0,2".into() }));
        for text in ["cpu:0", "cpu:x", "gpu", ""] {
            assert_eq!(slots(text), Err(DeviceError::Unknown { text: text.into() }));
        }
    }
}
