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
    let memory = |slot: &Slot| if slot.cards.is_empty() { Bytes(share) } else { slot.memory };
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
    /// Its GPUs; several train one pack of jobs together.
    pub cards: Vec<CardId>,
    /// Devices that its engine trains on at the same time.
    pub devices: usize,
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
    /// GPUs that train together, by their indices: bit N is GPU N.
    CudaGroup(u64),
    /// The device of a launched engine, by its slot.
    Launched {
        /// Whether it is a GPU, the first one that the engine sees.
        cuda: bool,
        /// The slot.
        slot: usize,
    },
}

impl Slot {
    /// Its GPUs, as `CUDA_VISIBLE_DEVICES` takes them; none without a GPU of this machine.
    pub fn visible_cards(&self) -> Option<String> {
        let ids: Vec<&str> = self.cards.iter().map(|card| card.0.as_str()).collect();
        (!ids.is_empty()).then(|| ids.join(","))
    }
}

impl DeviceName {
    /// Whether it is a GPU.
    pub fn is_cuda(self) -> bool {
        matches!(self, Self::Cuda(_) | Self::CudaGroup(_) | Self::Launched { cuda: true, .. })
    }

    /// Its name for the engine.
    pub fn for_engine(self) -> String {
        match self {
            Self::Launched { cuda: true, .. } => "cuda:0".to_owned(),
            Self::Launched { cuda: false, .. } => "cpu".to_owned(),
            Self::Cpu | Self::CpuShare(_) | Self::Cuda(_) | Self::CudaGroup(_) => self.to_string(),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::CpuShare(number) => write!(f, "cpu:{number}"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::CudaGroup(bits) => {
                let numbers = (0..u64::BITS).filter(|number| bits >> number & 1 == 1);
                let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
                write!(f, "cuda:{}", numbers.join("+"))
            }
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
    /// GPUs that cannot be divided into groups.
    #[error("{cards} GPUs cannot be divided into groups of {group}")]
    Group {
        /// How many there are.
        cards: usize,
        /// How many train together.
        group: usize,
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

/// One slot per GPU, each with its share of the cores of its NUMA node.
fn card_slots(cards: Vec<(usize, Card)>) -> Vec<Slot> {
    let all = usable_cores();
    let nodes: Vec<Vec<usize>> = cards.iter().map(|(_, card)| node_cores(card, &all)).collect();
    let slot = |(place, (number, card)): (usize, (usize, Card))| {
        // GPUs of one node divide it.
        let node = &nodes[place];
        let before = nodes[..place].iter().filter(|other| *other == node).count();
        let share = share_of(node, before, nodes.iter().filter(|other| *other == node).count());
        Slot {
            id: SlotId(place),
            device: DeviceName::Cuda(number),
            threads: Some(share.len().max(1)),
            cores: share,
            token_budget: CARD_TOKEN_BUDGET,
            memory: card.memory,
            cards: vec![card.id],
            devices: 1,
        }
    };
    cards.into_iter().enumerate().map(slot).collect()
}

/// The usable cores of a GPU's NUMA node; all of them where the node is unknown, or has none of them.
fn node_cores(card: &Card, usable: &[usize]) -> Vec<usize> {
    let local: Vec<usize> = usable.iter().copied().filter(|core| card.cores.contains(core)).collect();
    if local.is_empty() { usable.to_vec() } else { local }
}

/// Slots whose engines train on `group` devices at the same time: GPUs are taken together in their order; on a CPU, and on the host of a
/// launched engine, each slot has that many. Error: GPUs that cannot be divided so.
pub fn grouped(slots: Vec<Slot>, group: usize) -> Result<Vec<Slot>, DeviceError> {
    let count = slots.iter().filter(|slot| !slot.cards.is_empty()).count();
    if count == 0 || group <= 1 {
        return Ok(slots.into_iter().map(|slot| Slot { devices: group.max(1), ..slot }).collect());
    }
    if !count.is_multiple_of(group) {
        return Err(DeviceError::Group { cards: count, group });
    }
    let together = |(number, slots): (usize, &[Slot])| {
        let bit = |slot: &Slot| match slot.device {
            DeviceName::Cuda(card) => 1_u64.checked_shl(card as u32).unwrap_or_default(),
            _ => 0,
        };
        let cores: Vec<usize> = slots.iter().flat_map(|slot| slot.cores.clone()).collect();
        Slot {
            id: SlotId(number),
            device: DeviceName::CudaGroup(slots.iter().map(bit).fold(0, |bits, bit| bits | bit)),
            threads: Some(cores.len().max(1)),
            cores,
            token_budget: slots[0].token_budget,
            // Each GPU holds the model and its share of every pass: the smallest decides.
            memory: slots.iter().map(|slot| slot.memory).min().unwrap_or(Bytes(0)),
            cards: slots.iter().flat_map(|slot| slot.cards.clone()).collect(),
            devices: group,
        }
    };
    Ok(slots.chunks(group).enumerate().map(together).collect())
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
        cards: Vec::new(),
        devices: 1,
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
    fn an_engine_runs_on_the_cores_beside_its_gpu() {
        let card = |cores: &str| Card {
            id: CardId("GPU".to_owned()),
            name: String::new(),
            memory: Bytes(80),
            free: Bytes(80),
            holders: Vec::new(),
            capability: None,
            mig: false,
            cores: cores.split(',').filter_map(|core| core.parse().ok()).collect(),
        };
        let usable: Vec<usize> = (0..8).collect();
        assert_eq!(node_cores(&card("4,5,6,7,12"), &usable), [4, 5, 6, 7]);
        assert_eq!(node_cores(&card(""), &usable), usable);
        assert_eq!(node_cores(&card("20,21"), &usable), usable, "none of them may be used");
        // GPUs of one node divide it, whatever stands between them.
        let all = cpu_slots().remove(0).cores;
        if let [first, rest @ ..] = all.as_slice()
            && !rest.is_empty()
        {
            let node = first.to_string();
            let others = rest.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let cards = [&node, &others, &node].map(|cores| card(cores));
            let found = card_slots(cards.into_iter().enumerate().collect());
            assert_eq!(found[1].cores, rest);
            assert_eq!(found[0].cores.len() + found[2].cores.len(), 1);
        }
    }

    #[test]
    fn gpus_that_train_together_are_one_slot_with_the_memory_of_the_smallest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cards.toml");
        let card = |number: u64| {
            format!("[[card]]\nid = \"GPU-{number}\"\nname = \"H100\"\nmemory = {}\n", 80 - number)
        };
        std::fs::write(&path, (0..4).map(card).collect::<String>()).unwrap();
        let inventory = Inventory::File(path);
        let found = |text: &str| slots(text, &inventory, &|| true).unwrap();
        let two = grouped(found("cuda:0,2,1,3"), 2).unwrap();
        assert_eq!(two.len(), 2);
        let names: Vec<String> = two.iter().map(|slot| slot.device.to_string()).collect();
        assert_eq!(names, ["cuda:0+2", "cuda:1+3"]);
        assert_eq!((two[0].devices, two[0].memory, two[1].memory), (2, Bytes(78), Bytes(77)));
        assert_eq!(two[1].visible_cards().as_deref(), Some("GPU-1,GPU-3"));
        let cores: Vec<usize> = two.iter().flat_map(|slot| slot.cores.clone()).collect();
        assert_eq!(cores, cpu_slots().remove(0).cores);
        assert_eq!(
            grouped(found("cuda:0,1,2"), 2).unwrap_err().to_string(),
            "3 GPUs cannot be divided into groups of 2"
        );
        assert_eq!(grouped(found("cuda"), 1).unwrap(), found("cuda"));
        // Without a GPU the same engine trains on as many copies of the model.
        let cpu = grouped(cpu_slots(), 2).unwrap();
        assert_eq!((cpu.len(), cpu[0].devices), (1, 2));
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
