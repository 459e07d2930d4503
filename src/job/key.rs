//! Keys by which equal work is recognised: training key, score key, model identity.
//!
//! A key is the SHA-256 of a canonical JSON text: object members sorted by name, numbers in their shortest exact
//! spelling. What is not in the text (names of sweeps, order of keys, device, threads, token budget) does not
//! change the key.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::config::{DType, JobConfig, LoraConfig, TrainConfig};

/// Raised when the engine's arithmetic changes in a way that changes results, so that old adapters are not taken
/// for new ones.
const NUMERICS_VERSION: u32 = 1;

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hasher(Sha256::new_with_prefix(bytes))
    }

    /// The digest that a finished hasher holds.
    pub fn from_hasher(hasher: Sha256) -> Self {
        let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self(hex)
    }

    /// A digest as the store wrote it.
    pub fn from_store(text: String) -> Self {
        Self(text)
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a model is: configuration, tensor names, shapes and types, and the content of its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelIdentity(pub Digest);

/// The key of one adapter: equal keys mean equal training.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrainingKey(pub Digest);

impl TrainingKey {
    /// The key of a job on a model and a data set with these identities.
    pub fn of(config: &JobConfig, model: &ModelIdentity, data: &Digest) -> Self {
        #[derive(Serialize)]
        struct Parts<'a> {
            numerics: u32,
            model: &'a ModelIdentity,
            data: &'a Digest,
            template: &'a Option<String>,
            train: &'a TrainConfig,
            lora: &'a LoraConfig,
            seed: u64,
        }
        Self(digest_json(&Parts {
            numerics: NUMERICS_VERSION,
            model,
            data,
            template: &config.template,
            train: &config.train,
            lora: &config.lora,
            seed: config.seed,
        }))
    }
}

/// What is scored: an untrained model in a compute dtype, or an adapter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKey {
    /// The untrained model.
    Base(Digest),
    /// The adapter of a training key.
    Trained(TrainingKey),
}

impl SubjectKey {
    /// The untrained model computed in `dtype`.
    pub fn base(model: &ModelIdentity, dtype: DType) -> Self {
        Self::Base(digest_json(&("base", NUMERICS_VERSION, model, dtype)))
    }

    /// The digest that stands for the subject.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Base(digest) => digest,
            Self::Trained(key) => &key.0,
        }
    }
}

/// The key of one set of scores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScoreKey(pub Digest);

impl ScoreKey {
    /// The key of a subject's scores on a task of this version (the task's resolved definition and the content of
    /// its documents), on all documents or the first `limit`.
    pub fn of(subject: &SubjectKey, task_version: &Digest, limit: Option<u64>) -> Self {
        let profile = "lm_eval";
        let softmax = DType::Fp32;
        Self(digest_json(&(subject.digest(), task_version, limit, profile, softmax)))
    }
}

fn digest_json<T: Serialize>(value: &T) -> Digest {
    Digest::of(canonical_json(value).as_bytes())
}

/// The canonical JSON text of a value: members sorted, no white space.
pub fn canonical_json<T: Serialize>(value: &T) -> String {
    let mut json = serde_json::to_value(value).unwrap_or(serde_json::Value::Null);
    json.sort_all_objects();
    json.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{KEYS, Origin, Settings, Value};

    fn settings() -> Settings {
        let mut settings = Settings::new();
        for key in KEYS {
            let text = match (key.path, key.default) {
                ("model", _) => "\"m\"",
                ("data", _) => "\"d\"",
                ("eval", _) => "[\"a\"]",
                (_, Some(default)) => default,
                _ => continue,
            };
            let table: toml::Table = format!("v = {text}").parse().unwrap();
            let value: Value = table["v"].clone().try_into().unwrap();
            settings.set(key, key.kind.check(&value).unwrap(), Origin::Default);
        }
        settings
    }

    fn training_key(settings: &Settings) -> TrainingKey {
        let config = JobConfig::from_settings(settings, DType::Bf16).unwrap();
        TrainingKey::of(&config, &ModelIdentity(Digest::of(b"model")), &Digest::of(b"data"))
    }

    #[test]
    fn each_key_changes_the_training_key_or_is_known_not_to() {
        let base = training_key(&settings());
        let changed: &[(&str, Value, bool)] = &[
            ("model", "other".into(), false), // its identity counts, not its name
            ("data", "other".into(), false),
            ("template", "alpaca".into(), true),
            ("eval", Value::List(vec!["b".into()]), false),
            ("limit", 3.into(), false),
            ("objective", "b".into(), false),
            ("seed", 2.into(), true),
            ("train.dtype", "fp32".into(), true),
            ("train.iterations", 7.into(), true),
            ("train.batch_size", 7.into(), true),
            ("train.micro_batch_size", 128.into(), true),
            ("train.learning_rate", 1e-3.into(), true),
            ("train.optimizer", "adamw".into(), false), // the only one yet
            ("train.betas", Value::List(vec![0.8.into(), 0.999.into()]), true),
            ("train.eps", 1e-6.into(), true),
            ("train.weight_decay", 0.1.into(), true),
            ("train.schedule", "cosine".into(), true),
            ("train.warmup_steps", 5.into(), true),
            ("train.loss", "micro_batch".into(), true),
            ("train.order", "sequential".into(), true),
            ("train.max_seq_length", 64.into(), true),
            ("train.labels", "response".into(), true),
            ("lora.rank", 16.into(), true),
            ("lora.alpha", 32.into(), true),
            ("lora.layers", "all".into(), true),
            ("lora.dropout", 0.1.into(), true),
        ];
        assert_eq!(changed.len(), KEYS.len(), "every key is in this table");
        for (path, value, counts) in changed {
            let key = crate::job::find_key(path).unwrap();
            let mut other = settings();
            other.set(key, key.kind.check(value).unwrap(), Origin::Axis);
            assert_eq!(training_key(&other) != base, *counts, "{path}");
        }
    }

    #[test]
    fn equal_numbers_in_other_spellings_are_one_key() {
        let alpha = crate::job::find_key("lora.alpha").unwrap();
        let mut whole = settings();
        whole.set(alpha, alpha.kind.check(&16.into()).unwrap(), Origin::Default);
        let mut fraction = settings();
        fraction.set(alpha, alpha.kind.check(&16.0.into()).unwrap(), Origin::Axis);
        assert_eq!(training_key(&whole), training_key(&fraction));
    }

    #[test]
    fn canonical_json_sorts_members_at_every_depth() {
        let json: serde_json::Value =
            serde_json::from_str(r#"{"b":{"z":1,"a":2},"a":[{"y":1e-4,"x":0.0001}]}"#).unwrap();
        assert_eq!(canonical_json(&json), r#"{"a":[{"x":0.0001,"y":0.0001}],"b":{"a":2,"z":1}}"#);
    }
}
