//! GPUs: their names, memory, and the processes that hold it. Read from the driver through NVML, or from a file, so that placement is
//! tested without a GPU.

use std::path::PathBuf;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use serde::Deserialize;

use super::DeviceError;
use super::kind::Capability;
use crate::job::Bytes;

/// A GPU's permanent id, as `CUDA_VISIBLE_DEVICES` accepts it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct CardId(pub String);

/// The current state of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its identity.
    pub id: CardId,
    /// Its name.
    pub name: String,
    /// Its total memory.
    pub memory: Bytes,
    /// Its free memory.
    pub free: Bytes,
    /// The processes that hold the rest, as far as the driver reports them.
    pub holders: Vec<Holder>,
    /// Its compute capability, if the driver reports it.
    pub capability: Option<Capability>,
    /// Whether it is in MIG mode.
    pub mig: bool,
    /// The cores of its NUMA node; empty where nobody knows.
    pub cores: Vec<usize>,
}

/// A process that holds GPU memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// The memory it holds.
    pub memory: Bytes,
}

/// The source of the GPU list.
pub enum Inventory {
    /// No GPUs.
    None,
    /// A file that is read again each time: `[[card]]` with `id`, `name`, `memory` in bytes, and optionally `capability`, `mig`, `cores` of its NUMA
    /// node, such as `0-31,64-95`, and `processes` with `pid` and `memory`.
    File(PathBuf),
    /// The driver.
    Driver(Box<Nvml>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardFile {
    #[serde(default)]
    card: Vec<CardEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardEntry {
    id: CardId,
    name: String,
    memory: Bytes,
    #[serde(default)]
    processes: Vec<Holder>,
    #[serde(default)]
    capability: Option<Capability>,
    #[serde(default)]
    mig: bool,
    #[serde(default)]
    cores: String,
}

impl Inventory {
    /// The file named by `LORAGRID_DEVICES`, else the driver, if there is one.
    pub fn find() -> Self {
        match std::env::var_os("LORAGRID_DEVICES").filter(|path| !path.is_empty()) {
            Some(path) => Self::File(PathBuf::from(path)),
            None => Nvml::init().map_or(Self::None, |driver| Self::Driver(Box::new(driver))),
        }
    }

    /// All GPUs. Errors: the file cannot be parsed, the driver does not respond.
    pub fn cards(&self) -> Result<Vec<Card>, DeviceError> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::File(path) => {
                let failed = |reason: String| DeviceError::Inventory { path: path.clone(), reason };
                let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
                let file: CardFile =
                    toml::from_str(&text).map_err(|error| failed(error.message().to_owned()))?;
                Ok(file.card.into_iter().map(CardEntry::now).collect())
            }
            Self::Driver(driver) => {
                driver_cards(driver).map_err(|error| DeviceError::Driver(error.to_string()))
            }
        }
    }

    /// The GPUs visible to this process: those in `CUDA_VISIBLE_DEVICES`, in its order, or all. Errors: as [`Self::cards`], a MIG
    /// instance, an ambiguous prefix, a duplicate GPU.
    pub fn visible(&self) -> Result<Vec<Card>, DeviceError> {
        let cards = self.cards()?;
        Ok(match std::env::var("CUDA_VISIBLE_DEVICES") {
            Ok(named) => choose(&cards, &named).map_err(|why| DeviceError::Visible { text: named, why })?,
            Err(_) => cards,
        })
    }
}

/// The GPUs that a list names by index or by a prefix of their id. As in CUDA, entries after an invalid one are ignored. Errors: a MIG
/// instance, an ambiguous prefix, a duplicate GPU.
fn choose(cards: &[Card], named: &str) -> Result<Vec<Card>, String> {
    let mut chosen: Vec<Card> = Vec::new();
    for name in named.split(',').map(str::trim) {
        if name.starts_with("MIG-") {
            return Err(format!(
                "{name} is an instance of a GPU in MIG mode, and loragrid runs on whole GPUs only"
            ));
        }
        let found: Vec<&Card> = match name.parse::<usize>() {
            Ok(place) => cards.get(place).into_iter().collect(),
            Err(_) if name.len() > 3 => cards.iter().filter(|card| card.id.0.starts_with(name)).collect(),
            Err(_) => Vec::new(),
        };
        match found.as_slice() {
            [] => break,
            [card] if chosen.iter().any(|known| known.id == card.id) => {
                return Err(format!("it names {} twice", card.id.0));
            }
            [card] => chosen.push((*card).clone()),
            several => return Err(format!("{name} is the start of {} GPUs", several.len())),
        }
    }
    Ok(chosen)
}

impl CardEntry {
    fn now(self) -> Card {
        let held: u64 = self.processes.iter().map(|holder| holder.memory.0).sum();
        let free = Bytes(self.memory.0.saturating_sub(held));
        Card {
            id: self.id,
            name: self.name,
            memory: self.memory,
            free,
            holders: self.processes,
            capability: self.capability,
            mig: self.mig,
            cores: core_list(&self.cores),
        }
    }
}

impl Card {
    /// Memory available to an engine with these process ids: free memory plus the engine's own. If no other process holds any, it is the
    /// total memory: the driver's small reserve does not count.
    pub fn room_for(&self, pids: &[u32]) -> Bytes {
        let (ours, others): (Vec<&Holder>, Vec<&Holder>) =
            self.holders.iter().partition(|holder| pids.contains(&holder.pid));
        let ours: u64 = ours.iter().map(|holder| holder.memory.0).sum();
        // In a container the driver's process ids differ from ours; then the memory of an engine seems to have no holder.
        let unlisted = !pids.is_empty() && self.holders.is_empty();
        if (others.is_empty() && ours > 0) || unlisted || (pids.is_empty() && self.is_idle()) {
            return self.memory;
        }
        Bytes((self.free.0 + ours).min(self.memory.0))
    }

    /// Whether next to nothing is in use.
    fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.free.0 >= self.memory.0 / 10 * 9
    }
}

fn driver_cards(driver: &Nvml) -> Result<Vec<Card>, nvml_wrapper::error::NvmlError> {
    (0..driver.device_count()?)
        .map(|place| {
            let device = driver.device_by_index(place)?;
            let memory = device.memory_info()?;
            let processes = device.running_compute_processes().unwrap_or_default();
            let holder = |process: nvml_wrapper::struct_wrappers::device::ProcessInfo| Holder {
                pid: process.pid,
                memory: match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Bytes(bytes),
                    UsedGpuMemory::Unavailable => Bytes(0),
                },
            };
            Ok(Card {
                id: CardId(device.uuid()?),
                name: device.name()?,
                memory: Bytes(memory.total),
                free: Bytes(memory.free),
                holders: processes.into_iter().map(holder).collect(),
                capability: device.cuda_compute_capability().ok().map(|capability| Capability {
                    major: capability.major as u32,
                    minor: capability.minor as u32,
                }),
                // GPUs without MIG support do not answer this query.
                mig: device.mig_mode().is_ok_and(|mode| mode.current != 0),
                cores: device.pci_info().map(|place| local_cores(&place.bus_id)).unwrap_or_default(),
            })
        })
        .collect()
}

/// The cores of the NUMA node of a device on the PCI bus, from the kernel; none where it says nothing.
fn local_cores(bus_id: &str) -> Vec<usize> {
    // NVML has eight digits for the domain, the kernel four.
    let short = bus_id.to_lowercase();
    let short = short.get(short.len().saturating_sub(12)..).unwrap_or_default();
    let list = std::fs::read_to_string(format!("/sys/bus/pci/devices/{short}/local_cpulist"));
    list.map(|list| core_list(&list)).unwrap_or_default()
}

/// A list of cores as the kernel writes it, `0-3,8`; parts that are no numbers are left out.
fn core_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse::<usize>().ok()?)
    };
    // A kernel has a few thousand.
    text.split(',').filter_map(range).flatten().take(1 << 16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(id: &str, holders: &[(u32, u64)]) -> Card {
        let processes = holders.iter().map(|&(pid, memory)| Holder { pid, memory: Bytes(memory) }).collect();
        CardEntry {
            id: CardId(id.to_owned()),
            name: "a card".to_owned(),
            memory: Bytes(80),
            processes,
            capability: None,
            mig: false,
            cores: String::new(),
        }
        .now()
    }

    #[test]
    fn visible_cards_are_named_by_place_or_identity() {
        let cards = [card("GPU-aa", &[]), card("GPU-ab", &[]), card("GPU-cc", &[])];
        let ids =
            |named| choose(&cards, named).unwrap().into_iter().map(|card| card.id.0).collect::<Vec<_>>();
        assert_eq!(ids("2,0"), ["GPU-cc", "GPU-aa"]);
        assert_eq!(ids("GPU-c, 1"), ["GPU-cc", "GPU-ab"]);
        for none in ["", "-1", "7", "none"] {
            assert_eq!(ids(none), Vec::<String>::new());
        }
        assert_eq!(ids("1,-1,0"), ["GPU-ab"]);
        for (wrong, why) in
            [("0,0", "twice"), ("1,GPU-ab", "twice"), ("GPU-a", "start of 2"), ("MIG-1", "MIG mode")]
        {
            let error = choose(&cards, wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn room_is_what_strangers_do_not_hold() {
        let shared = card("GPU-aa", &[(7, 30), (8, 20)]);
        assert_eq!(shared.room_for(&[]), Bytes(30));
        assert_eq!(shared.room_for(&[7]), Bytes(60));
        assert_eq!(shared.room_for(&[7, 8]), Bytes(80));
        assert_eq!(card("GPU-aa", &[]).room_for(&[]), Bytes(80));
        let hidden = Card { free: Bytes(10), ..card("GPU-aa", &[]) };
        assert_eq!((hidden.room_for(&[]), hidden.room_for(&[7])), (Bytes(10), Bytes(80)));
    }

    #[test]
    fn a_list_of_cores_is_read_as_the_kernel_writes_it() {
        assert_eq!(core_list("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert!(core_list("\n").is_empty());
        assert_eq!(core_list("x,2"), [2]);
        assert!(core_list("0-18446744073709551615").len() <= 1 << 16);
        assert!(local_cores("no such device").is_empty());
    }

    #[test]
    fn a_file_that_is_no_inventory_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cards.toml");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Inventory::File(path.clone()).cards().unwrap_err().to_string()
        };
        assert!(error("[[card]]\nid = 'a'\n").ends_with("cannot be read: missing field `name`"));
        assert!(error("[[crad]]\n").contains("unknown field `crad`"));
    }
}
