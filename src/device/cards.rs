//! Graphics cards: which there are, what memory they have, and who holds how much of it. Told by the driver through NVML, or
//! by a file, so that placement is tested without a card.

use std::path::PathBuf;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use serde::Deserialize;

use super::DeviceError;
use super::kind::Capability;
use crate::job::Bytes;

/// What a card is called for good, and what `CUDA_VISIBLE_DEVICES` calls it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct CardId(pub String);

/// A graphics card as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its identity.
    pub id: CardId,
    /// Its name.
    pub name: String,
    /// All its memory.
    pub memory: Bytes,
    /// What of it nobody holds.
    pub free: Bytes,
    /// Who holds the rest, as far as the driver says.
    pub holders: Vec<Holder>,
    /// What it can do, if the driver says it.
    pub capability: Option<Capability>,
    /// Whether it is cut into instances.
    pub mig: bool,
}

/// A process that holds memory of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// How much it holds.
    pub memory: Bytes,
}

/// Where what there is of cards is asked for.
pub enum Inventory {
    /// No cards.
    None,
    /// A file that is read anew each time: `[[card]]` with `id`, `name`, `memory` in bytes, and perhaps `capability`, `mig`, and
    /// `processes` of `pid` and `memory`.
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
}

impl Inventory {
    /// The file that `LORAGRID_DEVICES` names, else the driver, if there is one.
    pub fn find() -> Self {
        match std::env::var_os("LORAGRID_DEVICES").filter(|path| !path.is_empty()) {
            Some(path) => Self::File(PathBuf::from(path)),
            None => Nvml::init().map_or(Self::None, |driver| Self::Driver(Box::new(driver))),
        }
    }

    /// Every card. Errors: the file is not understood, the driver does not answer.
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

    /// The cards that this process sees: those that `CUDA_VISIBLE_DEVICES` names, in its order, or all of them. Errors: as
    /// [`Self::cards`], names that are not of one card each.
    pub fn visible(&self) -> Result<Vec<Card>, DeviceError> {
        let cards = self.cards()?;
        Ok(match std::env::var("CUDA_VISIBLE_DEVICES") {
            Ok(named) => choose(&cards, &named).map_err(|why| DeviceError::Visible { text: named, why })?,
            Err(_) => cards,
        })
    }
}

/// The cards that a list names by place or by the start of their identity. As CUDA has it: what comes after a name that is
/// none does not count. Errors: an instance of a card, the start of several identities, a card twice.
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
        }
    }
}

impl Card {
    /// Memory for jobs of an engine, whose processes have these numbers: what nobody holds, and what the engine itself does.
    /// Where nobody else holds any it is all of it: a little that the driver keeps for itself is no stranger's.
    pub fn room_for(&self, pids: &[u32]) -> Bytes {
        let (ours, others): (Vec<&Holder>, Vec<&Holder>) =
            self.holders.iter().partition(|holder| pids.contains(&holder.pid));
        let ours: u64 = ours.iter().map(|holder| holder.memory.0).sum();
        // In a container the driver's numbers are not ours; then what an engine holds looks like nobody's.
        let unlisted = !pids.is_empty() && self.holders.is_empty();
        if (others.is_empty() && ours > 0) || unlisted || (pids.is_empty() && self.is_idle()) {
            return self.memory;
        }
        Bytes((self.free.0 + ours).min(self.memory.0))
    }

    /// Whether next to nothing of it is held.
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
                // GPUs without instances do not know the question.
                mig: device.mig_mode().is_ok_and(|mode| mode.current != 0),
            })
        })
        .collect()
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
