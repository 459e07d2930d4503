//! The CPU: its cores, and its hardware dtypes.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::{CPU_TOKEN_BUDGET, DeviceError, DeviceName, Slot};
use crate::job::{Bytes, SlotId};

/// The CPU as one slot with all cores that this process may use.
pub fn cpu_slots() -> Vec<Slot> {
    vec![slot(0, DeviceName::Cpu, usable_cores())]
}

pub(super) fn cpu_shares(wanted: usize) -> Result<Vec<Slot>, DeviceError> {
    let cores = usable_cores();
    if wanted > cores.len() {
        return Err(DeviceError::Cores { wanted, cores: cores.len() });
    }
    let share = |number| slot(number, DeviceName::CpuShare(number), share_of(&cores, number, wanted));
    Ok((0..wanted).map(share).collect())
}

/// The share of the cores for one of several slots; the shares are disjoint and cover all cores.
pub(super) fn share_of(cores: &[usize], number: usize, of: usize) -> Vec<usize> {
    cores[number * cores.len() / of..(number + 1) * cores.len() / of].to_vec()
}

fn slot(number: usize, device: DeviceName, cores: Vec<usize>) -> Slot {
    Slot {
        id: SlotId(number),
        device,
        threads: Some(cores.len().max(1)),
        cores,
        token_budget: CPU_TOKEN_BUDGET,
        // All processes share it: the memory that is free now does not predict the future.
        memory: Bytes(u64::MAX),
        cards: Vec::new(),
        devices: 1,
    }
}

/// The cores that this process may use.
pub(super) fn usable_cores() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|_| CpuSet::new());
    let cores: Vec<usize> = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect();
    let limit = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.into_iter().take(limit).collect()
}
