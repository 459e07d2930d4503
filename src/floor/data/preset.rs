//! Data set presets.

use super::generated::Arithmetic;

/// A preset data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its name in a sweep file.
    pub name: &'static str,
    /// The source of its rows.
    pub origin: PresetOrigin,
}

/// The source of a preset's rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PresetOrigin {
    /// They are generated.
    Generated(Arithmetic),
    /// They are published on the hub.
    Hub {
        /// The hub name.
        id: &'static str,
        /// Names of a local copy.
        files: &'static [&'static str],
        /// Rows of the published set.
        rows: u64,
        /// Mean tokens per row in the alpaca template with a Llama 2 tokenizer; for estimates without the rows.
        mean_tokens: u64,
    },
}

/// Every preset.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "alpaca",
        origin: PresetOrigin::Hub {
            id: "tatsu-lab/alpaca",
            files: &["alpaca.jsonl", "alpaca.json", "alpaca.csv", "alpaca.parquet", "alpaca_17k.jsonl"],
            rows: 52_002,
            mean_tokens: 112,
        },
    },
    Preset {
        name: "dolly",
        origin: PresetOrigin::Hub {
            id: "databricks/databricks-dolly-15k",
            files: &["dolly.jsonl", "dolly.json", "dolly.csv", "dolly.parquet", "dolly_3k.jsonl"],
            rows: 15_011,
            mean_tokens: 240,
        },
    },
    Preset {
        name: "lima",
        origin: PresetOrigin::Hub {
            id: "GAIR/lima",
            files: &["lima.jsonl", "lima.json", "lima.csv", "lima.parquet", "lima_1k.jsonl"],
            rows: 1_030,
            mean_tokens: 650,
        },
    },
    Preset {
        name: "two_digit_subtraction",
        origin: PresetOrigin::Generated(Arithmetic::TwoDigitSubtraction),
    },
    Preset { name: "two_digit_addition", origin: PresetOrigin::Generated(Arithmetic::TwoDigitAddition) },
];

/// The preset with this name or hub name.
pub fn find_preset(name: &str) -> Option<&'static Preset> {
    let hub = |preset: &Preset| matches!(preset.origin, PresetOrigin::Hub { id, .. } if id == name);
    PRESETS.iter().find(|preset| preset.name == name || hub(preset))
}
