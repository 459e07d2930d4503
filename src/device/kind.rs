//! Device kinds, for plans: settings that decide a job must be known before its device is.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::cards::Inventory;
use super::{CARD_TOKEN_BUDGET, CPU_TOKEN_BUDGET, DeviceError, chosen_cards, gpus_for_auto};
use crate::job::DType;

/// The compute capability of a GPU: 8.0 is Ampere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Capability {
    /// The architecture.
    pub major: u32,
    /// Its variant.
    pub minor: u32,
}

impl Capability {
    /// The first architecture with bf16 products in hardware.
    const AMPERE: Self = Self { major: 8, minor: 0 };
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let wrong = || format!("'{text}' is not a compute capability; one looks like 8.0");
        parts.map(|(major, minor)| Self { major, minor }).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Capability {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A CPU.
    Cpu {
        /// Whether it multiplies bf16 in hardware (AVX512-BF16 or AMX).
        bf16: bool,
    },
    /// GPUs, by their lowest compute capability.
    Cuda {
        /// None if the GPUs are on another machine: then Ampere or later is assumed.
        capability: Option<Capability>,
    },
}

impl DeviceKind {
    /// The kind that a string names, as for [`super::slots`]; `cuda` also without a local GPU, as on a login node. Errors: as there.
    pub fn named(
        text: &str,
        inventory: &Inventory,
        engine_has_cuda: &dyn Fn() -> bool,
    ) -> Result<Self, DeviceError> {
        let of = |cards: Vec<super::Card>| Self::Cuda {
            capability: cards.iter().filter_map(|card| card.capability).min(),
        };
        match text.split_once(':').map_or(text, |(kind, _)| kind) {
            "auto" => Ok(match gpus_for_auto(inventory, engine_has_cuda)? {
                cards if cards.is_empty() => Self::of_this_cpu(),
                cards => of(cards),
            }),
            "cuda" if inventory.visible()?.is_empty() => Ok(Self::Cuda { capability: None }),
            "cuda" => {
                let cards = chosen_cards(text, inventory)?;
                Ok(of(cards.into_iter().map(|(_, card)| card).collect()))
            }
            "cpu" => Ok(Self::of_this_cpu()),
            _ => Err(DeviceError::Unknown { text: text.to_owned() }),
        }
    }

    /// The CPU of this machine.
    pub fn of_this_cpu() -> Self {
        // Tests override the detected features.
        let named = std::env::var("LORAGRID_CPU_FEATURES").map(|flags| format!("flags {flags}"));
        let info = named.or_else(|_| std::fs::read_to_string("/proc/cpuinfo")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
        let mut flags = flags.split_whitespace();
        Self::Cpu { bf16: flags.any(|flag| flag == "avx512_bf16" || flag == "amx_bf16") }
    }

    /// The value of `train.dtype = "auto"`: bf16 if the device multiplies it in hardware, else single precision.
    pub fn auto_dtype(self) -> DType {
        match self {
            Self::Cpu { bf16: true } | Self::Cuda { capability: None } => DType::Bf16,
            Self::Cuda { capability: Some(capability) } if capability >= Capability::AMPERE => DType::Bf16,
            Self::Cpu { bf16: false } | Self::Cuda { .. } => DType::Fp32,
        }
    }

    /// Most tokens per pass, unless a single row is longer.
    pub fn token_budget(self) -> u64 {
        match self {
            Self::Cpu { .. } => CPU_TOKEN_BUDGET as u64,
            Self::Cuda { .. } => CARD_TOKEN_BUDGET as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_a_table_of_what_devices_can_do() {
        let cuda = |text: &str| DeviceKind::Cuda { capability: Some(text.parse().unwrap()) };
        for (kind, dtype) in [
            (DeviceKind::Cpu { bf16: true }, DType::Bf16),
            (DeviceKind::Cpu { bf16: false }, DType::Fp32),
            (cuda("7.5"), DType::Fp32),
            (cuda("8.0"), DType::Bf16),
            (cuda("12.0"), DType::Bf16),
            (DeviceKind::Cuda { capability: None }, DType::Bf16),
        ] {
            assert_eq!(kind.auto_dtype(), dtype, "{kind:?}");
        }
        assert!("8".parse::<Capability>().is_err() && "a.b".parse::<Capability>().is_err());
    }

    #[test]
    fn a_login_node_plans_for_gpus_that_are_elsewhere() {
        let named = |text: &str| DeviceKind::named(text, &Inventory::None, &|| true).unwrap();
        assert_eq!(named("cuda"), DeviceKind::Cuda { capability: None });
        assert_eq!(named("cuda:0,1"), DeviceKind::Cuda { capability: None });
        assert_eq!(named("auto"), DeviceKind::of_this_cpu());
        assert_eq!(named("cpu:4"), DeviceKind::of_this_cpu());
        assert!(DeviceKind::named("gpu", &Inventory::None, &|| true).is_err());
    }
}
