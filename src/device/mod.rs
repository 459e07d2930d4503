//! The compute devices of this machine, and the slots that follow from them.

mod cards;
mod cpu;
mod kind;
mod memory;
mod usage;

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

pub use cards::{Card, CardId, Holder, Inventory};
pub use cpu::cpu_slots;
pub use kind::{Capability, DeviceKind};
pub use memory::available_memory;
pub use usage::{ProcessMeter, SlotUse};

use crate::job::{Bytes, SlotId};
use crate::scheduler::PackRules;
use cpu::{cpu_shares, share_of, usable_cores};

/// Pack rules for these slots, with at most this many jobs per pack. CPU slots share the memory that is available now.
pub fn pack_rules(slots: &[Slot], most: usize) -> PackRules {
    let share = available_memory().0 / slots.len().max(1) as u64;
    let memory = |slot: &Slot| if slot.card.is_some() { slot.memory } else { Bytes(share) };
    PackRules {
        most,
        slots: slots.len(),
        memory: slots.iter().map(memory).max().unwrap_or(Bytes(u64::MAX)),
        token_budget: slots.iter().map(|slot| slot.token_budget).max().unwrap_or(1),
    }
}

/// A place for one engine: a share of the CPU cores, and optionally a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: SlotId,
    /// The device's name.
    pub device: DeviceName,
    /// Threads per operation; of an engine on another host, as many as it may use there.
    pub threads: Option<usize>,
    /// The cores that its engine may use; it is pinned to them if there are several slots.
    pub cores: Vec<usize>,
    /// Most tokens per pass: matrix products gain nothing beyond it, and a pass stays short.
    pub token_budget: usize,
    /// Its memory for jobs.
    pub memory: Bytes,
    /// Its GPU, if it has one.
    pub card: Option<CardId>,
}

/// The name of a slot's device, as stored with attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The whole CPU.
    Cpu,
    /// A share of the CPU.
    CpuShare(usize),
    /// A GPU, by its index among those visible to this process.
    Cuda(usize),
    /// The device of a launched engine, by its slot.
    Launched {
        /// Whether it is a GPU, the first one that the engine sees.
        cuda: bool,
        /// The slot.
        slot: usize,
    },
}

impl DeviceName {
    /// Whether it is a GPU.
    pub fn is_cuda(self) -> bool {
        matches!(self, Self::Cuda(_) | Self::Launched { cuda: true, .. })
    }

    /// Its name for the engine.
    pub fn for_engine(self) -> String {
        match self {
            Self::Launched { cuda: true, .. } => "cuda:0".to_owned(),
            Self::Launched { cuda: false, .. } => "cpu".to_owned(),
            Self::Cpu | Self::CpuShare(_) | Self::Cuda(_) => self.to_string(),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::CpuShare(number) => write!(f, "cpu:{number}"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Launched { cuda: true, slot } => write!(f, "cuda@{slot}"),
            Self::Launched { cuda: false, slot } => write!(f, "cpu@{slot}"),
        }
    }
}

/// Unavailable devices.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// More slots than cores.
    #[error("{wanted} slots requested, {cores} cores available")]
    Cores {
        /// As requested.
        wanted: usize,
        /// As reported by the kernel.
        cores: usize,
    },
    /// A GPU that does not exist or is not visible to this process.
    #[error("cuda:{wanted} requested, {seen} GPUs visible")]
    NoCard {
        /// As requested.
        wanted: usize,
        /// Number of visible GPUs.
        seen: usize,
    },
    /// A duplicate device.
    #[error("'{text}' names a device twice")]
    Twice {
        /// As written.
        text: String,
    },
    /// A GPU in MIG mode.
    #[error("{card} is in MIG mode, and loragrid runs on whole GPUs only")]
    Mig {
        /// Its name.
        card: String,
    },
    /// Devices of this machine for engines that run elsewhere.
    #[error("'{text}' names devices of this machine, and a launcher starts the engines elsewhere")]
    Launched {
        /// As written.
        text: String,
    },
    /// `CUDA_VISIBLE_DEVICES` is invalid.
    #[error("CUDA_VISIBLE_DEVICES = '{text}': {why}")]
    Visible {
        /// As written.
        text: String,
        /// The reason.
        why: String,
    },
    /// Not a device.
    #[error("'{text}' is not a device")]
    Unknown {
        /// As written.
        text: String,
    },
    /// The inventory cannot be read.
    #[error("the list of GPUs {} cannot be read: {reason}", path.display())]
    Inventory {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The driver does not respond.
    #[error("the NVIDIA driver does not respond: {0}")]
    Driver(String),
}

/// Most tokens per pass on a CPU.
const CPU_TOKEN_BUDGET: usize = 1024;
/// Most tokens per pass on a GPU.
const CARD_TOKEN_BUDGET: usize = 4096;

/// The slots that a string names: `cpu` (all cores as one), `cpu:N` (N shares of them), `cuda` (every GPU), `cuda:0,2` (some of the
/// visible GPUs), `auto` (the GPUs if there are any and the engine supports them, else the CPU). Errors: see [`DeviceError`].
pub fn slots(
    text: &str,
    inventory: &Inventory,
    engine_has_cuda: &dyn Fn() -> bool,
) -> Result<Vec<Slot>, DeviceError> {
    let unknown = || DeviceError::Unknown { text: text.to_owned() };
    match text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest))) {
        ("auto", None) => match gpus_for_auto(inventory, engine_has_cuda)? {
            cards if cards.is_empty() => Ok(cpu_slots()),
            cards => Ok(card_slots(cards.into_iter().enumerate().collect())),
        },
        ("cpu", None) => Ok(cpu_slots()),
        ("cpu", Some(rest)) => {
            cpu_shares(rest.trim().parse().ok().filter(|count| *count > 0).ok_or_else(unknown)?)
        }
        ("cuda", _) => Ok(card_slots(chosen_cards(text, inventory)?)),
        _ => Err(unknown()),
    }
}

/// The GPUs for `auto`: all visible ones, if the engine supports GPUs. Errors: the driver does not respond, a GPU that cannot be used.
fn gpus_for_auto(
    inventory: &Inventory,
    engine_has_cuda: &dyn Fn() -> bool,
) -> Result<Vec<Card>, DeviceError> {
    let cards = inventory.visible()?;
    // GPUs from an inventory file are for placement tests, with any engine.
    if cards.is_empty() || !(matches!(inventory, Inventory::File(_)) || engine_has_cuda()) {
        return Ok(Vec::new());
    }
    cards.iter().try_for_each(whole)?;
    Ok(cards)
}

/// The GPUs that `cuda` or `cuda:0,2` names, with their indices among the visible ones. Errors: as [`slots`].
fn chosen_cards(text: &str, inventory: &Inventory) -> Result<Vec<(usize, Card)>, DeviceError> {
    let unknown = || DeviceError::Unknown { text: text.to_owned() };
    let seen = inventory.visible()?;
    let wanted: Vec<usize> = match text.split_once(':') {
        None => (0..seen.len().max(1)).collect(),
        Some((_, list)) => {
            let number = |part: &str| part.trim().parse::<usize>().map_err(|_| unknown());
            list.split(',').map(number).collect::<Result<_, _>>()?
        }
    };
    if (1..wanted.len()).any(|at| wanted[..at].contains(&wanted[at])) {
        return Err(DeviceError::Twice { text: text.to_owned() });
    }
    let card = |number: usize| match seen.get(number) {
        Some(card) => whole(card).map(|()| (number, card.clone())),
        None => Err(DeviceError::NoCard { wanted: number, seen: seen.len() }),
    };
    wanted.into_iter().map(card).collect()
}

/// Checks that a GPU is not in MIG mode. Error: [`DeviceError::Mig`].
fn whole(card: &Card) -> Result<(), DeviceError> {
    if card.mig { Err(DeviceError::Mig { card: card.name.clone() }) } else { Ok(()) }
}

/// One slot per GPU, each with its share of the cores.
fn card_slots(cards: Vec<(usize, Card)>) -> Vec<Slot> {
    let (cores, of) = (usable_cores(), cards.len());
    let slot = |(place, (number, card)): (usize, (usize, Card))| {
        let share = share_of(&cores, place, of);
        Slot {
            id: SlotId(place),
            device: DeviceName::Cuda(number),
            threads: Some(share.len().max(1)),
            cores: share,
            token_budget: CARD_TOKEN_BUDGET,
            memory: card.memory,
            card: Some(card.id),
        }
    };
    cards.into_iter().enumerate().map(slot).collect()
}

/// Slots of engines that a launcher starts, each with a device of this kind of its own. Their memory is not known here; an engine that
/// wants more than it has says so.
pub fn launched_slots(count: usize, kind: DeviceKind) -> Vec<Slot> {
    let cuda = matches!(kind, DeviceKind::Cuda { .. });
    let slot = |number| Slot {
        id: SlotId(number),
        device: DeviceName::Launched { cuda, slot: number },
        threads: None,
        cores: Vec::new(),
        token_budget: kind.token_budget() as usize,
        memory: Bytes(u64::MAX),
        card: None,
    };
    (0..count).map(slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_processor_have_every_core_once() {
        let all = cpu_slots().remove(0).cores;
        let shares = slots(&format!("cpu:{}", all.len()), &Inventory::None, &|| true).unwrap();
        assert_eq!(shares.iter().flat_map(|slot| slot.cores.clone()).collect::<Vec<_>>(), all);
        assert!(shares.iter().enumerate().all(|(n, slot)| slot.device == DeviceName::CpuShare(n)));
        assert_eq!(slots("auto", &Inventory::None, &|| true).unwrap(), cpu_slots());
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        let refused = |text| slots(text, &Inventory::None, &|| true).unwrap_err().to_string();
        assert!(refused("cpu:100000").starts_with("100000 slots requested, "));
        assert_eq!(refused("cuda:0,2"), "cuda:0 requested, 0 GPUs visible");
        assert_eq!(refused("cuda"), "cuda:0 requested, 0 GPUs visible");
        assert_eq!(refused("cuda:1,1"), "'cuda:1,1' names a device twice");
        for text in ["cpu:0", "cpu:x", "gpu", "", "auto:1", "cuda:", "cuda:a"] {
            assert_eq!(refused(text), format!("'{text}' is not a device"));
        }
    }
}
