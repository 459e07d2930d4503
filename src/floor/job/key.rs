//! Keys that identify equal work: training key, score key, model identity.
//!
//! A key is the SHA-256 of canonical JSON: object members sorted by name, numbers in their shortest exact form.
//! Anything not in the JSON (sweep names, order of keys, device, threads, token budget) does not change the key.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::choices::{DType, PromptProfile, Softmax};
use super::settings::{Decides, Settings};

/// Bump when training gives different adapters, beyond rounding: old adapters are then not reused.
pub const TRAINING_VERSION: u32 = 2;
/// Bump when a subject gets different scores, beyond rounding.
pub const SCORING_VERSION: u32 = 2;

/// A SHA-256; printed as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// One digest of several; of a single one, that one.
    pub fn all(digests: &[Self]) -> Self {
        if let [only] = digests {
            return *only;
        }
        let texts: Vec<String> = digests.iter().map(Self::to_string).collect();
        Self::of(texts.join(" ").as_bytes())
    }

    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a reader's content. Error: the reader's.
    pub fn of_reader(reader: &mut impl std::io::Read) -> std::io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(Self::from_hasher(hasher)),
                read => hasher.update(&buffer[..read]),
            }
        }
    }

    /// The digest of a finished hasher.
    pub fn from_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Parses a digest. `None`: not 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The first `digits` hexadecimal digits.
    pub fn prefix(&self, digits: usize) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let nibbles = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        nibbles.take(digits).map(|nibble| char::from(HEX[usize::from(nibble)])).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix(64))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}

/// The identity of a model: configuration, tensor names, shapes and types, and its files' content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelIdentity(pub Digest);

/// The key of one adapter: equal keys mean equal training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrainingKey(pub Digest);

/// Inputs of a training key besides the settings: the contents that names refer to.
#[derive(Debug, Clone, Copy)]
pub struct TrainingFacts<'a> {
    /// The model's content.
    pub model: ModelIdentity,
    /// The data's content.
    pub data: Digest,
    /// The template as applied: a name, or a chat template's source.
    pub template: &'a str,
    /// Compute dtype, `auto` resolved.
    pub dtype: DType,
    /// Micro-batches, epochs resolved.
    pub iterations: u64,
    /// Rows of all micro-batches: an epoch's last one may be short.
    pub rows: u64,
}

impl TrainingKey {
    /// The key of a job with these settings, all defaults filled in. The hashed string has a line per fact and per key
    /// that affects training, with its value in one exact form.
    pub fn of(settings: &Settings, facts: &TrainingFacts<'_>) -> Self {
        let mut text = format!(
            "numerics={TRAINING_VERSION}\nmodel={}\ndata={}\ndtype={}\niterations={}\nrows={}\n",
            facts.model.0,
            facts.data,
            facts.dtype.as_str(),
            facts.iterations,
            facts.rows,
        );
        for (key, setting) in settings.iter().filter(|(key, _)| key.decides == Decides::Training) {
            for part in [key.hashed_path(), "=", setting.spelled(), "\n"] {
                text.push_str(part);
            }
        }
        text.push_str("template=");
        text.push_str(facts.template);
        Self(Digest::of(text.as_bytes()))
    }
}

/// The subject of scoring: an untrained model in a compute dtype, or an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKey {
    /// The untrained model.
    Base(Digest),
    /// The adapter of a training key.
    Trained(TrainingKey),
}

impl SubjectKey {
    /// The untrained model computed in `dtype`.
    pub fn base(model: ModelIdentity, dtype: DType) -> Self {
        Self::Base(digest_json(&("base", 1, model, dtype)))
    }

    /// The subject's digest.
    pub fn digest(self) -> Digest {
        match self {
            Self::Base(digest) => digest,
            Self::Trained(key) => key.0,
        }
    }
}

/// The key of one set of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScoreKey(pub Digest);

/// How a task is scored, besides its definition and documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScoreFacts {
    /// Only the first n documents of each task.
    pub limit: Option<u64>,
    /// Few-shot examples per document.
    pub num_fewshot: Option<u64>,
    /// Prompt format.
    pub prompt_profile: PromptProfile,
    /// Dtype of the log-likelihoods.
    pub softmax: Softmax,
}

impl ScoreKey {
    /// The key of a subject's scores on this version of a task (its resolved definition and its documents' content).
    pub fn of(subject: SubjectKey, task_version: Digest, facts: ScoreFacts) -> Self {
        let mut hasher = Sha256::new_with_prefix(subject.digest().0);
        hasher.update(task_version.0);
        hasher.update(SCORING_VERSION.to_le_bytes());
        // Absent and 0 differ: a task may set examples itself.
        for number in [facts.limit, facts.num_fewshot] {
            hasher.update(number.map_or(u64::MAX, |number| number.min(u64::MAX - 1)).to_le_bytes());
        }
        hasher.update(facts.prompt_profile.as_str());
        hasher.update(facts.softmax.as_str());
        Self(Digest::from_hasher(hasher))
    }
}

fn digest_json<T: Serialize>(value: &T) -> Digest {
    Digest::of(canonical_json(value).as_bytes())
}

/// The canonical JSON of a value: members sorted, no whitespace.
pub fn canonical_json<T: Serialize>(value: &T) -> String {
    let mut json = serde_json::to_value(value).unwrap_or(serde_json::Value::Null);
    json.sort_all_objects();
    json.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{KEYS, Origin, Profile, Value, find_key};

    fn settings() -> Settings {
        let mut settings = Settings::new();
        settings.set(find_key("model").unwrap(), "m".into(), Origin::Axis);
        settings.set(find_key("data").unwrap(), "d".into(), Origin::Axis);
        settings.fill_defaults(Profile::Peft);
        settings
    }

    fn training_key(settings: &Settings) -> TrainingKey {
        let facts = TrainingFacts {
            model: ModelIdentity(Digest::of(b"model")),
            data: Digest::of(b"data"),
            template: "alpaca",
            dtype: DType::Bf16,
            iterations: 50_000,
            rows: 50_000,
        };
        TrainingKey::of(settings, &facts)
    }

    /// A non-default value for each key.
    fn other_value(path: &str) -> Value {
        let list = |items: &[&str]| Value::List(items.iter().map(|item| Value::from(*item)).collect());
        match path {
            "model" | "revision" | "data" | "template" | "objective" | "system_instruction"
            | "gen_kwargs" => "other".into(),
            "apply_chat_template" => true.into(),
            "fewshot_as_multiturn" => false.into(),
            "template_date" => "2024-07-26".into(),
            "eval" | "reference" => list(&["b"]),
            "profile" | "prompt_profile" | "train.schedule_form" => "litgpt-2023".into(),
            "softmax" => "model".into(),
            "train.quantize" => "bnb.nf4".into(),
            "train.dequantize" => "keep".into(),
            "train.quantize_head" | "train.strict" | "train.gradient_checkpointing" => true.into(),
            "train.dtype" => "fp32".into(),
            "train.optimizer" => "sgd".into(),
            "train.betas" => Value::List(vec![0.8.into(), 0.999.into()]),
            "train.schedule" => "cosine".into(),
            "train.loss" => "micro_batch".into(),
            "train.order" => "sequential".into(),
            "train.last_window" | "train.overlong" => "drop".into(),
            "train.labels" => "response".into(),
            "lora.layers" => list(&["query"]),
            "lora.scaling" => "alpha/sqrt(r)".into(),
            "lora.variant" => "dora".into(),
            "lora.init" => "gaussian".into(),
            "lora.dtype" => "compute".into(),
            "lora.loraplus_lr_ratio" => 16.0.into(),
            "train.eps" | "train.momentum" | "train.weight_decay" | "train.min_lr_ratio" | "lora.dropout" => {
                0.5.into()
            }
            _ => 77.into(),
        }
    }

    #[test]
    fn each_key_changes_the_training_key_exactly_if_the_table_says_so() {
        let base = training_key(&settings());
        for key in KEYS {
            let value =
                if key.path == "train.validation_split" { 0.25.into() } else { other_value(key.path) };
            let value = key.kind.check(&value).unwrap_or_else(|e| panic!("{}: {e}", key.path));
            let mut other = settings();
            assert_ne!(other.value(key.path), Some(&value), "{} is not another value", key.path);
            other.set(key, value, Origin::Axis);
            let changed = training_key(&other) != base;
            assert_eq!(changed, key.decides == Decides::Training, "{}", key.path);
        }
    }

    #[test]
    fn what_names_stand_for_changes_the_training_key() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let (model, other) = (ModelIdentity(a), ModelIdentity(b));
        let dtype = DType::Bf16;
        let facts = TrainingFacts { model, data: a, template: "t", dtype, iterations: 1, rows: 1 };
        let all = [
            facts,
            TrainingFacts { model: other, ..facts },
            TrainingFacts { data: b, ..facts },
            TrainingFacts { template: "u", ..facts },
            TrainingFacts { dtype: DType::Fp32, ..facts },
            TrainingFacts { iterations: 2, ..facts },
            TrainingFacts { rows: 2, ..facts },
        ];
        let keys: std::collections::BTreeSet<TrainingKey> =
            all.iter().map(|facts| TrainingKey::of(&settings(), facts)).collect();
        assert_eq!(keys.len(), all.len());
    }

    #[test]
    fn equal_numbers_in_other_spellings_are_one_key_and_near_ones_are_two() {
        let with = |path: &str, value: Value| {
            let key = find_key(path).unwrap();
            let mut settings = settings();
            settings.set(key, key.kind.check(&value).unwrap(), Origin::Axis);
            training_key(&settings)
        };
        assert_eq!(with("lora.alpha", 16.into()), with("lora.alpha", 16.0.into()));
        assert_eq!(with("train.learning_rate", 1e-4.into()), with("train.learning_rate", 0.0001.into()));
        let sum = 0.1 + 0.2;
        assert_ne!(with("train.learning_rate", 0.3.into()), with("train.learning_rate", sum.into()));
        assert_eq!(
            with("lora.layers", Value::List(vec!["value".into(), "query".into()])),
            training_key(&settings())
        );
        assert_ne!(with("seed", i64::MAX.into()), with("seed", (i64::MAX - 1).into()));
    }

    #[test]
    fn keys_stay_what_they_were_in_earlier_releases() {
        let mut lines = vec![format!("default {}", training_key(&settings()).0)];
        let mut litgpt = Settings::new();
        litgpt.set(find_key("model").unwrap(), "m".into(), Origin::Axis);
        litgpt.fill_defaults(Profile::LitGpt2023);
        lines.push(format!("litgpt-2023 {}", training_key(&litgpt).0));
        let base = SubjectKey::base(ModelIdentity(Digest::of(b"model")), DType::Bf16);
        lines.push(format!("base {}", base.digest()));
        lines.push(format!("score {}", ScoreKey::of(base, Digest::of(b"task"), score_facts()).0));
        // A difference here invalidates all results of earlier releases: see the comment at `KEYS`.
        insta::assert_snapshot!(lines.join("\n"));
    }

    fn score_facts() -> ScoreFacts {
        ScoreFacts {
            limit: Some(40),
            num_fewshot: None,
            prompt_profile: PromptProfile::LmEval,
            softmax: Softmax::Fp32,
        }
    }

    #[test]
    fn what_decides_scores_changes_the_score_key() {
        let subject = SubjectKey::base(ModelIdentity(Digest::of(b"model")), DType::Bf16);
        let other = SubjectKey::base(ModelIdentity(Digest::of(b"model")), DType::Fp32);
        let (version, facts) = (Digest::of(b"task"), score_facts());
        let keys = std::collections::BTreeSet::from([
            ScoreKey::of(subject, version, facts),
            ScoreKey::of(other, version, facts),
            ScoreKey::of(SubjectKey::Trained(TrainingKey(Digest::of(b"t"))), version, facts),
            ScoreKey::of(subject, Digest::of(b"other"), facts),
            ScoreKey::of(subject, version, ScoreFacts { limit: None, ..facts }),
            ScoreKey::of(subject, version, ScoreFacts { num_fewshot: Some(0), ..facts }),
            ScoreKey::of(subject, version, ScoreFacts { prompt_profile: PromptProfile::LitGpt2023, ..facts }),
            ScoreKey::of(subject, version, ScoreFacts { softmax: Softmax::Model, ..facts }),
        ]);
        assert_eq!(keys.len(), 8);
        let scoring: Vec<&str> =
            KEYS.iter().filter(|key| key.decides == Decides::Scoring).map(|key| key.path).collect();
        // The others are part of a task's version.
        let in_version =
            ["eval", "apply_chat_template", "fewshot_as_multiturn", "system_instruction", "gen_kwargs"];
        let scoring: Vec<&str> = scoring.into_iter().filter(|key| !in_version.contains(key)).collect();
        assert_eq!(
            scoring,
            ["num_fewshot", "limit", "prompt_profile", "softmax"],
            "each is in the key above"
        );
    }

    #[test]
    fn canonical_json_sorts_members_at_every_depth() {
        let json: serde_json::Value =
            serde_json::from_str(r#"{"b":{"z":1,"a":2},"a":[{"y":1e-4,"x":0.0001}]}"#).unwrap();
        assert_eq!(canonical_json(&json), r#"{"a":[{"x":0.0001,"y":0.0001}],"b":{"a":2,"z":1}}"#);
    }

    #[test]
    fn a_digest_reads_back_and_what_is_not_one_does_not() {
        let digest = Digest::of(b"x");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        for wrong in ["", "12", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }
}
